//! Questions of pods, and what resolvers outside say to those that were handed on.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use network::dns::{Answer, EDNS_SIZE, Forward, Over, PLAIN_SIZE, answer};
use network::names::{Endpoint, Names, Port, Protocol, Service, ServiceKind, Slice};

use crate::harness::{Input, Random, prove};
use crate::memory;

/// What a message may cost beyond its own size: the parts of the largest reply, and of what it is made of.
const BASE: usize = 1 << 20;
/// What each byte of it may cost: a record of twelve bytes is a structure with a name and data of its own.
const PER_BYTE: usize = 128;

/// Names that the cluster has, has not, and that are others'.
const NAMES: &[&str] = &[
    "web.shop.svc.cluster.local.",
    "db.shop.svc.cluster.local.",
    "a.db.shop.svc.cluster.local.",
    "_http._tcp.web.shop.svc.cluster.local.",
    "far.shop.svc.cluster.local.",
    "nobody.shop.svc.cluster.local.",
    "dns-version.cluster.local.",
    "cluster.local.",
    "1.0.96.10.in-addr.arpa.",
    "9.0.128.10.in-addr.arpa.",
    "www.example.com.",
    "WwW.eXample.com.",
    "xn--nxasmq6b.example.",
    ".",
];
const TYPES: &[RecordType] = &[
    RecordType::A,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::PTR,
    RecordType::TXT,
    RecordType::CNAME,
    RecordType::SOA,
    RecordType::MX,
    RecordType::ANY,
    RecordType::AXFR,
    RecordType::OPT,
];

fn cluster() -> Names {
    let range = "10.96.0.0/16".parse().expect("a range");
    let pods = "10.128.0.0/16".parse().expect("a range");
    let mut names = Names::new("cluster.local", &[range, pods]).expect("a domain");
    let ports = vec![Port {
        name: "http".to_owned(),
        protocol: Protocol::Tcp,
        number: 80,
    }];
    let kinds = [
        ("web", ServiceKind::ClusterIp(Ipv4Addr::new(10, 96, 0, 1))),
        ("db", ServiceKind::Headless),
        (
            "far",
            ServiceKind::ExternalName("www.example.com".to_owned()),
        ),
    ];
    for (name, kind) in kinds {
        let ports = ports.clone();
        names.set_service("shop", name, Service { kind, ports });
    }
    // More than fit into a short reply.
    let endpoints = (1..200).map(|last| Endpoint {
        address: Ipv4Addr::new(10, 128, 0, last),
        hostname: (last < 100).then(|| format!("pod-{last}")),
        ready: last % 7 > 0,
    });
    let endpoints = endpoints.collect();
    names.set_slice("shop", "db", "db-1", Slice { endpoints, ports });
    names
}

fn of<T: Copy>(random: &mut Random, all: &[T]) -> T {
    all[random.below(all.len())]
}

fn name(random: &mut Random) -> Name {
    let mut name = Name::from_ascii(random.pick(NAMES)).expect("a name");
    // Labels of any bytes, as long as there may be.
    while random.percent(10) {
        let label: Vec<u8> = (0..=random.below(63))
            .map(|_| random.bits() as u8)
            .collect();
        match name.prepend_label(&label[..]) {
            Ok(longer) => name = longer,
            Err(_) => break,
        }
    }
    name
}

fn query(random: &mut Random) -> Message {
    let op_code = match random.percent(95) {
        true => OpCode::Query,
        false => OpCode::Update,
    };
    let mut query = Message::new(random.bits() as u16, MessageType::Query, op_code);
    query.metadata.recursion_desired = random.percent(80);
    query.metadata.checking_disabled = random.percent(10);
    for _ in 0..if random.percent(95) {
        1
    } else {
        random.below(4)
    } {
        query.add_query(Query::query(name(random), of(random, TYPES)));
    }
    if random.percent(60) {
        let mut edns = Edns::new();
        edns.set_max_payload(random.bits() as u16);
        edns.set_dnssec_ok(random.percent(20));
        query.set_edns(edns);
    }
    query
}

fn record(random: &mut Random) -> Record {
    let data = match random.below(9) {
        0 => RData::AAAA(AAAA(u128::from(random.bits()).into())),
        1 => RData::CNAME(CNAME(name(random))),
        2 => RData::PTR(PTR(name(random))),
        3 => RData::SRV(SRV::new(1, 2, 80, name(random))),
        4 => RData::MX(MX::new(10, name(random))),
        5 => RData::TXT(TXT::new(vec!["x".repeat(random.below(256))])),
        6 => RData::SOA(SOA::new(name(random), name(random), 1, 2, 3, 4, 5)),
        _ => RData::A(A((random.bits() as u32).into())),
    };
    Record::from_rdata(name(random), random.bits() as u32, data)
}

