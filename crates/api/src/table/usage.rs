//! Rows of what pods and nodes use.

use super::cell;
use crate::kinds::field::{items, text};
use crate::quantity::Quantity;
use jiff::Timestamp;
use serde_json::Value;

pub(super) fn node(object: &Value, _: Timestamp) -> Vec<Value> {
    cells(object, std::slice::from_ref(object))
}

pub(super) fn pod(object: &Value, _: Timestamp) -> Vec<Value> {
    cells(object, items(object, "/containers"))
}

/// Name and window of `object`, and what all of `users` use.
fn cells(object: &Value, users: &[Value]) -> Vec<Value> {
    let sum = |pointer: &str| -> Value {
        let amounts = users.iter().map(|user| text(user, pointer));
        let known = amounts.filter_map(|amount| Quantity::parse(amount).ok());
        let sum = known.fold(Quantity::ZERO, |sum, amount| sum.plus(&amount));
        sum.to_string().into()
    };
    vec![
        cell::name(object),
        sum("/usage/cpu"),
        sum("/usage/memory"),
        text(object, "/window").into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_uses_what_its_containers_use_together() {
        let used = |cpu: &str, memory: &str| json!({"usage": {"cpu": cpu, "memory": memory}});
        let object = |containers: &[Value]| json!({"metadata": {"name": "p"}, "window": "15s", "containers": containers});
        let both = [used("1500n", "64Ki"), used("500n", "1Mi")];
        assert_eq!(
            pod(&object(&both), Timestamp::UNIX_EPOCH),
            ["p", "2u", "1088Ki", "15s"]
        );
        assert_eq!(
            pod(&object(&[]), Timestamp::UNIX_EPOCH),
            ["p", "0", "0", "15s"]
        );
        let mut whole = used("250m", "2Gi");
        whole["metadata"] = json!({"name": "n"});
        whole["window"] = "20.5s".into();
        assert_eq!(
            node(&whole, Timestamp::UNIX_EPOCH),
            ["n", "250m", "2Gi", "20.5s"]
        );
    }
}
