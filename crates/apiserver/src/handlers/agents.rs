//! The nodes' agents, as this server calls them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use api::{Resource, Status};
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use tonic::transport::Channel;

use crate::ApiServer;

/// Connections to agents, kept and shared: HTTP/2 carries many streams.
#[derive(Default)]
pub(crate) struct Agents(Mutex<BTreeMap<SocketAddr, Channel>>);

impl Agents {
    pub(super) fn channel(
        &self,
        address: SocketAddr,
        identity: &client::tls::Identity,
    ) -> Result<Channel, client::Error> {
        let mut channels = self.0.lock();
        if let Some(channel) = channels.get(&address) {
            return Ok(channel.clone());
        }
        let channel = client::node::channel(address, identity)?;
        channels.insert(address, channel.clone());
        Ok(channel)
    }
}

/// Where a node's agent listens: its InternalIP and the port that its status names.
pub(super) async fn agent_address(server: &ApiServer, name: &str) -> Result<SocketAddr, Status> {
    let resource = Resource::of::<Node>();
    let node = server
        .read(resource.key(None, name).as_bytes())
        .await?
        .ok_or_else(|| Status::not_found(resource, name))?;
    let node: Node = node.view().map_err(|e| Status::internal(e.to_string()))?;
    let status = node.status.unwrap_or_default();
    let address = status
        .addresses
        .iter()
        .flatten()
        .find(|a| a.type_ == "InternalIP")
        .and_then(|a| a.address.parse::<IpAddr>().ok());
    let port = status
        .daemon_endpoints
        .and_then(|d| d.kubelet_endpoint)
        .and_then(|e| u16::try_from(e.port).ok())
        .filter(|p| *p != 0);
    match (address, port) {
        (Some(address), Some(port)) => Ok(SocketAddr::new(address, port)),
        _ => Err(Status::internal(format!(
            "node {name} has not yet said where its agent listens"
        ))),
    }
}
