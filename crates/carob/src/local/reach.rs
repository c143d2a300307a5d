//! The way to a local cluster's servers, as its administrator.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use client::Client;
use client::https::HttpsTransport;
use client::tls::Identity;
use k8s_openapi::api::core::v1::Node;

use super::layout::{self, Cluster, NodeDir, ServerPorts};
use super::process;

/// How long a server that is asked how it is may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// Whether the node's server has a place in the store already.
pub(super) fn is_member(node: &NodeDir) -> bool {
    node.server().join("store").exists() && node.server().join("member.json").exists()
}

/// Whether a ready server of this very cluster answers at `url`.
pub(super) async fn answers(nodes: &[NodeDir], url: String) -> bool {
    match connect(nodes, [url]) {
        Ok(client) => is_serving(&client).await.is_ok(),
        Err(_) => false,
    }
}

/// Whether a server is ready, and why not.
pub(super) async fn is_serving(client: &Client) -> Result<()> {
    let request = http::Request::get("/readyz").body(bytes::Bytes::new())?;
    client.with_timeout(ANSWERS_WITHIN).raw(request).await?;
    Ok(())
}

/// A client of the servers that run, if one of them is ready and knows the others.
pub(super) async fn serving(nodes: &[NodeDir]) -> Result<Client> {
    let client = client_of(nodes)?;
    client::join::members(&client.with_timeout(ANSWERS_WITHIN)).await?;
    is_serving(&client).await?;
    Ok(client)
}

/// Whether a node's `Ready` condition holds.
pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// An administrator's client of those of `nodes` whose server has a port.
pub(crate) fn client_of(nodes: &[NodeDir]) -> Result<Client> {
    let alive = nodes
        .iter()
        .filter(|n| process::holder(&n.server()).is_some());
    connect(nodes, alive.filter_map(api_url))
}

pub(super) fn client_url(nodes: &[NodeDir]) -> Option<String> {
    nodes
        .iter()
        .filter(|n| process::holder(&n.server()).is_some())
        .find_map(api_url)
}

/// The API on a node's own address.
pub(crate) fn api_url(node: &NodeDir) -> Option<String> {
    let ports: Option<ServerPorts> = layout::read_json(&node.server().join("ports.json")).ok()?;
    Some(format!(
        "https://{}",
        SocketAddr::new(node.address, ports?.api)
    ))
}

pub(super) fn connect(nodes: &[NodeDir], urls: impl IntoIterator<Item = String>) -> Result<Client> {
    let identity = admin(nodes)?;
    let transport = HttpsTransport::new(urls, identity.client_config()?)?;
    Ok(Client::new(Arc::new(transport), "carob"))
}

/// The administrator's certificate, from whichever server has one.
pub(super) fn admin(nodes: &[NodeDir]) -> Result<Identity> {
    let read = |node: &NodeDir| -> Result<Identity> {
        let file = |name: &str| fs::read_to_string(node.server().join("pki").join(name));
        Ok(Identity {
            cert_pem: file("admin.crt")?,
            key_pem: file("admin.key")?,
            ca_pem: file("ca.crt")?,
        })
    };
    nodes
        .iter()
        .find_map(|node| read(node).ok())
        .context("no server of this cluster has made its certificates yet")
}

pub(super) fn shared_url(cluster: &Cluster) -> String {
    format!("https://127.0.0.1:{}", cluster.api_port)
}

/// What version a live server says it is.
pub(super) async fn version(nodes: &[NodeDir], node: &NodeDir) -> Option<String> {
    process::holder(&node.server())?;
    let client = connect(nodes, [api_url(node)?]).ok()?;
    let request = http::Request::get("/version")
        .body(bytes::Bytes::new())
        .ok()?;
    let answer = client.raw(request).await.ok()?;
    let body = client::collect(answer.into_body(), 64 << 10).await.ok()?;
    let version: serde_json::Value = serde_json::from_slice(&body).ok()?;
    version["gitVersion"].as_str().map(str::to_owned)
}
