//! The node agent: the kubelet of WebAssembly pods.
//!
//! | part | what it does |
//! |---|---|
//! | [`pod`] | decides: what to do next for a pod, and how to word its status. Pure |
//! | `driver` | performs the decisions of all pods of this node and feeds back what came of them |
//! | `volumes` | makes the directories that pods mount, a kind a file |
//! | `image` | has modules and trees of files on this node |
//! | `objects` | ConfigMaps and Secrets: read for volumes, followed for those that show them |
//! | `env` | a container's environment and command line |
//! | `exec` | commands in a container that runs: what they are, the built-in toolbox, terminals |
//! | `downward` | what pods may ask about themselves |
//! | `garbage` | what nobody needs any more: decides, removes, and says when there is too little room |
//! | `logs` | what containers print: written, rotated, read, followed |
//! | `cluster` | what the node hears of Services, slices, nodes and policies, for its pods' network |
//! | `publish` | the node's own ports, which lead to Services and pods |
//! | `ingress` | Ingresses: HTTP from outside to the pods behind Services |
//! | [`policies`] | what NetworkPolicies make of each pod's network. Pure |
//! | `node` | the Node object, its heartbeats, the service that servers ask for logs and for what is used |
//!
//! [`run`] is the whole agent. It keeps below its data directory: `pods/UID/` (a record of what has to outlive the
//! agent, volumes, containers' roots, logs) and `images/` (blobs, unpacked trees).
//!
//! Choices where Kubernetes leaves one, or carob differs: init containers that have succeeded are not run again after
//! the agent's restart, since the pod's volumes outlive it; what ran when an agent was killed is reported as containerd
//! reports it after a node's crash (`Unknown`, 255); a pod's address stays its own over the agent's restarts; a change of
//! a mounted ConfigMap or Secret is shown as soon as it is heard of, not within a minute.

pub mod pod;
pub mod policies;
mod ports;

mod blocking;
mod clock;
mod cluster;
mod downward;
mod driver;
mod env;
mod exec;
mod garbage;
mod image;
mod ingress;
mod logs;
mod metrics;
mod node;
mod objects;
mod peer;
mod publish;
mod remove;
mod resources;
mod service_links;
mod volumes;
mod word;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Informer, Key, ListOptions, Recorder, Transport};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use clock::Clock;
pub use garbage::{Disk, ReadDisk, read_disk};
pub use node::{Service, ServiceError};

use cluster::Cluster;
use driver::{Driver, Tools};
use garbage::Garbage;
use node::{Health, Readiness};
use objects::Objects;

/// How long after the pods' grace period the agent waits for their last reports.
const LAST_REPORTS: Duration = Duration::from_secs(2);
/// How long an ending agent tries to say that its node is not ready: one write that has to be tried twice.
const TELL: Duration = Duration::from_secs(1);

