//! A container that a request for a pod's log or streams means, and the agent that runs it.

use std::net::SocketAddr;

use api::Status;
use client::node::node_client::NodeClient;
use client::node::{BreakOffRequest, LogsChunk, LogsRequest, NOT_RUNNING};
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use tonic::Code;
use tonic::transport::Channel;

use super::agents::{self, Held, Line, Purpose, agent_address};
use crate::ApiServer;
use crate::dispatch::{Call, record_uid};
use crate::request::Verb;

/// What the pod's object says.
pub(super) struct PodContainer {
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) container: String,
    /// It has a terminal of its own.
    pub(super) tty: bool,
    /// Where the pod is placed, if it is.
    node: Option<String>,
    /// The pod has ended: nothing of it will run any more.
    ended: bool,
}

/// The agent of the pod's node.
#[derive(Clone)]
pub(super) struct Agent {
    pub(super) client: NodeClient<Channel>,
    line: Line,
    node: String,
    address: SocketAddr,
}

impl PodContainer {
    /// Reads the pod that the path names, and which of its containers the query means.
    pub(super) async fn read(call: &Call) -> Result<Self, Status> {
        let pod = call
            .server
            .read(call.key().as_bytes())
            .await?
            .ok_or_else(|| call.not_found())?;
        record_uid(pod.uid());
        let uid = pod.uid().to_owned();
        let pod: Pod = pod.view().map_err(|e| Status::internal(e.to_string()))?;
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        let ended = matches!(phase, Some("Succeeded" | "Failed"));
        let spec = pod.spec.unwrap_or_default();
        let container = container(call.name(), &spec, call.query.text("container"))?;
        let mut all = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten());
        let meant = all.find(|c| c.name == container);
        Ok(Self {
            namespace: call.namespace().unwrap_or_default().to_owned(),
            uid,
            tty: meant.is_some_and(|c| c.tty == Some(true)),
            container,
            node: spec.node_name.filter(|n| !n.is_empty()),
            ended,
        })
    }

    /// Refuses a container of a pod that has ended. Of others only the agent knows whether they run:
    /// what the status says may be of a moment ago.
    pub(super) fn may_run(&self, pod: &str) -> Result<(), Status> {
        if !self.ended {
            return Ok(());
        }
        Err(Status::bad_request(format!(
            "container \"{}\" in pod \"{pod}\" {NOT_RUNNING}",
            self.container
        )))
    }

    /// The agent that runs it.
    ///
    /// # Errors
    /// 400 where the pod is not placed yet.
    pub(super) async fn placed(&self, call: &Call) -> Result<Agent, Status> {
        let agent = self.agent(call).await?;
        agent.ok_or_else(|| {
            let why = format!("pod {} does not have a host assigned", call.name());
            Status::bad_request(why)
        })
    }

    /// The same; `None` where the pod is not placed yet.
    pub(super) async fn agent(&self, call: &Call) -> Result<Option<Agent>, Status> {
        let Some(node) = &self.node else {
            return Ok(None);
        };
        let agent = Agent::of(&call.server, node, Purpose::Containers);
        agent.await.map(Some)
    }
}

/// Refuses those who may only get: they would be given a way to write, as in Kubernetes since 1.35.
pub(super) async fn may_create(call: &Call) -> Result<(), Status> {
    if call.verb == Verb::Create {
        return Ok(());
    }
    let (server, resource) = (&call.server, Some(call.resource));
    let judged = server.authorize(
        &call.identity,
        Verb::Create,
        &call.path,
        &call.query,
        resource,
    );
    judged.await
}

impl Agent {
    /// The agent of a node.
    pub(super) async fn of(
        server: &ApiServer,
        node: &str,
        purpose: Purpose,
    ) -> Result<Self, Status> {
        let address = agent_address(server, node).await?;
        let line = agents::line(server, (node, address), purpose);
        let unreachable = |e: client::Error| {
            Status::internal(format!("the agent of node {node} at {address}: {e}"))
        };
        let line = line.map_err(unreachable)?;
        Ok(Self {
            client: NodeClient::new(line.channel.clone()),
            line,
            node: node.to_owned(),
            address,
        })
    }

    /// Takes a place for a call to the agent whose answer somebody may leave unread.
    ///
    /// # Errors
    /// 429 where too many have one.
    pub(super) fn hold(&self) -> Result<Held, Status> {
        self.line.hold(&self.node)
    }

