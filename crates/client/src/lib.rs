//! The one door into a carob cluster.
//!
//! Everything that reads or writes the cluster's objects does so through a [`Client`], which
//! knows nothing about where the other end is: a [`Transport`] carries its requests to an API
//! server in the same process, across HTTPS ([`https::HttpsTransport`]), or to a simulated one
//! ([`simulated::Simulated`]).
//!
//! ```no_run
//! # async fn example(client: client::Client) -> Result<(), client::Error> {
//! use client::ListOptions;
//! use k8s_openapi::api::core::v1::Pod;
//!
//! let pods = client.of::<Pod>();
//! let one = pods.get("default", "web-0").await?;
//! let all = pods.list(&ListOptions::default()).await?;
//! println!("{:?} {} at {}", one.metadata.uid, all.items.len(), all.revision);
//! # Ok(()) }
//! ```
//!
//! On top of it stand the three tools that every control loop is made of: the [`Informer`] (a
//! local copy of a kind, kept up to date by a watch), the [`WorkQueue`] (which key to look at
//! next) and the [`Recorder`] (Events for users). Around it: [`tls`], [`join`] and [`users`]
//! (identities and how machines and people get one), [`kubeconfig`], [`channels`] (a container's streams), and
//! [`node`], the protocol between servers and agents.

mod access;
pub mod channels;
mod client;
pub mod conformance;
mod error;
mod follow;
pub mod https;
mod informer;
pub mod join;
pub mod kubeconfig;
pub mod node;
mod object;
mod options;
mod recorder;
pub mod simulated;
pub mod tls;
pub mod token;
mod transport;
pub mod users;
mod watch;
mod work_queue;

pub use access::{Access, List};
pub use client::Client;
pub use error::Error;
pub use follow::{Sink, follow};
pub use informer::{Changes, Informer, View};
pub use object::{Key, Kind, Object, PartialObject, Untyped};
pub use options::{DeleteOptions, ListOptions, Patch, Propagation};
pub use recorder::{EventType, Recorder, reference};
pub use transport::{Body, BoxFuture, Transport, collect, empty, full};
pub use watch::{Event, Watch};
pub use work_queue::{Item, WorkQueue};
