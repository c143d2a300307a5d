//! Ingresses. What their rules mean is judged by the proxy that serves them.

use super::Hooks;
use serde_json::json;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "networking.k8s.io/v1 Ingress",
    prepare: |ingress, old, _| {
        if old.is_none() {
            ingress["status"] = json!({"loadBalancer": {}});
        }
    },
    ..Hooks::NONE
};
