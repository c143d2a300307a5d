//! VolumeAttachments: that a volume is to be attached to a node.

use super::field::{present, same, text};
use super::{Hooks, names, volume_source};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "storage.k8s.io/v1 VolumeAttachment",
    validate,
    ..Hooks::NONE
};

fn validate(attachment: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &attachment["spec"];
    let path = FieldPath::new("spec");
    if let Some(old) = old {
        if !same(Some(spec), Some(&old["spec"])) {
            let why = "field is immutable";
            errors.push(FieldError::invalid(&path, spec.clone(), why));
        }
        return;
    }
    let attacher = text(spec, "/attacher");
    volume_source::driver_name(attacher, &path.child("attacher"), errors);
    source(&spec["source"], &path.child("source"), errors);
    let node = text(spec, "/nodeName");
    names::check(errors, &path.child("nodeName"), node, names::dns_subdomain);
}

fn source(source: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let volume = source.get("persistentVolumeName").and_then(Value::as_str);
    match (volume, present(source, "/inlineVolumeSpec")) {
        (None, None) => errors.push(FieldError::required(path, why)),
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(path, why)),
        (Some(""), None) => errors.push(FieldError::required(
            &path.child("persistentVolumeName"),
            "must specify non empty persistentVolumeName",
        )),
        (Some(name), None) => {
            let path = path.child("persistentVolumeName");
            names::check(errors, &path, name, names::dns_subdomain);
        }
        (None, Some(_)) => {}
    }
}
