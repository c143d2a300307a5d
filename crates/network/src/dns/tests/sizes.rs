//! How long replies get, and what goes when they would get longer.

use super::*;
use crate::names::tests::{headless, ip, slice};
use crate::names::{Endpoint, Protocol, Slice};

/// A headless Service `many` with so many endpoints.
fn crowd(endpoints: u32) -> Names {
    let mut names = cluster();
    names.set_service("shop", "many", headless());
    let endpoint = |number: u32| Endpoint {
        address: (u32::from(ip("10.128.0.1")) + number).into(),
        hostname: Some(format!("many-{number}")),
        ready: true,
    };
    let ports = slice(&[], &[("sql", Protocol::Tcp, 5432)]).ports;
    let endpoints = (0..endpoints).map(endpoint).collect();
    names.set_slice("shop", "many", "many-1", Slice { endpoints, ports });
    names
}

fn ask(question: &str, size: Option<u16>, names: &Names, over: Over) -> (usize, Message) {
    let mut query = query(question);
    query.edns = size.map(edns);
    let Answer::Reply(bytes) = answer(&query.to_vec().unwrap(), names, over, 0) else {
        panic!("{question}")
    };
    (bytes.len(), Message::from_vec(&bytes).unwrap())
}

#[test]
fn datagrams_are_as_long_as_who_asks_can_take_and_networks_carry() {
    const NAME: &str = "many.shop.svc.cluster.local";
    // Before the first record: the header, and the question with its name.
    const START: usize = 12 + NAME.len() + 2 + 4;
    let names = crowd(1_000);
    for (size, most) in [
        (None, 512),
        (Some(0), 512),
        (Some(511), 512),
        (Some(700), 700),
        (Some(1_232), 1_232),
        (Some(1_233), 1_232),
        (Some(u16::MAX), 1_232),
    ] {
        let (length, reply) = ask(&format!("{NAME} A"), size, &names, Over::Udp);
        let edns = if size.is_some() { 11 } else { 0 };
        let fit = (most - START - edns) / 16;
        assert_eq!(
            (length, reply.answers.len()),
            (START + edns + fit * 16, fit),
            "{size:?}"
        );
        assert!(reply.metadata.truncation);
        assert_eq!(
            reply.edns.map(|edns| edns.max_payload()),
            size.map(|_| EDNS_SIZE)
        );
    }
    let (length, reply) = ask(&format!("{NAME} A"), None, &names, Over::Tcp);
    assert_eq!((length, reply.answers.len()), (START + 16_000, 1_000));
    assert!(!reply.metadata.truncation, "a stream has room");
}

#[test]
fn no_message_is_longer_than_a_stream_can_say() {
    let names = crowd(5_000);
    let (length, reply) = ask(
        "many.shop.svc.cluster.local A",
        Some(1_232),
        &names,
        Over::Tcp,
    );
    assert!(length <= 65_535 && length > 65_000, "{length}");
    assert!(reply.metadata.truncation && reply.edns.is_some());
    let (length, reply) = ask(
        "_sql._tcp.many.shop.svc.cluster.local SRV",
        Some(1_232),
        &names,
        Over::Tcp,
    );
    assert!(length <= 65_535 && length > 65_000, "{length}");
    assert!(reply.metadata.truncation && reply.edns.is_some() && reply.additionals.is_empty());
}

#[test]
fn what_is_only_added_goes_without_a_word() {
    let question = "_sql._tcp.many.shop.svc.cluster.local SRV";
    let added = |endpoints| {
        let (length, reply) = ask(question, Some(512), &crowd(endpoints), Over::Udp);
        assert!(length <= 512);
        assert!(reply.edns.is_some(), "never dropped");
        let is_whole = reply.answers.len() == endpoints as usize;
        assert_eq!(reply.metadata.truncation, !is_whole);
        (is_whole, reply.additionals.len())
    };
    assert_eq!(added(4), (true, 4));
    let (is_whole, some) = added(7);
    assert!(is_whole && (1..7).contains(&some), "{some}");
    assert_eq!(added(40), (false, 0));
}

#[test]
fn edns_is_answered_in_kind() {
    let names = cluster();
    let mut query = query("web.shop.svc.cluster.local A");
    let mut theirs = edns(4_096);
    theirs.set_dnssec_ok(true);
    query.edns = Some(theirs);
    let ours = reply_to(&query.to_vec().unwrap(), &names, Over::Udp)
        .edns
        .unwrap();
    assert_eq!(
        (ours.version(), ours.max_payload(), ours.flags().dnssec_ok),
        (0, EDNS_SIZE, true)
    );
    assert!(ours.options().as_ref().is_empty());
}
