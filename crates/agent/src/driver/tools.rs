//! What the driver works with.

use std::path::PathBuf;
use std::sync::Arc;

use client::{Client, Informer, Key, Recorder};
use k8s_openapi::api::core::v1::{Node, Service};
use network::Network;
use runtime::Runtime;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::image::Images;
use crate::metrics::Counters;
use crate::node::Health;
use crate::objects::Objects;
use crate::pod::Host;
use crate::resources::Amounts;

/// Its surroundings: the node, the API, and the stores and networks that all pods share.
pub(crate) struct Tools {
    /// The directory that holds one directory a pod.
    pub(crate) dir: PathBuf,
    pub(crate) host: Host,
    pub(crate) clock: Clock,
    pub(crate) client: Client,
    pub(crate) objects: Objects,
    pub(crate) images: Images,
    /// Where the volumes of claims lie.
    pub(crate) disks: crate::volumes::Disks,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) network: Network,
    pub(crate) cluster: Cluster,
    pub(crate) recorder: Recorder,
    /// The Services that containers are told of as they start.
    pub(crate) services: Informer<Service>,
    /// This node, for whatever is its own.
    pub(crate) nodes: Informer<Node>,
    pub(crate) node: Key,
    pub(crate) machine: Amounts,
    /// How many bytes of files a pod may have in memory.
    pub(crate) most_in_memory: u64,
    pub(crate) counters: Arc<Counters>,
    /// Whom HTTPS of commands trusts.
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// Under which pressure the node is.
    pub(crate) health: watch::Receiver<Health>,
    /// When the API heard of the node last.
    pub(crate) heard: watch::Receiver<Option<Instant>>,
}
