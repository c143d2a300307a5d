//! `carob status`: which of a local cluster's processes live, who leads, who is ready.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use api::ingress::{PORTS, Ports};
use client::{ListOptions, Object};
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
    /// What was joined by hand, by its name.
    joined: Vec<JoinedReport>,
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

/// A machine that was joined by hand: its processes are unknown here.
#[derive(Debug, Serialize)]
struct JoinedReport {
    #[serde(flatten)]
    node: NodeReport,
    /// Whether it is a node, which runs pods.
    agent: bool,
    /// Whether it is a member of the control plane.
    server: bool,
    /// Whether that one leads.
    leader: bool,
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
        let flags = layout::flags(&self.name, self.data_dir.as_deref());
        match self.output {
            Some(format) => format.print(&report)?,
            None => print(&cluster, &report),
        }
        if !report.lives() {
            bail!("nothing of it runs: `carob up{flags}` starts it again");
        }
        if self.output.is_none()
            && let Some(why) = leaderless(&report, &flags)
        {
            println!("{why}");
        }
        Ok(())
    }
}

impl Report {
    /// Whether any process of the cluster does; of those that were joined by hand others tell.
    fn lives(&self) -> bool {
        let servers = self.servers.iter().map(|server| server.pid);
        let mut all = servers.chain(self.nodes.iter().map(|node| node.pid));
        all.any(|pid| pid.is_some())
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
    /// All servers' addresses.
    members: BTreeMap<String, IpAddr>,
    /// The versions of those that answer.
    servers: BTreeMap<String, String>,
    nodes: BTreeMap<String, Seen>,
}

impl Told {
    /// The nodes and servers that are none of the local cluster's own, which have their names from its servers.
    fn joined(&self, servers: &[ServerReport]) -> Vec<JoinedReport> {
        let names: BTreeSet<&String> = self.nodes.keys().chain(self.members.keys()).collect();
        let others = names
            .into_iter()
            .filter(|name| servers.iter().all(|server| server.name != **name));
        others.map(|name| self.one_joined(name)).collect()
    }

