//! The row of a `scale` subresource: the same for all workloads.

use super::{Include, cell, definition, partial_object_metadata};
use crate::kinds::field::text;
use crate::resource::Column;
use jiff::Timestamp;
use serde_json::{Value, json};

const fn column(name: &'static str, kind: &'static str, format: &'static str) -> Column {
    Column {
        name,
        kind,
        format,
        priority: 0,
    }
}

static COLUMNS: [Column; 4] = [
    column("Name", "string", "name"),
    column("Desired", "integer", ""),
    column("Available", "integer", ""),
    column("Age", "string", ""),
];

/// The table of one `autoscaling/v1 Scale`. Its age counts up to `now`.
pub fn scale(scale: Value, now: Timestamp, include: Include) -> Value {
    let cells = [
        cell::name(&scale),
        cell::number(&scale, "/spec/replicas"),
        cell::number(&scale, "/status/replicas"),
        cell::age(&scale, now),
    ];
    let version = text(&scale, "/metadata/resourceVersion").to_owned();
    let held = match include {
        Include::None => Value::Null,
        Include::Metadata => partial_object_metadata(scale),
        Include::Object => scale,
    };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": COLUMNS.iter().map(definition).collect::<Vec<_>>(),
        "rows": [{"cells": cells, "object": held}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_there_are_of_how_many() {
        let object = json!({
            "metadata": {"name": "web", "resourceVersion": "7", "creationTimestamp": "2026-11-21T10:00:00Z"},
            "spec": {"replicas": 3}, "status": {"replicas": 2}});
        let now = "2026-11-21T10:05:00Z".parse().expect("a time");
        let table = scale(object, now, Include::Metadata);
        let names: Vec<&Value> = (0..4)
            .map(|i| &table["columnDefinitions"][i]["name"])
            .collect();
        assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
        let row = &table["rows"][0];
        assert_eq!(row["cells"], json!(["web", 3, 2, "5m"]));
        assert_eq!(row["object"]["metadata"]["name"], "web");
        assert_eq!(table["metadata"]["resourceVersion"], "7");
    }
}
