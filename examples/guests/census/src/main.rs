//! Watches the cluster's Nodes and keeps a ConfigMap that says which of them are ready.
//!
//!     census [CONFIGMAP]
//!
//! It speaks to the API as any pod may: by the name of its Service, with the token of its ServiceAccount.

mod api;

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::ExitCode;

use serde_json::{Value, json};

fn main() -> ExitCode {
    let map = env::args().nth(1).unwrap_or_else(|| "census".to_owned());
    loop {
        // A watch ends now and then, and is begun anew.
        if let Err(error) = watch(&map) {
            eprintln!("census: {error}");
            return ExitCode::FAILURE;
        }
    }
}

/// Follows the Nodes from the first on, and writes down each change.
fn watch(map: &str) -> Result<(), String> {
    let mut nodes = BTreeMap::new();
    let events = api::get("/api/v1/nodes?watch=true")?;
    for line in BufReader::new(events).lines() {
        let line = line.map_err(|error| format!("reading the watch: {error}"))?;
        let event: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        let object = &event["object"];
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let before = match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => nodes.insert(name.clone(), ready(object)),
            Some("DELETED") => nodes.remove(&name),
            Some("ERROR") => return Err(object["message"].to_string()),
            _ => continue,
        };
        if before != nodes.get(&name).copied() {
            write(map, &nodes)?;
        }
    }
    Ok(())
}

fn ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn write(map: &str, nodes: &BTreeMap<String, bool>) -> Result<(), String> {
    let data: BTreeMap<_, _> = nodes
        .iter()
        .map(|(name, ready)| (name, if *ready { "ready" } else { "not ready" }))
        .collect();
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": map}, "data": data});
    api::apply(&format!("configmaps/{map}"), &object)?;
    println!("{} nodes", nodes.len());
    Ok(())
}
