//! Secrets. `stringData` is for writing only: it becomes base64 in `data`.

use super::config_map::{MAX_SIZE, decoded_length, fixed};
use super::field::{default_text, entry, map, root, text};
use super::{Hooks, names, template};
use crate::status::{FieldError, FieldPath};
use base64::Engine as _;
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 Secret",
    default: fill,
    validate,
    ..Hooks::NONE
};

fn fill(secret: &mut Value) {
    let Some(secret) = root(secret) else { return };
    default_text(secret, "type", "Opaque");
    let Some(Value::Object(given)) = secret.remove("stringData") else {
        return;
    };
    if let Some(data) = entry(secret, "data").filter(|_| !given.is_empty()) {
        for (key, value) in given {
            let text = value.as_str().unwrap_or_default();
            let encoded = base64::engine::general_purpose::STANDARD.encode(text);
            data.insert(key, encoded.into());
        }
    }
}

fn validate(secret: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("data");
    let mut size = 0;
    for (key, value) in map(secret, "/data").into_iter().flatten() {
        names::check(errors, &path.key(key), key, names::config_key);
        size += decoded_length(value);
    }
    if size > MAX_SIZE {
        errors.push(FieldError::too_long(&path, MAX_SIZE));
    }
    for key in required_keys(secret) {
        if !map(secret, "/data").is_some_and(|data| data.contains_key(*key)) {
            errors.push(FieldError::required(&path.key(key), ""));
        }
    }
    match text(secret, "/type") {
        "kubernetes.io/service-account-token" => service_account(secret, errors),
        "kubernetes.io/dockercfg" => registry_logins(secret, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => {
            registry_logins(secret, ".dockerconfigjson", errors);
        }
        "kubernetes.io/basic-auth" => {
            let keys = ["username", "password"];
            if keys.iter().all(|key| held(secret, key).is_none()) {
                for key in keys {
                    errors.push(FieldError::required(&path.key(key), ""));
                }
            }
        }
        "kubernetes.io/ssh-auth" if held(secret, "ssh-privatekey").is_none_or(|key| key == "") => {
            errors.push(FieldError::required(&path.key("ssh-privatekey"), ""));
        }
        _ => {}
    }
    if let Some(old) = old {
        template::immutable(secret, old, "type", &FieldPath::root(), errors);
        fixed(secret, old, &["data"], errors);
    }
}

fn required_keys(secret: &Value) -> &'static [&'static str] {
    match text(secret, "/type") {
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    }
}

fn held<'a>(secret: &'a Value, key: &str) -> Option<&'a Value> {
    map(secret, "/data")?.get(key)
}

/// Logins for image registries are a JSON object. The faults are worded as Go's decoder words them,
/// so far as the first character shows them.
fn registry_logins(secret: &Value, key: &str, errors: &mut Vec<FieldError>) {
    let Some(encoded) = held(secret, key).and_then(Value::as_str) else {
        return;
    };
    let standard = &base64::engine::general_purpose::STANDARD;
    let bytes = standard.decode(encoded).unwrap_or_default();
    let why = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => {
            let kind = match other {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                _ => "number",
            };
            format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
        }
        Err(error) if error.is_eof() => "unexpected end of JSON input".to_owned(),
        Err(error) => match bytes.trim_ascii_start().first() {
            Some(first) if !b"{[\"-0123456789tfn".contains(first) => format!(
                "invalid character {:?} looking for beginning of value",
                char::from(*first)
            ),
            _ => error.to_string(),
        },
    };
    errors.push(FieldError::invalid(
        &FieldPath::new("data").key(key),
        "<secret contents redacted>",
        &why,
    ));
}

fn service_account(secret: &Value, errors: &mut Vec<FieldError>) {
    let key = "kubernetes.io/service-account.name";
    let named = map(secret, "/metadata/annotations")
        .and_then(|annotations| annotations.get(key)?.as_str())
        .is_some_and(|name| !name.is_empty());
    if !named {
        let path = FieldPath::new("metadata").child("annotations").key(key);
        errors.push(FieldError::required(&path, ""));
    }
}
