use std::net::SocketAddr;

use super::*;
use crate::Table;
use crate::entrance::Claimant;
use crate::services::Place;
use crate::table::Meaning;

const ONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// A second address of the second node.
const FURTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

fn name(name: &str) -> Name {
    Name {
        namespace: "d".to_owned(),
        name: name.to_owned(),
    }
}

fn node(name: &str, pods: &str, addresses: &[Ipv4Addr]) -> Node {
    Node {
        name: name.to_owned(),
        pods: pods.parse().ok(),
        link: addresses.first().map(|ip| SocketAddr::from((*ip, 7000))),
        addresses: addresses.to_vec(),
    }
}

/// The cluster of two nodes as a node sees it.
fn table_of(seen_from: &str) -> Table {
    let mut table = Table::new(Place {
        node: seen_from.to_owned(),
        zone: None,
    });
    for node in [
        node("n1", "10.128.1.0/24", &[ONE]),
        node("n2", "10.128.2.0/24", &[TWO, FURTHER]),
    ] {
        table.nodes.set(&node.name.clone(), Some(node));
    }
    table
}

/// As the second of them does.
fn table() -> Table {
    table_of("n2")
}

fn tcp(address: Option<Ipv4Addr>, port: u16) -> HostPort {
    HostPort {
        protocol: Protocol::Tcp,
        address,
        port,
        to: 8080,
    }
}

fn asks(node: &str, since: i64, address: [u8; 4], ports: &[HostPort]) -> Option<PodPorts> {
    Some(PodPorts {
        node: node.to_owned(),
        since,
        address: address.into(),
        ports: ports.to_vec(),
    })
}

/// Where a port at a node's address leads to.
fn leads(table: &Table, address: Ipv4Addr, port: u16) -> Option<String> {
    let at = SocketAddrV4::new(address, port);
    let found = table.published(Protocol::Tcp, at)?;
    match found {
        crate::table::Published::Pod(to) => Some(to.to_string()),
        crate::table::Published::Service(_) => Some("a Service".to_owned()),
    }
}

#[test]
fn a_port_is_its_own_nodes() {
    let mut table = table();
    let ports = [tcp(None, 80), tcp(Some(FURTHER), 81), tcp(Some(ONE), 82)];
    let pod = asks("n2", 1, [10, 128, 2, 9], &ports);
    table.host_ports.set(&name("p"), pod);
    let to = Some("10.128.2.9:8080");
    for (address, port, due) in [
        (TWO, 80, to),
        (FURTHER, 80, None),
        (FURTHER, 81, to),
        (TWO, 81, None),
        // That address is another node's.
        (ONE, 82, None),
        (TWO, 82, None),
    ] {
        let found = leads(&table, address, port);
        assert_eq!(found.as_deref(), due, "{address}:{port}");
    }
    let wanted = table.published_here();
    let held: Vec<_> = wanted.ports.keys().map(|(_, at)| at.to_string()).collect();
    assert_eq!(held, ["192.0.2.2:80", "198.51.100.2:81"]);
    // The node has other addresses now, and a range of its own only later.
    let changed = node("n2", "10.128.2.0/24", &[FURTHER, ONE]);
    table.nodes.set("n1", None);
    table.nodes.set("n2", Some(changed));
    let found = [(FURTHER, 80), (FURTHER, 81), (ONE, 82), (TWO, 80)]
        .map(|(address, port)| leads(&table, address, port).is_some());
    assert_eq!(found, [true, true, true, false]);
    table.nodes.set("n2", Some(node("n2", "", &[FURTHER])));
    assert_eq!(leads(&table, FURTHER, 81), None);
    assert!(table.published_here().ports.is_empty());
}

