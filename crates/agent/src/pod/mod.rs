//! The life of one pod on this node, decided without touching the world.
//!
//! [`sync`] says what to do next, [`Observed`] is what has been seen so far, and [`status`] words it as Kubernetes does.
//! None of them reads a clock, sleeps or does I/O: the driver in `crate::driver` performs the actions and reports back
//! with an [`Observation`].

mod backoff;
mod conditions;
mod container;
mod observed;
mod phase;
mod probe;
mod problem;
mod qos;
mod renewal;
mod spec;
mod status;
mod support;
mod sync;

pub use backoff::{Backoff, go_duration};
pub use container::{Container, Ended, Image, Live};
pub use observed::{Deletion, Observation, Observed, Sandbox, Verdict};
pub use phase::phase;
pub use probe::{Found, Heard, ProbeKind, Probes, Terms};
pub use problem::{Problem, Step};
pub use renewal::Renewal;
pub use spec::{PodView, container_id};
pub use status::status;
pub use support::{Host, refusal};
pub use sync::{Action, EventKind, sync};
