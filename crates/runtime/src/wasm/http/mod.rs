//! `wasi:http`: components that answer requests, and the requests that components make.
//!
//! A component that exports `wasi:http/incoming-handler` is a [server](server): it listens on its pod's network, and
//! every request has an instance of its own, which lives as long as its answer. Without requests there is none. What a
//! server does, the reading and writing of HTTP included, runs in the gate at the expense of one account: requests
//! share their container's weight, quota and memory limit.
//!
//! [Outgoing] requests go through the pod's network, so that names, services and policies are what they are for
//! sockets.

mod admission;
mod answer;
mod connection;
mod outgoing;
mod request;
mod server;
mod target;
mod tls;

pub(super) use admission::Admission;
pub(super) use outgoing::Outgoing;
pub(super) use server::{Plan, serve};
