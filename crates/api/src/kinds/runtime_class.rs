//! RuntimeClasses.

use super::field::{items, map, present, text};
use super::{Hooks, names, pod_spec, template};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "node.k8s.io/v1 RuntimeClass",
    validate,
    ..Hooks::NONE
};

fn validate(class: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let root = FieldPath::root();
    if let Some(old) = old {
        template::immutable(class, old, "handler", &root, errors);
        return;
    }
    let handler = text(class, "/handler");
    names::check(errors, &root.child("handler"), handler, names::dns_label);
    if let Some(fixed) = present(class, "/overhead/podFixed") {
        pod_spec::overhead(fixed, &root.child("overhead"), errors);
    }
    let path = root.child("scheduling");
    let nodes = map(class, "/scheduling/nodeSelector");
    pod_spec::labels(nodes, &path.child("nodeSelector"), errors);
    let list = path.child("tolerations");
    pod_spec::tolerations(&class["scheduling"], &list, errors);
    let same = |a: &Value, b: &Value| {
        ["/key", "/operator", "/value", "/effect"]
            .iter()
            .all(|field| text(a, field) == text(b, field))
    };
    let tolerations = items(class, "/scheduling/tolerations");
    for (index, toleration) in tolerations.iter().enumerate() {
        if tolerations[..index]
            .iter()
            .any(|other| same(other, toleration))
        {
            errors.push(FieldError::duplicate(
                &list.index(index),
                toleration.clone(),
            ));
        }
    }
}
