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

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

pub(super) use admission::Admission;
pub(super) use outgoing::Outgoing;
pub(super) use server::{Plan, serve};

/// Bytes of a message's fields, as many as Node.js' server takes: a guest may keep thousands of messages. What they take
/// besides their text counts, as it does for those that a guest makes.
pub(super) const MOST_OF_FIELDS: usize = 16 << 10;

/// Whether a guest may have these.
fn fits(fields: &HeaderMap) -> bool {
    let size = |(name, value): (&HeaderName, &HeaderValue)| {
        name.as_str().len() + value.len() + size_of::<HeaderName>() + size_of::<HeaderValue>()
    };
    fields.iter().map(size).sum::<usize>() <= MOST_OF_FIELDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_bounded_however_small_each_is() {
        let empty = |count| {
            let mut fields = HeaderMap::new();
            for _ in 0..count {
                fields.append("x", HeaderValue::from_static(""));
            }
            fields
        };
        assert!(fits(&empty(100)));
        assert!(!fits(&empty(1_000)));
        let mut fields = HeaderMap::new();
        for (length, is_fit) in [(10_000, true), (MOST_OF_FIELDS, false)] {
            let value = HeaderValue::try_from("x".repeat(length)).unwrap();
            fields.insert("x", value);
            assert_eq!(fits(&fields), is_fit, "{length}");
        }
    }
}
