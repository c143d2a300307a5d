//! What each change comes to, and that the order of changes has no influence.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use agent::policies::{Changed, Index};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use network::Protocol;
use serde_json::{Value, json};

use crate::naive;
use crate::world::{ADDRESSES, NODE, OUTSIDE, apply, cluster, documents, judge};

fn named(names: &[&str]) -> Changed {
    let address = |name: &&str| ADDRESSES.iter().find(|(n, _)| n == name).unwrap().1;
    Changed {
        addresses: names.iter().map(address).collect(),
        ignored: Vec::new(),
    }
}

/// Tells the index of one object, written in YAML.
fn told(index: &mut Index, yaml: &str) -> Changed {
    apply(index, documents(yaml).remove(0))
}

const OPS_TO_DB: &str = "
metadata: {namespace: shop, name: ops}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}, podSelector: {matchLabels: {app: web}}}]}]";

const TO_DB: &str = "ops/web -> shop/db tcp/5432";

#[test]
fn a_policy_changes_the_pods_that_it_selects() {
    let mut index = cluster();
    assert_eq!(told(&mut index, OPS_TO_DB), named(&["shop/db"]));
    assert_eq!(told(&mut index, OPS_TO_DB), named(&[]), "nothing new");
    let moved = OPS_TO_DB.replacen("db", "api", 1);
    assert_eq!(told(&mut index, &moved), named(&["shop/db", "shop/api"]));
    assert_eq!(
        index.set_policy("shop", "ops", None),
        named(&["shop/api"]),
        "it is open again"
    );
    assert_eq!(index.set_policy("shop", "ops", None), named(&[]));
}

#[test]
fn policies_share_groups() {
    let mut index = cluster();
    let _ = told(&mut index, OPS_TO_DB);
    let _ = told(&mut index, &OPS_TO_DB.replace("name: ops", "name: other"));
    assert_eq!(index.groups(), 1);
    let _ = index.set_policy("shop", "ops", None);
    assert_eq!(judge(&index, TO_DB), "allowed", "the other still holds");
    let _ = told(
        &mut index,
        &OPS_TO_DB
            .replace("name: ops", "name: more")
            .replace("{app: web}", "{app: x}"),
    );
    assert_eq!(index.groups(), 2);
    for name in ["other", "more"] {
        let _ = index.set_policy("shop", name, None);
    }
    assert_eq!(index.groups(), 0);
}

#[test]
fn a_pod_changes_only_itself() {
    let mut index = cluster();
    let _ = told(&mut index, OPS_TO_DB);
    let pod = "{kind: Pod, metadata: {namespace: ops, name: web, labels: {app: LABEL}}, spec: {containers: []}, \
               status: {phase: PHASE, podIP: 10.128.1.1}}";
    let mut tell = |label: &str, phase: &str| {
        let yaml = pod.replace("LABEL", label).replace("PHASE", phase);
        let changed = told(&mut index, &yaml);
        (changed, judge(&index, TO_DB))
    };
    let mine = || named(&["ops/web"]);
    let _ = tell("web", "Running");
    let table = [
        ("web", "Running", named(&[]), "allowed"),
        ("cat", "Running", mine(), "not let in"),
        ("dog", "Running", named(&[]), "not let in"),
        ("web", "Pending", mine(), "allowed"),
        ("web", "Succeeded", mine(), "not let in"),
        ("web", "Failed", named(&[]), "not let in"),
    ];
    for (label, phase, changed, verdict) in table {
        assert_eq!(tell(label, phase), (changed, verdict), "{label} {phase}");
    }
    let _ = tell("web", "Running");
    assert_eq!(index.set_pod("ops", "web", None), mine());
    assert_eq!(judge(&index, TO_DB), "not let in");
}

#[test]
fn who_has_no_address_of_the_pods_network_is_nobody() {
    let mut index = Index::new();
    for status in ["{phase: Pending}", "{podIP: 'fd00::1'}", "{podIP: x}"] {
        let yaml = format!(
            "{{kind: Pod, metadata: {{namespace: a, name: b}}, spec: {{containers: []}}, status: {status}}}"
        );
        assert_eq!(told(&mut index, &yaml), named(&[]), "{status}");
    }
    let yaml = "{kind: Pod, metadata: {namespace: a, name: b}, spec: {containers: [], hostNetwork: true}, \
                status: {podIP: 192.168.0.1}}";
    assert_eq!(told(&mut index, yaml), named(&[]));
    assert_eq!(index.policies().pods(), 0);
    let second = "{kind: Pod, metadata: {namespace: a, name: b}, spec: {containers: []}, \
                  status: {podIP: 'fd00::1', podIPs: [{ip: 'fd00::1'}, {ip: 10.128.0.1}]}}";
    assert_eq!(told(&mut index, second), named(&["shop/web"]));
}

