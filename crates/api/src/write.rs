//! The write path: from what a client sent to what is stored.
//!
//! Every write goes the same way: schema defaults → the kind's defaults → fields that the server
//! sets → validation. Nothing here reads a clock or draws a random number: the caller puts both
//! into the [`Context`].

use jiff::Timestamp;

/// Everything about a write that is not in its body.
#[derive(Clone, Debug)]
pub struct Context {
    /// The time of the write.
    pub now: Timestamp,
    /// The uid that a new object gets.
    pub uid: String,
    /// Five letters or digits drawn at random, for `generateName` and names that a kind makes up.
    pub suffix: String,
    /// Who writes.
    pub user: User,
    /// `fieldManager`, or the first part of the user agent.
    pub manager: String,
}

/// Who sent a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// Uid, where the authenticator knows one.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
}
