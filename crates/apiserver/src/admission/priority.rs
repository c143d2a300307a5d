//! A new pod's priority: that of its PriorityClass, or of the one that is everybody's.

use api::{Resource, Status};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::Value;

use crate::dispatch::Call;

/// The classes that are always there, whose values the pod's defaults know.
const SYSTEM: [&str; 2] = ["system-cluster-critical", "system-node-critical"];

/// Fills in the priority of a new pod. Refuses one whose class is not there, as far as this server knows.
pub(crate) fn priority(call: &Call, pod: &mut Value) -> Result<(), Status> {
    if call.resource.plural != "pods" || !call.resource.group.is_empty() {
        return Ok(());
    }
    let name = pod["spec"]["priorityClassName"]
        .as_str()
        .unwrap_or_default();
    let class = match name {
        "" => match default_class(call) {
            Some(class) => class,
            None => return Ok(()),
        },
        system if SYSTEM.contains(&system) => return Ok(()),
        name => named(call, name).ok_or_else(|| {
            let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
            let why = format!("no PriorityClass with name {name} was found");
            Status::forbidden(call.resource, pod, &why)
        })?,
    };
    fill(&mut pod["spec"], &class);
    Ok(())
}

fn named(call: &Call, name: &str) -> Option<PriorityClass> {
    let key = Resource::of::<PriorityClass>().key(None, name);
    let entry = call.server.local(key.as_bytes())?;
    serde_json::from_slice(&entry.value).ok()
}

/// Of several the one of the lowest value, as in Kubernetes.
fn default_class(call: &Call) -> Option<PriorityClass> {
    let cache = &call.server.inner.cache;
    let shelf = cache.shelf(Resource::of::<PriorityClass>())?;
    let (snapshot, _) = cache.snapshot(shelf);
    snapshot
        .objects
        .values()
        .filter_map(|object| serde_json::from_slice::<PriorityClass>(object.bytes()).ok())
        .filter(|class| class.global_default == Some(true))
        .min_by_key(|class| class.value)
}

fn fill(spec: &mut Value, class: &PriorityClass) {
    let policy = class.preemption_policy.as_deref();
    spec["priorityClassName"] = class.metadata.name.as_deref().unwrap_or_default().into();
    spec["priority"] = class.value.into();
    spec["preemptionPolicy"] = policy.unwrap_or("PreemptLowerPriority").into();
}
