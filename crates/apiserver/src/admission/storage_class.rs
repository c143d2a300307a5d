//! The class of a new claim that asks for none.

use api::{Resource, Status};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;

use super::admit::{all, writes};
use super::default_class::default_of;
use crate::dispatch::Call;

/// Either says that a class is the default.
const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
/// How claims asked for a class before there was a field for it.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The plugin.
pub(super) fn admit(call: &Call, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
    if old.is_some() || !writes(call, "", "persistentvolumeclaims") || has_class(new) {
        return Ok(());
    }
    let classes: Vec<StorageClass> = all(call, Resource::of::<StorageClass>(), None);
    if let Some(name) = default_of(classes, &DEFAULT) {
        new["spec"]["storageClassName"] = name.into();
    }
    Ok(())
}

/// Whether a claim asks for a class; the empty one is an answer too.
fn has_class(claim: &Value) -> bool {
    claim["spec"]["storageClassName"].is_string()
        || claim["metadata"]["annotations"][OLD_CLASS].is_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_asks_for_none_has_asked() {
        assert!(!has_class(&json!({"spec": {}})));
        assert!(has_class(&json!({"spec": {"storageClassName": ""}})));
        assert!(has_class(
            &json!({"spec": {}, "metadata": {"annotations": {OLD_CLASS: "a"}}})
        ));
    }
}
