//! How a machine becomes part of a cluster.
//!
//! It posts a [`Request`] to `/carob/v1/join` with the bearer token of its join token, and gets
//! a certificate. A server then opens its store and, with that certificate, posts a
//! [`NewMember`] to `/carob/v1/members`, upon which the others take it into their Raft group.
//! Both ends of the two calls share these types.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use serde::{Deserialize, Serialize};

use crate::{
    Client, Error,
    client::{json_request, plain_request},
    token::Token,
};

/// Where a machine asks to join.
pub const JOIN_PATH: &str = "/carob/v1/join";
/// Where the Raft members are listed and added.
pub const MEMBERS_PATH: &str = "/carob/v1/members";

/// What a machine is to be. A token is for one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A control-plane node: API server and a copy of the store (and an agent).
    Server,
    /// A worker.
    Agent,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Server => "server",
            Role::Agent => "agent",
        })
    }
}

/// The body of `POST /carob/v1/join`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What the certificate is for: `system:carob:server:<name>` or `system:node:<name>`. A
    /// server token may ask for either.
    pub role: Role,
    /// The node's name.
    pub node_name: String,
    /// The addresses that the certificate is to carry.
    pub addresses: Vec<IpAddr>,
    /// PKCS #10 PEM; only its key and the proof of its possession count.
    pub csr: String,
    /// Of a server: where its store will listen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft_address: Option<SocketAddr>,
}

/// The answer to [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The cluster's CA certificate, PEM.
    pub ca: String,
    /// The new certificate, PEM.
    pub certificate: String,
    /// Every server's API, as `https://IP:PORT`.
    pub servers: Vec<String>,
    /// For a server: the CA's private key, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_key: Option<String>,
    /// For a server: its own id among the Raft members. Always a new one: ids are never given twice,
    /// not even to the name that had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<u64>,
    /// For a server: the Raft members that there are.
    #[serde(default)]
    pub members: Vec<Member>,
}

/// A Raft member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id in the Raft group.
    pub id: u64,
    /// The node's name.
    pub name: String,
    /// Where its store listens.
    pub address: SocketAddr,
    /// Whether it votes, or still catches up.
    #[serde(default)]
    pub voter: bool,
}

/// The body of `POST /carob/v1/members`. Sent when the member's store listens at `address`; the
/// answer comes once it has caught up and votes. Repeating it is harmless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMember {
    /// The id that [`Response::member_id`] gave.
    pub id: u64,
    /// The node's name.
    pub name: String,
    /// Where its store listens.
    pub address: SocketAddr,
}

/// Every member of the Raft group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// By id.
    pub members: Vec<Member>,
    /// The id of the one that leads, where that is known.
    #[serde(default)]
    pub leader: Option<u64>,
}

/// Asks for a certificate. `client` needs no identity, only a transport that trusts the token's
/// CA ([`crate::tls::pinned_config`]).
///
/// # Errors
/// 401 for a token that is unknown or has expired, 403 for one of the other role; see
/// [`Client::raw`].
pub async fn join(client: &Client, token: &Token, request: &Request) -> Result<Response, Error> {
    let mut http = json_request(Method::POST, JOIN_PATH, "application/json", request)?;
    authorize(&mut http, token)?;
    client.read(http).await
}

/// Asks the cluster to take this server in. `client` must carry the server's certificate.
///
/// # Errors
/// See [`Client::raw`]. Catching up may take longer than the client's usual timeout.
pub async fn add_member(client: &Client, member: &NewMember) -> Result<Members, Error> {
    let http = json_request(Method::POST, MEMBERS_PATH, "application/json", member)?;
    client.read(http).await
}

/// Lists the Raft members. `client` must carry a server's or an administrator's certificate.
///
/// # Errors
/// See [`Client::raw`].
pub async fn members(client: &Client) -> Result<Members, Error> {
    client.read(plain_request(Method::GET, MEMBERS_PATH)?).await
}

fn authorize(request: &mut http::Request<Bytes>, token: &Token) -> Result<(), Error> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.bearer()))
        .map_err(|error| Error::Invalid(error.to_string()))?;
    value.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, value);
    Ok(())
}
