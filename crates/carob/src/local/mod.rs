//! A cluster on one machine: real processes, one server and one agent a node, each node on a
//! loopback address of its own.

pub(crate) mod down;
pub(crate) mod layout;
mod patience;
mod port;
pub(crate) mod process;
mod reach;
mod start;
pub(crate) mod status;
pub(crate) mod up;
pub(crate) mod words;
