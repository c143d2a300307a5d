//! Answers DNS messages from the names of the cluster (RFC 1034, 1035, 2308, 6891).
//!
//! [`answer`] is a pure function from a query to a reply. What the cluster does not know comes back as a [`Forward`],
//! whose holder asks a resolver outside and lets it make the reply. The wire format is hickory's; which message is worth
//! decoding, and how long a reply may be, is decided here: no count that a message claims is believed before its bytes
//! are read.

mod asked;
mod encode;
mod forward;
mod resolvers;
mod server;
mod shares;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::names::{Alias, Chain, End, Lookup, Names, Node, Server};
use asked::{Asked, Refused};

pub use asked::{LONGEST_QUERY, Over};
pub use encode::{EDNS_SIZE, PLAIN_SIZE};
pub use forward::Forward;
pub use server::{PORT, serve};

/// Seconds that anybody may remember an answer for, or that there is none: CoreDNS's own default.
pub const TTL: u32 = 5;

/// What to do about a message.
#[derive(Debug)]
pub enum Answer {
    /// Send this back.
    Reply(Vec<u8>),
    /// Ask a resolver outside: the name is not the cluster's.
    Forward(Box<Forward>),
    /// Nothing: it is no query, and an answer to it could go in circles.
    Ignore,
}

/// The answer to a message that came in over UDP, or over TCP without its length. Several records begin with the one at
/// `turn`, which the caller counts up, so that clients which take the first are spread.
pub fn answer(query: &[u8], names: &Names, over: Over, turn: usize) -> Answer {
    let asked = match Asked::read(query, over) {
        Ok(asked) => asked,
        Err(Refused::NoQuery) => return Answer::Ignore,
        Err(Refused::With(reply)) => return Answer::Reply(reply),
    };
    let name = asked.name();
    let chain = match asked.record_type() {
        // Asked for by itself, an alias is not followed (RFC 1034, section 3.6.2).
        RecordType::CNAME | RecordType::ANY => Chain {
            aliases: Vec::new(),
            end: End::Name(name.clone(), names.lookup(&name)),
        },
        _ => names.follow(&name),
    };
    match chain.end {
        End::TooLong => Answer::Reply(asked.failure(ResponseCode::ServFail)),
        End::Name(end, Lookup::Outside) => {
            let end = if chain.aliases.is_empty() {
                Some(asked.wire_name())
            } else {
                wire_name(&end)
            };
            match end {
                Some(end) => Answer::Forward(Box::new(Forward::new(asked, &chain.aliases, end))),
                None => Answer::Reply(asked.failure(ResponseCode::ServFail)),
            }
        }
        End::Name(_, Lookup::Missing(zone)) => {
            let mut reply = own(&asked, &chain.aliases);
            reply.metadata.response_code = ResponseCode::NXDomain;
            reply.authorities.extend(start_of(&zone, names));
            Answer::Reply(asked.finish(reply))
        }
        End::Name(end, Lookup::Node(zone, node)) => {
            let mut reply = own(&asked, &chain.aliases);
            let owner = if chain.aliases.is_empty() {
                Some(asked.wire_name())
            } else {
                wire_name(&end)
            };
            let found = Found::new(&node, asked.record_type(), names, turn);
            match owner {
                Some(owner) if !found.data.is_empty() => found.put(&owner, &mut reply),
                _ => reply.authorities.extend(start_of(&zone, names)),
            }
            Answer::Reply(asked.finish(reply))
        }
    }
}

/// A reply of this server's own knowledge, which begins with these aliases.
fn own(asked: &Asked, aliases: &[Alias]) -> Message {
    let mut reply = asked.reply();
    reply.metadata.authoritative = true;
    reply.answers = alias_records(asked, aliases);
    reply
}

/// The records of aliases, the first of which has the name that was asked for, letter by letter.
fn alias_records(asked: &Asked, aliases: &[Alias]) -> Vec<Record> {
    let records = aliases.iter().enumerate().filter_map(|(at, alias)| {
        let owner = if at == 0 {
            asked.wire_name()
        } else {
            wire_name(&alias.name)?
        };
        Some(record(
            owner,
            RData::CNAME(CNAME(wire_name(&alias.target)?)),
        ))
    });
    records.collect()
}

