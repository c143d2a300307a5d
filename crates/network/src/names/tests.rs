//! One small cluster, how it changes, and what its names stand for then. What each name answers stands in the table of
//! `dns/tests.rs`.

use super::search::{Decision, Hosts, Search};
use super::*;

pub(crate) fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn ports(all: &[(&str, Protocol, u16)]) -> Vec<Port> {
    let port = |(name, protocol, number): &(&str, Protocol, u16)| Port {
        name: (*name).to_owned(),
        protocol: *protocol,
        number: *number,
    };
    all.iter().map(port).collect()
}

/// An endpoint as `address`, `address=hostname`, or `address!` where it is not ready.
pub(crate) fn slice(endpoints: &[&str], all: &[(&str, Protocol, u16)]) -> Slice {
    let endpoint = |text: &&str| {
        let (ready, text) = match text.strip_suffix('!') {
            Some(text) => (false, text),
            None => (true, *text),
        };
        let (address, hostname) = match text.split_once('=') {
            Some((address, hostname)) => (address, Some(hostname.to_owned())),
            None => (text, None),
        };
        Endpoint {
            address: ip(address),
            hostname,
            ready,
        }
    };
    Slice {
        endpoints: endpoints.iter().map(endpoint).collect(),
        ports: ports(all),
    }
}

pub(crate) fn cluster_ip(address: &str) -> Service {
    let all = [
        ("http", Protocol::Tcp, 80),
        ("time", Protocol::Udp, 123),
        ("", Protocol::Tcp, 81),
    ];
    Service {
        kind: ServiceKind::ClusterIp(ip(address)),
        ports: ports(&all),
    }
}

pub(crate) fn headless() -> Service {
    Service {
        kind: ServiceKind::Headless,
        ports: ports(&[("sql", Protocol::Tcp, 5432)]),
    }
}

pub(crate) fn external(target: &str) -> Service {
    Service {
        kind: ServiceKind::ExternalName(target.to_owned()),
        ports: Vec::new(),
    }
}

/// Namespace `shop`: `web` with an address, `db` without, `idle` with nobody ready, and external names.
pub(crate) fn cluster() -> Names {
    let ranges = ["10.96.0.0/16", "10.128.0.0/14"].map(|range| range.parse().unwrap());
    let mut names = Names::new("Cluster.Local.", &ranges).unwrap();
    let sql = [("sql", Protocol::Tcp, 15432)];
    names.set_service("shop", "web", cluster_ip("10.96.0.10"));
    names.set_slice(
        "shop",
        "web",
        "web-1",
        slice(&["10.128.0.5"], &[("http", Protocol::Tcp, 8080)]),
    );
    names.set_service("shop", "db", headless());
    names.set_slice(
        "shop",
        "db",
        "db-a",
        slice(&["10.128.0.9=DB-0", "10.128.0.2", "10.128.0.3!"], &sql),
    );
    names.set_slice(
        "shop",
        "db",
        "db-b",
        slice(&["10.129.0.7=db-1", "10.128.0.2"], &sql),
    );
    names.set_service("shop", "idle", headless());
    names.set_slice("shop", "idle", "idle-1", slice(&["10.128.0.4!"], &sql));
    for (name, target) in [
        ("docs", "Docs.Example.com."),
        ("front", "web.shop.svc.cluster.local"),
        ("lost", "nobody.shop.svc.cluster.local"),
        ("circle", "circle.shop.svc.cluster.local"),
        ("number", "192.0.2.1"),
        ("wrong", "no..name"),
    ] {
        names.set_service("shop", name, external(target));
    }
    names.set_service("old", "mainframe", headless());
    names.set_slice("old", "mainframe", "m", slice(&["192.0.2.7"], &[]));
    names
}

/// What a name stands for, in a word.
fn show(names: &Names, name: &str) -> String {
    match names.lookup(name) {
        Lookup::Outside => "outside".to_owned(),
        Lookup::Missing(zone) => format!("missing in {zone}"),
        Lookup::Node(_, node) => {
            let addresses = node
                .addresses(0)
                .into_iter()
                .map(|address| address.to_string());
            let names = node.pointers().iter().cloned();
            addresses.chain(names).collect::<Vec<_>>().join(" ")
        }
    }
}

const MISSING: &str = "missing in cluster.local";

