//! A pod's ephemeral volumes: the claims that are made for them, which go with the pod.

#[cfg(test)]
mod tests;

use api::storage;
use client::Key;
use k8s_openapi::api::core::v1::{Pod, Volume};
use serde_json::{Value, json};

use crate::owner;
use crate::plan::{Plan, Write};
use crate::view::View;

/// Whether the pod has such volumes.
pub(crate) fn has(pod: &Pod) -> bool {
    let mut volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.any(|volume| volume.ephemeral.is_some())
}

/// Makes what claims the pod at `key` lacks.
pub(crate) fn reconcile(key: &Key, view: &View) -> Plan {
    let mut plan = Plan::default();
    let Some(pod) = view
        .pods
        .get(key)
        .filter(|pod| !owner::is_deleting(&***pod))
    else {
        return plan;
    };
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    for volume in volumes {
        let name = storage::ephemeral_claim(&key.name, &volume.name);
        let there = view
            .claims
            .get(&Key::new(key.namespace.as_str(), name.as_str()));
        match (there, claim(pod, volume, &name)) {
            (_, None) => {}
            (None, Some(object)) => plan.writes.push(Write::Create {
                namespace: key.namespace.clone(),
                object,
            }),
            (Some(there), Some(_)) => {
                let uid = owner::uid(&**pod);
                if let Some(why) = storage::foreign(there, &key.namespace, &key.name, uid) {
                    let why = format!("ephemeral volume {}: {why}", volume.name);
                    plan.warn("FailedBinding", why);
                }
            }
        }
    }
    plan
}

/// The claim of an ephemeral volume.
fn claim(pod: &Pod, volume: &Volume, name: &str) -> Option<Value> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    let given = template.metadata.clone().unwrap_or_default();
    Some(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": pod.metadata.namespace,
            "labels": given.labels,
            "annotations": given.annotations,
            "ownerReferences": [owner::controller_ref(pod)],
        },
        "spec": template.spec,
    }))
}