    fn one_joined(&self, name: &String) -> JoinedReport {
        let (seen, member) = (self.nodes.get(name), self.members.get(name));
        let address = seen.map(|seen| seen.address.clone());
        JoinedReport {
            agent: seen.is_some(),
            server: member.is_some(),
            leader: self.leader.as_ref() == Some(name),
            node: NodeReport {
                name: name.clone(),
                address: address
                    .or(member.map(IpAddr::to_string))
                    .unwrap_or_default(),
                pid: None,
                ready: seen.is_some_and(|seen| seen.ready),
                version: seen.map(|seen| seen.version.clone()).unwrap_or_default(),
                ingress: seen.map(|seen| seen.ingress),
            },
        }
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
    let (members, listed, versions) = tokio::join!(
        client::join::members(&client),
        access.list(&everything),
        futures::future::join_all(versions)
    );
    let nodes = listed.map(|list| list.items).unwrap_or_default();
    let nodes = nodes
        .iter()
        .map(|node| (node.name().to_owned(), Seen::new(node)))
        .collect();
    let (members, leader) = members.map_or((Vec::new(), None), |of| (of.members, of.leader));
    let leader = members.iter().find(|member| Some(member.id) == leader);
    Told {
        leader: leader.map(|member| member.name.clone()),
        members: members
            .iter()
            .map(|member| (member.name.clone(), member.address.ip()))
            .collect(),
        servers: versions.into_iter().flatten().collect(),
        nodes,
    }
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
        let state = server.pid.map(|pid| pid.to_string());
        let state = state.map_or("dead".to_owned(), |pid| server_cell(&pid, server.leader));
        let agent = node.pid.map_or("dead".to_owned(), |pid| pid.to_string());
        table.row(node.row(&state, &agent));
    }
    for joined in &report.joined {
        table.row(joined.row());
    }
    table.print();
}

fn server_cell(what: &str, leads: bool) -> String {
    match leads {
        true => format!("{what} (leader)"),
        false => what.to_owned(),
    }
}

impl JoinedReport {
    fn row(&self) -> [String; 7] {
        let how = |there: bool| if there { "joined" } else { "-" };
        let server = server_cell(how(self.server), self.leader);
        let mut row = self.node.row(&server, how(self.agent));
        if !self.agent {
            row[4] = "-".to_owned();
        }
        row
    }
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
fn leaderless(report: &Report, flags: &str) -> Option<String> {
    let (servers, joined) = (&report.servers, &report.joined);
    if servers.iter().any(|of| of.leader) || joined.iter().any(|of| of.leader) {
        return None;
    }
    // Of those that were joined by hand nobody knows here whether they live.
    let unknown = joined.iter().filter(|joined| joined.server).count();
    let live = servers.iter().filter(|s| s.pid.is_some()).count() + unknown;
    let all = servers.len() + unknown;
    let needed = all / 2 + 1;
    let at_most = if unknown > 0 { "at most " } else { "" };
    Some(if live < needed {
        format!(
            "no leader: {at_most}{live} of {all} servers live, {needed} are needed; `carob up{flags}` brings back what is missing"
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
            nodes: ["carob-1", "extra", "worker"].map(seen).into(),
            leader: Some("extra".to_owned()),
            members: ["carob-1", "extra", "lone"]
                .map(|name| (name.to_owned(), IpAddr::from([10, 0, 0, 4])))
                .into(),
            ..Told::default()
        };
        let joined = told.joined(&[server("carob-1", false)]);
        let rows: Vec<_> = joined.iter().map(|one| one.row().to_vec()).collect();
        let expected = [
            "extra 10.0.0.3 joined+(leader) joined yes -",
            "lone 10.0.0.4 joined - - -",
            "worker 10.0.0.3 - joined yes -",
        ];
        let expected = expected.map(|row| {
            let cells = row.split(' ').map(|cell| cell.replace('+', " "));
            cells.chain([String::new()]).collect::<Vec<_>>()
        });
        assert_eq!(rows, expected);
        let said = serde_json::to_value(&joined[1]).unwrap();
        let lone = json!({"name": "lone", "address": "10.0.0.4", "pid": null, "agent": false, "server": true, "leader": false,
            "ready": false, "version": "", "ingress": null});
        assert_eq!(said, lone);
    }

    fn server(name: &str, lives: bool) -> ServerReport {
        ServerReport {
            name: name.to_owned(),
            address: String::new(),
            pid: lives.then_some(1),
            leader: false,
            version: None,
            api: None,
        }
    }

    #[test]
    fn that_nobody_leads_is_said_with_the_reason() {
        let report = |live: usize, joined: usize, leader: Option<&str>| {
            let servers: Vec<_> = (0..3).map(|i| server(&i.to_string(), i < live)).collect();
            let told = Told {
                leader: leader.map(str::to_owned),
                members: (0..3 + joined)
                    .map(|i| (i.to_string(), IpAddr::from([10, 0, 0, 4])))
                    .collect(),
                ..Told::default()
            };
            let joined = told.joined(&servers);
            let nodes = Vec::new();
            Report {
                servers,
                nodes,
                joined,
            }
        };
        assert!(!report(0, 1, None).lives() && report(1, 0, None).lives());
        let said = |report| leaderless(&report, " --name x");
        let missing = |who: &str, needed: usize| {
            let up = "`carob up --name x` brings back what is missing";
            let why = format!("no leader: {who} servers live, {needed} are needed; {up}");
            Some(why)
        };
        let yet = Some("no leader yet".to_owned());
        assert_eq!(said(report(1, 0, None)), missing("1 of 3", 2));
        assert_eq!(said(report(2, 0, None)), yet);
        assert_eq!(said(report(1, 1, None)), missing("at most 2 of 4", 3));
        assert_eq!(said(report(2, 1, None)), yet);
        assert_eq!(said(report(2, 1, Some("3"))), None);
    }
}
