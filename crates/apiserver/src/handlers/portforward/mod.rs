//! `pods/portforward`: connections of a client into a pod, many over one connection to this server.
//!
//! | how | who |
//! |---|---|
//! | SPDY in a WebSocket (`SPDY/3.1+portforward.k8s.io`) | kubectl, client-go |
//! | SPDY after `Upgrade: SPDY/3.1` | older ones, and where WebSockets do not get through |
//! | a WebSocket with two channels for each of `?ports=` (`v4.channel.k8s.io`) | kube-rs, the Python client |
//! | the same with ends of channels (`v5.portforward.carob.dev`) | carob |

mod channels;
mod streams;

use api::Status;
use client::channels::PORT_FORWARD;
use client::node::PortForwardTarget;
use k8s_openapi::api::core::v1::Pod;

use super::agents::Purpose;
use super::container::{Agent, may_create};
use super::spdy;
use super::tunnel::{self, FromPod, ToPod};
use super::upgrade::Way;
use super::websocket::Handshake;
use crate::body::Response;
use crate::dispatch::{Call, record_uid};
use channels::Ends;

const PROTOCOL: &str = "portforward.k8s.io";
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
/// What is spoken in WebSockets, the best first.
const PROTOCOLS: [&str; 4] = [TUNNELLED, PORT_FORWARD, "v4.channel.k8s.io", PROTOCOL];

/// Answers a request for `…/pods/NAME/portforward`.
pub(super) async fn port_forward(call: &Call) -> Result<Response, Status> {
    may_create(call).await?;
    let door = Door::of(call).await?;
    match Way::read(&call.headers)? {
        Way::WebSocket => web_socket(call, door),
        Way::Spdy => {
            let handshake = spdy::Handshake::read(call, &[PROTOCOL])?;
            handshake.serve(call, |io| streams::serve(io, door))
        }
    }
}

fn web_socket(call: &Call, door: Door) -> Result<Response, Status> {
    let handshake = Handshake::read(call, &PROTOCOLS)?;
    if handshake.protocol == Some(TUNNELLED) {
        return handshake.serve(call, |socket| {
            streams::serve(streams::tunnelled(socket), door)
        });
    }
    let ports = channels::ports(call.query.all("ports"))?;
    let ends = match handshake.protocol {
        Some(PORT_FORWARD) => Ends::Alone,
        _ => Ends::WithTheSocket,
    };
    handshake.serve(call, move |socket| {
        channels::serve(socket, door, ports, ends)
    })
}

/// The way into one pod.
#[derive(Clone)]
struct Door {
    agent: Agent,
    target: PortForwardTarget,
}

impl Door {
    async fn of(call: &Call) -> Result<Self, Status> {
        let pod = call.server.read(call.key().as_bytes()).await?;
        let pod = pod.ok_or_else(|| call.not_found())?;
        record_uid(pod.uid());
        let uid = pod.uid().to_owned();
        let pod: Pod = pod.view().map_err(|e| Status::internal(e.to_string()))?;
        let node = pod.spec.and_then(|spec| spec.node_name);
        let node = node.filter(|node| !node.is_empty()).ok_or_else(|| {
            Status::bad_request(format!("pod {} does not have a host assigned", call.name()))
        })?;
        let target = PortForwardTarget {
            namespace: call.namespace().unwrap_or_default().to_owned(),
            pod: call.name().to_owned(),
            uid,
            ..PortForwardTarget::default()
        };
        let agent = Agent::of(&call.server, &node, Purpose::Connections).await?;
        Ok(Self { agent, target })
    }

    /// Connects to a port of the pod's loopback. An error is worded as the kubelet words it.
    async fn open(&self, port: u16) -> Result<(FromPod, ToPod), String> {
        let target = PortForwardTarget {
            port: port.into(),
            ..self.target.clone()
        };
        let opened = tunnel::open(self.agent.clone(), target).await;
        opened.map_err(|status| {
            let PortForwardTarget { pod, uid, .. } = &self.target;
            let why = status.message();
            format!("error forwarding port {port} to pod {pod}, uid {uid}: {why}")
        })
    }
}

/// A port as clients write it.
fn port(text: &str) -> Option<u16> {
    text.trim().parse().ok().filter(|port| *port != 0)
}

/// A connection has ended before its time, at either end: what the other end is told is a reset.
struct CutOff;

impl From<std::io::Error> for CutOff {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

impl From<crate::spdy::Broken> for CutOff {
    fn from(_: crate::spdy::Broken) -> Self {
        Self
    }
}

/// Carries both directions of a connection until the pod's side is done, or the client's breaks off.
async fn both(
    inward: impl Future<Output = Result<(), CutOff>>,
    outward: impl Future<Output = Result<(), CutOff>>,
) -> Result<(), CutOff> {
    let inward = async {
        match inward.await {
            // The pod may have something to say still.
            Ok(()) => std::future::pending().await,
            Err(cut_off) => Err(cut_off),
        }
    };
    tokio::select! {
        ended = outward => ended,
        ended = inward => ended,
    }
}
