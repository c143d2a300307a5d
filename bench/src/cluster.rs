//! A local cluster under measurement.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::Client;
use client::kubeconfig::Sources;
use serde_json::Value;

/// The name of every cluster that is made here; its directory tells it from others.
const NAME: &str = "bench";

/// A local cluster in a directory of its own, ended and removed when dropped.
#[derive(Debug)]
pub struct Cluster {
    carob: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
    nodes: u8,
}

/// Which of a node's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The server.
    Server,
    /// The agent.
    Agent,
}

/// A process of a cluster.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The name of its node.
    pub node: String,
    /// What it is.
    pub part: Part,
    /// Whether it is the server that leads.
    pub leads: bool,
}

impl Cluster {
    /// Starts a fresh cluster; it and how long `carob up` took, which returns when every node is
    /// Ready.
    pub fn start(nodes: u8) -> Result<(Cluster, Duration)> {
        // The default provider is process-wide: a second one is refused, and the first stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster {
            carob: carob()?,
            dir: tempfile::tempdir().context("no directory for a cluster")?,
            port: free_port()?,
            nodes,
        };
        let took = cluster.up()?;
        Ok((cluster, took))
    }

    /// Runs `carob up`, which starts what is missing; how long it took.
    pub fn up(&self) -> Result<Duration> {
        let mut command = self.local("up");
        command.arg("--kubeconfig").arg(self.kubeconfig()).args([
            "--api-port",
            &self.port.to_string(),
            "--nodes",
            &self.nodes.to_string(),
        ]);
        let began = Instant::now();
        succeed(&mut command)?;
        Ok(began.elapsed())
    }

    /// The kubeconfig of its administrator, which names the shared address.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// A place for a file.
    #[must_use]
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory of the pods that a node's agent keeps.
    #[must_use]
    pub fn pods_dir(&self, node: &str) -> PathBuf {
        let cluster = self.dir.path().join("cluster");
        cluster.join(node).join("agent/pods")
    }

    /// A client of its own connections to the shared address.
    pub fn client(&self) -> Result<Client> {
        let sources = Sources {
            explicit: Some(self.kubeconfig()),
            ..Sources::default()
        };
        Ok(sources.load(None)?.client("carob-bench")?)
    }

    /// A carob command on this cluster.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.carob);
        command.args(args).env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Runs a carob command on this cluster, which must succeed.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        succeed(&mut self.command(args))
    }

    /// Its live processes.
    pub fn processes(&self) -> Result<Vec<Process>> {
        let output = succeed(self.local("status").args(["-o", "json"]))?;
        let status: Value =
            serde_json::from_slice(&output.stdout).context("carob status printed no JSON")?;
        let mut processes = Vec::new();
        for (key, part) in [("servers", Part::Server), ("nodes", Part::Agent)] {
            let listed = status[key].as_array();
            let listed = listed.with_context(|| format!("carob status tells of no {key}"))?;
            processes.extend(listed.iter().filter_map(|one| process(one, part)));
        }
        Ok(processes)
    }

    /// The same, which must be all there are to be: a server and an agent for each node.
    pub fn all_processes(&self) -> Result<Vec<Process>> {
        let processes = self.processes()?;
        let wanted = 2 * usize::from(self.nodes);
        if processes.len() != wanted {
            bail!("{} of {wanted} processes live", processes.len());
        }
        Ok(processes)
    }

    /// The server that leads.
    pub fn leader(&self) -> Result<Process> {
        let mut processes = self.processes()?.into_iter();
        processes
            .find(|process| process.leads)
            .context("no server leads")
    }

    fn local(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.carob);
        command.args([subcommand, "--name", NAME, "--data-dir"]);
        command.arg(self.dir.path().join("cluster"));
        command
    }
}

impl Process {
    /// Kills it as `kill -9` does.
    pub fn kill(&self) -> Result<()> {
        let pid = i32::try_from(self.pid).ok();
        let pid = pid.and_then(rustix::process::Pid::from_raw);
        let pid = pid.with_context(|| format!("{} is no process", self.pid))?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)
            .with_context(|| format!("cannot kill {}", self.pid))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = succeed(self.local("down").arg("--purge")) {
            eprintln!("the cluster could not be taken down: {error:#}");
        }
    }
}

/// A live process out of what `carob status` tells.
fn process(told: &Value, part: Part) -> Option<Process> {
    Some(Process {
        pid: told["pid"].as_u64()?.try_into().ok()?,
        node: told["name"].as_str()?.to_owned(),
        part,
        leads: told["leader"] == true,
    })
}

/// The binary that is measured.
fn carob() -> Result<PathBuf> {
    let given = std::env::var_os("CAROB").map(PathBuf::from);
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/carob");
    let path = given.unwrap_or_else(built);
    std::path::absolute(&path)
        .ok()
        .filter(|path| path.is_file())
        .with_context(|| {
            format!(
                "{} is no file: build it by `cargo build --release --package carob`, or name another in CAROB",
                path.display()
            )
        })
}

/// A port of the loopback address that nobody uses now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// Runs a command, which must succeed.
fn succeed(command: &mut Command) -> Result<Output> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output)
}
