//! The class that a new object gets which asks for none: the default one, if there is one.

use std::cmp::Reverse;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The name of the default among these classes, which any of `marks` set to `true` says of it. Of several defaults the
/// one made last, then the first by name.
pub(super) fn default_of<C>(classes: impl IntoIterator<Item = C>, marks: &[&str]) -> Option<String>
where
    C: Metadata<Ty = ObjectMeta>,
{
    let is_default = |meta: &ObjectMeta| {
        let said = |mark: &&str| meta.annotations.as_ref()?.get(*mark);
        marks.iter().filter_map(said).any(|value| value == "true")
    };
    let all = classes.into_iter().map(|class| class.metadata().clone());
    let defaults = all.filter(is_default);
    let newest =
        defaults.min_by_key(|meta| (Reverse(meta.creation_timestamp.clone()), meta.name.clone()));
    newest?.name
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::storage::v1::StorageClass;
    use serde_json::{Value, json};

    use super::*;

    const MARKS: [&str; 2] = ["new", "old"];

    #[test]
    fn the_default_made_last() {
        let class = |name: &str, second: u8, annotations: &Value| -> StorageClass {
            let created = format!("2026-11-21T10:00:{second:02}Z");
            let metadata =
                json!({"name": name, "creationTimestamp": created, "annotations": annotations});
            serde_json::from_value(json!({"metadata": metadata, "provisioner": "p"}))
                .expect("a class")
        };
        let (plain, marked) = (json!({}), json!({"new": "true"}));
        let (elder, not) = (json!({"old": "true"}), json!({"new": "false"}));
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
            assert_eq!(default_of(classes, &MARKS).as_deref(), chosen);
        }
    }
}
