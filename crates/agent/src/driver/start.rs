//! Starting a container, and what follows from its end.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};
use runtime::{Exit, Output, Running, Served, Workload};

use super::Driver;
use super::cell::{Cell, Instance};
use super::terminal::INTERRUPTED;
use super::{message, names, root, stdin};
use crate::blocking::blocking;
use crate::env::{self, Facts, Objects};
use crate::exec::screen::Screen;
use crate::exec::{Given, Terminal};
use crate::image::Ready;
use crate::logs::Log;
use crate::pod::{EventKind, Observation, PodView as _};
use crate::{resources, service_links};

/// Why a container was not started: Kubernetes' reason, and words.
struct Refused(&'static str, String);

impl Refused {
    fn config(why: impl ToString) -> Self {
        Self("CreateContainerConfigError", why.to_string())
    }

    fn create(why: impl ToString) -> Self {
        Self("CreateContainerError", why.to_string())
    }
}

impl Driver {
    /// Starts an instance, and waits for its end in a task of its own.
    pub(super) async fn start(&self, cell: &Arc<Cell>, container: String, attempt: u32) {
        let pod = cell.state.lock().allocated_pod();
        let Some(mut spec) = pod.container(&container).cloned() else {
            return;
        };
        let given = {
            let state = cell.state.lock();
            let c = state.observed.get(&container);
            c.and_then(|c| c.resources.clone())
        };
        if let Some(resources) = given {
            spec.resources = Some(resources);
        }
        let span = tracing::info_span!("start_container", pod = %cell.key, uid = %cell.uid, container, attempt);
        let began = tokio::time::Instant::now();
        match self.try_start(cell, &pod, spec, attempt, &span).await {
            Ok((spec, ready, instance)) => {
                let took = began.elapsed();
                span.in_scope(|| {
                    tracing::info!(took_us = took.as_micros() as u64, "container started")
                });
                self.0.tools.counters.started(took);
                self.event(
                    cell,
                    Some(&container),
                    EventKind::Normal,
                    "Created",
                    format!("Created container: {container}"),
                );
                self.event(
                    cell,
                    Some(&container),
                    EventKind::Normal,
                    "Started",
                    format!("Started container {container}"),
                );
                cell.state
                    .lock()
                    .running
                    .insert(container.clone(), instance.clone());
                let started = Observation::Started {
                    container,
                    image: ready.image,
                    image_id: ready.id,
                };
                self.learned(cell, started).await;
                let (this, cell) = (self.clone(), cell.clone());
                tokio::spawn(async move {
                    this.await_end(&cell, spec, attempt, instance.running, span)
                        .await
                });
            }
            Err(Refused(reason, message)) => {
                span.in_scope(|| tracing::warn!(reason, message, "container not started"));
                self.event(
                    cell,
                    Some(&container),
                    EventKind::Warning,
                    "Failed",
                    format!("Error: {message}"),
                );
                self.learned(
                    cell,
                    Observation::StartFailed(container, reason.to_owned(), message),
                )
                .await;
            }
        }
    }

    /// The instance, and the container as it was started: with paths that its environment says, and from an image that its
    /// spec may not name any more.
    async fn try_start(
        &self,
        cell: &Arc<Cell>,
        pod: &Arc<Pod>,
        spec: Container,
        attempt: u32,
        span: &tracing::Span,
    ) -> Result<(Container, Ready, Instance), Refused> {
        let (ready, volumes, net) = {
            let state = cell.state.lock();
            (
                state.modules.get(&spec.name).cloned(),
                state.volumes.clone(),
                state.net.clone(),
            )
        };
        let ready = ready.ok_or_else(|| Refused::create("the module is not there"))?;
        let ip = net.as_ref().map(|n| n.address().into());
        let tools = &self.0.tools;
        let objects = Objects::read(&tools.client, pod, &spec)
            .await
            .map_err(Refused::config)?;
        let facts = Facts {
            pod_ip: ip,
            host_ips: tools.host.ips.clone(),
            service_links: service_links::variables(pod, &tools.services.view()),
            node: tools.machine,
        };
        let mut env = env::environment(pod, &spec, &objects, &facts).map_err(Refused::config)?;
        let terminal = (spec.tty == Some(true)).then(|| {
            let state = cell.state.lock();
            let before = state.screens.get(&spec.name);
            before.map(Screen::terminal).unwrap_or_default()
        });
        if let Some(terminal) = terminal {
            terminal.suggest(&mut env);
        }
        let spec = env::with_sub_paths(spec, &env).map_err(Refused::config)?;
        let (root_dir, log_dir, clock) = (
            self.root_dir(cell, &spec, attempt),
            cell.log_dir(&spec.name),
            tools.clock,
        );
        let (of_pod, of_spec) = (pod.clone(), spec.clone());
        let meter = cell.meter.clone();
        let own = [Some(cell.dir.clone()), self.memory_dir(&cell.uid)];
        let made = blocking(move || {
            let mounts = match root::make(&root_dir, &of_pod, &of_spec, &volumes, ip) {
                Ok(mounts) => root::staying(mounts, &own),
                Err(why) => return Ok(Err(why)),
            };
            Ok(Ok((mounts, Log::create(&log_dir, attempt, clock, meter)?)))
        });
        let made = made.await.map_err(Refused::create)?;
        let (mounts, log) = made.map_err(Refused::config)?;
        let (screen, stdout, stderr) = outputs(&log, terminal);
        let (stdin, input) = stdin::open(&spec);
        {
            let mut state = cell.state.lock();
            state.logs.insert(spec.name.clone(), (attempt, log.clone()));
            match input {
                Some(input) => state.inputs.insert(spec.name.clone(), input),
                None => state.inputs.remove(&spec.name),
            };
            match screen {
                Some(screen) => state.screens.insert(spec.name.clone(), screen),
                None => state.screens.remove(&spec.name),
            };
        }
        let given = Given {
            argv: env::argv(&spec, &ready.name, &env),
            module: ready.module.clone(),
            env,
            working_dir: spec
                .working_dir
                .clone()
                .filter(|d| !d.is_empty())
                .unwrap_or_else(|| "/".to_owned()),
            mounts,
            meter: cell.meter.clone(),
            names: Arc::new(names::search(pod, ip)),
            net,
            started: tools.clock.now(),
        };
        let workload = Workload {
            stdin,
            stdout,
            stderr,
            terminal: terminal.is_some(),
            limits: resources::limits(spec.resources.as_ref(), &tools.machine),
            beside: None,
            serve: served(&spec),
            span: span.clone(),
            ..given.workload()
        };
        let runtime = tools.runtime.clone();
        // It opens the mounts, on whatever disks they are.
        let started = blocking(move || match runtime.start(workload) {
            Ok(running) => Ok(Ok(running)),
            Err(error) => log.remove_empty().map(|()| Err(error)),
        });
        let refused = |why: String| Refused("RunContainerError", why);
        let started = started.await.map_err(|e| refused(e.to_string()))?;
        match started {
            Ok(running) => {
                let instance = Instance {
                    running,
                    given: Arc::new(given),
                    files: self.0.files.of_instance(),
                };
                Ok((spec, ready, instance))
            }
            Err(error) => {
                let mut state = cell.state.lock();
                state.logs.remove(&spec.name);
                state.screens.remove(&spec.name);
                Err(refused(error.to_string()))
            }
        }
    }

    async fn await_end(
        &self,
        cell: &Arc<Cell>,
        spec: Container,
        attempt: u32,
        running: Running,
        span: tracing::Span,
    ) {
        let exit = running.wait().await;
        drop(running);
        let screen = cell.state.lock().screens.get(&spec.name).cloned();
        let code = match &screen {
            Some(screen) if screen.is_interrupted() && exit == Exit::Terminated => INTERRUPTED,
            _ => exit.code(),
        };
        span.in_scope(|| tracing::info!(code, "container ended"));
        let (root_dir, log_dir) = (
            self.root_dir(cell, &spec, attempt),
            cell.log_dir(&spec.name),
        );
        let (of_spec, of_exit) = (spec.clone(), exit.clone());
        let (volumes, given) = {
            let state = cell.state.lock();
            let instance = state.running.get(&spec.name);
            let given = instance.map(|instance| Arc::clone(&instance.given));
            (state.volumes.clone(), given)
        };
        let message = blocking(move || {
            if let Some(screen) = screen {
                screen.end();
            }
            let mounts = given.as_ref().map_or(&[][..], |given| &given.mounts);
            let left = message::left(&root_dir, &of_spec, &volumes, mounts);
            Ok(message::of_end(left, &of_spec, &of_exit, || {
                message::from_log(&log_dir, attempt)
            }))
        })
        .await;
        {
            let mut state = cell.state.lock();
            state.running.remove(&spec.name);
            state.modules.remove(&spec.name);
            state.logs.remove(&spec.name);
            state.inputs.remove(&spec.name);
        }
        self.0.tools.counters.ended();
        let ended = Observation::Ended {
            container: spec.name,
            exit_code: code,
            reason: reason(&exit).to_owned(),
            message: message.ok().flatten(),
        };
        self.learned(cell, ended).await;
    }

    fn root_dir(&self, cell: &Cell, spec: &Container, attempt: u32) -> PathBuf {
        cell.instance_dir(&spec.name, attempt).join("root")
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

fn reason(exit: &Exit) -> &'static str {
    match exit {
        Exit::Code(0) => "Completed",
        Exit::OutOfMemory => "OOMKilled",
        Exit::Code(_) | Exit::Trap { .. } | Exit::Terminated | Exit::Killed => "Error",
    }
}
