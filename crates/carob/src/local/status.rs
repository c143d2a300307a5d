//! `carob status`: which of a local cluster's processes live, who leads, who is ready.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use api::ingress::{PORTS, Ports};
use client::{Client, ListOptions, Object};
use k8s_openapi::api::core::v1::Node;
use serde::Serialize;

use super::layout::{self, Cluster, NodeDir};
use super::process;
use crate::output::{Format, Table};

/// Show a local cluster's servers and nodes.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// The cluster's name
    #[arg(long, default_value = layout::DEFAULT_NAME)]
    name: String,
    /// Its directory; else ~/.carob/NAME
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How to print it
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// How long the cluster may take to answer before it counts as silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What is printed; the JSON form is a contract.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The servers, in order.
    pub(crate) servers: Vec<ServerReport>,
    /// The nodes, in order.
    pub(crate) nodes: Vec<NodeReport>,
    /// Nodes whose agents were joined by hand, by their names: their processes are unknown here.
    joined: Vec<NodeReport>,
}

/// A server process.
#[derive(Debug, Serialize)]
pub(crate) struct ServerReport {
    name: String,
    address: String,
    pid: Option<i32>,
    leader: bool,
    version: Option<String>,
    api: Option<String>,
}

/// An agent process and the node that it is.
#[derive(Debug, Serialize)]
pub(crate) struct NodeReport {
    name: String,
    address: String,
    pid: Option<i32>,
    pub(crate) ready: bool,
    version: String,
    /// At which of its ports Ingresses are served: none while there is no Ingress.
    ingress: Option<Ports>,
}

impl Status {
    pub(crate) async fn run(self) -> Result<()> {
        let dir = layout::cluster_dir(&self.name, self.data_dir.as_deref())?;
        let Some(cluster) = Cluster::load(&dir)? else {
            bail!(
                "{} holds no cluster: start one with `carob up{}`",
                dir.display(),
                layout::flags(&self.name, self.data_dir.as_deref())
            );
        };
        let report = report(&cluster, &dir).await;
        match self.output {
            Some(format) => format.print(&report),
            None => {
                print(&cluster, &report);
                let flags = layout::flags(&self.name, self.data_dir.as_deref());
                if let Some(why) = leaderless(&report.servers, &flags) {
                    println!("{why}");
                }
                Ok(())
            }
        }
    }
}

/// Looks at the processes, and asks whoever answers for the rest.
pub(crate) async fn report(cluster: &Cluster, dir: &Path) -> Report {
    let nodes = cluster.nodes(dir);
    let told = tokio::time::timeout(ANSWER_WITHIN, ask(&nodes))
        .await
        .unwrap_or_default();
    let pid = |dir: PathBuf| process::holder(&dir).map(|p| p.as_raw_nonzero().get());
    let servers: Vec<_> = nodes
        .iter()
        .map(|node| {
            let pid = pid(node.server());
            ServerReport {
                name: node.name.clone(),
                address: node.address.to_string(),
                pid,
                leader: pid.is_some() && told.leader.as_deref() == Some(&node.name),
                version: told.servers.get(&node.name).cloned(),
                api: super::reach::api_url(node),
            }
        })
        .collect();
    let nodes = nodes
        .iter()
        .map(|node| {
            let pid = pid(node.agent());
            let seen = told.nodes.get(&node.name);
            NodeReport {
                name: node.name.clone(),
                address: node.address.to_string(),
                pid,
                ready: pid.is_some() && seen.is_some_and(|seen| seen.ready),
                version: seen.map(|seen| seen.version.clone()).unwrap_or_default(),
                ingress: seen.map(|seen| seen.ingress).filter(|_| pid.is_some()),
            }
        })
        .collect();
    let joined = told.joined(&servers);
    Report {
        servers,
        nodes,
        joined,
    }
}

/// What a live server tells.
#[derive(Default)]
struct Told {
    leader: Option<String>,
    /// The versions of those that answer.
    servers: BTreeMap<String, String>,
    nodes: BTreeMap<String, Seen>,
}

impl Told {
    /// The nodes that are none of the local cluster's own, which are called as its servers are.
    fn joined(&self, servers: &[ServerReport]) -> Vec<NodeReport> {
        let others = self
            .nodes
            .iter()
            .filter(|(name, _)| servers.iter().all(|server| server.name != **name));
        let report = others.map(|(name, seen)| NodeReport {
            name: name.clone(),
            address: seen.address.clone(),
            pid: None,
            ready: seen.ready,
            version: seen.version.clone(),
            ingress: Some(seen.ingress),
        });
        report.collect()
    }
}

/// What a Node says.
struct Seen {
    address: String,
    ready: bool,
    version: String,
    ingress: Ports,
}

