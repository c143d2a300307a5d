//! Starting a container, and what follows from its end.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use runtime::{Exit, Running};

use super::Driver;
use super::cell::{Cell, Instance};
use super::launch::{Launch, Refused};
use super::message;
use super::terminal::INTERRUPTED;
use crate::blocking::blocking;
use crate::env::{self, Facts, Objects};
use crate::exec::screen::Screen;
use crate::image::Ready;
use crate::pod::{EventKind, Observation, PodView as _, message_share, verify_non_root};
use crate::{resources, service_links};

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
        let (launch, ready) = self.launch(cell, pod, spec, attempt, span).await?;
        let container = launch.container.clone();
        // In one go: each way to another thread costs more than what is done there.
        let launched = tokio::task::spawn_blocking(|| launch.perform()).await;
        let launched = launched.map_err(Refused::create)??;
        let name = container.name.clone();
        let mut state = cell.state.lock();
        state.logs.insert(name.clone(), (attempt, launched.log));
        match launched.input {
            Some(input) => state.inputs.insert(name.clone(), input),
            None => state.inputs.remove(&name),
        };
        match launched.screen {
            Some(screen) => state.screens.insert(name, screen),
            None => state.screens.remove(&name),
        };
        drop(state);
        let instance = Instance {
            running: launched.running,
            given: Arc::new(launched.given),
            files: self.0.files.of_instance(),
        };
        Ok((container, ready, instance))
    }

    /// What a start needs, and the image that it is of.
    async fn launch(
        &self,
        cell: &Arc<Cell>,
        pod: &Arc<Pod>,
        spec: Container,
        attempt: u32,
        span: &tracing::Span,
    ) -> Result<(Launch, Ready), Refused> {
        let (ready, volumes, net, before) = {
            let state = cell.state.lock();
            (
                state.modules.get(&spec.name).cloned(),
                state.volumes.clone(),
                state.net.clone(),
                state.screens.get(&spec.name).map(Screen::terminal),
            )
        };
        let ready = ready.ok_or_else(|| Refused::create("the module is not there"))?;
        verify_non_root(pod, &spec).map_err(Refused::config)?;
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
        let terminal = (spec.tty == Some(true)).then(|| before.unwrap_or_default());
        if let Some(terminal) = terminal {
            terminal.suggest(&mut env);
        }
        let container = env::with_sub_paths(spec, &env).map_err(Refused::config)?;
        let launch = Launch {
            root_dir: self.root_dir(cell, &container, attempt),
            log_dir: cell.log_dir(&container.name),
            own: [Some(cell.dir.clone()), self.memory_dir(&cell.uid)],
            attempt,
            pod: pod.clone(),
            module: ready.module.clone(),
            argv: env::argv(&container, &ready.name, &env),
            env,
            limits: resources::limits(container.resources.as_ref(), &tools.machine),
            container,
            volumes,
            net,
            terminal,
            meter: cell.meter.clone(),
            clock: tools.clock,
            runtime: tools.runtime.clone(),
            span: span.clone(),
        };
        Ok((launch, ready))
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
        let (volumes, given, share) = {
            let state = cell.state.lock();
            let instance = state.running.get(&spec.name);
            let given = instance.map(|instance| Arc::clone(&instance.given));
            let share = message_share(&state.pod);
            (state.volumes.clone(), given, share)
        };
        let message = blocking(move || {
            if let Some(screen) = screen {
                screen.end();
            }
            let mounts = given.as_ref().map_or(&[][..], |given| &given.mounts);
            let left = message::left(&root_dir, &of_spec, &volumes, mounts);
            Ok(message::of_end(left, &of_spec, &of_exit, share, || {
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

fn reason(exit: &Exit) -> &'static str {
    match exit {
        Exit::Code(0) => "Completed",
        Exit::OutOfMemory => "OOMKilled",
        Exit::Code(_) | Exit::Trap { .. } | Exit::Terminated | Exit::Killed => "Error",
    }
}
