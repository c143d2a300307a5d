//! The Kubernetes API of a carob server.
//!
//! HTTP, TLS, authentication, authorization, admission, discovery, OpenAPI, the watch cache and the
//! subresources. What objects mean is the `api` crate's; where they lie, the `store`'s.
//!
//! A request's way: [`ApiServer::serve`] (connection) → request → identity → authorization → handler →
//! store write (compare-and-set on the key's revision) or watch cache (lists, watches) → answer.
//! In-process callers enter by [`ApiServer::transport`] and take the same way without the first step.
//!
//! Every server of a cluster answers every request: writes go to the raft leader through the store,
//! consistent reads wait until the local copy has caught up with every acknowledged write.
//!
//! Where Kubernetes leaves the choice, or differs:
//!
//! - Answers are compressed only for clients on other machines: on one machine both ends pay for it.
//! - A list at an earlier revision is made by undoing recent changes, so any server goes on with
//!   another's pages; what is older than the kept changes (75 s or 1,024 of them, at most 16,384) is 410.
//! - Items of a list carry `apiVersion` and `kind`: they are the stored bytes.
//! - A Service's addresses and node ports are keys of their own in the store (`/carob/…`), taken and
//!   given back in the same command as the Service.
//! - Raft ids are never given twice: a server that joins again under its old name gets a new one, and
//!   its store replaces the old member.
//! - Who joins names its version in its `User-Agent` (`NAME/VERSION`); another version is refused.
//! - Service-account tokens end when their life does: the year that Kubernetes adds for clients that read theirs once
//!   is not given.
//! - Proxies of nodes (but for `metrics`) are refused by name (501).
//! - Attach, exec, port-forward and proxies go to a pod through the agent of its node. What proxies answer in HTML is not rewritten.
//! - The cluster's own servers may do everything, as `system:masters` may. Health is everybody's to see.
//! - A role of more than 10,000 single rights is refused to whoever does not hold its rules as they stand.
//! - A role or binding counts at once on the server that wrote it, on others as soon as their cache has it.

mod admission;
mod aside;
mod authz;
mod body;
mod bootstrap;
pub mod ca;
mod cache;
mod connection;
mod dispatch;
mod documents;
mod handlers;
mod health;
mod identity;
mod join;
mod metrics;
mod mount;
mod negotiate;
mod node_index;
mod options;
mod payload;
mod rbac;
mod registry;
mod request;
mod respond;
mod server;
mod service_claims;
mod socket;
pub mod spdy;
pub mod tls;
mod tokens;
mod transport;
mod users;
mod versions;

pub use body::Response;
pub use identity::Identity;
pub use mount::{Mount, MountHandler};
pub use server::{ApiServer, Config};
