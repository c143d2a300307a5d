//! Services' rules as tables: who is chosen, from where, and what changes do.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use tokio::time::Instant;

use super::*;

const CLUSTER: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 9);

fn name(name: &str) -> Name {
    Name {
        namespace: "default".to_owned(),
        name: name.to_owned(),
    }
}

fn here() -> Place {
    Place {
        node: "n1".to_owned(),
        zone: Some("a".to_owned()),
    }
}

fn service() -> Service {
    Service {
        cluster: vec![CLUSTER],
        ports: vec![ServicePort {
            name: "web".to_owned(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30_080),
        }],
        ..Service::default()
    }
}

/// `last/state@node`, and what hints say: `7/ready@n1 node=n1 zone=a`.
fn endpoint(text: &str) -> Endpoint {
    let mut words = text.split(' ');
    let (last, rest) = words.next().unwrap().split_once('/').unwrap();
    let (state, node) = rest.split_once('@').unwrap();
    let mut endpoint = Endpoint {
        address: Some(Ipv4Addr::new(10, 128, 0, last.parse().unwrap())),
        ready: state == "ready",
        serving: state == "ready" || state == "draining",
        terminating: state == "draining" || state == "ending",
        node: Some(node.to_owned()),
        ..Endpoint::default()
    };
    for hint in words {
        let (what, value) = hint.split_once('=').unwrap();
        match what {
            "node" => endpoint.for_nodes.push(value.to_owned()),
            _ => endpoint.for_zones.push(value.to_owned()),
        }
    }
    endpoint
}

fn slice(endpoints: &[&str]) -> Slice {
    Slice {
        ports: vec![("web".to_owned(), Protocol::Tcp, 8080)],
        endpoints: endpoints.iter().map(|e| endpoint(e)).collect(),
    }
}

fn of(service: Service, endpoints: &[&str]) -> Services {
    let mut services = Services::new(here());
    services.set_slice(&name("s"), "s-1", Some(slice(endpoints)));
    services.set_service(&name("s"), Some(service));
    services
}

/// The last numbers of those who are chosen over and over, in order.
fn chosen(services: &Services, from: Origin) -> Vec<u8> {
    let (backends, _) = services.at(CLUSTER, Protocol::Tcp, 80).expect("a Service");
    let mut all = backends.choose(from, CLIENT, Instant::now());
    all.sort();
    assert!(all.iter().all(|at| at.port() == 8080));
    all.iter().map(|at| at.ip().octets()[3]).collect()
}

#[test]
fn who_counts_as_a_backend() {
    for (endpoints, inside) in [
        (vec![], vec![]),
        (vec!["1/ready@n1", "2/ready@n2", "3/unready@n2"], vec![1, 2]),
        // Who is on its way out serves as long as nobody else does.
        (vec!["1/draining@n1", "2/ready@n2"], vec![2]),
        (
            vec!["1/draining@n1", "2/ending@n2", "3/unready@n1"],
            vec![1],
        ),
        (vec!["1/unready@n1"], vec![]),
    ] {
        let services = of(service(), &endpoints);
        assert_eq!(chosen(&services, Origin::Inside), inside, "{endpoints:?}");
        assert_eq!(chosen(&services, Origin::Outside), inside, "{endpoints:?}");
    }
}

#[test]
fn policies_bind_to_the_node() {
    let inside = Service {
        internal_local: true,
        ..service()
    };
    let outside = Service {
        external_local: true,
        ..service()
    };
    let endpoints = ["1/ready@n1", "2/ready@n2"];
    for (service, from, due) in [
        (&inside, Origin::Inside, vec![1]),
        (&inside, Origin::Outside, vec![1, 2]),
        (&inside, Origin::InsideByOutside, vec![1, 2]),
        (&outside, Origin::Inside, vec![1, 2]),
        (&outside, Origin::Outside, vec![1]),
        (&outside, Origin::InsideByOutside, vec![1, 2]),
    ] {
        let services = of(service.clone(), &endpoints);
        assert_eq!(chosen(&services, from), due, "{from:?}");
    }
    // Nobody here: nobody at all, not somebody elsewhere.
    let services = of(inside.clone(), &["2/ready@n2"]);
    assert_eq!(chosen(&services, Origin::Inside), []);
    let services = of(inside, &["1/draining@n1", "2/ready@n2"]);
    assert_eq!(chosen(&services, Origin::Inside), [1]);
}

