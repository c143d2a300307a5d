//! `carob server`: one control-plane node, put together from its parts.
//!
//! Order matters at both ends. Starting: certificates, store, API on the node's own address, and
//! only when reads and writes work the shared address, the agent and, on the leader, scheduler and
//! controllers. Ending: the same backwards, with the leadership handed over before the store closes.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use apiserver::{ApiServer, Mount};
use client::join::NewMember;
use client::tls::Identity;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cli::{EvictionArgs, IngressArgs, LogArgs};
use crate::local::layout::{self, ServerPorts};
use crate::local::process::{self, Role};
use crate::{daemon, joining};

mod leader;
mod pki;
mod registry;
mod shared;
mod supervisor;

/// Run a control-plane node.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where its data lies; one server and one agent may use it
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// The node's name; else the machine's host name
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Where the API is served; else the advertised address and a free port that is then kept
    #[arg(long, value_name = "IP:PORT", value_parser = crate::cli::parse_listen)]
    pub(crate) listen: Option<SocketAddr>,
    /// The address by which other machines reach this one
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) advertise: IpAddr,
    /// Serve the API here too, together with other servers of this machine
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) shared: Option<SocketAddr>,
    /// A server of the cluster to join; without it the first start makes a new cluster
    #[arg(long, value_name = "URL")]
    pub(crate) join: Option<String>,
    /// The token to join with, made by `carob token create --role server`; needed once
    #[arg(long, env = "CAROB_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<client::token::Token>,
    /// Run no agent beside the server
    #[arg(long)]
    pub(crate) no_agent: bool,
    /// Let pods use `file://` images and `hostPath` volumes on this node
    #[arg(long)]
    pub(crate) allow_host_files: bool,
    /// A directory whose files are pods of this node (static pods); it is made if it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) pod_manifest_path: Option<PathBuf>,
    /// A directory that other nodes have, too: volumes that claims are bound to may lie in it
    #[arg(long, value_name = "DIR", value_parser = crate::cli::parse_absolute)]
    pub(crate) shared_dir: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) ingress: IngressArgs,
    #[command(flatten)]
    pub(crate) eviction: EvictionArgs,
    /// Log entries after which the store takes a snapshot
    #[arg(long, value_name = "N", default_value_t = 100_000, hide = true)]
    pub(crate) snapshot_after: u64,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// Revisions that a watch may start back from.
const HISTORY: usize = 20_000;
/// How long a stopping server waits for its parts.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Runs a server until it is told to end.
pub(crate) fn main(args: Args) -> Result<ExitCode> {
    args.ingress.check()?;
    let (data_dir, log) = (args.data_dir.clone(), args.log.clone());
    daemon::run(Role::Server, &data_dir, &log, |dir| run(args, dir))
}

/// Who this server is, and where.
struct Node {
    name: String,
    advertise: IpAddr,
    ports: ServerPorts,
    dir: PathBuf,
}

impl Node {
    fn url(&self) -> String {
        format!(
            "https://{}",
            SocketAddr::new(self.advertise, self.ports.api)
        )
    }
}

async fn run(args: Args, dir: PathBuf) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let starting = start(&args, dir);
    let started = daemon::unless_told_to_end(starting, &mut terminate, &mut interrupt).await?;
    let Some((node, api_listener, membership, store)) = started else {
        return Ok(());
    };
    let registry = registry::open(&node, &store, &membership.identity)?;
    let config = apiserver::Config {
        name: node.name.clone(),
        url: node.url(),
        ca: Arc::clone(&membership.ca),
        identity: membership.identity.clone(),
        mounts: vec![Mount {
            prefix: "/v2".into(),
            handler: registry.handler(),
        }],
    };
    let server = ApiServer::new(store.clone(), config);
    let tls = apiserver::tls::server_config(&membership.identity)?;
    let ending = CancellationToken::new();
    let own = tokio::spawn({
        let (server, tls, ending) = (server.clone(), Arc::clone(&tls), ending.clone());
        async move {
            server
                .serve(api_listener, tls, ending.clone(), ending)
                .await
        }
    });
    tracing::info!(node = node.name, url = node.url(), "serving");
    // For whoever looks on; nobody need.
    let _ = writeln!(
        std::io::stdout(),
        "{} serves {}; its log is in {}",
        node.name,
        node.url(),
        node.dir.join("log").display()
    );
    let elsewhere = args.shared.map(|address| {
        tokio::spawn(shared::serve(
            server.clone(),
            address,
            Arc::clone(&tls),
            ending.clone(),
        ))
    });
    let leading = tokio::spawn(leader::run(server.clone(), store.clone(), ending.clone()));
    let filling = tokio::spawn(registry.keep_filled(server.ready(), ending.clone()));
    let supervising = CancellationToken::new();
    let supervisor = (!args.no_agent).then(|| {
        tokio::spawn(supervisor::run(
            supervisor::Plan::new(&args, &node, &membership),
            server.ready(),
            supervising.clone(),
        ))
    });

    let interrupted = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => true,
    };
    tracing::info!("told to end");
    supervising.cancel();
    if let Some(supervisor) = supervisor {
        let agent = supervisor.await.ok().flatten();
        // Ctrl-C means the whole node; a service manager's SIGTERM leaves the pods alone, so that
        // a server can be replaced under them.
        if let (true, Some(pid)) = (interrupted, agent) {
            process::signal(pid, rustix::process::Signal::TERM);
            process::wait_for_end(&[pid], Duration::from_secs(10)).await;
        }
    }
    let led = store.leadership().borrow().is_leader;
    let handed_over = match led {
        true => store.transfer_leadership().await,
        false => Ok(()),
    };
    ending.cancel();
    if let Err(error) = handed_over {
        tracing::info!(%error, "the leadership was not handed over");
        // The others end, too, or are gone: writes under way fail at once, for a majority may never come back.
        store.clone().shutdown().await?;
    }
    let tasks = [Some(own), elsewhere, Some(leading), Some(filling)];
    let ended = futures::future::join_all(tasks.into_iter().flatten());
    let _ = tokio::time::timeout(STOP_WITHIN, ended).await;
    drop(server);
    store.shutdown().await?;
    tracing::info!("ended");
    Ok(())
}

