//! Whole members over real loopback connections with TLS.

mod harness;
mod replication;
mod stops;
