//! What nobody should send to a node: DNS messages and frames of links that are damaged or hostile. Nothing panics, no
//! answer is longer than it may be, nothing costs much more than its bytes, and what is encoded is decoded as it was.
//!
//! The cases are drawn as in the proofs of the API: `PROOF_SECONDS` and `PROOF_SEED` say how long and which.

mod dns;
#[path = "../../../api/tests/proofs/harness.rs"]
mod harness;
mod links;
#[path = "../../../api/tests/proofs/memory.rs"]
mod memory;
