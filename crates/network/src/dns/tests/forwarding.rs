//! Questions that go outside, and the way back of their answers.

use super::*;
use crate::names::tests::ip;

fn forward(question: &str) -> Forward {
    match answer(&query(question).to_vec().unwrap(), &cluster(), Over::Udp, 0) {
        Answer::Forward(forward) => *forward,
        other => panic!("{question}: {other:?}"),
    }
}

/// What a resolver answers to a forwarded question.
fn upstream(forward: &Forward, change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let query = Message::from_vec(&forward.query(7)).unwrap();
    let mut reply = Message::response(query.metadata.id, OpCode::Query);
    reply.metadata.recursion_available = true;
    reply.queries = query.queries.clone();
    let owner = query.queries[0].name().clone();
    reply.add_answer(Record::from_rdata(
        owner,
        300,
        RData::A(A::new(192, 0, 2, 1)),
    ));
    reply.set_edns(edns(4_096));
    change(&mut reply);
    reply.to_vec().unwrap()
}

fn decode(bytes: &[u8]) -> Message {
    Message::from_vec(bytes).unwrap()
}

#[test]
fn what_the_cluster_does_not_know_is_asked_outside() {
    for (question, name, kind) in [
        ("Example.com A", "Example.com", 1),
        ("example.com AAAA", "example.com", 28),
        ("local A", "local", 1),
        ("notcluster.local A", "notcluster.local", 1),
        (
            "cluster.local.example.com A",
            "cluster.local.example.com",
            1,
        ),
        ("docs.shop.svc.cluster.local A", "docs.example.com", 1),
        ("docs.shop.svc.cluster.local MX", "docs.example.com", 15),
        ("8.2.0.192.in-addr.arpa PTR", "8.2.0.192.in-addr.arpa", 12),
        ("10.in-addr.arpa PTR", "10.in-addr.arpa", 12),
        ("1.0.132.10.in-addr.arpa PTR", "1.0.132.10.in-addr.arpa", 12),
        ("x\\.cluster.local A", "x\\.cluster.local", 1),
    ] {
        let forward = forward(question);
        assert_eq!(
            (forward.name().as_str(), forward.record_type()),
            (name, kind),
            "{question}"
        );
        let query = decode(&forward.query(0xbeef));
        assert_eq!(query.metadata.id, 0xbeef);
        assert!(query.metadata.recursion_desired);
        assert_eq!(query.queries[0].name().to_ascii(), format!("{name}."));
        assert_eq!(u16::from(query.queries[0].query_type()), kind);
    }
}

#[test]
fn an_answer_from_outside_comes_back_behind_its_aliases() {
    let plain = forward("Example.com A");
    let reply = decode(&plain.reply(7, &upstream(&plain, |_| {})).unwrap());
    assert_eq!(section(&reply.answers), "Example.com. A 192.0.2.1");
    assert_eq!((reply.metadata.id, reply.answers[0].ttl), (0x1234, 300));
    assert!(!reply.metadata.authoritative && reply.metadata.recursion_available);
    assert_eq!(reply.edns, None, "who asked did not know EDNS");

    let alias = forward("Docs.shop.svc.cluster.local A");
    let reply = decode(&alias.reply(7, &upstream(&alias, |_| {})).unwrap());
    let expected =
        "Docs.shop.svc.cluster.local. CNAME docs.example.com.; docs.example.com. A 192.0.2.1";
    assert_eq!(section(&reply.answers), expected);
    assert_eq!(
        reply.queries,
        query("Docs.shop.svc.cluster.local A").queries
    );
    assert!(reply.metadata.authoritative);

    let found = decode(&alias.addresses(&[ip("192.0.2.1")]));
    assert_eq!(section(&found.answers), expected);
    let failed = decode(&alias.failed());
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(failed.queries, reply.queries);
    let v6 = forward("docs.shop.svc.cluster.local AAAA");
    let found = decode(&v6.addresses(&[ip("192.0.2.1")]));
    assert_eq!(
        section(&found.answers),
        "docs.shop.svc.cluster.local. CNAME docs.example.com."
    );
}

#[test]
fn what_went_wrong_outside_is_told() {
    let forward = forward("example.com A");
    let coded = |code| {
        let answer = upstream(&forward, |reply| {
            reply.answers.clear();
            reply.metadata.response_code = code;
        });
        decode(&forward.reply(7, &answer).unwrap())
            .metadata
            .response_code
    };
    for code in [
        ResponseCode::NXDomain,
        ResponseCode::ServFail,
        ResponseCode::Refused,
    ] {
        assert_eq!(coded(code), code);
    }
    assert_eq!(coded(ResponseCode::BADVERS), ResponseCode::ServFail);
    let cut = upstream(&forward, |reply| reply.metadata.truncation = true);
    assert!(decode(&forward.reply(7, &cut).unwrap()).metadata.truncation);
    let long = upstream(&forward, |reply| {
        reply.answers = vec![reply.answers[0].clone(); 200]
    });
    let reply = forward.reply(7, &long).unwrap();
    assert!(reply.len() <= 512 && decode(&reply).metadata.truncation);
}

#[test]
fn other_messages_are_not_taken_for_the_answer() {
    let forward = forward("example.com A");
    let right = upstream(&forward, |_| {});
    assert!(forward.reply(7, &right).is_some());
    assert!(forward.reply(8, &right).is_none(), "another query's");
    type Change = fn(&mut Message);
    let changes: [Change; 5] = [
        |reply| reply.metadata.message_type = MessageType::Query,
        |reply| reply.queries.clear(),
        |reply| reply.queries.push(reply.queries[0].clone()),
        |reply| reply.queries[0].name = Name::from_ascii("example.org.").unwrap(),
        |reply| reply.queries[0].query_type = RecordType::AAAA,
    ];
    for change in changes {
        assert!(forward.reply(7, &upstream(&forward, change)).is_none());
    }
    for end in 0..right.len() {
        assert!(forward.reply(7, &right[..end]).is_none(), "{end} bytes");
    }
}
