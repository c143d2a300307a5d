//! Whether a claim may ask for more: where its class says that volumes of it grow.

use api::quantity::Quantity;
use api::{Resource, Status, storage};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;

use super::admit::{find, refused, writes};
use crate::dispatch::Call;

const UNBOUND: &str = "Only bound persistent volume claims can be expanded";
const FIXED: &str = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";

/// The plugin PersistentVolumeClaimResize.
pub(super) fn admit(call: &Call, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
    let Some(old) = old.filter(|_| writes(call, "", "persistentvolumeclaims")) else {
        return Ok(());
    };
    let class = |name: &str| find(call, Resource::of::<StorageClass>(), None, name);
    let why = refusal(old, new, class);
    why.map_or(Ok(()), |why| Err(refused(call, new, why)))
}

fn refusal(
    old: &Value,
    new: &Value,
    class: impl Fn(&str) -> Option<StorageClass>,
) -> Option<&'static str> {
    if asked(new)? <= asked(old)? {
        return None;
    }
    if old["status"]["phase"] != "Bound" {
        return Some(UNBOUND);
    }
    let name = |claim: &Value| {
        let claim: PersistentVolumeClaim = serde_json::from_value(claim.clone()).ok()?;
        Some(storage::class_of_claim(&claim).to_owned())
    };
    let of = name(new).filter(|of| !of.is_empty() && name(old).as_ref() == Some(of));
    let grows = of
        .and_then(|of| class(&of))
        .is_some_and(|class| class.allow_volume_expansion == Some(true));
    (!grows).then_some(FIXED)
}

fn asked(claim: &Value) -> Option<Quantity> {
    let storage = claim.pointer("/spec/resources/requests/storage")?;
    Quantity::parse(storage.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_may_ask_for_more() {
        let class = |name: &str| {
            let grows = match name {
                "grows" => json!(true),
                "fixed" => json!(false),
                "silent" => Value::Null,
                _ => return None,
            };
            let class = json!({"provisioner": "p", "allowVolumeExpansion": grows});
            serde_json::from_value(class).ok()
        };
        let claim = |name: &str, phase: &str, size: &str| {
            json!({"spec": {"storageClassName": name, "resources": {"requests": {"storage": size}}},
                "status": {"phase": phase}})
        };
        for (name, phase, size, why) in [
            ("grows", "Bound", "2Gi", None),
            ("grows", "Pending", "2Gi", Some(UNBOUND)),
            ("fixed", "Bound", "2Gi", Some(FIXED)),
            ("silent", "Bound", "2Gi", Some(FIXED)),
            ("gone", "Bound", "2Gi", Some(FIXED)),
            ("", "Bound", "2Gi", Some(FIXED)),
            // It is the same, or less, which is validation's to judge.
            ("fixed", "Pending", "1Gi", None),
            ("fixed", "Pending", "1024Mi", None),
            ("fixed", "Bound", "1Mi", None),
        ] {
            let (old, new) = (claim(name, phase, "1Gi"), claim(name, phase, size));
            assert_eq!(refusal(&old, &new, class), why, "{name} {phase} {size}");
        }
        let moved = claim("grows", "Bound", "2Gi");
        assert_eq!(
            refusal(&claim("fixed", "Bound", "1Gi"), &moved, class),
            Some(FIXED)
        );
    }
}
