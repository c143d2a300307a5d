//! One start of a container, as far as it may wait for a disk: its root, its log, and the instance itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};
use network::PodNet;
use runtime::{Limits, Meter, Module, Output, Running, Runtime, Served, Workload};

use super::stdin::Input;
use super::{names, root, stdin};
use crate::clock::Clock;
use crate::exec::screen::Screen;
use crate::exec::{Given, Terminal};
use crate::logs::Log;
use crate::volumes::Made;

/// Why a container was not started: Kubernetes' reason, and words.
pub(super) struct Refused(pub(super) &'static str, pub(super) String);

impl Refused {
    pub(super) fn config(why: impl ToString) -> Self {
        Self("CreateContainerConfigError", why.to_string())
    }

    pub(super) fn create(why: impl ToString) -> Self {
        Self("CreateContainerError", why.to_string())
    }
}

/// All that is settled before.
pub(super) struct Launch {
    /// Of the instance; it must not exist.
    pub(super) root_dir: PathBuf,
    /// Of all the container's instances.
    pub(super) log_dir: PathBuf,
    /// What of the node's files is the pod's alone: on the disk, and in memory.
    pub(super) own: [Option<PathBuf>; 2],
    pub(super) attempt: u32,
    pub(super) pod: Arc<Pod>,
    pub(super) container: Container,
    pub(super) module: Module,
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) limits: Limits,
    pub(super) volumes: BTreeMap<String, Made>,
    pub(super) net: Option<PodNet>,
    pub(super) terminal: Option<Terminal>,
    pub(super) meter: Arc<Meter>,
    pub(super) clock: Clock,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) span: tracing::Span,
}

/// What came of it.
pub(super) struct Launched {
    pub(super) running: Running,
    pub(super) given: Given,
    pub(super) log: Arc<Log>,
    pub(super) input: Option<Input>,
    pub(super) screen: Option<Screen>,
}

impl Launch {
    /// Makes the container's files, and starts it. It may wait for disks, whosever they are.
    pub(super) fn perform(self) -> Result<Launched, Refused> {
        let (pod, container) = (&self.pod, &self.container);
        let ip = self.net.as_ref().map(|net| net.address().into());
        let memory = self.own[1].as_deref();
        let mounts = root::make(&self.root_dir, memory, pod, container, &self.volumes, ip);
        let mounts = root::staying(mounts.map_err(Refused::config)?, &self.own);
        let log = Log::create(&self.log_dir, self.attempt, self.clock, self.meter.clone());
        let log = log.map_err(Refused::create)?;
        let (screen, stdout, stderr) = outputs(&log, self.terminal);
        let (stdin, input) = stdin::open(container);
        let working_dir = container.working_dir.clone().filter(|dir| !dir.is_empty());
        let serve = served(container);
        let given = Given {
            module: self.module,
            argv: self.argv,
            env: self.env,
            mounts,
            working_dir: working_dir.unwrap_or_else(|| "/".to_owned()),
            meter: self.meter,
            net: self.net,
            names: Arc::new(names::search(pod, ip)),
            started: self.clock.now(),
        };
        let workload = Workload {
            stdin,
            stdout,
            stderr,
            terminal: self.terminal.is_some(),
            limits: self.limits,
            beside: None,
            serve,
            span: self.span,
            ..given.workload()
        };
        let refused = |why: String| Refused("RunContainerError", why);
        match self.runtime.start(workload) {
            Ok(running) => Ok(Launched {
                running,
                given,
                log,
                input,
                screen,
            }),
            Err(error) => {
                log.remove_empty().map_err(|e| refused(e.to_string()))?;
                Err(refused(error.to_string()))
            }
        }
    }
}

/// What shows what a container prints, where it has a terminal, and what it prints to.
fn outputs(
    log: &Arc<Log>,
    terminal: Option<Terminal>,
) -> (Option<Screen>, Box<dyn Output>, Box<dyn Output>) {
    let (stdout, stderr) = log.writers();
    let Some(terminal) = terminal else {
        return (None, Box::new(stdout), Box::new(stderr));
    };
    // Both are one, as at any terminal.
    let screen = Screen::new(stdout, terminal);
    let printed = || screen.printed();
    let (stdout, stderr) = (printed(), printed());
    (Some(screen), stdout, stderr)
}

/// Where the runtime listens for a module that leaves listening to it: the container's TCP ports.
fn served(spec: &Container) -> Vec<Served> {
    let ports = spec.ports.iter().flatten();
    let tcp = ports.filter(|port| port.protocol.as_deref().is_none_or(|name| name == "TCP"));
    let served = |port: &ContainerPort| {
        Some(Served {
            number: u16::try_from(port.container_port).ok()?,
            name: port.name.clone(),
        })
    };
    tcp.filter_map(served).collect()
}
