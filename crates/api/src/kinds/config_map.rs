//! ConfigMaps.

use super::field::{flag, map};
use super::{Hooks, names};
use crate::status::{FieldError, FieldPath};
use base64::Engine as _;
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 ConfigMap",
    validate,
    ..Hooks::NONE
};

/// What a ConfigMap or a Secret may hold at most, in bytes.
pub(super) const MAX_SIZE: usize = 1024 * 1024;

fn validate(config: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    let data = map(config, "/data");
    for (key, value) in data.into_iter().flatten() {
        let path = FieldPath::new("data").key(key);
        names::check(errors, &path, key, names::config_key);
        if map(config, "/binaryData").is_some_and(|binary| binary.contains_key(key)) {
            errors.push(FieldError::invalid(
                &path,
                key.as_str(),
                "duplicate of key present in binaryData",
            ));
        }
        size += value.as_str().map_or(0, str::len);
    }
    for (key, value) in map(config, "/binaryData").into_iter().flatten() {
        let path = FieldPath::new("binaryData").key(key);
        names::check(errors, &path, key, names::config_key);
        size += decoded_length(value);
    }
    if size > MAX_SIZE {
        errors.push(FieldError::too_long(&FieldPath::new("[]"), MAX_SIZE));
    }
    if let Some(old) = old {
        fixed(config, old, &["data", "binaryData"], errors);
    }
}

/// Bytes that a base64 text stands for.
pub(super) fn decoded_length(value: &Value) -> usize {
    value
        .as_str()
        .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
        .map_or(0, |bytes| bytes.len())
}

/// Faults for what changed although the old object says that it is immutable.
pub(super) fn fixed(new: &Value, old: &Value, fields: &[&str], errors: &mut Vec<FieldError>) {
    if !flag(old, "/immutable") {
        return;
    }
    if !flag(new, "/immutable") {
        errors.push(FieldError::forbidden(
            &FieldPath::new("immutable"),
            "field is immutable when `immutable` is set",
        ));
    }
    for field in fields {
        if !super::field::same(new.get(*field), old.get(*field)) {
            errors.push(FieldError::forbidden(
                &FieldPath::new(field),
                "field is immutable when `immutable` is set",
            ));
        }
    }
}
