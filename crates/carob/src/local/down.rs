//! `carob down`: end every process of a cluster, whoever started it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::kubeconfig::{self, Sources};
use rustix::process::Signal;

use super::layout::{self, Cluster};
use super::process::{self, Role};

/// Stop a local cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Down {
    /// The cluster's name
    #[arg(long, default_value = layout::DEFAULT_NAME)]
    name: String,
    /// Its directory; else ~/.carob/NAME
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Remove its data too
    #[arg(long)]
    purge: bool,
}

/// How long pods may take to end before they are dropped.
const GRACE: Duration = Duration::from_secs(2);
/// What an agent needs on top for its last writes, and a server to hand over and close its files.
const CLOSING: Duration = Duration::from_secs(3);

impl Down {
    pub(crate) async fn run(self) -> Result<()> {
        let dir = layout::cluster_dir(&self.name, self.data_dir.as_deref())?;
        let cluster = Cluster::load(&dir).ok().flatten();
        // An `up` that is at work would start again what ends here.
        let was_there = dir.is_dir();
        let _alone = match was_there && (cluster.is_some() || dir.join(layout::UP_LOCK).exists()) {
            true => Some(layout::one_at_a_time(&dir).await?),
            false => None,
        };
        let ended = stop(&dir, &Role::ALL).await?;
        if self.purge {
            purge(&dir, cluster.as_ref()).await?;
        }
        let name = cluster.map_or(self.name, |cluster| cluster.name);
        match (ended, self.purge) {
            (0, false) if !was_there => bail!("there is no cluster {name}"),
            (0, false) => println!("cluster {name} was not running"),
            (0, true) if !was_there => println!("there is no cluster {name}"),
            (0, true) => println!("removed {}", dir.display()),
            (n, purged) => println!(
                "stopped {n} process{} of cluster {name}{}",
                if n == 1 { "" } else { "es" },
                if purged { " and removed its data" } else { "" }
            ),
        }
        Ok(())
    }
}

/// Ends the processes of these roles below `dir`; how many there were.
///
/// Agents go first, while the servers can still take their last reports; an agent that was told
/// to end is not started again by its server. A second signal, once the grace is over, makes an
/// agent drop its pods. What is left after that is killed.
pub(crate) async fn stop(dir: &Path, roles: &[Role]) -> Result<usize> {
    let mut count = 0;
    for role in roles {
        let pids = of_role(dir, *role);
        count += pids.len();
        for pid in &pids {
            process::signal(*pid, Signal::TERM);
        }
        let mut left = process::wait_for_end(&pids, GRACE).await;
        for pid in &left {
            process::signal(*pid, Signal::TERM);
        }
        left = process::wait_for_end(&left, CLOSING).await;
        kill(&left).await;
    }
    // A server may have started an agent in the very moment in which it was told to end.
    let left = || {
        roles
            .iter()
            .flat_map(|role| of_role(dir, *role))
            .collect::<Vec<_>>()
    };
    kill(&left()).await;
    if let Some(alive) = left().first() {
        bail!("process {alive} does not end: is it yours to end?");
    }
    Ok(count)
}

async fn kill(pids: &[i32]) {
    for pid in pids {
        process::signal(*pid, Signal::KILL);
    }
    process::wait_for_end(pids, CLOSING).await;
}

fn of_role(dir: &Path, role: Role) -> Vec<i32> {
    process::find(dir)
        .into_iter()
        .filter(|f| f.role == role)
        .map(|f| f.pid)
        .collect()
}

/// Removes the cluster's directory, and nothing that is not a cluster's; its context too.
async fn purge(dir: &Path, cluster: Option<&Cluster>) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let Some(cluster) = cluster else {
        Cluster::load(dir)?;
        // What an `up` leaves that failed before it began.
        let _ = std::fs::remove_file(dir.join(layout::UP_LOCK));
        if std::fs::remove_dir(dir).is_ok() {
            return Ok(());
        }
        bail!("{} holds no cluster: nothing was removed", dir.display());
    };
    for node in cluster.nodes(dir) {
        for held in [node.server(), node.agent()] {
            if let Some(pid) = process::holder(&held) {
                let pid = pid.as_raw_nonzero();
                bail!(
                    "process {pid} still uses {}: nothing was removed",
                    held.display()
                );
            }
        }
    }
    forget_context(dir, &cluster.name).await?;
    for node in cluster.nodes(dir) {
        let agent = node.agent();
        agent::forget_memory(&agent)
            .with_context(|| format!("cannot remove what pods of {} have in memory", node.name))?;
    }
    std::fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))
}

/// Takes the cluster's context out of the user's kubeconfig, unless it is another cluster's of the
/// same name.
async fn forget_context(dir: &Path, name: &str) -> Result<()> {
    let users = Sources::from_environment(None);
    let own = Sources::from_environment(Some(dir.join("kubeconfig"))).load(Some(name));
    let (Ok(own), Ok(seen)) = (own, users.load(Some(name))) else {
        return Ok(());
    };
    match users.merge_target() {
        Some(file) if own.ca_pem == seen.ca_pem => Ok(kubeconfig::remove(&file, name).await?),
        _ => Ok(()),
    }
}
