//! `carob up`: start a local cluster, or what is missing of it, and return when it is Ready.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use client::kubeconfig::{self, Sources};
use jiff::Timestamp;

use super::layout::{self, Cluster, MAX_NODES, NodeDir};
use super::port::check_port;
use super::process::{self, Role};
use super::reach::{admin, shared_url};
use super::start::Start;
use super::{down, status};
use crate::cli::{EvictionArgs, IngressArgs};
use crate::interruption::Interruption;
use crate::version;

/// Start a local cluster, or what is missing of it, and return when every node is Ready.
#[derive(Debug, clap::Args)]
pub(crate) struct Up {
    /// How many nodes a new cluster gets [default: 3]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=MAX_NODES as i64))]
    nodes: Option<u8>,
    /// The cluster's name; its nodes are NAME-1, NAME-2, …
    #[arg(long, default_value = layout::DEFAULT_NAME)]
    name: String,
    /// Where its data goes; else ~/.carob/NAME
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The port on 127.0.0.1 that answers as long as any server does [default: 6443]
    #[arg(long, value_name = "PORT")]
    api_port: Option<u16>,
    /// Merge the context into this kubeconfig instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    ingress: IngressArgs,
    #[command(flatten)]
    eviction: EvictionArgs,
    /// Stay until Ctrl-C or SIGTERM, then stop the cluster
    #[arg(long)]
    foreground: bool,
    /// Log entries after which a server's store takes a snapshot
    #[arg(long, value_name = "N", hide = true)]
    snapshot_after: Option<u64>,
}

impl Up {
    pub(crate) async fn run(self) -> Result<()> {
        check_name(&self.name)?;
        self.ingress.check()?;
        layout::make_private_dir(&layout::cluster_dir(&self.name, self.data_dir.as_deref())?)?;
        let dir = layout::cluster_dir(&self.name, self.data_dir.as_deref())?;
        let alone = layout::one_at_a_time(&dir).await?;
        let mut interrupted = Interruption::new()?;
        let since = Timestamp::now();
        let cluster = self.settle(&dir)?;
        let nodes = cluster.nodes(&dir);
        check_port(&cluster, &nodes).await?;
        if let Some(file) = self.merge_target() {
            let checked = kubeconfig::check(&file).await;
            checked
                .context("the kubeconfig cannot be written: choose another with --kubeconfig")?;
        }
        cluster.save(&dir)?;
        let mut start = Start::new(&cluster, &nodes, &dir, self.snapshot_after);
        let outcome = async {
            start.servers().await?;
            start.until_ready(since).await?;
            self.write_kubeconfigs(&cluster, &nodes, &dir).await
        };
        let outcome = tokio::select! {
            outcome = outcome => outcome,
            _ = interrupted.wait() => Err(anyhow::anyhow!("interrupted")),
        };
        let left = match outcome {
            Ok(left) => left,
            Err(error) => {
                // What this call began must not stay behind half-done; what ran before is not its to end.
                start.undo().await;
                return Err(error);
            }
        };
        self.greet(&cluster, &dir).await;
        if let Some(left) = left {
            println!("the current context was {left}: kubectl config use-context {left}");
        }
        // A later call may bring back what dies meanwhile, or end it all.
        drop(alone);
        if self.foreground {
            interrupted.wait().await;
            down::stop(&dir, &Role::ALL).await?;
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
                    "cluster {} was made with --api-port {}, not {port}: `carob down --purge{}` removes it, another --name makes a second one",
                    cluster.name,
                    cluster.api_port,
                    layout::flags(&cluster.name, self.data_dir.as_deref())
                );
            }
            if let Some(nodes) = self.nodes.filter(|n| *n != cluster.nodes) {
                bail!(
                    "cluster {} has {} nodes, not {nodes}: `carob down --purge{}` removes it, another --name makes a second one",
                    cluster.name,
                    cluster.nodes,
                    layout::flags(&cluster.name, self.data_dir.as_deref())
                );
            }
            let (ingress, eviction) = self.told(&cluster, dir)?;
            return Ok(Cluster {
                ingress,
                eviction,
                ..cluster
            });
        }
        Ok(Cluster {
            name: self.name.clone(),
            api_port: self.api_port.unwrap_or(6443),
            nodes: self.nodes.unwrap_or(3),
            ingress: self.ingress,
            eviction: self.eviction.clone(),
            version: version::VERSION.to_owned(),
        })
    }

    /// The ports and thresholds that are asked for, else those that the cluster has. It cannot have others while it runs:
    /// processes are told when they start.
    fn told(&self, cluster: &Cluster, dir: &Path) -> Result<(IngressArgs, EvictionArgs)> {
        let ports = self.ingress.or(cluster.ingress);
        ports.check()?;
        let eviction = self.eviction.or(&cluster.eviction);
        let is_same = ports == cluster.ingress && eviction == cluster.eviction;
        let runs = |node: &NodeDir| {
            let held = [node.server(), node.agent()];
            held.iter().any(|dir| process::holder(dir).is_some())
        };
        if is_same || !cluster.nodes(dir).iter().any(runs) {
            return Ok((ports, eviction));
        }
        let mut flags = cluster.ingress.flags();
        flags.extend(cluster.eviction.flags());
        let has = match flags.is_empty() {
            true => "with the default ports for Ingresses and thresholds".to_owned(),
            false => format!("with {}", flags.join(" ")),
        };
        bail!(
            "cluster {} runs {has}: `carob down{}` stops it, so that it can have others",
            cluster.name,
            layout::flags(&cluster.name, self.data_dir.as_deref())
        );
    }

    /// Writes the cluster's own kubeconfig, and merges it into the user's, whose current context it
    /// becomes. Returns what that was before, if it was another.
    async fn write_kubeconfigs(
        &self,
        cluster: &Cluster,
        nodes: &[NodeDir],
        dir: &Path,
    ) -> Result<Option<String>> {
        let identity = admin(nodes)?;
        let server = shared_url(cluster);
        kubeconfig::write(&dir.join("kubeconfig"), &cluster.name, &server, &identity)?;
        let Some(file) = self.merge_target() else {
            return Ok(None);
        };
        Ok(kubeconfig::merge(&file, &cluster.name, &server, &identity).await?)
    }

    /// The kubeconfig that takes up the cluster's context: the one given, else the user's.
    fn merge_target(&self) -> Option<PathBuf> {
        let users = || Sources::from_environment(None).merge_target();
        self.kubeconfig.clone().or_else(users)
    }

    async fn greet(&self, cluster: &Cluster, dir: &Path) {
        let report = status::report(cluster, dir).await;
        let ready = report.nodes.iter().filter(|n| n.ready).count();
        println!(
            "cluster {} is up: {ready} node{} ready, API on https://127.0.0.1:{}",
            cluster.name,
            if ready == 1 { "" } else { "s" },
            cluster.api_port
        );
        match &self.kubeconfig {
            Some(file) => println!("kubectl --kubeconfig {} get nodes", file.display()),
            None => println!("kubectl --context {} get nodes", cluster.name),
        }
    }
}

