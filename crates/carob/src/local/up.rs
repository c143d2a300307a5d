//! `carob up`: start a local cluster, or what is missing of it, and return when it is Ready.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::https::HttpsTransport;
use client::join::Role as JoinRole;
use client::kubeconfig::{self, Sources};
use client::tls::Identity;
use client::{Client, Informer, Key, ListOptions};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use rustix::fs::{FlockOperation, flock};

use super::layout::{self, Cluster, MAX_NODES, NodeDir, ServerPorts};
use super::port::check_port;
use super::process::{self, Role};
use super::{down, status};
use crate::commands::token;
use crate::version;

/// Start a local cluster, or what is missing of it, and return when every node is Ready.
#[derive(Debug, clap::Args)]
pub(crate) struct Up {
    /// How many nodes a new cluster gets [default: 3]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=MAX_NODES as i64))]
    nodes: Option<u8>,
    /// The cluster's name; its nodes are NAME-1, NAME-2, …
    #[arg(long, default_value = "carob")]
    name: String,
    /// Where its data goes; else ~/.carob/NAME
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The port on 127.0.0.1 that answers as long as any server does [default: 6443]
    #[arg(long, value_name = "PORT")]
    api_port: Option<u16>,
    /// Write the kubeconfig here instead of merging it into $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Stay until Ctrl-C, then stop the cluster
    #[arg(long)]
    foreground: bool,
    /// Log entries after which a server's store takes a snapshot
    #[arg(long, value_name = "N", hide = true)]
    snapshot_after: Option<u64>,
}

/// How long everything together may take. A cold machine compiles nothing here; what takes long is
/// a store that catches up.
const READY_WITHIN: Duration = Duration::from_secs(60);

impl Up {
    pub(crate) async fn run(self) -> Result<()> {
        check_name(&self.name)?;
        let dir = layout::cluster_dir(&self.name, self.data_dir.as_deref())?;
        layout::make_private_dir(&dir)?;
        let _alone = one_at_a_time(&dir)?;
        let since = Timestamp::now();
        let cluster = self.settle(&dir)?;
        let nodes = cluster.nodes(&dir);
        check_port(&cluster, &nodes).await?;
        let mut start = Start {
            cluster: &cluster,
            nodes: &nodes,
            dir: &dir,
            up: &self,
            started: Vec::new(),
        };
        let outcome = async {
            start.servers().await?;
            start.until_ready(since).await?;
            self.write_kubeconfigs(&cluster, &nodes, &dir).await
        };
        let outcome = tokio::select! {
            outcome = outcome => outcome,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        if let Err(error) = outcome {
            // What this call began must not stay behind half-done; what ran before is not its to end.
            start.undo().await;
            return Err(error);
        }
        self.greet(&cluster, &dir).await;
        if self.foreground {
            tokio::signal::ctrl_c().await?;
            down::stop(&dir).await?;
        }
        Ok(())
    }

    /// The cluster as it was made, or as this call makes it.
    fn settle(&self, dir: &Path) -> Result<Cluster> {
        if let Some(cluster) = Cluster::load(dir)? {
            if cluster.name != self.name {
                bail!(
                    "{} holds the cluster {}: choose another --data-dir, or --name {}",
                    dir.display(),
                    cluster.name,
                    cluster.name
                );
            }
            if let Some(port) = self.api_port.filter(|p| *p != cluster.api_port) {
                bail!(
                    "cluster {} was made with --api-port {}: it cannot move to {port}",
                    cluster.name,
                    cluster.api_port
                );
            }
            if let Some(nodes) = self.nodes.filter(|n| *n != cluster.nodes) {
                bail!(
                    "cluster {} has {} nodes, not {nodes}: `carob down --purge` removes it, another --name makes a second one",
                    cluster.name,
                    cluster.nodes
                );
            }
            return Ok(cluster);
        }
        let cluster = Cluster {
            name: self.name.clone(),
            api_port: self.api_port.unwrap_or(6443),
            nodes: self.nodes.unwrap_or(3),
            version: version::VERSION.to_owned(),
        };
        cluster.save(dir)?;
        Ok(cluster)
    }

    async fn write_kubeconfigs(
        &self,
        cluster: &Cluster,
        nodes: &[NodeDir],
        dir: &Path,
    ) -> Result<()> {
        let identity = admin(nodes)?;
        let server = shared_url(cluster);
        kubeconfig::write(&dir.join("kubeconfig"), &cluster.name, &server, &identity)?;
        if let Some(file) = &self.kubeconfig {
            kubeconfig::write(file, &cluster.name, &server, &identity)?;
        } else if let Some(file) = Sources::from_environment(None).merge_target() {
            kubeconfig::merge(&file, &cluster.name, &server, &identity).await?;
        }
        Ok(())
    }

    async fn greet(&self, cluster: &Cluster, dir: &Path) {
        let report = status::report(cluster, dir).await;
        let ready = report.nodes.iter().filter(|n| n.ready).count();
        println!(
            "cluster {} is up: {ready} nodes ready, API on https://127.0.0.1:{}",
            cluster.name, cluster.api_port
        );
        match &self.kubeconfig {
            Some(file) => println!("kubectl --kubeconfig {} get nodes", file.display()),
            None => println!("kubectl --context {} get nodes", cluster.name),
        }
    }
}

/// One call's work, and what it must undo if it fails.
struct Start<'a> {
    cluster: &'a Cluster,
    nodes: &'a [NodeDir],
    dir: &'a Path,
    up: &'a Up,
    started: Vec<(tokio::process::Child, &'a NodeDir)>,
}

impl<'a> Start<'a> {
    /// Starts every server that is not running.
    async fn servers(&mut self) -> Result<()> {
        for node in self.nodes {
            layout::make_private_dir(&node.server())?;
            check_versions(node)?;
            layout::server_ports(&node.server(), node.address)?;
        }
        let dead: Vec<&NodeDir> = self
            .nodes
            .iter()
            .filter(|n| process::holder(&n.server()).is_none())
            .collect();
        let (members, newcomers): (Vec<&NodeDir>, Vec<&NodeDir>) =
            dead.into_iter().partition(|n| is_member(n));
        for node in members {
            self.start(node, None)?;
        }
        let mut newcomers = newcomers.as_slice();
        if !self.nodes.iter().any(is_member)
            && let [first, rest @ ..] = newcomers
        {
            self.start(first, None)?;
            newcomers = rest;
        }
        if newcomers.is_empty() {
            return Ok(());
        }
        let client = self.first_answer().await?;
        let token = token::create(&client, &self.ca()?, JoinRole::Server, READY_WITHIN * 2).await?;
        let url = client_url(self.nodes).context("no server has a port yet")?;
        for node in newcomers {
            self.start(node, Some((url.clone(), token.to_string())))?;
        }
        Ok(())
    }