#[test]
fn hints_count_where_all_have_them() {
    let prefers_node = Service {
        prefers_node: true,
        ..service()
    };
    for (service, endpoints, due) in [
        (
            service(),
            vec!["1/ready@n1 zone=a", "2/ready@n2 zone=b"],
            vec![1],
        ),
        (
            service(),
            vec!["1/ready@n1 zone=a", "2/ready@n2"],
            vec![1, 2],
        ),
        (
            service(),
            vec!["1/ready@n1 zone=c", "2/ready@n2 zone=b"],
            vec![1, 2],
        ),
        (
            service(),
            vec!["1/ready@n1 zone=a node=n1", "2/ready@n2 zone=a node=n2"],
            vec![1, 2],
        ),
        (
            prefers_node.clone(),
            vec!["1/ready@n1 zone=a node=n1", "2/ready@n2 zone=a node=n2"],
            vec![1],
        ),
        (
            prefers_node.clone(),
            vec!["3/ready@n3 zone=a node=n3", "2/ready@n2 zone=b node=n2"],
            vec![3],
        ),
        // Hints of those who are not ready do not count.
        (
            prefers_node,
            vec!["1/ready@n1 node=n1", "2/unready@n2"],
            vec![1],
        ),
        // Where nobody near is ready, and nobody else, those that drain serve.
        (service(), vec!["1/draining@n2 zone=b"], vec![1]),
    ] {
        let services = of(service, &endpoints);
        assert_eq!(chosen(&services, Origin::Inside), due, "{endpoints:?}");
    }
}

#[test]
fn each_backend_gets_as_many_connections() {
    let services = of(service(), &["1/ready@n1", "2/ready@n2", "3/ready@n3"]);
    let (backends, _) = services.at(CLUSTER, Protocol::Tcp, 80).unwrap();
    let mut met: BTreeMap<SocketAddrV4, usize> = BTreeMap::new();
    for _ in 0..300 {
        let order = backends.choose(Origin::Inside, CLIENT, Instant::now());
        assert_eq!(order.len(), 3, "all are tried");
        *met.entry(order[0]).or_default() += 1;
    }
    assert!(met.values().all(|n| *n == 100), "{met:?}");
}

#[test]
fn a_client_stays_with_whom_it_met() {
    let stays = Service {
        affinity: Some(Duration::from_secs(10)),
        ..service()
    };
    let mut services = of(stays, &["1/ready@n1", "2/ready@n2", "3/ready@n3"]);
    let start = Instant::now();
    let first = |services: &Services, seconds: u64| {
        let (backends, _) = services.at(CLUSTER, Protocol::Tcp, 80).unwrap();
        let now = start + Duration::from_secs(seconds);
        let first = backends.choose(Origin::Inside, CLIENT, now)[0];
        backends.met(CLIENT, first, now);
        first
    };
    let met = first(&services, 0);
    for seconds in [1, 9, 18] {
        assert_eq!(first(&services, seconds), met, "after {seconds} s");
    }
    // Others' coming and going changes nothing; its own does.
    let last = met.ip().octets()[3];
    let own = format!("{last}/ready@n1");
    let grown = slice(&[&own, "9/ready@n2"]);
    services.set_slice(&name("s"), "s-1", Some(grown));
    assert_eq!(first(&services, 19), met);
    services.set_slice(&name("s"), "s-1", Some(slice(&["9/ready@n2"])));
    assert_ne!(first(&services, 20), met);
    services.set_slice(&name("s"), "s-1", Some(slice(&[&own])));
    assert_eq!(first(&services, 40), met);
}

#[test]
fn what_comes_and_goes() {
    let mut services = Services::new(here());
    let at = |services: &Services| services.at(CLUSTER, Protocol::Tcp, 80).is_some();
    services.set_service(&name("s"), Some(service()));
    assert!(at(&services) && services.has_address(CLUSTER));
    assert_eq!(chosen(&services, Origin::Inside), []);
    assert!(services.at(CLUSTER, Protocol::Udp, 80).is_none());
    assert!(services.at(CLUSTER, Protocol::Tcp, 81).is_none());
    assert_eq!(
        services.node_ports().collect::<Vec<_>>(),
        [(Protocol::Tcp, 30_080, &name("s"))]
    );
    services.set_slice(&name("s"), "s-1", Some(slice(&["1/ready@n1"])));
    services.set_slice(
        &name("s"),
        "s-2",
        Some(slice(&["1/ready@n1", "2/ready@n2"])),
    );
    assert_eq!(
        chosen(&services, Origin::Inside),
        [1, 2],
        "in two slices, once"
    );
    services.set_slice(&name("s"), "s-2", None);
    assert_eq!(chosen(&services, Origin::Inside), [1]);
    // Another that claims the address has it once the first is gone.
    services.set_service(&name("t"), Some(service()));
    services.set_slice(&name("t"), "t-1", Some(slice(&["7/ready@n1"])));
    assert_eq!(chosen(&services, Origin::Inside), [1]);
    services.set_service(&name("s"), None);
    assert_eq!(chosen(&services, Origin::Inside), [7]);
    services.set_service(&name("t"), None);
    assert!(!at(&services) && !services.has_address(CLUSTER));
    assert!(services.at_node_port(Protocol::Tcp, 30_080).is_none());
    services.set_slice(&name("s"), "s-1", None);
    services.set_slice(&name("t"), "t-1", None);
    assert!(services.known.is_empty(), "nothing is kept of what is gone");
}

#[test]
fn a_node_that_moves_sees_others_as_near() {
    let mut services = of(service(), &["1/ready@n1 zone=a", "2/ready@n2 zone=b"]);
    services.set_place(Place {
        node: "n1".to_owned(),
        zone: Some("b".to_owned()),
    });
    assert_eq!(chosen(&services, Origin::Inside), [2]);
}