    /// Breaks off a call whose requests nobody may take. It ends soon, with an error.
    ///
    /// # Errors
    /// Where the agent is not reached.
    pub(super) async fn break_off(&mut self, call: u64) -> Result<(), tonic::Status> {
        let asked = self.client.break_off(BreakOffRequest { call }).await;
        asked.map(drop)
    }

    /// A container's log.
    pub(super) async fn logs(
        &mut self,
        request: LogsRequest,
    ) -> Result<BoxStream<'static, Result<LogsChunk, tonic::Status>>, Status> {
        let held = self.hold()?;
        let chunks = self.client.logs(request).await;
        let chunks = chunks.map_err(|e| self.refusal(&e))?.into_inner();
        let chunks = chunks.map(move |chunk| {
            let _held = &held;
            chunk
        });
        Ok(chunks.boxed())
    }

    /// What to tell the client when the agent refuses, or cannot be reached.
    pub(super) fn refusal(&self, status: &tonic::Status) -> Status {
        match status.code() {
            Code::NotFound | Code::FailedPrecondition | Code::InvalidArgument => {
                Status::bad_request(status.message())
            }
            Code::ResourceExhausted => Status::too_many_requests(status.message(), 1),
            _ => Status::internal(format!(
                "the agent of node {} at {}: {}",
                self.node,
                self.address,
                status.message()
            )),
        }
    }
}

/// Why an answer of an agent broke off. What the agent says itself is told as it is; but how a connection is lost means
/// nothing to clients.
pub(super) fn broken_off(status: &tonic::Status) -> &str {
    match std::error::Error::source(status) {
        Some(error) => {
            tracing::debug!(%error, "a connection to an agent is lost");
            "the connection to its node's agent is lost"
        }
        None => status.message(),
    }
}

/// The container that is meant, with Kubernetes' errors where it is not clear.
fn container(pod: &str, spec: &PodSpec, wanted: Option<&str>) -> Result<String, Status> {
    let names: Vec<&str> = spec.containers.iter().map(|c| c.name.as_str()).collect();
    let init: Vec<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|c| c.name.as_str())
        .collect();
    match wanted {
        Some(wanted) if names.contains(&wanted) || init.contains(&wanted) => Ok(wanted.to_owned()),
        Some(wanted) => Err(Status::bad_request(format!(
            "container {wanted} is not valid for pod {pod}"
        ))),
        None => match names.as_slice() {
            [one] => Ok((*one).to_owned()),
            [] => Err(Status::bad_request(format!(
                "a container name must be specified for pod {pod}"
            ))),
            many => {
                let init = if init.is_empty() {
                    String::new()
                } else {
                    format!(" or one of the init containers: [{}]", init.join(" "))
                };
                Err(Status::bad_request(format!(
                    "a container name must be specified for pod {pod}, choose one of: [{}]{init}",
                    many.join(" ")
                )))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Container;

    #[test]
    fn what_an_agent_says_is_told_and_how_it_was_lost_is_not() {
        let said = tonic::Status::unavailable("the container has ended");
        assert_eq!(broken_off(&said), "the container has ended");
        let lost = std::io::Error::other("error reading a body from connection");
        let lost = tonic::Status::from_error(Box::new(lost));
        assert_eq!(
            broken_off(&lost),
            "the connection to its node's agent is lost"
        );
    }

    fn spec(containers: &[&str], init: &[&str]) -> PodSpec {
        let make = |names: &[&str]| {
            names
                .iter()
                .map(|n| Container {
                    name: (*n).to_owned(),
                    ..Container::default()
                })
                .collect()
        };
        PodSpec {
            containers: make(containers),
            init_containers: Some(make(init)),
            ..PodSpec::default()
        }
    }

    #[test]
    fn containers() {
        let one = spec(&["a"], &["i"]);
        assert_eq!(container("p", &one, None).unwrap(), "a");
        assert_eq!(container("p", &one, Some("i")).unwrap(), "i");
        assert_eq!(
            container("p", &one, Some("x")).unwrap_err().message,
            "container x is not valid for pod p"
        );
        assert_eq!(
            container("p", &spec(&["a", "b"], &[]), None)
                .unwrap_err()
                .message,
            "a container name must be specified for pod p, choose one of: [a b]"
        );
        assert_eq!(
            container("p", &spec(&["a", "b"], &["i"]), None)
                .unwrap_err()
                .message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
    }
}
