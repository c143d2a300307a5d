//! By what a pod's containers are run: what its RuntimeClass says.

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
        let handler = handler_of(&self.0.tools.client, &pod, cell.is_static).await?;
        let found = Observation::Handler(handler.name().to_owned());
        let now = self.0.tools.clock.now();
        cell.state.lock().observed.observe(found, now);
        Ok(handler)
    }
}

async fn handler_of(client: &Client, pod: &Pod, is_static: bool) -> Result<Handler, String> {
    let class = pod.pod_spec().and_then(|s| s.runtime_class_name.as_deref());
    let Some(name) = class.filter(|name| !name.is_empty()) else {
        return Ok(Handler::default());
    };
    let found = client.of::<RuntimeClass>().find("", name).await;
    if found.is_err() && is_static {
        // No server has to be there for it, and each cluster begins with a class of each handler's name.
        if let Some(handler) = Handler::of_name(name) {
            return Ok(handler);
        }
    }
    let found = found.map_err(|error| format!("failed to lookup RuntimeClass {name}: {error}"))?;
    let class = found.ok_or_else(|| format!("runtimeclass.node.k8s.io {name:?} not found"))?;
    Handler::of_name(&class.handler).ok_or_else(|| {
        let handler = &class.handler;
        format!("failed to get sandbox runtime: no runtime for {handler:?} is configured")
    })
}
