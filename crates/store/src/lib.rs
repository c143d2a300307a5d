//! A replicated, revisioned key-value store with watch, leases, snapshots and membership.
//!
//! The guarantees are etcd's: linearizable writes, linearizable reads behind [`Store::barrier`], one global
//! [`Revision`], a [`Watch`] from a revision on that yields every event once and in order or says that the revision is
//! compacted, and leases. A write is acknowledged once it lies on the disks of a majority.
//!
//! The store never looks into a value.
//!
//! Deciders are apart from drivers: [`apply`] alone says what a command does, purely; everything else carries
//! commands to it, in one order, on every member.
//!
//! # A write's way
//!
//! [`Store::write`] makes a proposal with a request id and asks the leader (`forward`). Raft (openraft) gives it a
//! place in the log; `wal` writes whatever has gathered with one `fdatasync`, `network` sends it to the other
//! members' `service`, which do the same. Once a majority has it, `machine` applies it on every member, publishes
//! the new [`State`] and its [`Event`]s (`history`) and answers. Some seconds later `copy` brings sled up to date;
//! after `snapshot_after` entries the log before is removed.

mod answers;
mod apply;
mod clock;
mod codec;
mod command;
mod config;
#[cfg(test)]
mod conformance;
mod copier;
mod copy;
mod error;
mod forward;
mod history;
mod leadership;
mod lease;
mod machine;
mod members;
mod network;
mod newcomer;
mod proto;
mod repair;
mod service;
mod start;
mod state;
mod store;
mod tls;
mod transfer;
mod types;
mod wal;
mod wire;

pub use apply::Applied;
pub use apply::Outcome;
pub use apply::apply;
pub use command::Command;
pub use command::MAX_COMMAND_BYTES;
pub use command::MAX_KEY_BYTES;
pub use command::MAX_OPS;
pub use command::Op;
pub use command::RequestId;
pub use command::When;
pub use command::Written;
pub use config::Config;
pub use config::Leadership;
pub use config::Member;
pub use config::Metrics;
pub use config::Tls;
pub use error::Error;
pub use history::Event;
pub use history::EventKind;
pub use history::Watch;
pub use state::Entry;
pub use state::Lease;
pub use state::State;
pub use store::Store;

/// A point in the store's history: the count of commands that changed a key.
pub type Revision = u64;
