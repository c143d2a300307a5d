//! The class of a new claim that asks for none: the default one, if there is one.

use api::{Resource, Status};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;
use std::cmp::Reverse;

use super::admit::{all, writes};
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
    if let Some(name) = default_of(classes.into_iter()) {
        new["spec"]["storageClassName"] = name.into();
    }
    Ok(())
}

/// Whether a claim asks for a class; the empty one is an answer too.
fn has_class(claim: &Value) -> bool {
    claim["spec"]["storageClassName"].is_string()
        || claim["metadata"]["annotations"][OLD_CLASS].is_string()
}

/// Of several defaults the one made last, then the first by name.
fn default_of(classes: impl Iterator<Item = StorageClass>) -> Option<String> {
    let is_default = |class: &StorageClass| {
        let annotations = class.metadata.annotations.as_ref();
        annotations.is_some_and(|all| {
            DEFAULT
                .iter()
                .any(|name| all.get(*name).is_some_and(|value| value == "true"))
        })
    };
    classes
        .filter(is_default)
        .map(|class| {
            (
                class.metadata.creation_timestamp,
                class.metadata.name.unwrap_or_default(),
            )
        })
        .min_by_key(|(created, name)| (Reverse(created.clone()), name.clone()))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_default_made_last() {
        let class = |name: &str, second: u8, annotations: Value| -> StorageClass {
            let created = format!("2026-11-21T10:00:{second:02}Z");
            let metadata =
                json!({"name": name, "creationTimestamp": created, "annotations": annotations});
            serde_json::from_value(json!({"metadata": metadata, "provisioner": "p"})).unwrap()
        };
        let [new, old] = DEFAULT;
        let (plain, marked) = (json!({}), json!({new: "true"}));
        for (classes, chosen) in [
            (vec![], None),
            (
                vec![class("a", 0, plain), class("b", 0, json!({new: "false"}))],
                None,
            ),
            (vec![class("a", 0, json!({old: "true"}))], Some("a")),
            (
                vec![class("a", 0, marked.clone()), class("b", 1, marked.clone())],
                Some("b"),
            ),
            (
                vec![class("b", 1, marked.clone()), class("a", 1, marked)],
                Some("a"),
            ),
        ] {
            assert_eq!(default_of(classes.into_iter()).as_deref(), chosen);
        }
    }

    #[test]
    fn who_asks_for_none_has_asked() {
        assert!(!has_class(&json!({"spec": {}})));
        assert!(has_class(&json!({"spec": {"storageClassName": ""}})));
        assert!(has_class(
            &json!({"spec": {}, "metadata": {"annotations": {OLD_CLASS: "a"}}})
        ));
    }
}
