//! Proofs of the API: properties of objects that are drawn by the schema, and bodies that nobody should send.
//!
//! Each test draws its cases from seeds. Without a word they are always the same ones, for some
//! hundred milliseconds; `PROOF_SECONDS` draws others for so long, and `PROOF_SEED` repeats one case.
//! `cargo xtask fuzz` sets the first.

mod codecs;
mod fuzz;
mod harness;
mod json_diff;
mod kinds;
mod memory;
mod mutate;
mod objects;
mod strategic_diff;
mod texts;
mod writes;
