//! The controllers: what turns the objects that users write into the objects that make it so.
//!
//! Each is a pure function `reconcile(key, view, now) -> Plan` in a file of its own. It is told
//! *that* something may have changed, never *what*: it looks at the whole and returns what is
//! missing. [`run`] is the driver that all of them share; it runs a key again only when its view
//! shows that key's last writes, so that no reconciler ever acts twice on one cause.

mod cluster_role;
mod controller;
mod deployment;
mod driver;
mod endpoint_slice;
mod endpoints;
mod ephemeral_volume;
mod feed;
mod garbage;
mod indexes;
mod ingress_status;
mod job;
mod local_path;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod owner;
mod plan;
mod pod_garbage;
mod pods;
mod replica_set;
mod service_status;
#[cfg(test)]
mod simulation;
mod storage_protection;
mod view;
mod volume_binding;
mod writer;

pub use driver::run;
pub use plan::{Notice, Plan, Target, Write};
pub use view::{Table, View};
