//! A pod that says nothing else stays five minutes on a node that is lost.

use api::Status;
use serde_json::{Value, json};

use super::admit::writes;
use crate::dispatch::Call;

/// The taints of lost nodes.
const TAINTS: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];
/// How long a pod stays.
const SECONDS: i64 = 300;

/// The plugin; it looks at updates too.
pub(super) fn admit(call: &Call, _old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
    if writes(call, "", "pods") {
        tolerate(&mut new["spec"]);
    }
    Ok(())
}

fn tolerate(spec: &mut Value) {
    for taint in TAINTS {
        let place = &mut spec["tolerations"];
        if !place.is_array() {
            *place = json!([]);
        }
        let Some(list) = place.as_array_mut() else {
            return;
        };
        if !list.iter().any(|toleration| fits(toleration, taint)) {
            list.push(json!({
                "key": taint,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": SECONDS,
            }));
        }
    }
}

fn fits(toleration: &Value, taint: &str) -> bool {
    let field = |name: &str| toleration[name].as_str().unwrap_or_default();
    matches!(field("effect"), "" | "NoExecute")
        && (field("key").is_empty() || field("key") == taint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_tolerates_already_is_left() {
        let [not_ready, unreachable] = TAINTS;
        for (given, added) in [
            (json!(null), vec![not_ready, unreachable]),
            (
                json!([{"key": "a", "operator": "Exists"}]),
                vec![not_ready, unreachable],
            ),
            (json!([{"operator": "Exists"}]), vec![]),
            (
                json!([{"operator": "Exists", "effect": "NoSchedule"}]),
                vec![not_ready, unreachable],
            ),
            (
                json!([{"key": unreachable, "effect": "NoExecute"}]),
                vec![not_ready],
            ),
            (
                json!([{"key": not_ready, "operator": "Exists"}]),
                vec![unreachable],
            ),
        ] {
            let before = given.as_array().map_or(0, Vec::len);
            let mut spec = json!({"tolerations": given});
            tolerate(&mut spec);
            let list = spec["tolerations"].as_array().unwrap();
            let new: Vec<&str> = list[before..]
                .iter()
                .map(|t| t["key"].as_str().unwrap())
                .collect();
            assert_eq!(new, added, "{given}");
            let again = spec.clone();
            tolerate(&mut spec);
            assert_eq!(spec, again);
        }
    }
}