#[test]
fn changes_come_in_any_order_and_leave_nothing_behind() {
    let mut names = Names::new("cluster.local", &[]).unwrap();
    let check = |names: &Names, service: &str, host: &str, reverse: &str| {
        assert_eq!(show(names, "db.shop.svc.cluster.local"), service);
        assert_eq!(show(names, "db-0.db.shop.svc.cluster.local"), host);
        assert_eq!(show(names, "1.0.128.10.in-addr.arpa"), reverse);
    };
    let pointer = "db-0.db.shop.svc.cluster.local";
    names.set_slice("shop", "db", "s", slice(&["10.128.0.1=db-0"], &[]));
    check(&names, MISSING, MISSING, "outside");
    names.set_service("shop", "db", headless());
    check(&names, "10.128.0.1", "10.128.0.1", pointer);
    names.set_slice(
        "shop",
        "db",
        "t",
        slice(&["10.128.0.1=db-0", "10.128.0.6"], &[]),
    );
    check(&names, "10.128.0.1 10.128.0.6", "10.128.0.1", pointer);
    names.remove_slice("shop", "s");
    check(&names, "10.128.0.1 10.128.0.6", "10.128.0.1", pointer);
    // An endpoint that is not ready any more has no name.
    names.set_slice(
        "shop",
        "db",
        "t",
        slice(&["10.128.0.1=db-0!", "10.128.0.6"], &[]),
    );
    check(&names, "10.128.0.6", MISSING, "outside");
    // A slice is given to another Service.
    names.set_slice("shop", "other", "t", slice(&["10.128.0.1=db-0"], &[]));
    check(&names, MISSING, MISSING, "outside");
    names.set_slice("shop", "db", "t", slice(&["10.128.0.1=db-0"], &[]));
    // A Service gets an address: its endpoints keep their names, and lose their pointers.
    names.set_service("shop", "db", cluster_ip("10.96.0.1"));
    check(&names, "10.96.0.1", "10.128.0.1", "outside");
    assert_eq!(
        show(&names, "1.0.96.10.in-addr.arpa"),
        "db.shop.svc.cluster.local"
    );
    names.set_service("shop", "db", cluster_ip("10.128.0.1"));
    check(
        &names,
        "10.128.0.1",
        "10.128.0.1",
        "db.shop.svc.cluster.local",
    );
    assert_eq!(show(&names, "1.0.96.10.in-addr.arpa"), "outside");
    let changes = names.changes();
    names.remove_service("shop", "db");
    assert_ne!(names.changes(), changes);
    check(&names, MISSING, MISSING, "outside");
    assert_eq!(
        show(&names, "shop.svc.cluster.local"),
        MISSING,
        "no Service is left"
    );
    names.remove_slice("shop", "t");
    names.remove_slice("shop", "t");
    names.remove_service("nowhere", "db");
    assert!(
        names.namespaces.is_empty() && names.cluster_ips.is_empty() && names.holders.is_empty()
    );
}

#[test]
fn an_address_that_is_handed_on_has_two_services_for_a_while() {
    let mut names = Names::new("cluster.local", &[]).unwrap();
    names.set_service("shop", "old", cluster_ip("10.96.0.1"));
    names.set_service("shop", "new", cluster_ip("10.96.0.1"));
    names.remove_service("shop", "old");
    assert_eq!(
        show(&names, "1.0.96.10.in-addr.arpa"),
        "new.shop.svc.cluster.local"
    );
}

#[test]
fn addresses_begin_with_another_one_at_every_turn() {
    let names = cluster();
    let Lookup::Node(_, node) = names.lookup("db.shop.svc.cluster.local") else {
        panic!("db is there")
    };
    let cluster = ["10.128.0.9", "10.128.0.2", "10.129.0.7"].map(ip);
    for turn in 0..7 {
        let mut expected = cluster;
        expected.rotate_left(turn % 3);
        assert_eq!(node.addresses(turn), expected);
        assert_eq!(node.servers(turn)[0].address, expected[0]);
    }
    assert_eq!(node.addresses(usize::MAX)[0], cluster[usize::MAX % 3]);
}

#[test]
fn domains_are_names() {
    for domain in [
        "",
        ".",
        "a..b",
        "cluster.local..",
        "cluster local",
        "é",
        &"a.".repeat(200),
    ] {
        assert!(Names::new(domain, &[]).is_err(), "{domain:?}");
    }
    assert_eq!(cluster().domain(), "cluster.local");
}

fn hosts() -> Hosts {
    let mut hosts = Hosts::new();
    hosts.add("web-0", ip("10.128.0.5"));
    hosts.add("Printer.Office", ip("192.0.2.9"));
    hosts.add("printer.office", ip("192.0.2.10"));
    hosts
}

