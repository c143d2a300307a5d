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
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, StatusCode};
use k8s_openapi::api::core::v1::Pod;

use super::agents::Purpose;
use super::container::{Agent, may_create};
use super::tunnel::{self, FromPod, ToPod};
use super::websocket::Handshake;
use crate::body::{Response, joined};
use crate::dispatch::{Call, record_uid};
use channels::Ends;

const SPDY: &str = "SPDY/3.1";
const PROTOCOL: &str = "portforward.k8s.io";
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
/// What is spoken in WebSockets, the best first.
const PROTOCOLS: [&str; 4] = [TUNNELLED, PORT_FORWARD, "v4.channel.k8s.io", PROTOCOL];
/// By what clients say which version they speak over SPDY, and servers which they have taken.
const OFFERED: &str = "x-stream-protocol-version";

/// Answers a request for `…/pods/NAME/portforward`.
pub(super) async fn port_forward(call: &Call) -> Result<Response, Status> {
    may_create(call).await?;
    let door = Door::of(call).await?;
    let asked = super::upgrade::asked_for(&call.headers).and_then(|v| v.to_str().ok());
    match asked {
        Some(asked) if asked.eq_ignore_ascii_case("websocket") => web_socket(call, door),
        Some(asked) if asked.eq_ignore_ascii_case(SPDY) => spdy(call, door),
        _ => Err(Status::bad_request(
            "unable to upgrade: missing upgrade headers in request: Upgrade: websocket, or SPDY/3.1",
        )),
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

fn spdy(call: &Call, door: Door) -> Result<Response, Status> {
    let missing = || Status::bad_request("unable to upgrade: Upgrade without Connection: Upgrade");
    let upgrade = call.upgrade.clone().ok_or_else(missing)?;
    let mut answer = http::Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, SPDY);
    match offered(&call.headers) {
        Offered::Ours => answer = answer.header(OFFERED, PROTOCOL),
        // The first clients of all named none.
        Offered::Nothing => {}
        Offered::Others(others) => {
            let why = format!(
                "unable to upgrade: unable to negotiate protocol: client supports {others:?}, server accepts [{PROTOCOL}]"
            );
            return Err(Status::forbidden(call.resource, call.name(), &why));
        }
    }
    super::upgrade::serve(call, upgrade, |io| streams::serve(io, door));
    let answer = answer.body(joined([]));
    answer.map_err(|e| Status::internal(e.to_string()))
}

enum Offered {
    Ours,
    Nothing,
    Others(Vec<String>),
}

fn offered(headers: &HeaderMap) -> Offered {
    let values = headers.get_all(OFFERED).into_iter();
    let all: Vec<&str> = values
        .flat_map(|v| v.to_str().unwrap_or_default().split(','))
        .map(str::trim)
        .filter(|v| !v.is_empty())
        .collect();
    match all.as_slice() {
        [] => Offered::Nothing,
        all if all.contains(&PROTOCOL) => Offered::Ours,
        all => Offered::Others(all.iter().map(|&v| v.to_owned()).collect()),
    }
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