/// What a resolver may say to a question: right or not, short or long.
fn said(question: &Query, id: u16, random: &mut Random) -> Vec<u8> {
    let mut said = Message::response(id, OpCode::Query);
    said.metadata.truncation = random.percent(10);
    said.metadata.response_code = of(
        random,
        &[
            ResponseCode::NoError,
            ResponseCode::NXDomain,
            ResponseCode::BADVERS,
        ],
    );
    said.add_query(question.clone());
    let most = if random.percent(10) { 1_000 } else { 8 };
    for section in [
        &mut said.answers,
        &mut said.authorities,
        &mut said.additionals,
    ] {
        section.extend((0..random.below(most)).map(|_| record(random)));
    }
    if random.percent(50) {
        said.set_edns(Edns::new());
    }
    // What is too long to be one message at all is none.
    said.to_vec().unwrap_or_default()
}

/// Damages a message at a few places, or at none.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.below(5) {
        let at = random.below(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.bits() as u8),
            // A pointer, to anywhere near.
            2 if at + 1 < bytes.len() => {
                bytes[at..at + 2]
                    .copy_from_slice(&[0xc0 | (random.below(4) as u8), random.bits() as u8]);
            }
            // A count of the head.
            3 if bytes.len() > 12 => bytes[4 + random.below(8)] = random.bits() as u8,
            4 => {
                let end = at + random.below((bytes.len() - at).min(64) + 1);
                let part = bytes[at..end].repeat(1 + random.below(100));
                drop(bytes.splice(at..at, part));
            }
            5 => bytes.extend((0..random.below(64)).map(|_| random.bits() as u8)),
            _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    bytes.truncate(u16::MAX.into());
}

fn noise(random: &mut Random) -> Vec<u8> {
    (0..random.below(600))
        .map(|_| random.bits() as u8)
        .collect()
}

fn transports() -> [(Over, usize); 2] {
    [(Over::Udp, EDNS_SIZE.into()), (Over::Tcp, u16::MAX.into())]
}

/// Whether a reply is one to a message: of its number, no longer than it may be, and in DNS's own words.
fn is_reply(reply: &[u8], to: &[u8], longest: usize) -> Result<Message, String> {
    if reply.len() > longest {
        return Err(format!("{} bytes", reply.len()));
    }
    let message = Message::from_vec(reply).map_err(|error| format!("unreadable: {error}"))?;
    if message.metadata.message_type != MessageType::Response {
        return Err("it asks".to_owned());
    }
    if to.get(..2) != Some(&message.metadata.id.to_be_bytes()[..]) {
        return Err(format!("the number {}", message.metadata.id));
    }
    // What is long may be too long without pointers to names, of which this encoder makes few.
    if reply.len() > EDNS_SIZE.into() {
        return Ok(message);
    }
    // Said again it is the same: who asks may well be a cache that sends it on.
    let again = message
        .to_vec()
        .map_err(|error| format!("not to be said again: {error}"))?;
    match Message::from_vec(&again) {
        Ok(same) if same.answers == message.answers && same.queries == message.queries => {
            Ok(message)
        }
        other => Err(format!("said again it is {other:?}")),
    }
}

/// What a query may be answered with, over both transports.
fn asked(query: &[u8], names: &Names) -> Result<(), String> {
    for (over, mut longest) in transports() {
        let read = Message::from_vec(query).ok();
        if over == Over::Udp && read.is_some_and(|query| query.edns.is_none()) {
            longest = PLAIN_SIZE.into();
        }
        let (answered, bytes) = memory::most(|| answer(query, names, over, 3));
        if bytes > BASE + PER_BYTE * query.len() {
            return Err(format!("{bytes} bytes for {}", query.len()));
        }
        match answered {
            Answer::Reply(reply) => drop(is_reply(&reply, query, longest)?),
            Answer::Forward(forward) => {
                is_reply(&forward.failed(), query, longest)?;
                is_handed_on(&forward)?;
            }
            Answer::Ignore => {
                let asks = query.len() >= 12 && query[2] & 0x80 == 0;
                if asks {
                    return Err("a query without an answer".to_owned());
                }
            }
        }
    }
    Ok(())
}

/// The message to a resolver asks what was asked.
fn is_handed_on(forward: &Forward) -> Result<(), String> {
    let query = forward.query(7);
    let message = Message::from_vec(&query).map_err(|error| error.to_string())?;
    let [question] = message.queries.as_slice() else {
        return Err(format!("{} questions", message.queries.len()));
    };
    let is_same = u16::from(question.query_type()) == forward.record_type();
    match is_same && message.metadata.id == 7 && query.len() <= 512 {
        true => Ok(()),
        false => Err(format!("{message:?}")),
    }
}