/// Takes the server's place: its ports, its certificates, its part of the store.
async fn start(
    args: &Args,
    dir: PathBuf,
) -> Result<(Node, TcpListener, pki::Membership, store::Store)> {
    let node = place(args, dir)?;
    let listen = args.listen.map_or(node.advertise, |l| l.ip());
    let api_listener = bind(SocketAddr::new(listen, node.ports.api), "the API").await?;
    let raft_listener = bind(SocketAddr::new(listen, node.ports.raft), "replication").await?;
    let membership = pki::obtain(args, &node).await?;
    let store = open_store(args, &node, &membership, raft_listener).await?;
    Ok((node, api_listener, membership, store))
}

/// Settles name and ports.
fn place(args: &Args, dir: PathBuf) -> Result<Node> {
    let name = daemon::node_name(args.node_name.as_deref())?;
    let wanted = args.listen.map(|l| l.port()).filter(|port| *port != 0);
    let ports = layout::server_ports(&dir, args.advertise, wanted)?;
    Ok(Node {
        name,
        advertise: args.advertise,
        ports,
        dir,
    })
}

async fn bind(address: SocketAddr, what: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} for {what}: is another program there, or is it no address of this machine?")
    })
}

async fn open_store(
    args: &Args,
    node: &Node,
    membership: &pki::Membership,
    listener: TcpListener,
) -> Result<store::Store> {
    let Identity {
        cert_pem,
        key_pem,
        ca_pem,
    } = membership.identity.clone();
    let address = SocketAddr::new(node.advertise, node.ports.raft);
    let store_files = store_dir(&node.dir);
    let config = store::Config {
        dir: store_files.clone(),
        id: membership.id,
        name: node.name.clone(),
        address,
        snapshot_after: args.snapshot_after,
        history: HISTORY,
        tls: store::Tls {
            ca_pem: ca_pem.into(),
            cert_pem: cert_pem.into(),
            key_pem: key_pem.into(),
        },
    };
    let store = store::Store::open(config, listener)
        .await
        .context("cannot open the store")?;
    match &membership.pending {
        None if store.initialised() => return Ok(store),
        None => bail!(
            "{} belongs to a cluster but is empty: remove it, and join with --join and --token",
            store_files.display()
        ),
        Some(pki::Pending::Founding) => store
            .bootstrap()
            .await
            .context("cannot begin a new cluster")?,
        // Its peers may know it already: it was stopped before it heard so.
        Some(pki::Pending::Joining(_)) if is_voter(&store, membership.id) => {}
        Some(pki::Pending::Joining(servers)) => {
            let member = NewMember {
                id: membership.id,
                name: node.name.clone(),
                address,
            };
            joining::add_member(servers, &membership.identity, &member).await?;
        }
    }
    pki::settle(node, membership)?;
    Ok(store)
}

fn is_voter(store: &store::Store, id: u64) -> bool {
    store.members().iter().any(|m| m.id == id && m.voter)
}

/// Where the store keeps its files; that they are there tells a member from a newcomer.
fn store_dir(server: &Path) -> PathBuf {
    server.join("store")
}

/// Waits until `value` is `wanted`; whether it never will be, because its sender is gone.
async fn becomes(value: &mut watch::Receiver<bool>, wanted: bool) -> bool {
    value.wait_for(|value| *value == wanted).await.is_err()
}
