//! The commands that talk to a cluster, a file each.

pub(crate) mod apply;
pub(crate) mod bundle;
pub(crate) mod delete;
pub(crate) mod deploy;
pub(crate) mod describe;
pub(crate) mod exec;
pub(crate) mod get;
pub(crate) mod images;
pub(crate) mod logs;
mod names;
mod pods;
pub(crate) mod port_forward;
pub(crate) mod push;
pub(crate) mod run;
mod streams;
pub(crate) mod token;
pub(crate) mod user;
