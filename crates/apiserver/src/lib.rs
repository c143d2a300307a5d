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

mod admission;
mod authz;
mod body;
mod bootstrap;
pub mod ca;
mod cache;
mod connection;
mod dispatch;
mod documents;
mod error;
mod handlers;
mod health;
mod identity;
mod join;
mod metrics;
mod mount;
mod negotiate;
mod node_index;
mod options;
mod registry;
mod request;
mod respond;
mod server;
mod service_claims;
pub mod tls;
mod transport;
mod versions;

pub use body::Response;
pub use error::Error;
pub use identity::Identity;
pub use mount::{Mount, MountHandler};
pub use server::{ApiServer, Config};
