//! Examples of each kind, by which it is held against what all of them have to obey.

use std::path::Path;

use serde_json::{Value, json};

pub(super) struct Example {
    /// One that can be made.
    pub(super) volume: Value,
    /// Those of a pod `stalls` that wait for an answer which never comes.
    pub(super) stalls: Vec<Value>,
}

/// The examples of the kind that has this field. A kind without any fails all tests that go over the table.
pub(super) fn of(field: &str, host: &Path) -> Example {
    let token = json!({"serviceAccountToken": {"path": "token"}});
    let (volume, stalls) = match field {
        "configMap" => (json!({"name": "c"}), vec![json!({"name": "stalls"})]),
        "downwardAPI" => {
            let labels = json!({"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}});
            (json!({"items": [labels]}), vec![])
        }
        "emptyDir" => (json!({}), vec![]),
        "ephemeral" => (json!({}), vec![json!({})]),
        "hostPath" => (json!({"path": host, "type": "DirectoryOrCreate"}), vec![]),
        "image" => (
            json!({"reference": "files:v1"}),
            vec![json!({"reference": "stalls:v1"})],
        ),
        "persistentVolumeClaim" => (
            json!({"claimName": "data"}),
            vec![json!({"claimName": "stalls"})],
        ),
        "projected" => (
            json!({"sources": [token, {"secret": {"name": "s"}}]}),
            vec![
                json!({"sources": [{"configMap": {"name": "no"}}, {"secret": {"name": "stalls"}}]}),
                json!({"sources": [token]}),
            ],
        ),
        "secret" => (
            json!({"secretName": "s"}),
            vec![json!({"secretName": "stalls"})],
        ),
        _ => panic!("no example of {field}"),
    };
    let of = |source: Value| json!({"name": "v", field: source});
    Example {
        volume: of(volume),
        stalls: stalls.into_iter().map(of).collect(),
    }
}
