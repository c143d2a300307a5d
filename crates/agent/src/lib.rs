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
//! | `eviction` | pods that end because they, or all together, use too much |
//! | `exec` | commands in a container that runs: what they are, the built-in toolbox, terminals |
//! | `downward` | what pods may ask about themselves |
//! | `garbage` | what nobody needs any more: decides, removes, and says when there is too little room |
//! | `local_path` | volumes on this node's own disk: removed when they are deleted |
//! | `logs` | what containers print: written, rotated, read, followed |
//! | `cluster` | what the node hears of Services, slices, nodes and policies, for its pods' network |
//! | `publish` | the node's own ports, which lead to Services and pods |
//! | `ingress` | Ingresses: HTTP from outside to the pods behind Services |
//! | `statics` | pods from files of the node |
//! | [`policies`] | what NetworkPolicies make of each pod's network. Pure |
//! | `node` | the Node object, its heartbeats, the service that servers ask for logs and for what is used |
//!
//! [`run`] is the whole agent. It keeps below its data directory: `pods/UID/` (a record of what has to outlive the
//! agent, volumes, containers' roots, logs), `images/` (blobs, unpacked trees), `volumes/` (what claims are bound to) and
//! `pod-cidr` (the range of its pods' addresses).
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
mod eviction;
mod exec;
mod garbage;
mod image;
mod ingress;
mod local_path;
mod logs;
mod metrics;
mod node;
mod objects;
mod peer;
mod publish;
mod remove;
mod resources;
mod service_links;
mod statics;
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
pub use eviction::{EvictionHard, Memory, ReadMemory, forget_memory, read_memory, shared_memory};
pub use garbage::{Disk, ReadDisk, read_disk};
pub use node::{Service, ServiceError, memory_left, memory_of_pods};

use cluster::Cluster;
use driver::{Driver, Tools};
use garbage::Garbage;
use node::{Health, Readiness};
use objects::Objects;

/// How long after the pods' grace period the agent waits for their last reports.
const LAST_REPORTS: Duration = Duration::from_secs(2);
/// How long an ending agent tries to say that its node is not ready: one write that has to be tried twice.
const TELL: Duration = Duration::from_secs(1);

/// Where the range of pod addresses that the node was given is kept, below the data directory.
pub const POD_RANGE: &str = "pod-cidr";

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
    /// The directory whose files are pods of this node, an absolute path; `None` if there is none.
    pub pod_manifest_path: Option<PathBuf>,
    /// Whether pods may have `hostPath` volumes.
    pub allow_host_path: bool,
    /// Directories that other nodes have, too: volumes of claims may lie below them.
    pub shared_dirs: Vec<PathBuf>,
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
    /// How much memory there is: [`read_memory`], usually.
    pub memory: ReadMemory,
    /// A directory in memory that agents of this machine share, if it has one: [`shared_memory`], usually.
    pub shared_memory: Option<PathBuf>,
    /// When the node is short of something.
    pub eviction_hard: EvictionHard,
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
    /// The cluster has given the node another range of pod addresses: the next start takes it up.
    #[error("the node's podCIDR was {0} and is {1} now: its pods need new addresses")]
    PodRangeMoved(String, String),
    /// The node's port cannot be served.
    #[error("serving the node's port: {0}")]
    Service(#[from] ServiceError),
}

/// Runs a node's agent until `shutdown`, or until the cluster gives the node other addresses for its pods; then ends the
/// pods within the configured grace period, while their objects stay.
///
/// It registers the Node, waits for the cluster to give it a range of pod addresses if it never did, takes up what an
/// earlier run left, and from then on runs the pods of its files and those that are bound to it.
///
/// # Errors
/// When it cannot begin, the node's port cannot be served any more, or the addresses are others ([`Error::PodRangeMoved`]).
/// A server that cannot be reached is no error: it is asked again.
pub fn run(config: Config, shutdown: CancellationToken) -> BoxFuture<'static, Result<(), Error>> {
    // Boxed here, so that all of it is compiled with this crate.
    Box::pin(run_until(config, shutdown))
}

