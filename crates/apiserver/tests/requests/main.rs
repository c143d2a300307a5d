//! What nobody should send to a server: requests, bodies, tokens and frames that are damaged or hostile, and
//! objects that plugins are asked about. Every refusal is a `Status` that Kubernetes gives, costs little, and
//! changes nothing.
//!
//! The cases are drawn as in the proofs of the API: `PROOF_SECONDS` and `PROOF_SEED` say how long and which.

#[path = "../agent/mod.rs"]
mod agent;
mod bodies;
mod continued;
mod drawn;
mod frames;
#[path = "../../../api/tests/proofs/harness.rs"]
mod harness;
mod judge;
mod line;
#[path = "../../../api/tests/proofs/memory.rs"]
mod memory;
#[path = "../../../api/tests/proofs/mutate.rs"]
mod mutate;
#[expect(dead_code, reason = "the proofs of the API use more of it")]
#[path = "../../../api/tests/proofs/objects.rs"]
mod objects;
mod plugins;
mod rights;
#[path = "../server/mod.rs"]
mod server;
mod special;
mod streams;
mod tokens;
mod upgrades;
mod world;
