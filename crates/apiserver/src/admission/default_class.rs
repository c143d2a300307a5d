//! The class that a new object gets which asks for none: the default one, if there is one.

use api::ingress::{ELDER, IS_DEFAULT};
use api::storage::{DEFAULT_MARKS, default_of};
use api::{Resource, Status};
use k8s_openapi::Metadata;
use k8s_openapi::api::networking::v1::IngressClass;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::admit::{all, writes};
use crate::dispatch::Call;

/// Objects that are of a class.
struct Classed {
    group: &'static str,
    plural: &'static str,
    /// Where in its spec an object says of which.
    field: &'static str,
    /// The annotation by which it did before there was a field for it.
    elder: &'static str,
    /// Any of these annotations says of a class that it is the default.
    marks: &'static [&'static str],
}

const CLAIMS: Classed = Classed {
    group: "",
    plural: "persistentvolumeclaims",
    field: "storageClassName",
    elder: "volume.beta.kubernetes.io/storage-class",
    marks: DEFAULT_MARKS,
};

const INGRESSES: Classed = Classed {
    group: "networking.k8s.io",
    plural: "ingresses",
    field: "ingressClassName",
    elder: ELDER,
    marks: &[IS_DEFAULT],
};

/// The plugin DefaultStorageClass.
pub(super) fn of_claim(call: &Call, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
    fill::<StorageClass>(call, old, new, &CLAIMS);
    Ok(())
}

/// The plugin DefaultIngressClass.
pub(super) fn of_ingress(call: &Call, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
    fill::<IngressClass>(call, old, new, &INGRESSES);
    Ok(())
}

fn fill<C>(call: &Call, old: Option<&Value>, new: &mut Value, of: &Classed)
where
    C: k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned,
{
    if old.is_some() || !writes(call, of.group, of.plural) || of.has(new) {
        return;
    }
    let classes: Vec<C> = all(call, Resource::of::<C>(), None);
    if let Some(name) = default_of(classes.iter().map(Metadata::metadata), of.marks) {
        new["spec"][of.field] = name.into();
    }
}

impl Classed {
    /// Whether an object asks for a class; the empty one is an answer too.
    fn has(&self, object: &Value) -> bool {
        object["spec"][self.field].is_string()
            || object["metadata"]["annotations"][self.elder].is_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_default_made_last() {
        let class = |name: &str, second: u8, annotations: &Value| -> StorageClass {
            let created = format!("2026-11-21T10:00:{second:02}Z");
            let metadata =
                json!({"name": name, "creationTimestamp": created, "annotations": annotations});
            serde_json::from_value(json!({"metadata": metadata, "provisioner": "p"}))
                .expect("a class")
        };
        let [new, old] = [CLAIMS.marks[0], CLAIMS.marks[1]];
        let (plain, marked) = (json!({}), json!({new: "true"}));
        let (elder, not) = (json!({old: "true"}), json!({new: "false"}));
        for (classes, chosen) in [
            (vec![], None),
            (vec![class("a", 0, &plain), class("b", 0, &not)], None),
            (vec![class("a", 0, &elder)], Some("a")),
            (
                vec![class("a", 0, &marked), class("b", 1, &marked)],
                Some("b"),
            ),
            (
                vec![class("b", 1, &marked), class("a", 1, &marked)],
                Some("a"),
            ),
        ] {
            let classes = classes.iter().map(Metadata::metadata);
            assert_eq!(default_of(classes, CLAIMS.marks), chosen);
        }
    }

    #[test]
    fn who_asks_for_none_has_asked() {
        for of in [CLAIMS, INGRESSES] {
            assert!(!of.has(&json!({"spec": {}})));
            assert!(of.has(&json!({"spec": {of.field: ""}})));
            let annotations = json!({of.elder: "a"});
            assert!(of.has(&json!({"spec": {}, "metadata": {"annotations": annotations}})));
        }
    }
}
