//! Who is attached to a container's own terminal.

use std::time::Duration;

use client::node::{ExecTarget, NOT_RUNNING};
use network::pipe::Reader;
use runtime::{Running, Sink};

use super::Driver;
use super::log::{Refusal, container_of};
use super::stdin::Attached;
use crate::exec::Streams;
use crate::exec::keyboard::Keyboard;
use crate::exec::screen::{Screen, Shown};
use crate::pod::PodView as _;

/// The exit code of a guest that is interrupted at its terminal.
pub(super) const INTERRUPTED: i32 = 130;

/// How much of what was typed is read at once.
const KEYS: usize = 4 << 10;

/// One that looks at a container's terminal, and may type there.
pub(crate) struct Viewer {
    pub(crate) screen: Screen,
    /// Where the container takes input, and the caller has some.
    attached: Option<Attached>,
    /// Where the caller looks at it.
    shown: Option<Shown>,
    running: Running,
    /// How long the guest has to end when it is interrupted.
    grace: Duration,
}

impl Driver {
    /// The terminal that a request means.
    ///
    /// # Errors
    /// When there is no such container, it does not run, or has no terminal, or takes no input where there is some.
    pub(crate) fn terminal(&self, target: &ExecTarget) -> Result<Viewer, Refusal> {
        let ExecTarget {
            namespace,
            pod: name,
            uid,
            container,
            ..
        } = target;
        let cell = self.find(namespace, name, uid)?;
        let state = cell.state.lock();
        let spec = container_of(&state.pod, name, container)?;
        let not = |why: &str| {
            Refusal::NotYet(format!("container \"{container}\" in pod \"{name}\" {why}"))
        };
        if spec.tty != Some(true) {
            return Err(not("has no terminal: its spec does not say `tty: true`"));
        }
        if target.stdin && spec.stdin != Some(true) {
            return Err(not(
                "takes no standard input: its spec does not say `stdin: true`",
            ));
        }
        let instance = state.running.get(container);
        let instance = instance.filter(|instance| instance.running.exit().is_none());
        let shown = instance.zip(state.screens.get(container));
        let (instance, screen) = shown.ok_or_else(|| not(NOT_RUNNING))?;
        let input = state.inputs.get(container).filter(|_| target.stdin);
        Ok(Viewer {
            screen: screen.clone(),
            attached: input.map(|input| Attached::to(input, &instance.running)),
            shown: None,
            running: instance.running.clone(),
            grace: Duration::try_from(state.pod.grace()).unwrap_or_default(),
        })
    }
}

impl Viewer {
    /// Shows what comes from now on to a caller who looks at it.
    pub(crate) fn look(mut self, stdout: Option<Sink>) -> Self {
        self.shown = stdout.map(|stdout| self.screen.show_to(stdout));
        self
    }

    /// Shows and types until the guest has ended, and answers the exit code of an attachment: 0.
    pub(crate) async fn run(self, streams: Streams) -> i32 {
        let Self {
            screen,
            attached,
            shown: _until_the_end,
            running,
            grace,
        } = self;
        let stdin = streams.stdin;
        let typing = async {
            if let Some((keys, attached)) = stdin.zip(attached) {
                typed(&screen, keys, &attached, || {
                    screen.interrupt();
                    running.terminate(grace);
                })
                .await;
            }
        };
        tokio::select! {
            () = screen.ended() => {}
            () = typing => screen.ended().await,
        }
        0
    }
}

/// Passes on what is typed, until nothing more comes.
async fn typed(screen: &Screen, keys: Reader, attached: &Attached, interrupt: impl Fn()) {
    let mut keyboard = Keyboard::new(Sink::new(screen.clone()));
    while let Ok(Some(bytes)) = keys.read(KEYS).await {
        if keyboard.take(&bytes, Some(attached.writer())).await {
            interrupt();
        }
    }
}
