//! The annotation in which `kubectl apply` without `--server-side` keeps what it last applied, as far
//! as server-side apply has to do with it: `kubectl` may go from one to the other without conflicts,
//! and back again.

use serde_json::{Map, Value};

use super::compare::compare;
use super::merge;
use super::set::FieldSet;
use super::shape::Kind;
use super::target::Target;

/// The one manager that this is for.
pub(super) const KUBECTL: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Bytes that all annotations may have.
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.get("annotations")?.as_object()
}

fn last_applied(object: &Value) -> Option<&str> {
    let text = annotations(object)?.get(ANNOTATION)?.as_str()?;
    Some(text).filter(|text| !text.is_empty())
}

/// The fields that the annotation says were applied, and that nobody has changed since: `kubectl`
/// may take them from whoever owns them. None where it says nothing that can be understood.
pub(super) fn applied_and_unchanged(target: Target<'_>, live: &Value) -> Option<FieldSet> {
    let applied: Value = serde_json::from_str(last_applied(live)?).ok()?;
    if applied.get("apiVersion").and_then(Value::as_str) != Some(target.api_version) {
        return None;
    }
    let mut fields = FieldSet::default();
    merge::fields_of(
        Kind::Struct(target.ty),
        &applied,
        &mut Vec::new(),
        &mut fields,
    );
    let changes = compare(target, &applied, live);
    fields.subtract(&changes.set);
    fields.subtract(&changes.removed);
    Some(fields)
}

/// Writes what `kubectl` applies into the annotation of an object that has one already. It goes where
/// that would be too long.
pub(super) fn refresh(object: &mut Value, mut wanted: Value) {
    if last_applied(object).is_none() {
        return;
    }
    let given = wanted.pointer_mut("/metadata/annotations");
    if let Some(Value::Object(given)) = given {
        given.remove(ANNOTATION);
    }
    let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") else {
        return;
    };
    annotations.insert(ANNOTATION.to_owned(), as_go_writes(&wanted).into());
    let bytes = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if annotations.iter().map(bytes).sum::<usize>() > MAX_ANNOTATION_BYTES {
        annotations.remove(ANNOTATION);
    }
}

/// JSON as Go's encoder writes it: what HTML would read as markup is escaped, and a line ends it.
fn as_go_writes(value: &Value) -> String {
    let mut text = value.to_string();
    for (character, escaped) in [
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u{2028}", "\\u2028"),
        ("\u{2029}", "\\u2029"),
    ] {
        if text.contains(character) {
            text = text.replace(character, escaped);
        }
    }
    text.push('\n');
    text
}
