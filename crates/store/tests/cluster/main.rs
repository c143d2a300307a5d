//! Whole members over real loopback connections with TLS.

mod ends;
mod harness;
mod replication;
mod stops;
