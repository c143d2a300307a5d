//! Questions that somebody outside answers.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::asked::Asked;
use super::encode::EDNS_SIZE;
use super::{alias_records, record};
use crate::names::Alias;

/// A question for a resolver outside, and what its answer has to become: it may be about another name than the one
/// that was asked for here, where a Service is an external name.
#[derive(Clone, Debug)]
pub struct Forward {
    asked: Asked,
    aliases: Vec<Record>,
    name: Name,
}

impl Forward {
    pub(super) fn new(asked: Asked, aliases: &[Alias], name: Name) -> Self {
        let aliases = alias_records(&asked, aliases);
        Self {
            asked,
            aliases,
            name,
        }
    }

    /// The full name to ask for, without a dot at its end. Bytes that hosts' names do not have are escaped as in zone
    /// files (RFC 1035, section 5.1).
    pub fn name(&self) -> String {
        let name = self.name.to_ascii();
        name.strip_suffix('.').unwrap_or(&name).to_owned()
    }

    /// The number of the record's type to ask for: 1 for an IPv4 address.
    pub fn record_type(&self) -> u16 {
        self.asked.record_type().into()
    }

    /// The message to send to a resolver.
    pub fn query(&self, id: u16) -> Vec<u8> {
        let mut query = Message::new(id, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.metadata.checking_disabled = self.asked.checking_disabled();
        query.add_query(Query::query(self.name.clone(), self.asked.record_type()));
        let mut edns = Edns::new();
        edns.set_max_payload(EDNS_SIZE);
        query.set_edns(edns);
        // One name and no option: nothing in it can be too long.
        query.to_vec().unwrap_or_default()
    }

    /// The reply that a resolver's answer to [`Self::query`] becomes. None where the message is not that answer, so that
    /// the true one has to be waited for. An answer that was cut stays so: who wants the whole asks the resolver over TCP.
    pub fn reply(&self, id: u16, upstream: &[u8]) -> Option<Vec<u8>> {
        let header = Header::read(&mut BinDecoder::new(upstream)).ok()?;
        let is_response = header.metadata.message_type == MessageType::Response;
        if !is_response
            || header.metadata.id != id
            || header.counts.queries != 1
            || upstream.len() > usize::from(u16::MAX)
        {
            return None;
        }
        let theirs = Message::from_vec(upstream).ok()?;
        let [question] = theirs.queries.as_slice() else {
            return None;
        };
        if question.name() != &self.name || question.query_type() != self.asked.record_type() {
            return None;
        }
        let code = theirs.metadata.response_code;
        let mut reply = self.start();
        reply.metadata.truncation = theirs.metadata.truncation;
        // Larger codes are about EDNS between the resolver and us.
        reply.metadata.response_code = if code.high() == 0 {
            code
        } else {
            ResponseCode::ServFail
        };
        reply.answers.extend(theirs.answers);
        reply.authorities = theirs.authorities;
        reply.additionals = theirs.additionals;
        Some(self.asked.finish(reply))
    }

    /// The reply where the name's addresses were found by other means than DNS.
    pub fn addresses(&self, addresses: &[Ipv4Addr]) -> Vec<u8> {
        let mut reply = self.start();
        if self.asked.record_type() == RecordType::A {
            let records = addresses
                .iter()
                .map(|address| record(self.name.clone(), RData::A(A(*address))));
            reply.answers.extend(records);
        }
        self.asked.finish(reply)
    }

    /// The reply where nobody answers.
    pub fn failed(&self) -> Vec<u8> {
        self.asked.failure(ResponseCode::ServFail)
    }

    fn start(&self) -> Message {
        let mut reply = self.asked.reply();
        // It is about the first name in the answer (RFC 1035, section 4.1.1).
        reply.metadata.authoritative = !self.aliases.is_empty();
        reply.answers = self.aliases.clone();
        reply
    }
}
