//! The range of pod addresses that the cluster gives to this node.

use std::path::Path;

use client::{Informer, Key};
use k8s_openapi::api::core::v1::Node;

use crate::Error;

/// The range of pod addresses that the cluster has given to the node, as soon as it has. What was given before is kept in
/// a file, for a start at which no server can be reached.
pub(crate) async fn given(nodes: &Informer<Node>, name: &str, file: &Path) -> String {
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    if !kept.is_empty() {
        return kept;
    }
    let given = another(nodes, name, "").await;
    keep(file, &given);
    given
}

/// Completes when the cluster gives the node another range of pod addresses, which the next start finds.
pub(crate) async fn moved(nodes: &Informer<Node>, name: &str, from: &str, file: &Path) -> Error {
    let to = another(nodes, name, from).await;
    keep(file, &to);
    Error::PodRangeMoved(from.to_owned(), to)
}

fn keep(file: &Path, range: &str) {
    // It is short: written as a whole, or found to be no range and asked for anew.
    if let Err(error) = std::fs::write(file, range) {
        tracing::error!(%error, "the node's range of pod addresses cannot be kept");
    }
}

/// Waits until the node has a range of pod addresses that is not this one.
async fn another(nodes: &Informer<Node>, name: &str, than: &str) -> String {
    let mut changes = nodes.subscribe();
    let key = Key::new("", name);
    loop {
        let given = nodes
            .get(&key)
            .and_then(|n| n.spec.as_ref()?.pod_cidr.clone());
        if let Some(cidr) = given.filter(|c| !c.is_empty() && c != than) {
            return cidr;
        }
        changes.next().await;
    }
}
