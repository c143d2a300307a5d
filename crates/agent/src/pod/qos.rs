//! A pod's quality-of-service class.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::PodView as _;

/// `Guaranteed`, `Burstable` or `BestEffort`: what the API server said, else what follows from the containers' resources.
pub(crate) fn qos_class(pod: &Pod) -> String {
    if let Some(class) = pod.status.as_ref().and_then(|s| s.qos_class.clone()) {
        return class;
    }
    let all = || pod.init_containers().iter().chain(pod.containers());
    let class = if all().all(|c| amounts(c).is_empty()) {
        "BestEffort"
    } else if all().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    };
    class.to_owned()
}

fn guaranteed(c: &Container) -> bool {
    ["cpu", "memory"].iter().all(|kind| {
        let limit = c
            .resources
            .as_ref()
            .and_then(|r| r.limits.as_ref()?.get(*kind));
        let request = c
            .resources
            .as_ref()
            .and_then(|r| r.requests.as_ref()?.get(*kind));
        limit.is_some() && (request.is_none() || request == limit)
    })
}

fn amounts(c: &Container) -> Vec<&str> {
    let Some(resources) = &c.resources else {
        return Vec::new();
    };
    let maps = resources.limits.iter().chain(&resources.requests);
    let kinds = maps.flat_map(|m| m.iter());
    kinds
        .filter(|(k, q)| matches!(k.as_str(), "cpu" | "memory") && q.0 != "0")
        .map(|(k, _)| k.as_str())
        .collect()
}
