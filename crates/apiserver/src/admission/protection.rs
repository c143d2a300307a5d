//! Claims and volumes are held until nothing uses them: a finalizer from birth, which a controller
//! takes away.

use api::Status;
use serde_json::{Value, json};

use super::admit::writes;
use crate::dispatch::Call;

/// What holds each kind.
const FINALIZERS: [(&str, &str); 2] = [
    ("persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("persistentvolumes", "kubernetes.io/pv-protection"),
];

/// The plugin.
pub(super) fn admit(call: &Call, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
    let held = FINALIZERS.iter().find(|(kind, _)| writes(call, "", kind));
    if let Some((_, finalizer)) = held.filter(|_| old.is_none()) {
        hold(new, finalizer);
    }
    Ok(())
}

fn hold(object: &mut Value, finalizer: &str) {
    match &mut object["metadata"]["finalizers"] {
        Value::Array(list) if list.iter().any(|held| held == finalizer) => {}
        Value::Array(list) => list.push(finalizer.into()),
        place => *place = json!([finalizer]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finalizer_is_added_once() {
        for (given, made) in [
            (json!({}), json!(["f"])),
            (json!({"finalizers": ["a/b"]}), json!(["a/b", "f"])),
            (json!({"finalizers": ["f", "a/b"]}), json!(["f", "a/b"])),
        ] {
            let mut object = json!({"metadata": given});
            hold(&mut object, "f");
            assert_eq!(object["metadata"]["finalizers"], made);
        }
    }
}
