use super::*;

const WEB: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 1);
const SHOP: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 2);
const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const SHOPS: Group = Group(7);

fn rules(rules: impl IntoIterator<Item = Rule>) -> Isolation {
    Isolation::Only(rules.into_iter().map(Arc::new).collect())
}

fn only(groups: &[Group], blocks: &[Block]) -> Peers {
    Peers::Only {
        groups: groups.iter().copied().collect(),
        blocks: blocks.to_vec(),
    }
}

/// The policies of a cluster where only [`WEB`] has any; [`SHOP`] belongs to [`SHOPS`].
fn of_web(ingress: Isolation, egress: Isolation) -> Policies {
    let policies = Policies::default();
    let named = |name: &str, protocol, number| NamedPort {
        name: name.to_owned(),
        protocol,
        number,
    };
    let web = PodPolicy {
        ingress,
        egress,
        node: Some(NODE),
        ports: vec![
            named("http", Protocol::Tcp, 8080),
            named("dns", Protocol::Udp, 53),
        ],
        ..PodPolicy::default()
    };
    let shop = PodPolicy {
        groups: [SHOPS].into(),
        ports: vec![named("http", Protocol::Tcp, 9090)],
        ..PodPolicy::default()
    };
    policies.update([(WEB, Some(web)), (SHOP, Some(shop))]);
    policies
}

fn tcp(policies: &Policies, from: Ipv4Addr, to: Ipv4Addr, port: u16) -> Verdict {
    policies.judge(from, SocketAddrV4::new(to, port), Protocol::Tcp)
}

#[test]
fn isolation_is_a_matter_of_each_direction() {
    const IN: Verdict = Verdict::Denied(Direction::Ingress);
    const OUT: Verdict = Verdict::Denied(Direction::Egress);
    const YES: Verdict = Verdict::Allowed;
    let none = || Isolation::None;
    // What SHOP's call to WEB and WEB's to SHOP and outside come to.
    let table = [
        (none(), none(), [YES, YES, YES]),
        (rules([]), none(), [IN, YES, YES]),
        (none(), rules([]), [YES, OUT, OUT]),
        (rules([]), rules([]), [IN, OUT, OUT]),
    ];
    for (ingress, egress, expected) in table {
        let policies = of_web(ingress, egress);
        let found =
            [(SHOP, WEB), (WEB, SHOP), (WEB, OUTSIDE)].map(|(f, t)| tcp(&policies, f, t, 80));
        assert_eq!(found, expected);
        assert_eq!(tcp(&policies, WEB, WEB, 80), YES, "itself");
        let (by_node, to_node) = (tcp(&policies, NODE, WEB, 80), tcp(&policies, WEB, NODE, 80));
        let as_others = [expected[0], expected[2]];
        assert_eq!([by_node, to_node], as_others, "others may have its name");
        assert_eq!(
            tcp(&policies, SHOP, OUTSIDE, 80),
            YES,
            "nobody knows of rules"
        );
    }
}

#[test]
fn each_end_judges_its_own_direction() {
    let policies = of_web(rules([]), rules([]));
    let at = |ip| SocketAddrV4::new(ip, 80);
    assert!(policies.egress(SHOP, at(WEB), Protocol::Tcp).is_allowed());
    assert!(!policies.ingress(SHOP, at(WEB), Protocol::Tcp).is_allowed());
    assert!(!policies.egress(WEB, at(SHOP), Protocol::Tcp).is_allowed());
    assert!(policies.ingress(WEB, at(SHOP), Protocol::Tcp).is_allowed());
    assert!(!policies.egress(WEB, at(NODE), Protocol::Tcp).is_allowed());
}

#[test]
fn a_rule_asks_for_peer_and_port_together() {
    let shops_at_80 = Rule {
        peers: only(&[SHOPS, Group(8)], &[]),
        ports: Ports::Only(vec![Port::Range(Protocol::Tcp, 80..=80)]),
    };
    let outside_at_443 = Rule {
        peers: only(&[], &[Block::new("203.0.113.0/24", []).unwrap()]),
        ports: Ports::Only(vec![Port::Range(Protocol::Tcp, 443..=443)]),
    };
    let policies = of_web(rules([shops_at_80, outside_at_443]), Isolation::None);
    let table = [
        (SHOP, 80, true),
        (SHOP, 443, false),
        (OUTSIDE, 443, true),
        (OUTSIDE, 80, false),
    ];
    for (from, port, expected) in table {
        let verdict = tcp(&policies, from, WEB, port);
        assert_eq!(verdict.is_allowed(), expected, "{from} at {port}");
    }
    // Who is in no group any more is let in no more.
    policies.update([(SHOP, Some(PodPolicy::default()))]);
    assert!(!tcp(&policies, SHOP, WEB, 80).is_allowed());
    policies.update([(WEB, None)]);
    assert!(tcp(&policies, SHOP, WEB, 80).is_allowed());
    assert_eq!(policies.pods(), 1);
}