async fn run_until(mut config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let service = config.service.take();
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
    let (hard, sources) = (
        config.eviction_hard,
        eviction::Sources {
            dir: config.data_dir.clone(),
            disk: config.disk.clone(),
            memory: config.memory.clone(),
            shared: config.shared_memory.clone(),
        },
    );
    let (lasting, pressures) = garbage::first_look(&sources, hard, config.clock.now()).await;
    let (health, health_seen) = watch::channel(Health {
        pressures,
        ..Health::default()
    });
    let listener = service.as_ref().map(|service| &service.listener);
    let address = listener.and_then(|listener| listener.local_addr().ok());
    let port = address.map_or(0, |address| address.port());
    let facts = Arc::new(node::Facts {
        name: config.node_name.clone(),
        address: config.address,
        port,
        labels: config.labels.clone(),
        taints: config.taints.clone(),
        machine: machine.clone(),
        hard,
    });
    // The name under which users and their tools know a node's events.
    let recorder = Recorder::start(client.clone(), "kubelet", config.node_name.clone());
    let (hearing, heard) = watch::channel(None);
    let keep = node::keep(
        client.clone(),
        recorder.clone(),
        facts,
        config.clock,
        nodes.clone(),
        health_seen.clone(),
        heard.clone(),
    );
    let _keep = AbortOnDropHandle::new(tokio::spawn(keep));
    let beat = node::heartbeat(
        client.clone(),
        config.node_name.clone(),
        config.clock,
        nodes.clone(),
        hearing,
    );
    let _beat = AbortOnDropHandle::new(tokio::spawn(beat));

    let range_file = config.data_dir.join(POD_RANGE);
    let cidr = tokio::select! {
        cidr = node::range::given(&nodes, &config.node_name, &range_file) => cidr,
        () = shutdown.cancelled() => return Ok(()),
    };
    let network = match cidr.parse() {
        Ok(range) => network::Network::new(range),
        Err(error) => {
            // The next start asks for it anew.
            drop(std::fs::remove_file(&range_file));
            let error: network::AddressError = error;
            let reason = error.to_string();
            return Err(Error::PodRange { cidr, reason });
        }
    };
    if let Some(service) = &service {
        network.link(node::links(&service.identity).map_err(ServiceError::from)?);
    }
    let services = Informer::start(client.of(), ListOptions::default());
    let cluster = Cluster::new(&config.node_name, network.clone());
    let entered = cluster.enter();
    let counters = Arc::<metrics::Counters>::default();
    let identity = service.as_ref().map(|service| &service.identity);
    let tls = exec::trust(identity).map_err(ServiceError::from)?;
    let disks = volumes::Disks {
        node: config.node_name.clone(),
        own: config.data_dir.join("volumes"),
        shared: std::mem::take(&mut config.shared_dirs),
        host_path: config.allow_host_path,
    };
    let driver = Driver::new(Tools {
        disks: disks.clone(),
        dir: pods_dir,
        host: pod::Host {
            host_path: config.allow_host_path,
            ips: vec![config.address],
            memory: (config.shared_memory.as_deref())
                .map(|shared| eviction::own_memory(shared, &config.data_dir)),
        },
        clock: config.clock,
        client: client.clone(),
        objects: Objects::new(&client),
        images: images.clone(),
        runtime: config.runtime.clone(),
        network: network.clone(),
        cluster: cluster.clone(),
        recorder: recorder.clone(),
        services: services.clone(),
        nodes: nodes.clone(),
        node: Key::new("", config.node_name.as_str()),
        machine: machine.allocatable(&hard),
        most_in_memory: (config.shared_memory.as_deref())
            .map_or(u64::MAX, eviction::most_in_memory),
        counters: counters.clone(),
        tls,
        health: health_seen,
        heard,
    });
    let keep = local_path::keep(client.clone(), driver.clone(), disks, recorder.clone());
    let _local_path = AbortOnDropHandle::new(tokio::spawn(keep));

    let stop = CancellationToken::new();
    let begun = driver.begin().await;
    // Before the cluster is heard of: they need nothing of it.
    let _statics = static_pods(&config, &driver, &recorder, &nodes).await;
    let moved = node::range::moved(&nodes, &config.node_name, &cidr, &range_file);
    tokio::pin!(moved);
    let up = async {
        let at = (config.address, config.ingress);
        // No pod of the API has a network, and no link is taken, before it is known who may talk to whom.
        let cluster = cluster.follow(entered, &client, &recorder, &services, at);
        let cluster = cluster.await;
        let garbage = Garbage {
            sources,
            clock: config.clock,
            driver: driver.clone(),
            images,
            recorder: recorder.clone(),
            nodes: nodes.clone(),
            node: Key::new("", config.node_name.as_str()),
            health: health.clone(),
            hard,
            lasting,
            shared: config.shared_memory.clone(),
        };
        follow(cluster, &client, &config.node_name, garbage, &stop)
    };
    let mut outcome = Ok(());
    let up = tokio::select! {
        up = up => Some(up),
        why = &mut moved => {
            outcome = Err(why);
            None
        }
        () = shutdown.cancelled() => None,
    };
    if up.is_some() {
        let served = serve(
            service,
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
            why = &mut moved => outcome = Err(why),
            () = shutdown.cancelled() => {}
        }
    }
    // Whichever it is, the pods end in their own time.
    health.send_modify(|h| h.readiness = Readiness::Ending);
    tracing::info!(node = config.node_name, grace = ?config.shutdown_grace, "ending pods");
    // Pods begin to end at once, whether or not a server takes the news; but while one can be reached it hears that each
    // is not ready before its guests end, and that the node is not before the agent does: nothing more comes here.
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
    if let Some(up) = up {
        drop(up.following.await);
    }
    driver.finish(begun).await;
    outcome
}

