//! The command line's shape: one variant a subcommand, one file a command's work.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde::{Deserialize, Serialize};

use crate::{commands, local, logging, server, version, worker};

/// WebAssembly pods the way Kubernetes runs containers: one binary, no container engine, no root.
#[derive(Debug, Parser)]
#[command(
    name = "carob",
    version,
    max_term_width = 100,
    propagate_version = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a local cluster, or what is missing of it, and return when every node is Ready
    Up(local::up::Up),
    /// Stop a local cluster
    Down(local::down::Down),
    /// Show a local cluster's servers and nodes
    Status(local::status::Status),
    /// Run a control-plane node
    Server(server::Args),
    /// Run a worker node
    Agent(worker::Args),
    /// Manage the tokens with which machines join
    Token(commands::token::Token),
    /// Manage the users that have certificates of their own
    User(commands::user::User),
    /// Run a module as a Job: its output here, its exit code as carob's own
    Run(commands::run::Run),
    /// Push a module into the cluster's registry
    Push(commands::push::Push),
    /// Look at the cluster's registry
    Images(commands::images::Images),
    /// Build and inspect bundles
    Bundle(commands::bundle::Bundle),
    /// Install a bundle, or a directory as one
    Deploy(commands::deploy::Deploy),
    /// List objects
    Get(commands::get::Get),
    /// Show one object in detail
    Describe(commands::describe::Describe),
    /// Create or update objects from manifests
    Apply(commands::apply::Apply),
    /// Delete objects
    Delete(commands::delete::Delete),
    /// Print a container's log
    Logs(commands::logs::Logs),
    /// Run a command in a container
    Exec(commands::exec::Exec),
    /// Forward ports of this machine into a pod
    PortForward(commands::port_forward::PortForward),
    /// Print a completion script
    Completion {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

/// How a server or an agent writes its log.
#[derive(Clone, Debug, Args)]
pub(crate) struct LogArgs {
    /// Lines for people or JSON
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) log_format: logging::Format,
    /// Levels, such as `info,store=debug`
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

/// At which ports of their addresses nodes serve Ingresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub(crate) struct IngressArgs {
    /// Serve Ingresses in the clear here [default: 80, or 8080 where that may not be had]
    #[arg(long = "ingress-http", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) http: Option<u16>,
    /// Serve Ingresses by TLS here [default: 443, or 8443 where that may not be had]
    #[arg(long = "ingress-https", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) https: Option<u16>,
}

impl IngressArgs {
    /// Refuses one port for both: the second to listen there would fail.
    pub(crate) fn check(self) -> Result<()> {
        if let Some(port) = self.http.filter(|_| self.http == self.https) {
            bail!("--ingress-http and --ingress-https are both {port}: choose two ports");
        }
        Ok(())
    }

    /// These, and for what is not said here the others'.
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            http: self.http.or(others.http),
            https: self.https.or(others.https),
        }
    }

    /// The same flags for another process of the node.
    pub(crate) fn flags(self) -> Vec<String> {
        let given = [
            ("--ingress-http", self.http),
            ("--ingress-https", self.https),
        ];
        let given = given
            .into_iter()
            .filter_map(|(flag, port)| Some((flag, port?)));
        given
            .flat_map(|(flag, port)| [flag.to_owned(), port.to_string()])
            .collect()
    }

    pub(crate) fn ports(self) -> api::ingress::Ports {
        api::ingress::Ports {
            http: self.http,
            https: self.https,
        }
    }
}

/// When a node has too little of something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub(crate) struct EvictionArgs {
    /// End pods while less than this is left, as the kubelet does: of memory.available, nodefs.available, nodefs.inodesFree
    /// [default: memory.available<100Mi, and 10% of the disk and 5% of its inodes, but at most 512Mi and 100k]
    #[arg(long, value_name = "SIGNAL<QUANTITY,…", value_parser = EvictionHard::parse)]
    eviction_hard: Option<EvictionHard>,
}