#[test]
fn a_port_s_name_is_what_the_destination_calls_it() {
    let http = Rule {
        peers: Peers::Everyone,
        ports: Ports::Only(vec![Port::Named(Protocol::Tcp, "http".to_owned())]),
    };
    let policies = of_web(rules([http.clone()]), rules([http]));
    let table = [
        (SHOP, WEB, Protocol::Tcp, 8080, true),
        (SHOP, WEB, Protocol::Udp, 8080, false),
        (SHOP, WEB, Protocol::Tcp, 9090, false),
        (WEB, SHOP, Protocol::Tcp, 9090, true),
        (WEB, SHOP, Protocol::Tcp, 8080, false),
        (WEB, OUTSIDE, Protocol::Tcp, 8080, false),
    ];
    for (from, to, protocol, port, expected) in table {
        let verdict = policies.judge(from, SocketAddrV4::new(to, port), protocol);
        assert_eq!(
            verdict.is_allowed(),
            expected,
            "{from} to {to}:{port} {protocol:?}"
        );
    }
}

#[test]
fn blocks() {
    let table: &[(&str, &[&str], &str, bool)] = &[
        ("0.0.0.0/0", &[], "255.255.255.255", true),
        ("10.1.2.3/32", &[], "10.1.2.3", true),
        ("10.1.2.3/32", &[], "10.1.2.2", false),
        ("10.1.2.3/8", &[], "10.255.0.0", true),
        ("10.0.0.0/8", &["10.1.0.0/16"], "10.1.0.0", false),
        ("10.0.0.0/8", &["10.1.0.0/16"], "10.0.255.255", true),
        ("0.0.0.0/0", &[], "2001:db8::1", false),
        ("::/0", &[], "10.0.0.1", false),
        ("::/0", &[], "ffff::1", true),
        ("2001:db8::/32", &[], "2001:db8:ffff::1", true),
        ("2001:db8::/32", &[], "2001:db9::", false),
        ("2001:db8::7/128", &[], "2001:db8::7", true),
        ("2001:db8::7/128", &[], "2001:db8::6", false),
        (
            "2001:db8::/32",
            &["2001:db8:1::/48"],
            "2001:db8:1::9",
            false,
        ),
        ("2001:db8::/32", &["2001:db8:1::/48"], "2001:db8:2::9", true),
        (
            "10.0.0.0/8",
            &["10.1.0.0/16", "10.2.0.0/16"],
            "10.2.255.255",
            false,
        ),
    ];
    for (cidr, except, address, expected) in table {
        let block = Block::new(cidr, except.iter().copied()).unwrap();
        let found = block.contains(address.parse().unwrap());
        assert_eq!(found, *expected, "{address} in {block:?}");
    }
    for bad in [
        "",
        "10.0.0.0",
        "10.0.0.0/33",
        "10.0.0.0/+8",
        "10.0.0.0/",
        "10.0.0.0/-1",
        "fd00::/129",
        "fd00::",
        "[fd00::]/8",
        "10.0.0/8",
        "010.0.0.0/8",
        "10.0.0.0/99999999999",
    ] {
        assert!(Block::new(bad, []).is_err(), "{bad}");
        assert!(Block::new("10.0.0.0/8", [bad]).is_err(), "except {bad}");
    }
}

#[test]
fn while_it_is_shut_nobody_reaches_another() {
    let policies = of_web(Isolation::None, Isolation::None);
    policies.shut(true);
    let denied = Verdict::Denied(Direction::Egress);
    for (from, to) in [(SHOP, WEB), (WEB, OUTSIDE)] {
        assert_eq!(tcp(&policies, from, to, 8080), denied);
    }
    let inwards = policies.ingress(SHOP, SocketAddrV4::new(WEB, 8080), Protocol::Udp);
    assert_eq!(inwards, Verdict::Denied(Direction::Ingress));
    assert_eq!(tcp(&policies, WEB, WEB, 8080), Verdict::Allowed);
    policies.shut(false);
    assert_eq!(tcp(&policies, SHOP, WEB, 8080), Verdict::Allowed);
}