/// Begins the pods from files, if the node has a directory of any, and follows that for as long as the result is kept.
async fn static_pods(
    config: &Config,
    driver: &Driver,
    recorder: &Recorder,
    nodes: &Informer<Node>,
) -> Option<AbortOnDropHandle<()>> {
    let directory = statics::Directory {
        dir: config.pod_manifest_path.clone()?,
        node: config.node_name.clone(),
        clock: config.clock,
        driver: driver.clone(),
        recorder: recorder.clone(),
        nodes: nodes.clone(),
    };
    let following = directory.begin().await.follow();
    Some(AbortOnDropHandle::new(tokio::spawn(following)))
}

/// What goes on once the cluster has been heard of. Dropping it ends that.
struct Up {
    _cluster: cluster::Following,
    _objects: AbortOnDropHandle<()>,
    _garbage: AbortOnDropHandle<()>,
    /// Ends when it is told to stop.
    following: AbortOnDropHandle<()>,
}

/// Follows the pods of a node, and what they refer to.
fn follow(
    cluster: cluster::Following,
    client: &Client,
    node: &str,
    garbage: Garbage,
    stop: &CancellationToken,
) -> Up {
    let (driver, stop) = (garbage.driver.clone(), stop.clone());
    let stale = driver.clone();
    let objects = driver.objects().clone();
    let follow = objects.follow(client.clone(), node.to_owned(), move |volumes| {
        stale.stale(&volumes);
    });
    let informer: Informer<Pod> = Informer::start(
        client.of(),
        ListOptions::default().fields(format!("spec.nodeName={node}")),
    );
    let following = async move { driver.run(informer, stop).await };
    Up {
        _cluster: cluster,
        _objects: AbortOnDropHandle::new(tokio::spawn(follow)),
        _garbage: AbortOnDropHandle::new(tokio::spawn(garbage.run())),
        following: AbortOnDropHandle::new(tokio::spawn(following)),
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
    let (of, held) = (driver.clone(), network.clone());
    let page = move || {
        let (pods, running) = of.pods();
        let page = counters.page(pods, running, held.pods(), &runtime.metrics());
        page + &metrics::resource::restarts(&of.restarts())
    };
    let page = Arc::new(page);
    node::serve(service, driver.clone(), network, clock, page, stop.clone()).await?;
    Ok(())
}