    fn start(&mut self, node: &'a NodeDir, join: Option<(String, String)>) -> Result<()> {
        let shared = SocketAddr::from((Ipv4Addr::LOCALHOST, self.cluster.api_port));
        let mut args: Vec<String> = vec![
            "--node-name".into(),
            node.name.clone(),
            "--advertise".into(),
            node.address.to_string(),
            "--shared".into(),
            shared.to_string(),
            "--allow-host-files".into(),
        ];
        if let Some(entries) = self.up.snapshot_after {
            args.extend(["--snapshot-after".into(), entries.to_string()]);
        }
        let mut environment = Vec::new();
        if let Some((url, token)) = join {
            args.extend(["--join".into(), url]);
            // Not on the command line, where every user of the machine could read it.
            environment.push(("CAROB_TOKEN".to_owned(), token));
        }
        let child = process::spawn_with(Role::Server, &node.dir, &args, &environment)?;
        self.started.push((child, node));
        Ok(())
    }

    /// A client of the servers that run, once one of them answers.
    async fn first_answer(&mut self) -> Result<Client> {
        let deadline = tokio::time::Instant::now() + READY_WITHIN;
        loop {
            self.check_alive()?;
            if let Ok(client) = client_of(self.nodes)
                && client::join::members(&client).await.is_ok()
                && is_serving(&client).await
            {
                return Ok(client);
            }
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "no server answers within {} s: see {}",
                    READY_WITHIN.as_secs(),
                    self.logs()
                );
            }
            // Nothing announces that a process begins to listen.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until every node is Ready by a heartbeat newer than `since`.
    async fn until_ready(&mut self, since: Timestamp) -> Result<()> {
        let client = self.first_answer().await?;
        let nodes = Informer::<Node>::start(client.of(), ListOptions::default());
        let leases =
            Informer::<Lease>::start(client.of(), ListOptions::namespace("kube-node-lease"));
        let (mut node_changes, mut lease_changes) = (nodes.subscribe(), leases.subscribe());
        let deadline = tokio::time::Instant::now() + READY_WITHIN;
        let mut look = tokio::time::interval(Duration::from_millis(200));
        loop {
            let missing = self.missing(&nodes, &leases, since);
            if missing.is_empty() && shared_answers(self.cluster, self.nodes).await {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "not ready within {} s: {}; see {}",
                    READY_WITHIN.as_secs(),
                    missing.join(", "),
                    self.logs()
                );
            }
            tokio::select! {
                _ = node_changes.next() => {}
                _ = lease_changes.next() => {}
                // A process that dies, and the shared address, announce themselves to nobody.
                _ = look.tick() => {
                    self.check_alive()?;
                    self.revive()?;
                }
            }
        }
    }