#[test]
fn a_namespace_changes_its_pods() {
    let mut index = cluster();
    let _ = told(&mut index, OPS_TO_DB);
    let ops = "{kind: Namespace, metadata: {name: ops, labels: {team: TEAM}}}";
    // Of its pods only one belongs to the group.
    for (team, verdict) in [("dev", "not let in"), ("ops", "allowed")] {
        let changed = told(&mut index, &ops.replace("TEAM", team));
        assert_eq!(changed, named(&["ops/web"]));
        assert_eq!(judge(&index, TO_DB), verdict);
    }
    assert_eq!(index.set_namespace("ops", None), named(&["ops/web"]));
    assert_eq!(judge(&index, TO_DB), "not let in", "no labels are known");
}

/// A watch of pods may tell of an address's next owner before it tells of the end of the one before.
#[test]
fn an_address_is_its_youngest_claimant_s() {
    let mut index = cluster();
    let _ = told(&mut index, OPS_TO_DB);
    let pod = "{kind: Pod, metadata: {namespace: ops, name: NAME, creationTimestamp: '2026-11-21T10:00:0TZ', \
               labels: {app: LABEL}}, spec: {containers: []}, status: {podIP: 10.128.1.1}}";
    let pod = |name, time, label| {
        pod.replace("NAME", name)
            .replace("0TZ", &format!("0{time}Z"))
            .replace("LABEL", label)
    };
    let _ = told(&mut index, &pod("web", "1", "web"));
    let _ = told(&mut index, &pod("a-new", "2", "new"));
    assert_eq!(judge(&index, TO_DB), "not let in");
    assert_eq!(told(&mut index, &pod("web", "1", "new")), named(&[]));
    assert_eq!(told(&mut index, &pod("web", "1", "web")), named(&[]));
    let _ = index.set_pod("ops", "a-new", None);
    assert_eq!(judge(&index, TO_DB), "allowed");
}

/// Draws that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn maybe(&mut self, of: Value) -> Value {
        if self.below(2) == 0 { of } else { Value::Null }
    }
}

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const POD_ADDRESSES: u8 = 8;

fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n as u8 + 1)
}

fn labels(dice: &mut Dice) -> Value {
    let (x, y) = (dice.one(&["1", "2"]), dice.one(&["1", "2"]));
    [
        json!({}),
        json!({"x": x}),
        json!({"y": y}),
        json!({"x": x, "y": y}),
    ][dice.below(4)]
    .clone()
}

fn selector(dice: &mut Dice) -> Value {
    let expression = json!({"key": dice.one(&["x", "y"]), "operator": "NotIn", "values": ["1"]});
    match dice.below(3) {
        0 => json!({ "matchExpressions": [expression] }),
        _ => json!({ "matchLabels": labels(dice) }),
    }
}

fn peer(dice: &mut Dice) -> Value {
    match dice.below(4) {
        0 => json!({"podSelector": selector(dice)}),
        1 => json!({"namespaceSelector": selector(dice)}),
        2 => json!({"namespaceSelector": selector(dice), "podSelector": selector(dice)}),
        _ => {
            json!({"ipBlock": {"cidr": "10.0.0.0/29", "except": [format!("{}/31", address(dice.below(6)))]}})
        }
    }
}

fn rule(dice: &mut Dice, side: &str) -> Value {
    let peers: Vec<_> = (0..dice.below(3)).map(|_| peer(dice)).collect();
    let port = dice.one(&[
        json!({"port": 80}),
        json!({"port": "http"}),
        json!({"port": 79, "endPort": 81, "protocol": "UDP"}),
    ]);
    let ports = dice.maybe(json!([port]));
    json!({side: peers, "ports": ports})
}

fn a_policy(dice: &mut Dice) -> Value {
    let ingress: Vec<_> = (0..dice.below(3)).map(|_| rule(dice, "from")).collect();
    let egress: Vec<_> = (0..dice.below(3)).map(|_| rule(dice, "to")).collect();
    let types = dice.one(&[
        Value::Null,
        json!(["Egress"]),
        json!(["Ingress"]),
        json!(["Ingress", "Egress"]),
    ]);
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {},
        "spec": {"podSelector": selector(dice), "ingress": ingress, "egress": egress, "policyTypes": types}})
}

fn a_pod(dice: &mut Dice) -> Value {
    let address = dice.below(usize::from(POD_ADDRESSES));
    let address = dice.one(&[
        json!(self::address(address)),
        json!(self::address(address)),
        Value::Null,
    ]);
    let created = format!("2026-11-21T10:00:0{}Z", dice.below(3));
    let phase = dice.one(&["Pending", "Running", "Running", "Running", "Succeeded"]);
    let port = json!({"name": "http", "containerPort": dice.one(&[80, 8080])});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": labels(dice), "creationTimestamp": created},
        "spec": {"containers": [{"name": "c", "ports": [port]}]},
        "status": {"phase": phase, "podIP": address, "hostIP": NODE}})
}

/// Everything there is, as the API server has it.
#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) pods: BTreeMap<(&'static str, usize), Pod>,
    pub(crate) namespaces: BTreeMap<&'static str, Namespace>,
    pub(crate) policies: BTreeMap<(&'static str, usize), NetworkPolicy>,
}

