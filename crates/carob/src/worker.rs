//! `carob agent`: one node that runs pods, beside a server or on a machine of its own.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::Client;
use client::https::HttpsTransport;
use client::join::{Request, Role};
use client::tls::{self, Identity};
use k8s_openapi::api::core::v1::Taint;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::cli::{EvictionArgs, IngressArgs, LogArgs};
use crate::local::layout::{make_private_dir, read_json, write_json, write_private};
use crate::local::process::Role as Daemon;
use crate::{daemon, joining};

/// Run a worker node.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where its data lies; one agent may use it
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// A server of the cluster; the others are learnt from it
    #[arg(long, value_name = "URL", required = true)]
    server: Vec<String>,
    /// The token to join with, made by `carob token create`; needed at the first start alone
    #[arg(long, env = "CAROB_TOKEN", hide_env_values = true)]
    token: Option<client::token::Token>,
    /// The address by which servers and other nodes reach this one
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    advertise: IpAddr,
    /// The node's name; else the machine's host name
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// A label of the node
    #[arg(long, value_name = "K=V", value_parser = parse_label)]
    node_label: Vec<(String, String)>,
    /// A taint of the node when it is first registered
    #[arg(long, value_name = "K[=V]:EFFECT", value_parser = parse_taint)]
    node_taint: Vec<Taint>,
    /// How long pods have to end when the agent is told to
    #[arg(long, default_value = "5s", value_parser = crate::commands::token::parse_duration)]
    shutdown_grace: Duration,
    #[command(flatten)]
    ingress: IngressArgs,
    #[command(flatten)]
    eviction: EvictionArgs,
    /// Let pods use `file://` images and `hostPath` volumes on this node
    #[arg(long)]
    allow_host_files: bool,
    /// A directory whose files are pods of this node (static pods); it is made if it is missing
    #[arg(long, value_name = "DIR")]
    pod_manifest_path: Option<PathBuf>,
    /// A directory that other nodes have, too: volumes that claims are bound to may lie in it
    #[arg(long, value_name = "DIR", value_parser = crate::cli::parse_absolute)]
    shared_dir: Vec<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

/// `agent/ports.json`.
#[derive(Serialize, Deserialize)]
struct Ports {
    node: u16,
}

/// How long the cluster may take to answer one that joins.
const JOIN_WITHIN: Duration = Duration::from_secs(60);
const JOIN_PAUSE: Duration = Duration::from_millis(250);
/// How often the list of servers is asked for again.
const SERVERS_EVERY: Duration = Duration::from_secs(30);

/// Runs an agent until it is told to end. A second signal ends its pods at once.
pub(crate) fn main(args: Args) -> Result<ExitCode> {
    args.ingress.check()?;
    let (data_dir, log) = (args.data_dir.clone(), args.log.clone());
    daemon::run(Daemon::Agent, &data_dir, &log, |dir| run(args, dir))
}

async fn run(args: Args, dir: PathBuf) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let name = daemon::node_name(args.node_name.as_deref())?;
    let joining = obtain(&args, &name, &dir);
    let joined = daemon::unless_told_to_end(joining, &mut terminate, &mut interrupt).await?;
    let Some(identity) = joined else {
        return Ok(());
    };
    let servers = known_servers(&args, &dir)?;
    let transport = Arc::new(HttpsTransport::new(&servers, identity.client_config()?)?);
    let wasm = runtime::Wasm::new(runtime::Config {
        // So that pods can ask the API by its name.
        roots: tls::certificates(&identity.ca_pem)?,
        memory: agent::memory_of_pods(&args.eviction.thresholds()),
        memory_left: agent::memory_left(args.eviction.thresholds()),
        ..runtime::Config::new(dir.join("compiled"))
    })
    .context("guests cannot run here")?;
    let wasm: Arc<dyn runtime::Runtime> = Arc::new(wasm);
    let learning = tokio::spawn(learn_servers(transport.clone(), dir.clone()));
    let _learning = AbortOnDropHandle::new(learning);
    loop {
        let service = agent::Service {
            listener: listen(&dir, args.advertise).await?,
            identity: identity.clone(),
        };
        let parts = (transport.clone(), wasm.clone(), service);
        let config = config(&args, (name.clone(), dir.clone()), parts)?;
        let ending = CancellationToken::new();
        let running = agent::run(config, ending.clone());
        tokio::pin!(running);
        tokio::select! {
            outcome = &mut running => match outcome {
                Err(error @ agent::Error::PodRangeMoved(..)) => {
                    tracing::warn!(%error, "the agent starts anew");
                    continue;
                }
                outcome => return outcome.context("the agent"),
            },
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        ending.cancel();
        return tokio::select! {
            outcome = &mut running => match outcome {
                // What it has to do it does at its next start.
                Err(agent::Error::PodRangeMoved(..)) => Ok(()),
                outcome => outcome.context("the agent"),
            },
            () = told_again(&mut terminate, &mut interrupt) => Ok(()),
        };
    }
}

async fn told_again(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("told again to end: pods are dropped");
}

