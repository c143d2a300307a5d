//! Keeps an agent running beside the server, and never two.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use apiserver::ca::{Ca, Profile};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Args, Node, becomes, pki};
use crate::local::layout::{make_private_dir, write_private};
use crate::local::process::{self, Role};
use crate::local::words;

/// An agent that lived this long has worked: the next fault is a first one.
const WORKED: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How to start the agent.
pub(super) struct Plan {
    data_dir: PathBuf,
    name: String,
    advertise: IpAddr,
    ca: Arc<Ca>,
    /// Files may say which pods the node has.
    has_manifests: bool,
    args: Vec<String>,
}

impl Plan {
    pub(super) fn new(args: &Args, node: &Node, membership: &pki::Membership) -> Plan {
        let mut words: Vec<String> = [
            "--node-name",
            &node.name,
            "--advertise",
            &node.advertise.to_string(),
            "--server",
            &node.url(),
        ]
        .map(str::to_owned)
        .into();
        if args.allow_host_files {
            words.push("--allow-host-files".into());
        }
        if let Some(dir) = &args.pod_manifest_path {
            // The agent works elsewhere.
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            words.extend(["--pod-manifest-path".into(), dir.display().to_string()]);
        }
        for dir in &args.shared_dir {
            words.extend(["--shared-dir".into(), dir.display().to_string()]);
        }
        words.extend(args.ingress.flags());
        words.extend(args.eviction.flags());
        if let Some(filter) = &args.log.log {
            words.extend(["--log".into(), filter.clone()]);
        }
        if args.log.log_format == crate::logging::Format::Json {
            words.extend(["--log-format".into(), "json".into()]);
        }
        Plan {
            data_dir: args.data_dir.clone(),
            name: node.name.clone(),
            advertise: node.advertise,
            ca: Arc::clone(&membership.ca),
            has_manifests: args.pod_manifest_path.is_some(),
            args: words,
        }
    }

    fn agent_dir(&self) -> PathBuf {
        self.data_dir.join(Role::Agent.name())
    }

    /// Whether an agent could begin pods although no API answers: those of files, once their addresses are known.
    fn needs_no_api(&self) -> bool {
        self.has_manifests && self.agent_dir().join(agent::POD_RANGE).exists()
    }

    /// Gives the agent its certificate, unless it has one.
    fn certify(&self) -> Result<()> {
        let pki = self.agent_dir().join("pki");
        make_private_dir(&pki)?;
        if pki.join("node.crt").exists() {
            return Ok(());
        }
        let issued = self.ca.issue(&Profile::Node {
            name: self.name.clone(),
            addresses: vec![self.advertise],
        })?;
        write_private(&pki.join("ca.crt"), self.ca.certificate().as_bytes())?;
        write_private(&pki.join("node.key"), issued.key.as_bytes())?;
        write_private(&pki.join("node.crt"), issued.certificate.as_bytes())
    }
}

/// Supervises until `ending`; the pid of the agent that then still runs.
///
/// An agent that is already there, because this server was killed under it, is adopted. One that
/// ended by itself with success was told to end, and stays down until the server starts anew.
pub(super) async fn run(
    plan: Plan,
    mut ready: watch::Receiver<bool>,
    ending: CancellationToken,
) -> Option<i32> {
    // Before the API answers another agent could only wait.
    if !plan.needs_no_api() {
        tokio::select! {
            () = ending.cancelled() => return holder(&plan),
            _ = becomes(&mut ready, true) => {}
        }
    }
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        let clean = match holder(&plan) {
            Some(pid) => {
                tracing::info!(pid, "an agent is there");
                tokio::select! {
                    () = ending.cancelled() => return Some(pid),
                    () = process::end_of(pid) => process::was_told(&plan.agent_dir()),
                }
            }
            None => match start(&plan) {
                Ok(mut child) => {
                    let pid = child.id().and_then(|p| i32::try_from(p).ok());
                    tracing::info!(pid, "the agent starts");
                    tokio::select! {
                        () = ending.cancelled() => return pid,
                        status = child.wait() => status.is_ok_and(|s| s.success()),
                    }
                }
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "the agent cannot be started");
                    false
                }
            },
        };
        if clean {
            tracing::info!("the agent was told to end");
            ending.cancelled().await;
            return holder(&plan);
        }
        pause = if started.elapsed() > WORKED {
            FIRST_PAUSE
        } else {
            (pause * 2).min(LONGEST_PAUSE)
        };
        tracing::warn!(
            last = words::last_words(Role::Agent, &plan.data_dir),
            "the agent ended: it starts again"
        );
        tokio::select! {
            () = ending.cancelled() => return holder(&plan),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn start(plan: &Plan) -> Result<tokio::process::Child> {
    plan.certify()?;
    process::spawn(Role::Agent, &plan.data_dir, &plan.args)
}

fn holder(plan: &Plan) -> Option<i32> {
    process::holder(&plan.agent_dir()).map(|pid| pid.as_raw_nonzero().get())
}
