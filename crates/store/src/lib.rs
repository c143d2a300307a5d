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

mod answers;
mod apply;
mod command;
mod error;
mod history;
mod state;
mod store;

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
pub use error::Error;
pub use history::Event;
pub use history::EventKind;
pub use history::Watch;
pub use state::Entry;
pub use state::Lease;
pub use state::State;
pub use store::Config;
pub use store::Leadership;
pub use store::Member;
pub use store::Metrics;
pub use store::Store;
pub use store::Tls;

/// A point in the store's history: the count of commands that changed a key.
pub type Revision = u64;
