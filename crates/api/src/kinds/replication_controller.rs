//! ReplicationControllers. Selector and labels come from the template where they are not given.

use super::field::{absent, default, entry, map, root, spec};
use super::names::not_negative;
use super::{Hooks, template};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 ReplicationController",
    default: fill,
    prepare,
    validate,
};

fn fill(controller: &mut Value) {
    let labels = map(controller, "/spec/template/metadata/labels").cloned();
    let Some(held) = spec(controller) else { return };
    default(held, "replicas", 1);
    if !absent(held, "template") {
        template::fill(held);
    }
    let Some(labels) = labels.filter(|labels| !labels.is_empty()) else {
        return;
    };
    if entry(held, "selector").is_some_and(|selector| selector.is_empty()) {
        held.insert("selector".to_owned(), labels.clone().into());
    }
    if let Some(metadata) = root(controller).and_then(|held| entry(held, "metadata"))
        && entry(metadata, "labels").is_some_and(|held| held.is_empty())
    {
        metadata.insert("labels".to_owned(), labels.into());
    }
}

fn prepare(controller: &mut Value, old: Option<&Value>, _context: &Context) {
    if old.is_none() {
        controller["status"] = json!({"replicas": 0});
    }
}

fn validate(controller: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &controller["spec"];
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    let path = FieldPath::new("spec");
    not_negative(errors, spec, "minReadySeconds", &path);
    let selector = map(spec, "/selector");
    if selector.is_none_or(serde_json::Map::is_empty) {
        errors.push(FieldError::required(&path.child("selector"), ""));
    }
    not_negative(errors, spec, "replicas", &path);
    let path = path.child("template");
    if spec["template"].is_null() {
        errors.push(FieldError::required(&path, ""));
        return;
    }
    let labels = map(spec, "/template/metadata/labels");
    let matches = selector
        .into_iter()
        .flatten()
        .all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)));
    if !matches {
        errors.push(FieldError::invalid(
            &path.child("metadata").child("labels"),
            labels.cloned().map_or(Value::Null, Value::Object),
            "`selector` does not match template `labels`",
        ));
    }
    template::validate_always(&spec["template"], &path, "ReplicationController", errors);
}