impl Seen {
    fn new(node: &Node) -> Self {
        let info = node.status.as_ref().and_then(|s| s.node_info.as_ref());
        let annotations = node.metadata.annotations.as_ref();
        let ports = annotations.and_then(|all| all.get(PORTS));
        let addresses = node
            .status
            .iter()
            .flat_map(|s| s.addresses.iter().flatten());
        let mut internal = addresses.filter(|address| address.type_ == "InternalIP");
        Self {
            address: internal
                .next()
                .map(|a| a.address.clone())
                .unwrap_or_default(),
            ready: super::reach::is_ready(node),
            version: info.map(|i| i.kubelet_version.clone()).unwrap_or_default(),
            ingress: Ports::parse(ports.map_or("", String::as_str)),
        }
    }
}

async fn ask(nodes: &[NodeDir]) -> Told {
    let Ok(client) = super::reach::client_of(nodes) else {
        return Told::default();
    };
    let (access, everything) = (client.of::<Node>(), ListOptions::default());
    let versions = nodes.iter().map(|node| async move {
        let version = super::reach::version(nodes, node).await?;
        Some((node.name.clone(), version))
    });
    let (leader, listed, versions) = tokio::join!(
        leader(&client),
        access.list(&everything),
        futures::future::join_all(versions)
    );
    let nodes = listed.map(|list| list.items).unwrap_or_default();
    let nodes = nodes
        .iter()
        .map(|node| (node.name().to_owned(), Seen::new(node)))
        .collect();
    Told {
        leader,
        servers: versions.into_iter().flatten().collect(),
        nodes,
    }
}

/// The leader's name, from whichever server answers.
async fn leader(client: &Client) -> Option<String> {
    let members = client::join::members(client).await.ok()?;
    members
        .leader
        .and_then(|id| members.members.into_iter().find(|m| m.id == id))
        .map(|m| m.name)
}

fn print(cluster: &Cluster, report: &Report) {
    println!(
        "cluster {} on https://127.0.0.1:{} (carob {})",
        cluster.name, cluster.api_port, cluster.version
    );
    let mut table = Table::new([
        "NAME", "ADDRESS", "SERVER", "AGENT", "READY", "INGRESS", "VERSION",
    ]);
    for (server, node) in report.servers.iter().zip(&report.nodes) {
        let state = match (server.pid, server.leader) {
            (None, _) => "dead".to_owned(),
            (Some(pid), true) => format!("{pid} (leader)"),
            (Some(pid), false) => pid.to_string(),
        };
        let agent = node.pid.map_or("dead".to_owned(), |pid| pid.to_string());
        table.row(node.row(&state, &agent));
    }
    for node in &report.joined {
        table.row(node.row("-", "joined"));
    }
    table.print();
}

impl NodeReport {
    fn row(&self, server: &str, agent: &str) -> [String; 7] {
        let ready = if self.ready { "yes" } else { "no" };
        let ingress = self.ingress.map(|ports| ports.to_string());
        let ingress = ingress.filter(|said| !said.is_empty());
        [
            self.name.clone(),
            self.address.clone(),
            server.to_owned(),
            agent.to_owned(),
            ready.to_owned(),
            ingress.unwrap_or_else(|| "-".to_owned()),
            self.version.clone(),
        ]
    }
}

/// What to say where no server leads: nothing can be written then.
fn leaderless(servers: &[ServerReport], flags: &str) -> Option<String> {
    if servers.iter().any(|server| server.leader) {
        return None;
    }
    let live = servers.iter().filter(|s| s.pid.is_some()).count();
    let needed = servers.len() / 2 + 1;
    Some(if live < needed {
        format!(
            "no leader: {live} of {} servers live, {needed} are needed; `carob up{flags}` brings back what is missing",
            servers.len()
        )
    } else {
        "no leader yet".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_was_joined_by_hand_is_shown() {
        let seen = |name: &str| {
            let node = json!({"metadata": {"name": name}, "status": {
                "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": "10.0.0.3"}],
                "conditions": [{"type": "Ready", "status": "True"}],
            }});
            let node: Node = serde_json::from_value(node).unwrap();
            (name.to_owned(), Seen::new(&node))
        };
        let told = Told {
            nodes: ["carob-1", "worker"].map(seen).into(),
            ..Told::default()
        };
        let server = ServerReport {
            name: "carob-1".to_owned(),
            address: String::new(),
            pid: None,
            leader: false,
            version: None,
            api: None,
        };
        let joined = told.joined(&[server]);
        let rows: Vec<_> = joined.iter().map(|node| node.row("-", "joined")).collect();
        let row = ["worker", "10.0.0.3", "-", "joined", "yes", "-", ""];
        assert_eq!(rows, [row.map(str::to_owned)]);
    }
}