/// Thresholds, as they were written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct EvictionHard {
    text: String,
    thresholds: agent::EvictionHard,
}

impl TryFrom<String> for EvictionHard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<EvictionHard> for String {
    fn from(hard: EvictionHard) -> Self {
        hard.text
    }
}

impl EvictionHard {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self {
            text: text.to_owned(),
            thresholds: text.parse()?,
        })
    }
}

impl EvictionArgs {
    /// These, or the others' where none are said here.
    pub(crate) fn or(&self, others: &Self) -> Self {
        let said = self.eviction_hard.as_ref();
        Self {
            eviction_hard: said.or(others.eviction_hard.as_ref()).cloned(),
        }
    }

    /// The same flags for another process of the node.
    pub(crate) fn flags(&self) -> Vec<String> {
        let given = self.eviction_hard.iter();
        given
            .flat_map(|hard| ["--eviction-hard".to_owned(), hard.text.clone()])
            .collect()
    }

    pub(crate) fn thresholds(&self) -> agent::EvictionHard {
        let given = self.eviction_hard.as_ref();
        given.map(|hard| hard.thresholds).unwrap_or_default()
    }
}

/// `IP:PORT`, or an IP alone with port 0.
pub(crate) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse::<SocketAddr>()
        .or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0)))
        .map_err(|_| format!("{text} is not IP:PORT"))
}

/// A path that does not depend on where the process was started.
pub(crate) fn parse_absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.is_absolute() {
        true => Ok(path),
        false => Err(format!("{text} is not an absolute path")),
    }
}

impl Cli {
    /// Does what was asked.
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Server(args) => return server::main(args),
            Command::Agent(args) => return worker::main(args),
            Command::Completion { shell } => {
                // Into memory first: its writer panics where nobody reads.
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "carob", &mut script);
                print!("{}", String::from_utf8_lossy(&script));
                return Ok(ExitCode::SUCCESS);
            }
            Command::Version => {
                println!("carob {} (Kubernetes API 1.36)", version::VERSION);
                return Ok(ExitCode::SUCCESS);
            }
            _ => {}
        }
        logging::to_stderr();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let outcome = runtime.block_on(self.command.run());
        // A read of standard input cannot be called off: nobody waits for it.
        runtime.shutdown_background();
        outcome
    }
}

impl Command {
    async fn run(self) -> Result<ExitCode> {
        let done = |()| ExitCode::SUCCESS;
        match self {
            Command::Up(c) => c.run().await.map(done),
            Command::Down(c) => c.run().await.map(done),
            Command::Status(c) => c.run().await.map(done),
            Command::Token(c) => c.run().await.map(done),
            Command::User(c) => c.run().await.map(done),
            Command::Run(c) => c.run().await,
            Command::Push(c) => c.run().await.map(done),
            Command::Images(c) => c.run().await.map(done),
            Command::Bundle(c) => c.run().await.map(done),
            Command::Deploy(c) => c.run().await.map(done),
            Command::Get(c) => c.run().await.map(done),
            Command::Describe(c) => c.run().await.map(done),
            Command::Apply(c) => c.run().await.map(done),
            Command::Delete(c) => c.run().await.map(done),
            Command::Logs(c) => c.run().await,
            Command::Exec(c) => c.run().await,
            Command::PortForward(c) => c.run().await.map(done),
            Command::Server(_)
            | Command::Agent(_)
            | Command::Completion { .. }
            | Command::Version => {
                unreachable!("handled before a runtime is made")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ingresses_have_two_ports() {
        for (http, https, fits) in [
            (Some(9000), Some(9001), true),
            (Some(9000), None, true),
            (None, None, true),
            (Some(9000), Some(9000), false),
        ] {
            let ports = IngressArgs { http, https };
            assert_eq!(ports.check().is_ok(), fits, "{ports:?}");
        }
    }
}
