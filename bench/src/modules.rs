//! The guests that are measured with, and the pods that run them.

use anyhow::{Context, Result};
use client::{Client, ListOptions};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use crate::Cluster;

/// Ends at once, with exit code 0.
pub const NOTHING: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// Sleeps for an hour, in one `poll_oneoff` on the monotonic clock.
pub const SLEEPING: &str = r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    ;; The subscription: clock 1 at 16, the time at 24.
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;

/// Computes for ever.
pub const SPINNING: &str =
    r#"(module (memory (export "memory") 1) (func (export "_start") (loop $ever (br $ever))))"#;

/// Pushes a module into the cluster's registry under this name, and has every node compile it: it
/// is cached everywhere when this returns.
pub async fn push(cluster: &Cluster, client: &Client, name: &str, text: &str) -> Result<()> {
    let binary = wat::parse_str(text).with_context(|| format!("the module {name}"))?;
    let file = cluster.scratch(&format!("{name}.wasm"));
    std::fs::write(&file, binary).with_context(|| format!("cannot write {}", file.display()))?;
    let file = file.to_str().context("the directory's name is no text")?;
    cluster.run(&["push", file, name])?;
    let nodes = client.of::<Node>();
    for node in nodes.list(&ListOptions::default()).await?.items {
        let node = node.metadata.name.context("a node without a name")?;
        let mut warming = pod(&format!("warm-{name}-{node}"), name)?;
        if let Some(spec) = &mut warming.spec {
            spec.node_name = Some(node);
        }
        crate::pods::run_to_start(client, &warming).await?;
    }
    Ok(())
}

/// A pod in the namespace `default` that runs a module and is not started again.
pub fn pod(name: &str, image: &str) -> Result<Pod> {
    let pod = json!({
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": image}],
        },
    });
    serde_json::from_value(pod).with_context(|| format!("the pod {name}"))
}
