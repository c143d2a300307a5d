//! By what a pod's containers are run, and what that costs: what its RuntimeClass says.

use std::sync::Arc;

use api::resources::Quantities;
use client::Client;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use runtime::Handler;

use super::Driver;
use super::cell::Cell;
use crate::pod::{Observation, PodView as _};

impl Driver {
    /// The handler of a pod: as its class had it when its sandbox was made. Where no record tells of that, as it has it now.
    ///
    /// # Errors
    /// In Kubernetes' words, when there is no such class, or this node cannot do what it wants.
    pub(super) async fn handler(&self, cell: &Cell) -> Result<Handler, String> {
        let (known, pod) = {
            let state = cell.state.lock();
            let known = state.observed.handler.as_deref();
            (known.and_then(Handler::of_name), state.pod.clone())
        };
        if let Some(handler) = known {
            return Ok(handler);
        }
        let (handler, mut overhead) = class_of(&self.0.tools.client, &pod, cell.is_static).await?;
        if !cell.is_static {
            // Admission has written it into the pod.
            overhead.clear();
        }
        let found = Observation::Class(handler.name().to_owned(), overhead);
        let now = self.0.tools.clock.now();
        let mut state = cell.state.lock();
        state.observed.observe(found, now);
        state.pod = costing(&state.pod, &state.observed.overhead);
        self.count(cell, &state);
        Ok(handler)
    }
}

/// A pod with what its class costs, unless it says so itself.
pub(super) fn costing(pod: &Arc<Pod>, overhead: &Quantities) -> Arc<Pod> {
    let own = pod.pod_spec().and_then(|spec| spec.overhead.as_ref());
    if overhead.is_empty() || own.is_some_and(|own| !own.is_empty()) {
        return pod.clone();
    }
    let mut pod = Pod::clone(pod);
    if let Some(spec) = &mut pod.spec {
        spec.overhead = Some(overhead.clone());
    }
    Arc::new(pod)
}

/// What a pod's class says: a handler, and what it costs.
async fn class_of(
    client: &Client,
    pod: &Pod,
    is_static: bool,
) -> Result<(Handler, Quantities), String> {
    let class = pod.pod_spec().and_then(|s| s.runtime_class_name.as_deref());
    let Some(name) = class.filter(|name| !name.is_empty()) else {
        return Ok((Handler::default(), Quantities::new()));
    };
    let found = client.of::<RuntimeClass>().find("", name).await;
    if found.is_err() && is_static {
        // No server has to be there for it, and each cluster begins with a class of each handler's name.
        if let Some(handler) = Handler::of_name(name) {
            return Ok((handler, Quantities::new()));
        }
    }
    let found = found.map_err(|error| format!("failed to lookup RuntimeClass {name}: {error}"))?;
    let class = found.ok_or_else(|| format!("runtimeclass.node.k8s.io {name:?} not found"))?;
    let handler = Handler::of_name(&class.handler).ok_or_else(|| {
        let handler = &class.handler;
        format!("failed to get sandbox runtime: no runtime for {handler:?} is configured")
    })?;
    let overhead = class.overhead.and_then(|overhead| overhead.pod_fixed);
    Ok((handler, overhead.unwrap_or_default()))
}