#[test]
fn a_node_speaks_neither_for_other_nodes_ports_nor_of_what_is_not_its_pods() {
    for to in [
        [127, 0, 0, 1],
        [192, 0, 2, 2],
        [203, 0, 113, 1],
        [10, 128, 2, 9],
    ] {
        let mut table = table();
        // It also says that it has the other's address.
        let liar = node("n1", "10.128.1.0/24", &[ONE, TWO]);
        table.nodes.set("n1", Some(liar));
        let ports = [tcp(None, 4444), tcp(Some(TWO), 4445)];
        table.host_ports.set(&name("p"), asks("n1", 1, to, &ports));
        let led = [(ONE, 4444), (TWO, 4444), (TWO, 4445)]
            .map(|(address, port)| leads(&table, address, port));
        assert_eq!(led, [None, None, None], "{to:?}");
        assert!(table.published_here().ports.is_empty(), "{to:?}");
    }
    // To a pod of its own it may lead, by its own address alone.
    let mut table = table();
    let liar = node("n1", "10.128.1.0/24", &[ONE, TWO]);
    table.nodes.set("n1", Some(liar));
    let ports = [tcp(Some(ONE), 4444), tcp(Some(TWO), 4445)];
    let pod = asks("n1", 1, [10, 128, 1, 9], &ports);
    table.host_ports.set(&name("p"), pod);
    let led = [(ONE, 4444), (TWO, 4445)].map(|(address, port)| leads(&table, address, port));
    assert_eq!(led, [Some("10.128.1.9:8080".to_owned()), None]);
    assert!(table.published_here().ports.is_empty());
}

/// Whoever else has an address that a node says is its own: connections to there are not led to that node.
#[test]
fn third_nodes_take_a_nodes_word_for_the_address_of_its_links_alone() {
    let mut table = table_of("n3");
    let liar = node("n1", "10.128.1.0/24", &[ONE, TWO, FURTHER]);
    table.nodes.set("n1", Some(liar));
    let ports = [tcp(None, 443), tcp(Some(TWO), 443), tcp(Some(FURTHER), 443)];
    let pod = asks("n1", 1, [10, 128, 1, 9], &ports);
    table.host_ports.set(&name("p"), pod);
    let led = [ONE, TWO, FURTHER].map(|address| leads(&table, address, 443));
    assert_eq!(led, [Some("10.128.1.9:8080".to_owned()), None, None]);
    for address in [TWO, FURTHER] {
        let meaning = table.meaning(SocketAddrV4::new(address, 443), Protocol::Tcp);
        assert!(matches!(meaning, Meaning::Itself), "{address}: {meaning:?}");
    }
    // The other's own is found there, by that address and not by a further one.
    let ports = [tcp(None, 443), tcp(Some(FURTHER), 443)];
    let pod = asks("n2", 2, [10, 128, 2, 9], &ports);
    table.host_ports.set(&name("q"), pod);
    let led = [TWO, FURTHER].map(|address| leads(&table, address, 443));
    assert_eq!(led, [Some("10.128.2.9:8080".to_owned()), None]);
}

#[test]
fn the_oldest_has_a_port_and_others_are_told_who() {
    let mut table = table();
    let older = asks("n2", 1, [10, 128, 2, 9], &[tcp(None, 80)]);
    let newer = asks("n2", 2, [10, 128, 2, 8], &[tcp(Some(TWO), 80)]);
    table.host_ports.set(&name("z"), older.clone());
    table.host_ports.set(&name("a"), newer);
    let at = (Protocol::Tcp, SocketAddrV4::new(TWO, 80));
    let wanted = table.published_here();
    assert_eq!(wanted.ports.get(&at), Some(&Claimant::Pod(name("z"))));
    let shut_out = [((at, name("a")), Claimant::Pod(name("z")))];
    assert_eq!(wanted.shut_out, BTreeMap::from(shut_out));
    assert_eq!(leads(&table, TWO, 80).as_deref(), Some("10.128.2.9:8080"));
    // What its node cannot have is in nobody's way.
    let elsewhere = asks("n2", 1, [10, 128, 1, 9], &[tcp(None, 80)]);
    table.host_ports.set(&name("z"), elsewhere);
    assert_eq!(leads(&table, TWO, 80).as_deref(), Some("10.128.2.8:8080"));
    assert!(table.published_here().shut_out.is_empty());
    table.host_ports.set(&name("z"), older);
    assert_eq!(leads(&table, TWO, 80).as_deref(), Some("10.128.2.9:8080"));
    // The next has it when that one goes.
    table.host_ports.set(&name("z"), None);
    assert_eq!(leads(&table, TWO, 80).as_deref(), Some("10.128.2.8:8080"));
    table.host_ports.set(&name("a"), None);
    assert_eq!(leads(&table, TWO, 80), None);
    assert!(table.host_ports.by_node.is_empty() && table.host_ports.by_pod.is_empty());
}
