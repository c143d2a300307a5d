//! A pod that asks for what no plugin can give yet is held back, and told so.
//!
//! Placing it regardless would break a promise that its spec makes (never two on one node, only
//! beside its data), and nobody would notice until it mattered.

use k8s_openapi::api::core::v1::PodSpec;

use super::{Plugin, PreFilter};
use crate::{pod::Pod, snapshot::Snapshot};

pub(super) struct Unsupported;

impl Plugin for Unsupported {
    fn name(&self) -> &'static str {
        "Unsupported"
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        match pod.unsupported {
            None => PreFilter::Skip,
            Some(what) => PreFilter::Reject {
                condition: "Unschedulable",
                message: format!(
                    "the pod uses {what}, which carob's scheduler does not support yet"
                ),
            },
        }
    }
}

/// The first thing in a pod's spec that would be ignored.
pub(crate) fn unsupported(spec: &PodSpec) -> Option<&'static str> {
    let checks = [
        (
            "resource claims (spec.resourceClaims)",
            any(&spec.resource_claims),
        ),
        (
            "scheduling groups (spec.schedulingGroup)",
            spec.scheduling_group.is_some(),
        ),
    ];
    checks
        .into_iter()
        .find(|(_, used)| *used)
        .map(|(what, _)| what)
}

fn any<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_supported_is_named() {
        for (spec, named) in [
            (json!({}), None),
            (json!({ "affinity": { "nodeAffinity": {} } }), None),
            (json!({ "affinity": { "podAntiAffinity": {} } }), None),
            (
                json!({ "volumes": [{ "name": "a", "emptyDir": {} }] }),
                None,
            ),
            (
                json!({ "volumes": [{ "name": "a", "persistentVolumeClaim":
                    { "claimName": "c" } }, { "name": "b", "ephemeral": {} }] }),
                None,
            ),
            (
                json!({ "resourceClaims": [{ "name": "gpu" }] }),
                Some("resourceClaims"),
            ),
        ] {
            let parsed: PodSpec = serde_json::from_value(spec.clone()).unwrap();
            let found = unsupported(&parsed);
            match (found, named) {
                (None, None) => {}
                (Some(found), Some(named)) => assert!(found.contains(named), "{found}"),
                _ => panic!("{spec}: {found:?}"),
            }
        }
    }
}
