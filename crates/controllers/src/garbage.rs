//! Garbage: dependents whose owners are gone, and the contents of deleted namespaces.
//!
//! Owners are named by uid and may be of any kind, so this controller keeps the metadata of every
//! kind that can be deleted. Before it deletes anything because an owner is missing it asks the
//! API for that owner, because its picture may have seen the dependent first.

mod graph;
mod remains;
mod run;

pub(crate) use run::run;
