//! What of an applied object cannot be told apart: items of a list without their keys, or with the same.

use std::collections::BTreeSet;

use serde_json::Value;

use super::set::Step;
use super::shape::Kind;
use crate::schema::Type;

/// What Kubernetes' merging library (`structured-merge-diff`, `typed/validate.go`) has against an
/// applied object, in its words.
pub(crate) fn ambiguous(ty: &Type, applied: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    walk(Kind::Struct(ty), applied, &mut String::new(), &mut faults);
    faults
}

fn walk(kind: Kind<'_>, value: &Value, path: &mut String, faults: &mut Vec<String>) {
    match (kind, value) {
        (Kind::Struct(_) | Kind::Map(_), Value::Object(map)) => {
            for (name, value) in map {
                let step = Step::Field(name.clone());
                descend(kind.inside(name), value, &step, path, faults);
            }
        }
        (Kind::Set | Kind::Items(..), Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for (index, item) in items.iter().enumerate() {
                if let Some(key) = kind.missing_key(item) {
                    faults.push(format!(
                        "{path}: element {index}: associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"
                    ));
                    return;
                }
                let step = kind.step(item);
                if seen.contains(&step) {
                    let mut told = String::new();
                    step.print(&mut told);
                    faults.push(format!("{path}: duplicate entries for key {told}"));
                }
                descend(kind.item(), item, &step, path, faults);
                seen.insert(step);
            }
        }
        _ => {}
    }
}

fn descend(
    kind: Kind<'_>,
    value: &Value,
    step: &Step,
    path: &mut String,
    faults: &mut Vec<String>,
) {
    // Most values have nothing inside.
    if value.is_object() || value.is_array() {
        let length = path.len();
        step.print(path);
        walk(kind, value, path, faults);
        path.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::ambiguous;
    use crate::resource::Resource;

    #[test]
    fn items_are_told_apart_by_their_keys() {
        let container = |field: &str, items: serde_json::Value| json!({"spec": {"containers": [{"name": "c", field: items}]}});
        let port = |port: u16, protocol: &str| json!({"containerPort": port, "protocol": protocol});
        for (applied, faults) in [
            (
                container("env", json!([{"name": "A"}, {"name": "B"}])),
                vec![],
            ),
            (
                container("env", json!([{"name": "A"}, {"name": "A"}, {"name": "A"}])),
                vec![
                    r#".spec.containers[name="c"].env: duplicate entries for key [name="A"]"#,
                    r#".spec.containers[name="c"].env: duplicate entries for key [name="A"]"#,
                ],
            ),
            (
                container("ports", json!([port(80, "TCP"), port(80, "UDP")])),
                vec![],
            ),
            (
                container("ports", json!([port(80, "TCP"), {"containerPort": 80}])),
                vec![
                    r#".spec.containers[name="c"].ports: duplicate entries for key [containerPort=80,protocol="TCP"]"#,
                ],
            ),
            (
                json!({"metadata": {"finalizers": ["a/b", "a/b"]}}),
                vec![r#".metadata.finalizers: duplicate entries for key [="a/b"]"#],
            ),
            (
                json!({"spec": {"containers": [{"name": "c"}, {"image": "i"}, {"image": "i"}]}}),
                vec![
                    r#".spec.containers: element 1: associative list with keys has an element that omits key field "name" (and doesn't have default value)"#,
                ],
            ),
            // One value, whatever is in it.
            (container("args", json!(["a", "a"])), vec![]),
        ] {
            let schema = Resource::of::<Pod>().schema();
            assert_eq!(ambiguous(schema, &applied), faults, "{applied}");
        }
    }
}
