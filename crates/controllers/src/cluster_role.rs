//! Cluster roles that gather the rules of others: `aggregationRule` says by labels of which.

#[cfg(test)]
mod tests;

use client::Key;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;

use crate::owner::{self, target};
use crate::plan::{Plan, Write};
use crate::view::View;

/// Writes the union of the rules that the role at `key` is to gather: in the order of its selectors and
/// of the roles' names, each rule once. A role that gathers nothing by itself is left alone.
pub(crate) fn reconcile(key: &Key, view: &View) -> Plan {
    let mut plan = Plan::default();
    let Some(role) = view.cluster_roles.get(key) else {
        return plan;
    };
    if !gathers(role) || owner::is_deleting(&**role) {
        return plan;
    }
    let rules = union(role, view);
    if role.rules.as_deref().unwrap_or_default() != rules {
        // Judged again if anybody else wrote it: what it gathers may be another.
        let patch = json!({
            "metadata": {"resourceVersion": role.metadata.resource_version},
            "rules": rules,
        });
        plan.writes.push(Write::Patch {
            target: target(&**role),
            patch,
        });
    }
    plan
}

/// Whether a role's rules are those of others.
pub(crate) fn gathers(role: &ClusterRole) -> bool {
    role.aggregation_rule.is_some()
}

fn union(role: &ClusterRole, view: &View) -> Vec<PolicyRule> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    let selectors = role
        .aggregation_rule
        .as_ref()
        .and_then(|aggregation| aggregation.cluster_role_selectors.as_deref());
    for selector in selectors.unwrap_or_default() {
        let chosen = view.cluster_roles.iter().filter(|(_, other)| {
            other.metadata.name != role.metadata.name
                && owner::selects(selector, other.metadata.labels.as_ref())
        });
        for rule in chosen.flat_map(|(_, other)| other.rules.as_deref().unwrap_or_default()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}