/// Steps as `10.0.0.1+10.0.0.2` for addresses found, `?name` for a question outside and `-` for nothing.
fn steps(search: &Search, name: &str) -> String {
    let steps = search
        .decide(&cluster(), name, 1)
        .into_iter()
        .map(|step| match step {
            Decision::Found(addresses) => {
                let addresses = addresses.iter().map(std::net::IpAddr::to_string);
                addresses.collect::<Vec<_>>().join("+")
            }
            Decision::Outside(name) => format!("?{name}"),
            Decision::NotFound => "-".to_owned(),
        });
    steps.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_pod_finds_names_by_its_search_list() {
    let search = Search::cluster_first(hosts(), "shop", "cluster.local");
    for (name, expected) in [
        // As in its /etc/hosts, before anything else.
        ("localhost", "127.0.0.1+::1"),
        ("LOCALHOST.", "127.0.0.1+::1"),
        ("web-0", "10.128.0.5"),
        ("printer.office", "192.0.2.9+192.0.2.10"),
        // Addresses are no names.
        ("192.0.2.200", "192.0.2.200"),
        // From the own namespace to the whole cluster.
        ("web", "10.96.0.10"),
        ("WEB", "10.96.0.10"),
        ("web.shop", "10.96.0.10"),
        ("web.shop.svc", "10.96.0.10"),
        ("web.shop.svc.cluster.local", "10.96.0.10"),
        ("web.shop.svc.cluster.local.", "10.96.0.10"),
        ("db", "10.128.0.2+10.129.0.7+10.128.0.9"),
        ("db-1.db", "10.129.0.7"),
        ("10-128-0-2.db", "10.128.0.2"),
        ("10-1-2-3.shop.pod", "10.1.2.3"),
        // External names lead on, inside and outside.
        ("front", "10.96.0.10"),
        ("docs", "?docs.example.com ?docs -"),
        ("docs.shop.svc.cluster.local.", "?docs.example.com -"),
        ("circle.shop.svc.cluster.local.", "-"),
        ("lost.shop.svc.cluster.local.", "-"),
        // What the cluster does not know may be known outside, and is asked for as it is.
        ("example.com", "?example.com -"),
        ("example.com.", "?example.com -"),
        ("a.b.c.d.e.example.com", "?a.b.c.d.e.example.com -"),
        ("web.", "?web -"),
        ("web.elsewhere.svc.cluster.local.", "-"),
        ("shop.svc.cluster.local.", "-"),
        // No names at all.
        ("", "-"),
        (".", "-"),
        ("a..b", "-"),
        ("a b", "-"),
    ] {
        assert_eq!(steps(&search, name), expected, "{name:?}");
    }
    let long = "a".repeat(64);
    assert_eq!(steps(&search, &long), "-");
    assert_eq!(steps(&search, &"a.".repeat(130)), "-");
}

#[test]
fn a_pods_dns_config_adds_to_its_policy() {
    let more = [
        "Example.com.".to_owned(),
        "svc.cluster.local".to_owned(),
        "a..b".to_owned(),
    ];
    let search = Search::cluster_first(hosts(), "old", "cluster.local").and_searches(&more);
    assert_eq!(steps(&search, "www"), "?www.example.com ?www -");
    assert_eq!(steps(&search, "web.shop"), "10.96.0.10");
    // A name with as many dots as `ndots` is tried as it is first.
    let search = search.with_ndots(1);
    assert_eq!(steps(&search, "www.sub"), "?www.sub ?www.sub.example.com -");
    assert_eq!(steps(&search, "web.shop"), "?web.shop 10.96.0.10");
    let none = Search::none(hosts());
    assert_eq!(steps(&none, "web"), "?web -");
    assert_eq!(steps(&none, "web.shop.svc.cluster.local"), "10.96.0.10");
    let host = Search::host(hosts());
    assert_eq!(
        steps(&host, "web.shop.svc.cluster.local"),
        "?web.shop.svc.cluster.local -"
    );
    assert_eq!(steps(&host, "localhost"), "127.0.0.1+::1");
}

#[test]
fn search_lists_grow_only_as_far_as_kubernetes_lets_them() {
    let many: Vec<String> = (0..100)
        .map(|number| format!("d{number}.example"))
        .collect();
    let search = Search::none(Hosts::new()).and_searches(&many);
    // And the name as it is, and that nobody knows it.
    assert_eq!(search.decide(&cluster(), "www", 0).len(), 32 + 2);
    let long: Vec<String> = (0..32)
        .map(|number| format!("{}.d{number}", ["a"; 60].join(".")))
        .collect();
    let search = Search::none(Hosts::new()).and_searches(&long);
    assert_eq!(
        search.decide(&cluster(), "www", 0).len(),
        16 + 2,
        "2,048 characters"
    );
}