#[test]
fn damaged_questions_are_answered_in_few_words_or_not() {
    let names = cluster();
    let make = |random: &mut Random| {
        let mut bytes = query(random).to_vec().unwrap_or_default();
        damage(&mut bytes, random);
        bytes
    };
    prove("dns_questions", make, |query| asked(query, &names));
}

#[test]
fn noise_is_no_question() {
    let names = cluster();
    prove("dns_noise", noise, |query| asked(query, &names));
}

/// A question for somebody outside, and what comes for an answer.
#[derive(Clone)]
struct Exchange {
    query: Vec<u8>,
    said: Vec<u8>,
}

impl Input for Exchange {
    fn smaller(&self) -> Vec<Self> {
        let said = self.said.smaller().into_iter();
        let query = self.query.clone();
        said.map(|said| Self {
            query: query.clone(),
            said,
        })
        .collect()
    }

    fn show(&self) -> String {
        format!("{}\nto\n{}", self.said.show(), self.query.show())
    }
}

const ID: u16 = 0x4321;

/// One that the cluster knows nothing about, or by an alias alone.
fn exchange(random: &mut Random) -> Exchange {
    let asked = of(
        random,
        &[
            "www.example.com.",
            "far.shop.svc.cluster.local.",
            "a.example.",
        ],
    );
    let asked = Name::from_ascii(asked).expect("a name");
    // An alias that is asked for itself is the cluster's own.
    let record_type = of(random, &TYPES[..5]);
    let mut query = Message::new(random.bits() as u16, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(asked.clone(), record_type));
    if random.percent(50) {
        let mut edns = Edns::new();
        edns.set_max_payload(random.bits() as u16);
        query.set_edns(edns);
    }
    let alias = Name::from_ascii("www.example.com.").expect("a name");
    let about = match random.below(8) {
        0 => name(random),
        1..4 => alias,
        _ => asked,
    };
    let mut said = match random.percent(5) {
        true => noise(random),
        false => said(&Query::query(about, record_type), ID, random),
    };
    if random.percent(60) {
        damage(&mut said, random);
    }
    Exchange {
        query: query.to_vec().expect("one name"),
        said,
    }
}

#[test]
fn what_resolvers_say_becomes_a_reply_or_nothing() {
    let names = cluster();
    prove("dns_answers", exchange, |exchange| {
        for (over, longest) in transports() {
            let Answer::Forward(forward) = answer(&exchange.query, &names, over, 0) else {
                return Err("the cluster's own".to_owned());
            };
            let (reply, bytes) = memory::most(|| forward.reply(ID, &exchange.said));
            if bytes > BASE + PER_BYTE * exchange.said.len() {
                return Err(format!("{bytes} bytes for {}", exchange.said.len()));
            }
            let Some(reply) = reply else { continue };
            let read = is_reply(&reply, &exchange.query, longest)?;
            let asked = Message::from_vec(&exchange.query).map_err(|e| e.to_string())?;
            if read.queries != asked.queries {
                return Err(format!("about {:?}", read.queries));
            }
            if exchange.said[..2] != ID.to_be_bytes() {
                return Err("another question's answer".to_owned());
            }
        }
        Ok(())
    });
}

/// Undamaged answers come through whole where there is room for them.
#[test]
fn what_a_resolver_says_is_what_a_pod_hears() {
    let names = cluster();
    let make = |random: &mut Random| {
        let mut exchange = exchange(random);
        let query = Message::from_vec(&exchange.query).expect("a query");
        let mut question = query.queries[0].clone();
        if question.name().to_ascii().starts_with("far.") {
            question.set_name(Name::from_ascii("www.example.com.").expect("a name"));
        }
        exchange.said = said(&question, ID, random);
        exchange
    };
    prove("dns_through", make, |exchange| {
        let Answer::Forward(forward) = answer(&exchange.query, &names, Over::Tcp, 0) else {
            return Err("the cluster's own".to_owned());
        };
        let Ok(said) = Message::from_vec(&exchange.said) else {
            return Ok(());
        };
        let reply = forward.reply(ID, &exchange.said).ok_or("no reply")?;
        let heard = is_reply(&reply, &exchange.query, u16::MAX.into())?;
        let own = heard.answers.len().saturating_sub(said.answers.len());
        // An answer as long as a message can be grows by an alias, or by another name's spelling.
        let is_whole = heard.metadata.truncation || heard.answers[own..] == said.answers[..];
        match is_whole && own <= 1 {
            true => Ok(()),
            false => Err(format!("{:?} of {:?}", heard.answers, said.answers)),
        }
    });
}
