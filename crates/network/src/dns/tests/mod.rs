//! What is answered to which message, as who asks decodes it.

mod forwarding;
mod hostile;
mod sizes;
mod table;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};

use super::*;
use crate::names::tests::cluster;

/// A query for a name and a type, as `web.shop.svc.cluster.local A`.
pub(super) fn query(question: &str) -> Message {
    let (name, kind) = question.rsplit_once(' ').unwrap();
    let mut query = Message::new(0x1234, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    let name = Name::from_ascii(format!("{name}.")).unwrap();
    query.add_query(Query::query(name, kind.parse().unwrap()));
    query
}

pub(super) fn edns(size: u16) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(size);
    edns
}

pub(super) fn reply_to(query: &[u8], names: &Names, over: Over) -> Message {
    match answer(query, names, over, 0) {
        Answer::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A section as `name TYPE data`, each record on its own; of a zone's start no more than whose it is.
pub(super) fn section(records: &[Record]) -> String {
    let records = records.iter().map(|record| {
        assert_eq!(record.dns_class, DNSClass::IN);
        let data = match &record.data {
            RData::SOA(_) => "-".to_owned(),
            data => data.to_string(),
        };
        format!("{} {} {data}", record.name, record.record_type())
    });
    records.collect::<Vec<_>>().join("; ")
}

#[test]
fn absence_is_remembered_for_seconds() {
    let names = cluster();
    let reply = reply_to(
        &query("nobody.shop.svc.cluster.local A").to_vec().unwrap(),
        &names,
        Over::Udp,
    );
    let [record] = reply.authorities.as_slice() else {
        panic!("{reply}")
    };
    let RData::SOA(start) = &record.data else {
        panic!("{record}")
    };
    assert_eq!(
        (record.ttl, start.minimum, start.serial),
        (5, 5, names.changes())
    );
    assert_eq!(start.mname.to_string(), "ns.dns.cluster.local.");
    assert_eq!(start.rname.to_string(), "hostmaster.cluster.local.");
}

#[test]
fn several_addresses_take_turns() {
    let (names, query) = (
        cluster(),
        query("db.shop.svc.cluster.local A").to_vec().unwrap(),
    );
    let first = |turn| match answer(&query, &names, Over::Udp, turn) {
        Answer::Reply(bytes) => Message::from_vec(&bytes).unwrap().answers[0]
            .data
            .to_string(),
        other => panic!("{other:?}"),
    };
    let firsts: Vec<_> = (0..4).map(first).collect();
    assert_eq!(
        firsts,
        ["10.128.0.9", "10.128.0.2", "10.129.0.7", "10.128.0.9"]
    );
}

#[test]
fn aliases_are_followed_eight_times() {
    let mut names = cluster();
    for step in 1..=9 {
        let target = if step == 1 {
            "web".to_owned()
        } else {
            format!("a{}", step - 1)
        };
        let target = crate::names::tests::external(&format!("{target}.shop.svc.cluster.local"));
        names.set_service("shop", &format!("a{step}"), target);
    }
    let code = |name: &str| {
        let query = query(&format!("{name}.shop.svc.cluster.local A"));
        let reply = reply_to(&query.to_vec().unwrap(), &names, Over::Tcp);
        (reply.metadata.response_code, reply.answers.len())
    };
    assert_eq!(code("a8"), (ResponseCode::NoError, 9));
    assert_eq!(code("a9"), (ResponseCode::ServFail, 0));
    assert_eq!(code("circle"), (ResponseCode::ServFail, 0));
}

#[test]
fn what_is_no_proper_query_is_refused_by_code() {
    type Change = fn(&mut Message);
    let table: &[(Change, ResponseCode)] = &[
        (|_| {}, ResponseCode::NoError),
        (
            |query| query.metadata.op_code = OpCode::Status,
            ResponseCode::NotImp,
        ),
        (
            |query| query.metadata.op_code = OpCode::Notify,
            ResponseCode::NotImp,
        ),
        (
            |query| query.metadata.op_code = OpCode::Update,
            ResponseCode::NotImp,
        ),
        (
            |query| query.metadata.op_code = OpCode::Unknown(15),
            ResponseCode::NotImp,
        ),
        (|query| query.queries.clear(), ResponseCode::FormErr),
        (
            |query| query.queries.push(query.queries[0].clone()),
            ResponseCode::FormErr,
        ),
        (|query| query.answers.push(address()), ResponseCode::FormErr),
        (
            |query| query.authorities.push(address()),
            ResponseCode::FormErr,
        ),
        (
            |query| query.additionals = vec![address(); 3],
            ResponseCode::FormErr,
        ),
        (
            |query| query.queries[0].query_class = DNSClass::CH,
            ResponseCode::Refused,
        ),
        (
            |query| query.queries[0].query_class = DNSClass::ANY,
            ResponseCode::Refused,
        ),
        (
            |query| query.queries[0].query_type = RecordType::AXFR,
            ResponseCode::Refused,
        ),
        (
            |query| query.queries[0].query_type = RecordType::IXFR,
            ResponseCode::Refused,
        ),
        (
            |query| query.queries[0].query_type = RecordType::OPT,
            ResponseCode::Refused,
        ),
        (
            |query| {
                let mut newer = edns(1_232);
                newer.set_version(1);
                query.edns = Some(newer);
            },
            ResponseCode::BADVERS,
        ),
    ];
    let names = cluster();
    for (change, code) in table {
        let mut query = query("web.shop.svc.cluster.local A");
        change(&mut query);
        let reply = reply_to(&query.to_vec().unwrap(), &names, Over::Udp);
        let told = u16::from(reply.metadata.response_code);
        assert_eq!(told, u16::from(*code), "{query}");
        assert_eq!(reply.metadata.id, query.metadata.id);
        assert_eq!(reply.metadata.op_code, query.metadata.op_code);
        assert_eq!(reply.answers.is_empty(), *code != ResponseCode::NoError);
    }
}

fn address() -> Record {
    record(Name::root(), RData::A(A::new(192, 0, 2, 1)))
}

#[test]
fn what_is_no_query_at_all_is_not_answered() {
    let names = cluster();
    let mut response = query("web.shop.svc.cluster.local A");
    response.metadata.message_type = MessageType::Response;
    for bytes in [&[][..], &[0; 11], &response.to_vec().unwrap()] {
        assert!(matches!(
            answer(bytes, &names, Over::Udp, 0),
            Answer::Ignore
        ));
    }
}

#[test]
fn a_query_that_ends_early_or_goes_on_for_ever_is_malformed() {
    let names = cluster();
    let mut query = query("web.shop.svc.cluster.local A");
    query.edns = Some(edns(1_232));
    let bytes = query.to_vec().unwrap();
    for end in 12..bytes.len() {
        let reply = reply_to(&bytes[..end], &names, Over::Udp);
        assert_eq!(
            reply.metadata.response_code,
            ResponseCode::FormErr,
            "{end} bytes"
        );
    }
    let mut long = bytes;
    long.resize(LONGEST_QUERY + 1, 0);
    let reply = reply_to(&long, &names, Over::Tcp);
    assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
}
