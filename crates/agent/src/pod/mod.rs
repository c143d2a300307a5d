//! The life of one pod on this node, decided without touching the world.
//!
//! [`sync`] says what to do next, [`Observed`] is what has been seen so far, and [`status`] words it as Kubernetes does.
//! None of them reads a clock, sleeps or does I/O: the driver in `crate::driver` performs the actions and reports back
//! with an [`Observation`].

mod action;
mod backoff;
mod conditions;
mod container;
mod ending;
mod hooks;
mod observation;
mod observed;
mod order;
mod phase;
mod probe;
mod problem;
mod qos;
mod renewal;
mod resize;
mod restart;
mod sandbox;
mod spec;
mod status;
mod support;
mod sync;
mod verdict;

pub use action::{Action, EventKind};
pub use backoff::{Backoff, go_duration};
pub(crate) use conditions::PASSING;
pub use container::{Cause, Container, Ended, Image, Live, Stage, Stopping};
pub(crate) use ending::LEAST_GRACE;
pub use hooks::{HookKind, PostStart};
pub use observation::Observation;
pub use observed::{Deletion, Observed};
pub use phase::phase;
pub use probe::{Found, Heard, ProbeKind, Probes, Terms};
pub use problem::{Problem, Step};
pub(crate) use qos::qos_class;
pub use renewal::Renewal;
pub use resize::{Change, Failure, Pending, Resize, Resources, Why, summary, wanted};
pub use sandbox::Sandbox;
pub use spec::{PodView, Role, container_id};
pub use status::{message_share, status};
pub use support::{Host, refusal, verify_non_root};
pub use sync::sync;
pub use verdict::Verdict;