/// Words that readers of YAML 1.1, kubectl among them, take for a truth value or for nothing.
const NO_NAMES: [&str; 9] = ["y", "yes", "n", "no", "on", "off", "true", "false", "null"];

fn check_name(name: &str) -> Result<()> {
    if NO_NAMES.contains(&name) {
        bail!("--name {name}: a kubeconfig cannot hold this name; choose another");
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Words {
        #[command(flatten)]
        up: Up,
    }

    #[test]
    fn thresholds_are_kept_with_the_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let settle = |hard: Option<&str>| {
            let flag = hard.map(|hard| format!("--eviction-hard={hard}"));
            let words = ["up".to_owned(), "--nodes=1".to_owned()];
            let Words { up } = clap::Parser::try_parse_from(words.into_iter().chain(flag)).unwrap();
            let cluster = up.settle(dir.path())?;
            cluster.save(dir.path())?;
            Ok::<_, anyhow::Error>(cluster.eviction.flags().join(" "))
        };
        assert_eq!(settle(None).unwrap(), "");
        let hard = "memory.available<10Mi";
        let flags = format!("--eviction-hard {hard}");
        assert_eq!(settle(Some(hard)).unwrap(), flags);
        assert_eq!(settle(None).unwrap(), flags);
        let node = dir.path().join("carob-1/server");
        layout::make_private_dir(&node).unwrap();
        let _runs = process::lock(&node).unwrap();
        assert_eq!(settle(Some(hard)).unwrap(), flags);
        let refused = settle(Some("")).unwrap_err().to_string();
        assert!(refused.contains(&flags), "{refused}");
    }

    #[test]
    fn ports_for_ingresses_are_changed_while_a_cluster_is_down() {
        let dir = tempfile::tempdir().unwrap();
        let settle = |http, https| {
            let up = Up {
                nodes: Some(1),
                name: "dev".into(),
                data_dir: None,
                api_port: None,
                kubeconfig: None,
                ingress: IngressArgs { http, https },
                eviction: EvictionArgs::default(),
                foreground: false,
                snapshot_after: None,
            };
            let cluster = up.settle(dir.path())?;
            cluster.save(dir.path())?;
            Ok::<_, anyhow::Error>((cluster.ingress.http, cluster.ingress.https))
        };
        assert_eq!(settle(None, None).unwrap(), (None, None));
        assert_eq!(settle(Some(9000), None).unwrap(), (Some(9000), None));
        assert_eq!(settle(None, Some(9001)).unwrap(), (Some(9000), Some(9001)));
        settle(Some(9001), None).expect_err("one port for both");
        let node = dir.path().join("dev-1");
        for half in ["server", "agent"] {
            let half = node.join(half);
            layout::make_private_dir(&half).unwrap();
            let _runs = process::lock(&half).unwrap();
            let refused = settle(Some(9002), None).unwrap_err().to_string();
            assert!(
                refused.contains("--ingress-http 9000 --ingress-https 9001")
                    && refused.contains("`carob down --name dev`"),
                "{refused}"
            );
            assert_eq!(
                settle(Some(9000), None).unwrap(),
                (Some(9000), Some(9001)),
                "these it has"
            );
        }
        assert_eq!(settle(Some(9002), None).unwrap(), (Some(9002), Some(9001)));
    }

    #[test]
    fn names_fit_into_node_names() {
        for good in ["carob", "dev-2", "a"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(51);
        for bad in ["", "Dev", "-a", "a-", "a_b", "a/b", "on", "n", &long] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