/// What an agent is told at its start.
pub struct Config {
    /// The agent's own directory, an absolute path. No other process may use it.
    pub data_dir: PathBuf,
    /// The Node's name.
    pub node_name: String,
    /// The node's address, as others reach it.
    pub address: IpAddr,
    /// The way to the API servers, under the node's identity.
    pub transport: Arc<dyn Transport>,
    /// Where servers ask for logs and metrics; `None` in simulations.
    pub service: Option<Service>,
    /// What runs the guests.
    pub runtime: Arc<dyn Runtime>,
    /// The Node's labels, beside the usual ones.
    pub labels: BTreeMap<String, String>,
    /// The Node's taints when it is first registered.
    pub taints: Vec<Taint>,
    /// Whether pods may have `hostPath` volumes.
    pub allow_host_path: bool,
    /// Whether pods may have `file://` images.
    pub allow_file_images: bool,
    /// At which ports of its address the node serves Ingresses; where one is not given, the usual one, or what stands
    /// for it where that may not be had.
    pub ingress: api::ingress::Ports,
    /// How long pods have to end when the agent does.
    pub shutdown_grace: Duration,
    /// What time it is.
    pub clock: Clock,
    /// How much room there is: [`read_disk`], usually.
    pub disk: ReadDisk,
}

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The images' directory cannot be used.
    #[error(transparent)]
    Images(#[from] images::Error),
    /// The range of pod addresses that the cluster gave to the node is none.
    #[error("the node's podCIDR {cidr:?} cannot be used: {reason}")]
    PodRange {
        /// As the Node has it.
        cidr: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The node's port cannot be served.
    #[error("serving the node's port: {0}")]
    Service(#[from] ServiceError),
}

/// Runs a node's agent until `shutdown`; then ends the pods within the configured grace period, while their objects
/// stay.
///
/// It registers the Node, waits for the cluster to give it a range of pod addresses, takes up what an earlier run left,
/// and from then on runs the pods that are bound to it.
///
/// # Errors
/// When it cannot begin, or the node's port cannot be served any more. A server that cannot be reached is no error: it
/// is asked again.
pub fn run(config: Config, shutdown: CancellationToken) -> BoxFuture<'static, Result<(), Error>> {
    // Boxed here, so that all of it is compiled with this crate.
    Box::pin(run_until(config, shutdown))
}

async fn run_until(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let client = Client::new(config.transport.clone(), "carob-agent");
    let pods_dir = config.data_dir.join("pods");
    std::fs::create_dir_all(&pods_dir).map_err(|source| Error::Io {
        path: pods_dir.clone(),
        source,
    })?;
    let images_dir = config.data_dir.join("images");
    let images = image::Images::open(
        images_dir,
        client.clone(),
        config.runtime.clone(),
        config.allow_file_images,
    )?;
    let machine = node::Machine::read(&config.data_dir);

    let nodes = node::informer(&client, &config.node_name);
    let (pressure, disk_pressure) =
        garbage::first_look(&config.data_dir, &config.disk, config.clock.now()).await;
    let (health, health_seen) = watch::channel(Health {
        disk_pressure,
        ..Health::default()
    });
    let port = config
        .service
        .as_ref()
        .and_then(|s| s.listener.local_addr().ok())
        .map_or(0, |a| a.port());
    let facts = Arc::new(node::Facts {
        name: config.node_name.clone(),
        address: config.address,
        port,
        labels: config.labels.clone(),
        taints: config.taints.clone(),
        machine: machine.clone(),
    });
    let keep = node::keep(
        client.clone(),
        facts,
        config.clock,
        nodes.clone(),
        health_seen,
    );
    let _keep = AbortOnDropHandle::new(tokio::spawn(keep));
    let beat = node::heartbeat(
        client.clone(),
        config.node_name.clone(),
        config.clock,
        nodes.clone(),
    );
    let _beat = AbortOnDropHandle::new(tokio::spawn(beat));

    let cidr = tokio::select! {
        cidr = pod_range(&nodes, &config.node_name) => cidr,
        () = shutdown.cancelled() => return Ok(()),
    };
    let network = network::Network::new(cidr.parse().map_err(|e: network::AddressError| {
        Error::PodRange {
            cidr,
            reason: e.to_string(),
        }
    })?);
    if let Some(service) = &config.service {
        network.link(node::links(&service.identity).map_err(ServiceError::from)?);
    }
    // The name under which users and their tools know a node's events.
    let recorder = Recorder::start(client.clone(), "kubelet", config.node_name.clone());
    let services = Informer::start(client.of(), ListOptions::default());
    let cluster = Cluster::new(&config.node_name, network.clone());
    // No pod has a network, and no link is taken, before it is known who may talk to whom.
    let _cluster = tokio::select! {
        following = cluster.follow(&client, &recorder, &services, (config.address, config.ingress)) => following,
        () = shutdown.cancelled() => return Ok(()),
    };
    let counters = Arc::<metrics::Counters>::default();
    let identity = config.service.as_ref().map(|service| &service.identity);
    let tls = exec::trust(identity).map_err(ServiceError::from)?;
    let (for_garbage, for_events) = (images.clone(), recorder.clone());
    let objects = Objects::new(&client);
    let driver = Driver::new(Tools {
        dir: pods_dir,
        host: pod::Host {
            host_path: config.allow_host_path,
            ips: vec![config.address],
        },
        clock: config.clock,
        client: client.clone(),
        objects: objects.clone(),
        images,
        runtime: config.runtime.clone(),
        network: network.clone(),
        cluster,
        recorder,
        services,
        machine: machine.amounts(),
        counters: counters.clone(),
        tls,
    });

    let stop = CancellationToken::new();
    let stale = driver.clone();
    let follow = objects.follow(client.clone(), config.node_name.clone(), move |volumes| {
        stale.stale(&volumes);
    });
    let _objects = AbortOnDropHandle::new(tokio::spawn(follow));
    let informer: Informer<Pod> = Informer::start(
        client.of(),
        ListOptions::default().fields(format!("spec.nodeName={}", config.node_name)),
    );
    let following = AbortOnDropHandle::new(tokio::spawn({
        let (driver, stop) = (driver.clone(), stop.clone());
        async move { driver.run(informer, stop).await }
    }));
    let garbage = Garbage {
        dir: config.data_dir,
        disk: config.disk,
        clock: config.clock,
        driver: driver.clone(),
        images: for_garbage,
        recorder: for_events,
        nodes: nodes.clone(),
        node: Key::new("", config.node_name.as_str()),
        health: health.clone(),
        pressure,
    };
    let _garbage = AbortOnDropHandle::new(tokio::spawn(garbage.run()));
    let served = serve(
        config.service,
        &driver,
        network,
        config.clock,
        config.runtime.clone(),
        counters,
        &stop,
    );
    health.send_modify(|h| h.readiness = Readiness::Ready);
    tracing::info!(node = config.node_name, "the agent takes pods");

    tokio::select! {
        result = served => result?,
        () = shutdown.cancelled() => {}
    }
    health.send_modify(|h| h.readiness = Readiness::Ending);
    tracing::info!(node = config.node_name, grace = ?config.shutdown_grace, "ending pods");
    // Pods begin to end at once, whether or not a server takes the news; but while one can be reached it hears
    // that the node is not ready before the agent is gone, so that nothing more is placed here.
    let ending = async {
        let told = tokio::time::timeout(TELL, node::told_not_ready(&nodes, &config.node_name));
        let (told, ()) = tokio::join!(told, driver.end(config.shutdown_grace));
        if told.is_err() {
            tracing::warn!("no server heard that the node is not ready any more");
        }
    };
    let longest = config.shutdown_grace + pod::LEAST_GRACE.unsigned_abs() + LAST_REPORTS;
    let ended = tokio::time::timeout(longest, ending).await;
    if ended.is_err() {
        tracing::warn!("not every pod's end could be reported");
    }
    stop.cancel();
    drop(following.await);
    Ok(())
}

/// Waits until the cluster has given the node a range of pod addresses.
async fn pod_range(nodes: &Informer<Node>, name: &str) -> String {
    let mut changes = nodes.subscribe();
    let key = Key::new("", name);
    loop {
        let given = nodes
            .get(&key)
            .and_then(|n| n.spec.as_ref()?.pod_cidr.clone());
        if let Some(cidr) = given.filter(|c| !c.is_empty()) {
            return cidr;
        }
        changes.next().await;
    }
}

async fn serve(
    service: Option<Service>,
    driver: &Driver,
    network: network::Network,
    clock: Clock,
    runtime: Arc<dyn Runtime>,
    counters: Arc<metrics::Counters>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let Some(service) = service else {
        return std::future::pending().await;
    };
    let of = driver.clone();
    let page = move || {
        let (pods, running) = of.pods();
        let page = counters.page(pods, running, &runtime.metrics());
        page + &metrics::resource::restarts(&of.restarts())
    };
    let page = Arc::new(page);
    node::serve(service, driver.clone(), network, clock, page, stop.clone()).await?;
    Ok(())
}
