//! A started workload: waiting for its end, asking for it, forcing it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::limits::{Limits, ResizeError, Resources};

/// How a workload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned, or exited by itself with this code.
    Code(i32),
    /// It trapped, or could not be instantiated.
    Trap {
        /// What happened and where, for people: at most 16 KiB.
        backtrace: String,
    },
    /// It wanted more memory than its limit.
    OutOfMemory,
    /// It was told to terminate and does not handle termination.
    Terminated,
    /// It was killed, or did not exit within its grace period.
    Killed,
}

impl Exit {
    /// The exit code that a process ended in this way would have.
    pub fn code(&self) -> i32 {
        match self {
            Self::Code(code) => *code,
            Self::Trap { .. } => 134,
            Self::OutOfMemory | Self::Killed => 137,
            Self::Terminated => 143,
        }
    }
}

/// What a workload, and those [beside](crate::Workload::beside) it, have used and use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time used since its start.
    pub cpu: Duration,
    /// Bytes of linear memory and tables that it has now.
    pub memory: u64,
}

/// The end that was asked for from outside, as both runtimes follow it.
///
/// It only ever gets nearer: running, terminating until a deadline, killed.
#[derive(Debug)]
pub(crate) struct Stop {
    wish: watch::Sender<Wish>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wish {
    Run,
    Terminate { deadline: Instant },
    Kill,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            wish: watch::Sender::new(Wish::Run),
        }
    }
}

impl Stop {
    /// Asks for the end by `now + grace`, or sooner if that was asked for before.
    pub(crate) fn terminate(&self, now: Instant, grace: Duration) {
        // A grace beyond what the clock can tell is as good as a year.
        let year = Duration::from_secs(365 * 24 * 3600);
        let wished = now + grace.min(year);
        self.wish.send_if_modified(|wish| match *wish {
            Wish::Terminate { deadline } if deadline <= wished => false,
            Wish::Kill => false,
            _ => {
                *wish = Wish::Terminate { deadline: wished };
                true
            }
        });
    }

    /// Asks for the end at once.
    pub(crate) fn kill(&self) {
        self.wish.send_replace(Wish::Kill);
    }

    /// Until when the grace period lasts, once termination has begun.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match *self.wish.borrow() {
            Wish::Terminate { deadline } => Some(deadline),
            _ => None,
        }
    }

    /// Waits until termination has begun or the end is due at once.
    pub(crate) async fn begun(&self) {
        let mut wish = self.wish.subscribe();
        // The sender is part of `self`, so that this cannot fail.
        let _ = wish.wait_for(|wish| *wish != Wish::Run).await;
    }

    /// Waits until a guest must be dropped, and says how it ended then.
    pub(crate) async fn due(&self, handles_termination: bool) -> Exit {
        let mut wish = self.wish.subscribe();
        loop {
            let now = *wish.borrow_and_update();
            match now {
                Wish::Kill => return Exit::Killed,
                Wish::Terminate { .. } if !handles_termination => return Exit::Terminated,
                Wish::Terminate { deadline } => tokio::select! {
                    () = tokio::time::sleep_until(deadline) => return Exit::Killed,
                    _ = wish.changed() => {}
                },
                Wish::Run => {
                    let _ = wish.changed().await;
                }
            }
        }
    }
}

/// What the two runtimes implement of a started workload.
pub(crate) trait Control: Send + Sync {
    fn handles_termination(&self) -> bool;
    fn terminate(&self, grace: Duration);
    fn kill(&self);
    /// Other limits hold from now on.
    fn resized(&self);
}

/// What a workload that runs beside another one needs of it. It does not keep the other one alive.
pub(crate) struct Main {
    pub(crate) resources: Resources,
    exit: watch::Receiver<Option<Exit>>,
}

impl Main {
    /// Waits for its end.
    pub(crate) async fn ended(&mut self) {
        // The sender goes without a word only if the runtime itself is torn down.
        let _ = self.exit.wait_for(Option::is_some).await;
    }
}

/// A started workload. Clones are handles to the same one; it is killed when the last is dropped.
#[derive(Clone)]
pub struct Running(Arc<Handle>);

struct Handle {
    exit: watch::Receiver<Option<Exit>>,
    resources: Resources,
    control: Box<dyn Control>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.exit.borrow().is_none() {
            self.control.kill();
        }
    }
}

impl Running {
    pub(crate) fn new(
        exit: watch::Receiver<Option<Exit>>,
        resources: Resources,
        control: Box<dyn Control>,
    ) -> Self {
        Self(Arc::new(Handle {
            exit,
            resources,
            control,
        }))
    }

    pub(crate) fn as_main(&self) -> Main {
        Main {
            resources: self.0.resources.clone(),
            exit: self.0.exit.clone(),
        }
    }

    /// Waits for the end; returns at once when it has ended.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.0.exit.clone();
        // The sender goes without a word only if the runtime itself is torn down.
        match exit.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(exit)) => exit.clone(),
            _ => Exit::Killed,
        }
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.0.exit.borrow().clone()
    }

    /// Whether the module imports `carob:pod/lifecycle` or serves HTTP, and so is given a grace period.
    pub fn handles_termination(&self) -> bool {
        self.0.control.handles_termination()
    }

    /// Begins the end. A module that does not handle termination is dropped at once and exits as
    /// [`Exit::Terminated`]; one that does sees its pollable fire and has `grace` before it is
    /// killed. A server takes no more requests, has `grace` for those in flight, and exits with code 0 once they are
    /// answered. A second call only ever shortens what remains.
    pub fn terminate(&self, grace: Duration) {
        self.0.control.terminate(grace);
    }

    /// Ends it at once, as [`Exit::Killed`].
    pub fn kill(&self) {
        self.0.control.kill();
    }

    /// What it has used and uses, together with those beside it.
    pub fn usage(&self) -> Usage {
        self.0.resources.usage()
    }

    /// Has other limits hold from now on, for those beside it, too. It goes on running.
    ///
    /// # Errors
    /// When more memory is in use than it may have then, or the limits cannot be meant. Nothing has changed then.
    pub fn resize(&self, limits: Limits) -> Result<(), ResizeError> {
        self.0.resources.resize(limits)?;
        self.0.control.resized();
        Ok(())
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Running")
            .field(&*self.0.exit.borrow())
            .finish()
    }
}