/// What the agent is told at one start, of which there may be more: its name and place, and its parts.
fn config(
    args: &Args,
    (node_name, data_dir): (String, PathBuf),
    (transport, runtime, service): (
        Arc<HttpsTransport>,
        Arc<dyn runtime::Runtime>,
        agent::Service,
    ),
) -> Result<agent::Config> {
    let manifests = args.pod_manifest_path.as_deref().map(std::path::absolute);
    Ok(agent::Config {
        data_dir,
        node_name,
        address: args.advertise,
        transport,
        service: Some(service),
        runtime,
        labels: args.node_label.iter().cloned().collect(),
        taints: args.node_taint.clone(),
        pod_manifest_path: manifests.transpose()?,
        allow_host_path: args.allow_host_files,
        shared_dirs: args.shared_dir.clone(),
        allow_file_images: args.allow_host_files,
        ingress: args.ingress.ports(),
        shutdown_grace: args.shutdown_grace,
        clock: agent::Clock::Wall,
        disk: Arc::new(agent::read_disk),
        memory: Arc::new(agent::read_memory),
        shared_memory: agent::shared_memory()
            .inspect_err(|error| tracing::warn!(%error, "pods have no volumes in memory here"))
            .ok(),
        eviction_hard: args.eviction.thresholds(),
    })
}

/// The node's certificate: found, or asked for with the token.
async fn obtain(args: &Args, name: &str, dir: &Path) -> Result<Identity> {
    let pki = dir.join("pki");
    make_private_dir(&pki)?;
    let read = |file: &str| fs::read_to_string(pki.join(file));
    if let (Ok(cert_pem), Ok(key_pem), Ok(ca_pem)) =
        (read("node.crt"), read("node.key"), read("ca.crt"))
    {
        return Ok(Identity {
            cert_pem,
            key_pem,
            ca_pem,
        });
    }
    let Some(token) = &args.token else {
        bail!(
            "this machine has no certificate yet: join with --token, made by `carob token create` on the cluster"
        );
    };
    let user = format!("{}{name}", apiserver::ca::NODE_USER);
    let request = tls::request(&user, apiserver::ca::NODES, &[args.advertise])?;
    let ask = Request {
        role: Role::Agent,
        node_name: name.to_owned(),
        addresses: vec![args.advertise],
        csr: request.csr_pem,
        raft_address: None,
    };
    let answer = joining::ask(&args.server, token, &ask, JOIN_WITHIN, JOIN_PAUSE).await?;
    write_private(&pki.join("ca.crt"), answer.ca.as_bytes())?;
    write_private(&pki.join("node.key"), request.key_pem.as_bytes())?;
    write_private(&pki.join("node.crt"), answer.certificate.as_bytes())?;
    if !answer.servers.is_empty() {
        write_json(&dir.join("servers.json"), &answer.servers)?;
    }
    Ok(Identity {
        cert_pem: answer.certificate,
        key_pem: request.key_pem,
        ca_pem: answer.ca,
    })
}

/// The servers to talk to: those given first, then those learnt before.
fn known_servers(args: &Args, dir: &Path) -> Result<Vec<String>> {
    let mut servers = args.server.clone();
    let learnt: Vec<String> = read_json(&dir.join("servers.json"))?.unwrap_or_default();
    servers.extend(learnt.into_iter().filter(|url| !args.server.contains(url)));
    Ok(servers)
}

/// Keeps the list of servers up to date, so that any of them may go.
async fn learn_servers(transport: Arc<HttpsTransport>, dir: PathBuf) {
    #[derive(Deserialize)]
    struct Servers {
        servers: Vec<String>,
    }
    let client = Client::new(transport.clone(), "carob");
    // At first a cluster grows; later the list hardly ever changes.
    let mut pause = Duration::from_secs(1);
    loop {
        let asked = async {
            let request = http::Request::get("/carob/v1/servers").body(bytes::Bytes::new())?;
            let answer = client.raw(request).await?;
            let body = client::collect(answer.into_body(), 1 << 20).await?;
            anyhow::Ok(serde_json::from_slice::<Servers>(&body)?.servers)
        };
        match asked.await {
            Ok(servers) if !servers.is_empty() && servers != transport.servers() => {
                let kept = write_json(&dir.join("servers.json"), &servers);
                let set = transport.set_servers(&servers);
                tracing::info!(
                    ?servers,
                    kept = kept.is_ok(),
                    set = set.is_ok(),
                    "servers of the cluster"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(
                error = format!("{error:#}"),
                "the list of servers is not to be had"
            ),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(SERVERS_EVERY);
    }
}

/// Listens on the node's port, chosen at the first start and then kept.
async fn listen(dir: &Path, address: IpAddr) -> Result<TcpListener> {
    let file = dir.join("ports.json");
    let kept: Option<Ports> = read_json(&file)?;
    let port = kept.as_ref().map_or(0, |p| p.node);
    let listener = TcpListener::bind(SocketAddr::new(address, port))
        .await
        .with_context(|| format!("cannot listen on {address}:{port}: is another program there, or is it no address of this machine?"))?;
    if kept.is_none() {
        write_json(
            &file,
            &Ports {
                node: listener.local_addr()?.port(),
            },
        )?;
    }
    Ok(listener)
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text}: K=V expected"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_taint(text: &str) -> Result<Taint, String> {
    let wrong = || format!("{text}: K[=V]:NoSchedule, :PreferNoSchedule or :NoExecute expected");
    let (rest, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) || rest.is_empty() {
        return Err(wrong());
    }
    let (key, value) = match rest.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (rest, None),
    };
    Ok(Taint {
        key: key.to_owned(),
        value,
        effect: effect.to_owned(),
        time_added: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_read_as_kubectl_reads_them() {
        let taint = parse_taint("dedicated=gpu:NoSchedule").unwrap();
        assert_eq!(
            (
                taint.key.as_str(),
                taint.value.as_deref(),
                taint.effect.as_str()
            ),
            ("dedicated", Some("gpu"), "NoSchedule")
        );
        assert_eq!(parse_taint("a:NoExecute").unwrap().value, None);
        for bad in ["a", "a=b", ":NoSchedule", "a:Sometimes"] {
            assert!(parse_taint(bad).is_err(), "{bad}");
        }
    }
}