    fn missing(
        &self,
        nodes: &Informer<Node>,
        leases: &Informer<Lease>,
        since: Timestamp,
    ) -> Vec<String> {
        let fresh = |name: &str| {
            let lease = leases.get(&Key::new("kube-node-lease", name));
            let renewed = lease.and_then(|l| l.spec.as_ref()?.renew_time.clone());
            renewed.is_some_and(|MicroTime(at)| at >= since)
        };
        let ready = |name: &str| {
            nodes
                .get(&Key::new("", name))
                .is_some_and(|node| is_ready(&node))
        };
        let names = self.nodes.iter().map(|n| n.name.clone());
        names.filter(|name| !(ready(name) && fresh(name))).collect()
    }

    /// Starts members that have ended since this call looked first: one that was killed just
    /// before may have held its lock then.
    fn revive(&mut self) -> Result<()> {
        for node in self.nodes {
            let started = self.started.iter().any(|(_, of)| of.name == node.name);
            if !started && is_member(node) && process::holder(&node.server()).is_none() {
                self.start(node, None)?;
            }
        }
        Ok(())
    }

    /// A server that this call started and that has ended says why.
    fn check_alive(&mut self) -> Result<()> {
        for (child, node) in &mut self.started {
            if let Some(status) = child.try_wait()? {
                bail!(
                    "the server {} ended ({status}): {}",
                    node.name,
                    process::last_words(Role::Server, &node.dir)
                );
            }
        }
        Ok(())
    }

    /// Ends what this call started.
    async fn undo(&mut self) {
        for node in self.started.iter().map(|(_, node)| *node) {
            if let Err(error) = down::stop(&node.dir).await {
                eprintln!("warning: {error:#}");
            }
        }
    }

    fn ca(&self) -> Result<String> {
        ca_of(self.nodes)
    }

    fn logs(&self) -> String {
        self.dir.join("*/server/log").display().to_string()
    }
}

/// Whether the node's server has a place in the store already.
pub(super) fn is_member(node: &NodeDir) -> bool {
    node.server().join("store").exists() && node.server().join("member.json").exists()
}

fn check_versions(node: &NodeDir) -> Result<()> {
    let member: Option<serde_json::Value> = layout::read_json(&node.server().join("member.json"))?;
    match member.as_ref().and_then(|m| m["version"].as_str()) {
        Some(written_by) => version::check_data(written_by, &node.server()),
        None => Ok(()),
    }
}

fn check_name(name: &str) -> Result<()> {
    let fits = name.len() <= 50
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.is_empty();
    if !fits {
        bail!(
            "--name {name}: at most 50 lower case letters, digits and '-', which may not stand at an end"
        );
    }
    Ok(())
}

/// Two calls for one cluster take turns.
fn one_at_a_time(dir: &Path) -> Result<fs::File> {
    let file = fs::File::create(dir.join("up.lock")).context("cannot make a lock file")?;
    flock(&file, FlockOperation::LockExclusive).context("cannot lock the cluster's directory")?;
    Ok(file)
}

/// Whether a server of this very cluster answers on the shared address.
async fn shared_answers(cluster: &Cluster, nodes: &[NodeDir]) -> bool {
    match connect(nodes, [shared_url(cluster)]) {
        Ok(client) => is_serving(&client).await,
        Err(_) => false,
    }
}

async fn is_serving(client: &Client) -> bool {
    let request = http::Request::get("/readyz").body(bytes::Bytes::new());
    match request {
        Ok(request) => client
            .with_timeout(Duration::from_secs(2))
            .raw(request)
            .await
            .is_ok(),
        Err(_) => false,
    }
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

fn client_url(nodes: &[NodeDir]) -> Option<String> {
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
fn admin(nodes: &[NodeDir]) -> Result<Identity> {
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

fn ca_of(nodes: &[NodeDir]) -> Result<String> {
    Ok(admin(nodes)?.ca_pem)
}

pub(super) fn shared_url(cluster: &Cluster) -> String {
    format!("https://127.0.0.1:{}", cluster.api_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_node_names() {
        for good in ["carob", "dev-2", "a"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(51);
        for bad in ["", "Dev", "-a", "a-", "a_b", "a/b", &long] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
