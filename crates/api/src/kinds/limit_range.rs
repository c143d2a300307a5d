//! LimitRanges.

use super::Hooks;
use super::field::{children, spec};
use serde_json::{Map, Value};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 LimitRange",
    default: fill,
    ..Hooks::NONE
};

/// For containers, the largest allowed is the limit given, a limit is also what is asked for, and
/// the smallest allowed is asked for where nothing else is.
fn fill(range: &mut Value) {
    let Some(spec) = spec(range) else { return };
    for limit in children(spec, "limits") {
        if limit.get("type").is_some_and(|kind| kind == "Container") {
            inherit(limit, "max", "default");
            inherit(limit, "default", "defaultRequest");
            inherit(limit, "min", "defaultRequest");
        }
    }
}

fn inherit(limit: &mut Map<String, Value>, from: &str, to: &str) {
    let given = limit.get(from).and_then(Value::as_object).cloned();
    for (resource, quantity) in given.into_iter().flatten() {
        if let Some(list) = super::field::entry(limit, to) {
            list.entry(resource).or_insert(quantity);
        }
    }
}