impl Objects {
    /// Makes, changes or removes one object, and tells the index.
    fn change(&mut self, dice: &mut Dice, index: &mut Index) -> Changed {
        let (namespace, n) = (dice.one(&NAMESPACES), dice.below(4));
        let (name, stays) = (format!("o{n}"), dice.below(4) > 0);
        match dice.below(5) {
            0 | 1 => {
                let pod = stays.then(|| serde_json::from_value::<Pod>(a_pod(dice)).unwrap());
                keep(&mut self.pods, (namespace, n), &pod);
                index.set_pod(namespace, &name, pod.as_ref())
            }
            2 => {
                let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"labels": labels(dice)}});
                let object = stays.then(|| serde_json::from_value::<Namespace>(object).unwrap());
                keep(&mut self.namespaces, namespace, &object);
                index.set_namespace(namespace, object.as_ref())
            }
            _ => {
                let policy =
                    stays.then(|| serde_json::from_value::<NetworkPolicy>(a_policy(dice)).unwrap());
                keep(&mut self.policies, (namespace, n), &policy);
                index.set_policy(namespace, &name, policy.as_ref())
            }
        }
    }

    /// The index that is told of all of it in another order.
    fn index(&self) -> Index {
        let mut index = Index::new();
        for ((namespace, n), policy) in self.policies.iter().rev() {
            let _ = index.set_policy(namespace, &format!("o{n}"), Some(policy));
        }
        for ((namespace, n), pod) in self.pods.iter().rev() {
            let _ = index.set_pod(namespace, &format!("o{n}"), Some(pod));
        }
        for (name, namespace) in &self.namespaces {
            let _ = index.set_namespace(name, Some(namespace));
        }
        index
    }
}

fn keep<K: Ord, V: Clone>(map: &mut BTreeMap<K, V>, key: K, value: &Option<V>) {
    match value {
        Some(value) => _ = map.insert(key, value.clone()),
        None => _ = map.remove(&key),
    }
}

type Connection = (Ipv4Addr, SocketAddrV4, Protocol);

/// Everybody's connections to everybody.
fn connections() -> Vec<Connection> {
    let all: Vec<Ipv4Addr> = (0..usize::from(POD_ADDRESSES))
        .map(address)
        .chain([NODE, OUTSIDE])
        .collect();
    let ports = [
        (80, Protocol::Tcp),
        (80, Protocol::Udp),
        (8080, Protocol::Tcp),
        (1, Protocol::Tcp),
    ];
    let mut found = Vec::new();
    for (from, to) in all.iter().flat_map(|f| all.iter().map(move |t| (*f, *t))) {
        found.extend(ports.map(|(port, by)| (from, SocketAddrV4::new(to, port), by)));
    }
    found
}

/// Which of them may pass.
fn verdicts(index: &Index) -> Vec<(Connection, bool)> {
    let policies = index.policies();
    let judged = |(from, to, by)| policies.judge(from, to, by).is_allowed();
    let connections = connections().into_iter();
    connections.map(|c| (c, judged(c))).collect()
}

/// How many groups, pods and memberships there are.
fn kept(index: &Index) -> (usize, usize, usize) {
    let policies = index.policies();
    let pods = (0..usize::from(POD_ADDRESSES)).filter_map(|n| policies.get(address(n)));
    let memberships = pods.map(|pod| pod.groups.len()).sum();
    (index.groups(), policies.pods(), memberships)
}

#[test]
fn changes_one_by_one_come_to_the_same_as_all_at_once() {
    let (mut dice, mut objects, mut index) = (
        Dice(0x9e37_79b9_7f4a_7c15),
        Objects::default(),
        Index::new(),
    );
    let mut before = verdicts(&index);
    let (mut turned, mut denied) = (0, 0);
    for step in 0..3000 {
        let changed = objects.change(&mut dice, &mut index).addresses;
        let (now, fresh) = (verdicts(&index), objects.index());
        for ((from, to, by), found) in now.iter().filter(|_| step % 10 == 0) {
            let expected = naive::allows(&objects, *from, *to, *by);
            assert_eq!(*found, expected, "step {step}: {from} to {to} {by:?}");
        }
        assert_eq!(now, verdicts(&fresh), "after step {step}");
        assert_eq!(kept(&index), kept(&fresh), "after step {step}");
        for (was, (is, _)) in before.iter().zip(&now).filter(|(was, is)| was != is) {
            let ends: BTreeSet<Ipv4Addr> = [is.0, *is.1.ip()].into();
            assert!(
                !ends.is_disjoint(&changed),
                "step {step}: {was:?}, and nobody was told: {changed:?}"
            );
            turned += 1;
        }
        denied += now.iter().filter(|(_, allowed)| !allowed).count();
        before = now;
    }
    // Otherwise it would have shown nothing.
    assert!(
        turned > 10_000 && denied > 100_000,
        "{turned} turned, {denied} denied"
    );

    for namespace in NAMESPACES {
        for name in (0..4).map(|n| format!("o{n}")) {
            let _ = index.set_pod(namespace, &name, None);
            let _ = index.set_policy(namespace, &name, None);
        }
        let _ = index.set_namespace(namespace, None);
    }
    assert_eq!(kept(&index), (0, 0, 0), "all is forgotten");
}
