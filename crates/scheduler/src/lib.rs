//! Which node a pod goes to.
//!
//! [`Scheduler::schedule`] decides: by a pod, a [`Snapshot`] of the nodes and what runs on
//! them, the [`Plugins`] and a source of randomness for ties, and nothing else: what it keeps from one decision to
//! the next only spares it work. [`run`] is its driver: it keeps the
//! snapshot up to date by informers, takes pods from the [`Queue`] one after the other, counts a
//! pod on its node as soon as it is decided ("assumed"), and binds concurrently; a pod whose claims
//! have no volumes yet when what is to be written for that is written, and they have them.
//!
//! Every rule is a plugin: a file in `plugins` and a line in its table. A plugin says which nodes
//! a pod may not go to and why, which ones suit it better, and which changes in the cluster may
//! help a pod that it has turned away.

mod decide;
mod driver;
mod host_ports;
mod judged;
mod node;
mod plugins;
mod pod;
mod preempt;
mod queue;
mod rules;
mod snapshot;
mod storage;
mod topology;

pub use api::resources::Resources;
pub use decide::{Decision, Scheduler, Unschedulable};
pub use driver::run;
pub use node::{Node, Taint};
pub use plugins::{
    Filter, MAX_SCORE, OUT, Plugin, Plugins, PreFilter, Rank, Rejection, Scale, Scan, Score,
};
pub use pod::Pod;
pub use preempt::{Budget, Preemption};
pub use queue::{Failure, Queue};
pub use snapshot::{Event, NodeState, Snapshot};
pub use storage::{Step, Storage};