/// The records of a name.
#[derive(Default)]
struct Found {
    data: Vec<RData>,
    /// The addresses of what the records name.
    addresses: Vec<Record>,
}

impl Found {
    fn new(node: &Node<'_>, wanted: RecordType, names: &Names, turn: usize) -> Self {
        let data: Vec<RData> = match wanted {
            RecordType::A => node
                .addresses(turn)
                .into_iter()
                .map(|address| RData::A(A(address)))
                .collect(),
            RecordType::SRV => return Self::servers(&node.servers(turn)),
            RecordType::CNAME => node
                .alias()
                .and_then(wire_name)
                .map(|name| RData::CNAME(CNAME(name)))
                .into_iter()
                .collect(),
            RecordType::PTR => node
                .pointers()
                .iter()
                .filter_map(|name| wire_name(name))
                .map(|name| RData::PTR(PTR(name)))
                .collect(),
            RecordType::TXT => node
                .text()
                .map(|text| RData::TXT(TXT::new(vec![text.to_owned()])))
                .into_iter()
                .collect(),
            RecordType::SOA if node.is_apex() => start_data(names).into_iter().collect(),
            // One kind of them is enough of an answer (RFC 8482, section 4.1).
            RecordType::ANY => return Self::any(node, names, turn),
            _ => Vec::new(),
        };
        Self {
            data,
            addresses: Vec::new(),
        }
    }

    fn any(node: &Node<'_>, names: &Names, turn: usize) -> Self {
        use RecordType::{A, CNAME, PTR, SOA, SRV, TXT};
        let kinds = [CNAME, A, SRV, PTR, TXT, SOA].into_iter();
        let mut found = kinds.map(|kind| Self::new(node, kind, names, turn));
        found
            .find(|found| !found.data.is_empty())
            .unwrap_or_default()
    }

    /// Each server with the same share of 100, as CoreDNS weighs them.
    fn servers(servers: &[Server]) -> Self {
        let weight = 100_usize.checked_div(servers.len()).unwrap_or_default() as u16;
        let mut found = Self::default();
        let mut seen = BTreeSet::new();
        for server in servers {
            let Some(target) = wire_name(&server.target) else {
                continue;
            };
            if seen.insert((&server.target, server.address)) {
                let address = RData::A(A(server.address));
                found.addresses.push(record(target.clone(), address));
            }
            found
                .data
                .push(RData::SRV(SRV::new(0, weight, server.port, target)));
        }
        found
    }

    fn put(self, owner: &Name, reply: &mut Message) {
        let records = self
            .data
            .into_iter()
            .map(|data| record(owner.clone(), data));
        reply.answers.extend(records);
        reply.additionals.extend(self.addresses);
    }
}

fn record(owner: Name, data: RData) -> Record {
    Record::from_rdata(owner, TTL, data)
}

/// The record that says how long a name's absence may be remembered (RFC 2308, section 3).
fn start_of(zone: &str, names: &Names) -> Option<Record> {
    Some(record(wire_name(zone)?, start_data(names)?))
}

fn start_data(names: &Names) -> Option<RData> {
    const HOUR: i32 = 3_600;
    let server = wire_name(&format!("ns.dns.{}", names.domain()))?;
    let mailbox = wire_name(&format!("hostmaster.{}", names.domain()))?;
    // Nobody copies the zone: the times in the middle are what CoreDNS tells.
    Some(RData::SOA(SOA::new(
        server,
        mailbox,
        names.changes(),
        2 * HOUR,
        HOUR / 2,
        24 * HOUR,
        TTL,
    )))
}

/// None where the whole is too long for DNS, of which each part is what Kubernetes allows.
fn wire_name(name: &str) -> Option<Name> {
    Name::from_labels(name.split('.').map(str::as_bytes)).ok()
}
