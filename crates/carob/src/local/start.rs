//! Starting what is missing of a local cluster, and undoing that if it fails.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::join::Role as JoinRole;
use client::{Client, Informer, Key, ListOptions};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::down;
use super::layout::{self, Cluster, NodeDir};
use super::patience::Patience;
use super::process::{self, Role};
use super::reach::{admin, answers, api_url, client_url, is_member, is_ready, serving, shared_url};
use super::words;
use crate::commands::token;
use crate::version;

/// How long the first answer may take, and how long all nodes then. A cold machine compiles nothing here; what takes long is
/// a store that catches up.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// One call's work, and what it must undo if it fails.
pub(super) struct Start<'a> {
    cluster: &'a Cluster,
    nodes: &'a [NodeDir],
    dir: &'a Path,
    snapshot_after: Option<u64>,
    started: Vec<Started<'a>>,
    /// What the servers' logs said before is no matter of this call.
    began: Timestamp,
}

/// A server that this call started.
struct Started<'a> {
    process: tokio::process::Child,
    node: &'a NodeDir,
    /// Its agent was there before, with its pods.
    adopts: bool,
}

impl<'a> Start<'a> {
    pub(super) fn new(
        cluster: &'a Cluster,
        nodes: &'a [NodeDir],
        dir: &'a Path,
        snapshot_after: Option<u64>,
    ) -> Self {
        Self {
            cluster,
            nodes,
            dir,
            snapshot_after,
            started: Vec::new(),
            began: Timestamp::now(),
        }
    }

    /// Starts every server that is not running.
    pub(super) async fn servers(&mut self) -> Result<()> {
        for node in self.nodes {
            layout::make_private_dir(&node.server())?;
            check_versions(node)?;
            layout::server_ports(&node.server(), node.address, None)?;
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
        let token = token::create(
            &client,
            &admin(self.nodes)?.ca_pem,
            JoinRole::Server,
            READY_WITHIN * 2,
        )
        .await?;
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
            "--pod-manifest-path".into(),
            node.manifests().display().to_string(),
        ];
        args.extend(self.cluster.ingress.flags());
        args.extend(self.cluster.eviction.flags());
        if let Some(entries) = self.snapshot_after {
            args.extend(["--snapshot-after".into(), entries.to_string()]);
        }
        let mut environment = Vec::new();
        if let Some((url, token)) = join {
            args.extend(["--join".into(), url]);
            // Not on the command line, where every user of the machine could read it.
            environment.push(("CAROB_TOKEN".to_owned(), token));
        }
        let adopts = process::holder(&node.agent()).is_some();
        let process = process::spawn_with(Role::Server, &node.dir, &args, &environment)?;
        self.started.push(Started {
            process,
            node,
            adopts,
        });
        Ok(())
    }

    /// A client of the servers that run, once one of them answers.
    async fn first_answer(&mut self) -> Result<Client> {
        let mut patience = Patience::new(READY_WITHIN);
        let mut why = "it takes too long".to_owned();
        loop {
            self.check_alive()?;
            let tried = tokio::time::timeout_at(patience.until, serving(self.nodes)).await;
            match tried {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(error)) => why = format!("{error:#}"),
                // What was said before says more than that the time is over.
                Err(_) => {}
            }
            if patience.is_over() {
                return Err(self.too_late(&format!("no server answers: {why}")));
            }
            patience.waits_for(&format!("a server to answer: {why}"));
            // Nothing announces that a process begins to listen.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until every node is Ready by a heartbeat newer than `since`.
    pub(super) async fn until_ready(&mut self, since: Timestamp) -> Result<()> {
        let client = self.first_answer().await?;
        let nodes = Informer::<Node>::start(client.of(), ListOptions::default());
        let leases =
            Informer::<Lease>::start(client.of(), ListOptions::namespace("kube-node-lease"));
        let (mut node_changes, mut lease_changes) = (nodes.subscribe(), leases.subscribe());
        let mut patience = Patience::new(READY_WITHIN);
        let mut look = tokio::time::interval(Duration::from_millis(200));
        loop {
            let mut missing = self.missing(&nodes, &leases, since);
            if missing.is_empty() {
                missing = self.silent().await;
            }
            if missing.is_empty() {
                return self.check_alive();
            }
            let missing = missing.join(", ");
            if patience.is_over() {
                return Err(self.too_late(&format!("not ready: {missing}")));
            }
            patience.waits_for(&format!("{missing} to be ready"));
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

    /// What does not answer yet of the shared address and the servers that this call started.
    async fn silent(&self) -> Vec<String> {
        let mut silent = Vec::new();
        if !answers(self.nodes, shared_url(self.cluster)).await {
            silent.push(shared_url(self.cluster));
        }
        for node in self.started.iter().map(|started| started.node) {
            let url = api_url(node).unwrap_or_default();
            if !answers(self.nodes, url).await {
                silent.push(format!("the server of {}", node.name));
            }
        }
        silent
    }

    /// The nodes that are not ready by a heartbeat newer than `since`.
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
            let started = self.started.iter().any(|of| of.node.name == node.name);
            if !started && is_member(node) && process::holder(&node.server()).is_none() {
                self.start(node, None)?;
            }
        }
        Ok(())
    }

    /// A server that this call started and that has ended says why.
    fn check_alive(&mut self) -> Result<()> {
        for Started { process, node, .. } in &mut self.started {
            if let Some(status) = process.try_wait()? {
                bail!(
                    "the server {} ended ({status}): {}",
                    node.name,
                    words::last_words(Role::Server, &node.dir)
                );
            }
        }
        Ok(())
    }

    /// Ends what this call started.
    pub(super) async fn undo(&mut self) {
        for started in &self.started {
            let roles: &[Role] = match started.adopts {
                true => &[Role::Server],
                false => &Role::ALL,
            };
            if let Err(error) = down::stop(&started.node.dir, roles).await {
                eprintln!("warning: {error:#}");
            }
        }
    }

    /// What did not come about in time, and what the servers said meanwhile that may be why.
    fn too_late(&self, what: &str) -> anyhow::Error {
        let mut text = format!("{what} (waited {} s)", READY_WITHIN.as_secs());
        for node in self.nodes {
            for line in words::reasons(Role::Server, &node.dir, self.began) {
                text += &format!("\n{}: {line}", node.name);
            }
        }
        let logs = self.dir.join("*/server/log");
        anyhow::anyhow!("{text}\nsee {}", logs.display())
    }
}

fn check_versions(node: &NodeDir) -> Result<()> {
    let member: Option<serde_json::Value> = layout::read_json(&node.server().join("member.json"))?;
    match member.as_ref().and_then(|m| m["version"].as_str()) {
        Some(written_by) => version::check_data(written_by, &node.server()),
        None => Ok(()),
    }
}
