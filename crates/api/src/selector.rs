//! Selectors: which objects a LIST, a WATCH or another object means.

mod field;
mod label;
pub mod node;

pub use field::FieldSelector;
pub use label::{LabelSelector, Operator, Requirement};
