//! `carob down`: end every process of a cluster, whoever started it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::layout::{self, Cluster};
use super::process::{self, Role};

/// Stop a local cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Down {
    /// The cluster's name
    #[arg(long, default_value = "carob")]
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
        let name = Cluster::load(&dir)
            .ok()
            .flatten()
            .map_or(self.name, |cluster| cluster.name);
        let ended = stop(&dir).await?;
        if self.purge {
            purge(&dir)?;
        }
        match (ended, self.purge) {
            (0, false) => println!("cluster {name} was not running"),
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

/// Ends all processes below `dir`; how many there were.
///
/// Agents go first, while the servers can still take their last reports; an agent that was told
/// to end is not started again by its server. A second signal, once the grace is over, makes an
/// agent drop its pods. What is left after that is killed.
pub(crate) async fn stop(dir: &Path) -> Result<usize> {
    let mut count = 0;
    for role in [Role::Agent, Role::Server] {
        let pids = of_role(dir, role);
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
    let stragglers: Vec<i32> = process::find(dir)
        .into_iter()
        .map(|found| found.pid)
        .collect();
    kill(&stragglers).await;
    if let Some(alive) = process::find(dir).first() {
        bail!("process {} does not end: is it yours to end?", alive.pid);
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

/// Removes the cluster's directory, and nothing that is not a cluster's.
fn purge(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    if Cluster::load(dir)?.is_none() {
        bail!("{} holds no cluster: nothing was removed", dir.display());
    }
    std::fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))
}
