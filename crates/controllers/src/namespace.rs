//! Namespaces: what each has from birth, and how a deleted one is emptied.

#[cfg(test)]
mod tests;

use client::Key;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use std::collections::BTreeMap;

use crate::owner::{self, target, to_value};
use crate::plan::{Plan, Write, difference};
use crate::view::View;

/// The ConfigMap by which pods know the cluster's CA.
pub(crate) const ROOT_CA: &str = "kube-root-ca.crt";
const DEFAULT_ACCOUNT: &str = "default";

/// Gives the namespace at `key` its service account and its CA certificate.
///
/// Emptying a deleted one needs every kind that is served, so it is [`crate::garbage`]'s.
pub(crate) fn reconcile(key: &Key, view: &View) -> Plan {
    let mut plan = Plan::default();
    let Some(namespace) = view.namespaces.get(key) else {
        return plan;
    };
    if owner::is_deleting(&**namespace) || !is_active(namespace) {
        return plan;
    }
    let within = |name: &str| Key::new(key.name.clone(), name);
    let meta = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(key.name.clone()),
        ..ObjectMeta::default()
    };
    if view
        .service_accounts
        .get(&within(DEFAULT_ACCOUNT))
        .is_none()
    {
        let account = ServiceAccount {
            metadata: meta(DEFAULT_ACCOUNT),
            ..ServiceAccount::default()
        };
        plan.writes.push(Write::Create {
            namespace: key.name.clone(),
            object: to_value(&account),
        });
    }
    let wanted = BTreeMap::from([("ca.crt".to_owned(), view.root_ca.to_string())]);
    match view.config_maps.get(&within(ROOT_CA)) {
        None => {
            let map = ConfigMap {
                metadata: meta(ROOT_CA),
                data: Some(wanted),
                ..ConfigMap::default()
            };
            plan.writes.push(Write::Create {
                namespace: key.name.clone(),
                object: to_value(&map),
            });
        }
        Some(map) if map.data.as_ref() != Some(&wanted) => {
            let patch = json!({
                "metadata": {"resourceVersion": map.metadata.resource_version},
                "data": difference(&json!(map.data), &json!(wanted)),
            });
            plan.writes.push(Write::Patch {
                target: target(&**map),
                patch,
            });
        }
        Some(_) => {}
    }
    plan
}

fn is_active(namespace: &Namespace) -> bool {
    namespace
        .status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or("Active")
        == "Active"
}
