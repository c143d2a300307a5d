//! An address range for the pods of each node.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::json;

use crate::owner::target;
use crate::plan::{Plan, Write};
use crate::view::View;

/// Pods of all nodes: 10.128.0.0/9, which services (10.96.0.0/12) leave free.
const PODS: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);
const PODS_PREFIX: u32 = 9;
/// A node's share: 16,382 addresses.
const NODE_PREFIX: u32 = 18;

/// Gives every node that has none the lowest free range.
///
/// All nodes are looked at under one key: the next look waits until the view shows the ranges that
/// this one gave, so that no two nodes ever get the same.
pub(crate) fn reconcile(view: &View) -> Plan {
    let mut plan = Plan::default();
    let taken: BTreeSet<&str> = view
        .nodes
        .iter()
        .filter_map(|(_, node)| node.spec.as_ref()?.pod_cidr.as_deref())
        .collect();
    let base = u32::from(PODS);
    let mut free = (0..1u32 << (NODE_PREFIX - PODS_PREFIX))
        .map(|n| {
            format!(
                "{}/{NODE_PREFIX}",
                Ipv4Addr::from(base + (n << (32 - NODE_PREFIX)))
            )
        })
        .filter(|range| !taken.contains(range.as_str()));
    for (_, node) in view.nodes.iter() {
        if node.spec.as_ref().is_some_and(|s| s.pod_cidr.is_some()) {
            continue;
        }
        let Some(range) = free.next() else {
            plan.warn(
                "CIDRNotAvailable",
                "no address range is left for another node's pods",
            );
            break;
        };
        let patch = json!({
            "metadata": {"uid": node.metadata.uid},
            "spec": {"podCIDR": range, "podCIDRs": [range]},
        });
        plan.writes.push(Write::Patch {
            target: target(&**node),
            patch,
        });
    }
    plan
}
