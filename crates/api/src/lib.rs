//! The Kubernetes API as pure functions: kinds, schema, decoding, defaulting, validation, patches,
//! selectors, quantities, tables, errors.
//!
//! Nothing here does I/O, reads a clock or draws a random number. Objects travel as
//! [`serde_json::Value`] on the write path and as encoded bytes everywhere else.

pub mod apply;
pub mod codec;
pub mod discovery;
pub mod ingress;
pub mod kinds;
pub mod not_served;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod ports;
pub mod priority;
pub mod quantity;
pub mod resource;
pub mod resources;
pub mod schema;
pub mod selector;
pub mod static_pods;
pub mod status;
pub mod storage;
pub mod support;
pub mod table;
pub mod time;
pub mod write;

pub use object::Object;
pub use resource::Resource;
pub use status::Status;
