//! The policies that people write, and what each lets pass.

use agent::policies::Changed;

use crate::world::{apply, cluster, documents, judge};

/// What it is called, the policies (of `shop` unless they say otherwise), and what becomes of connections.
const RECIPES: &[(&str, &str, &str)] = &[
    (
        "no policy at all",
        "",
        "shop/web -> shop/db tcp/5432: allowed
         outside -> shop/db udp/1: allowed
         shop/db -> outside tcp/443: allowed",
    ),
    (
        "default deny ingress: nobody comes in, everybody goes out",
        "{spec: {podSelector: {}, policyTypes: [Ingress]}}",
        "shop/web -> shop/db tcp/5432: not let in
         ops/web -> shop/web tcp/8080: not let in
         outside -> shop/web tcp/8080: not let in
         shop/web -> outside tcp/443: allowed
         shop/web -> ops/web tcp/80: allowed
         shop/web -> shop/web tcp/8080: allowed
         shop/web -> 127.0.0.1 tcp/8080: allowed
         node -> shop/web tcp/8080: not let in",
    ),
    (
        "what does not say its types is about ingress alone, if it has no egress rules",
        "{spec: {podSelector: {matchLabels: {app: db}}}}",
        "shop/web -> shop/db tcp/5432: not let in
         shop/db -> outside tcp/443: allowed
         shop/web -> shop/api tcp/9090: allowed",
    ),
    (
        "and about both, if it has",
        "{spec: {podSelector: {matchLabels: {app: db}}, egress: [{}]}}",
        "shop/web -> shop/db tcp/5432: not let in
         shop/db -> outside tcp/443: allowed",
    ),
    (
        "ingress rules of a policy that is about egress only are nobody's",
        "{spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Egress], ingress: [{}]}}",
        "shop/web -> shop/db tcp/5432: allowed
         shop/db -> shop/web tcp/8080: not let out",
    ),
    (
        "a policy without a spec is about what comes in to all pods of its namespace",
        "{}",
        "outside -> shop/web tcp/8080: not let in
         outside -> ops/web tcp/8080: allowed
         shop/web -> outside tcp/443: allowed",
    ),
    (
        "allow all ingress, whatever else denies",
        "{metadata: {name: deny}, spec: {podSelector: {}}}
---
{metadata: {name: allow}, spec: {podSelector: {}, ingress: [{}]}}",
        "outside -> shop/db tcp/5432: allowed
         ops/web -> shop/web udp/53: allowed",
    ),
    (
        "deny all egress: both ends are asked, the source's first",
        "{spec: {podSelector: {}, policyTypes: [Egress]}}
---
{metadata: {name: in, namespace: ops}, spec: {podSelector: {}}}",
        "shop/web -> shop/db tcp/5432: not let out
         shop/web -> outside tcp/443: not let out
         shop/web -> node tcp/10250: not let out
         shop/web -> ops/web tcp/80: not let out
         kube-system/dns -> ops/web tcp/80: not let in
         outside -> shop/db tcp/5432: allowed
         shop/web -> shop/web tcp/80: allowed",
    ),
    (
        "from pods of the same namespace: a podSelector alone does not reach beyond it",
        "{spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {}}]}]}}",
        "shop/web -> shop/db tcp/5432: allowed
         shop/api -> shop/db udp/1: allowed
         ops/web -> shop/db tcp/5432: not let in
         outside -> shop/db tcp/5432: not let in",
    ),
    (
        "from a namespace",
        "{spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: ops}}}]}]}}",
        "ops/web -> shop/db tcp/5432: allowed
         ops/monitor -> shop/web tcp/8080: allowed
         shop/web -> shop/db tcp/5432: not let in
         kube-system/dns -> shop/db tcp/5432: not let in",
    ),
    (
        "from every namespace is not from everywhere",
        "{spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}}",
        "ops/web -> shop/db tcp/5432: allowed
         shop/web -> shop/db tcp/5432: allowed
         outside -> shop/db tcp/5432: not let in",
    ),
    (
        "both selectors in one peer: such pods of such namespaces",
        "
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {team: ops}}
      podSelector: {matchLabels: {app: web}}",
        "ops/web -> shop/db tcp/5432: allowed
         ops/monitor -> shop/db tcp/5432: not let in
         shop/web -> shop/db tcp/5432: not let in",
    ),
    (
        "in two peers: all pods of such namespaces, and such pods of this one",
        "
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {team: ops}}
    - podSelector: {matchLabels: {app: web}}",
        "ops/web -> shop/db tcp/5432: allowed
         ops/monitor -> shop/db tcp/5432: allowed
         shop/web -> shop/db tcp/5432: allowed
         shop/api -> shop/db tcp/5432: not let in
         kube-system/dns -> shop/db tcp/5432: not let in",
    ),
    (
        "expressions",
        "
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [db, api]}]}
  ingress:
  - from:
    - namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}
      podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}, {key: app, operator: NotIn, values: [monitor]}]}",
        "shop/web -> shop/db tcp/5432: allowed
         shop/api -> shop/db tcp/5432: not let in
         ops/web -> shop/api tcp/9090: allowed
         ops/monitor -> shop/api tcp/9090: not let in
         kube-system/dns -> shop/api tcp/9090: not let in
         outside -> shop/web tcp/8080: allowed",
    ),
    (
        "ports and ranges of them; TCP unless it says otherwise",
        "
spec:
  podSelector: {}
  ingress:
  - ports:
    - {port: 80}
    - {port: 32000, endPort: 32768}
    - {port: 53, protocol: UDP}",
        "outside -> shop/web tcp/80: allowed
         outside -> shop/web udp/80: not let in
         outside -> shop/web tcp/81: not let in
         outside -> shop/web tcp/31999: not let in
         outside -> shop/web tcp/32000: allowed
         outside -> shop/web tcp/32768: allowed
         outside -> shop/web tcp/32769: not let in
         outside -> shop/web udp/32000: not let in
         outside -> shop/web udp/53: allowed
         outside -> shop/web tcp/53: not let in",
    ),
    (
        "a protocol alone means all its ports",
        "{spec: {podSelector: {}, ingress: [{ports: [{protocol: UDP}]}]}}",
        "outside -> shop/web udp/1: allowed
         outside -> shop/web udp/65535: allowed
         outside -> shop/web tcp/1: not let in",
    ),
    (
        "peers and ports of one rule must hold together, those of two not",
        "
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: api}}}]
    ports: [{port: 5432}]
  - from: [{namespaceSelector: {matchLabels: {team: ops}}}]
    ports: [{port: 9187}]",
        "shop/api -> shop/db tcp/5432: allowed
         shop/api -> shop/db tcp/9187: not let in
         ops/monitor -> shop/db tcp/9187: allowed
         ops/monitor -> shop/db tcp/5432: not let in",
    ),
    (
        "a port's name is the destination's, each one's own",
        "{spec: {podSelector: {}, ingress: [{ports: [{port: http}]}]}}
---
{metadata: {name: out, namespace: ops}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: http}]}]}}",
        "outside -> shop/web tcp/8080: allowed
         outside -> shop/web tcp/9090: not let in
         outside -> shop/web udp/8080: not let in
         outside -> shop/api tcp/9090: allowed
         outside -> shop/db tcp/5432: not let in
         ops/web -> shop/api tcp/9090: allowed
         ops/web -> shop/api tcp/8080: not let out
         ops/web -> outside tcp/8080: not let out",
    ),
    (
        "an address block means outside addresses and pods' alike, and its exceptions win",
        "
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from:
    - ipBlock: {cidr: 203.0.113.0/24, except: [203.0.113.128/25]}
    - ipBlock: {cidr: 10.128.0.0/16, except: [10.128.1.0/24]}",
        "outside -> shop/web tcp/8080: allowed
         203.0.113.127 -> shop/web tcp/8080: allowed
         203.0.113.128 -> shop/web tcp/8080: not let in
         203.0.114.1 -> shop/web tcp/8080: not let in
         shop/api -> shop/web tcp/8080: allowed
         ops/web -> shop/web tcp/8080: not let in",
    ),
    (
        "an exception of one peer is none of another's",
        "
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from:
    - ipBlock: {cidr: 0.0.0.0/0, except: [10.128.1.0/24]}
    - ipBlock: {cidr: 10.128.1.2/32}",
        "ops/web -> shop/web tcp/8080: not let in
         ops/monitor -> shop/web tcp/8080: allowed
         outside -> shop/web tcp/8080: allowed",
    ),
    (
        "several policies add up, each about some of the pods",
        "{metadata: {name: deny}, spec: {podSelector: {}}}
---
{metadata: {name: web}, spec: {podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 8080}]}]}}
---
{metadata: {name: back}, spec: {podSelector: {matchLabels: {tier: back}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}}
---
{metadata: {name: db}, spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 5432}]}]}}",
        "outside -> shop/web tcp/8080: allowed
         outside -> shop/web tcp/9999: not let in
         shop/web -> shop/api tcp/9090: allowed
         shop/web -> shop/db tcp/1: allowed
         shop/api -> shop/db tcp/5432: allowed
         shop/api -> shop/db tcp/1: not let in
         shop/db -> shop/api tcp/9090: not let in",
    ),
    (
        "egress to DNS only",
        "
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
      podSelector: {matchLabels: {k8s-app: kube-dns}}
    ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]",
        "shop/web -> kube-system/dns udp/53: allowed
         shop/web -> kube-system/dns tcp/53: allowed
         shop/web -> kube-system/dns tcp/9153: not let out
         shop/web -> shop/db udp/53: not let out
         shop/web -> outside udp/53: not let out
         ops/web -> outside udp/53: allowed",
    ),
    (
        "out to the world, not to the cluster",
        "
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress:
  - to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 192.168.0.0/16]}}]
    ports: [{port: 443}]",
        "shop/web -> outside tcp/443: allowed
         shop/web -> outside tcp/80: not let out
         shop/web -> shop/db tcp/443: not let out
         shop/web -> node tcp/443: not let out",
    ),
];

#[test]
fn recipes() {
    let mut wrong = Vec::new();
    for (title, policies, connections) in RECIPES {
        let mut index = cluster();
        for mut policy in documents(policies).into_iter().filter(|p| p.is_mapping()) {
            for (field, value) in [("namespace", "shop"), ("name", "p")] {
                if policy["metadata"][field].is_null() {
                    policy["metadata"][field] = value.into();
                }
            }
            assert_eq!(apply(&mut index, policy).ignored, [""; 0], "{title}");
        }
        for line in connections.lines() {
            let (connection, expected) = line.trim().split_once(": ").expect(line);
            let found = judge(&index, connection);
            if found != expected {
                wrong.push(format!("{title}: {connection}: {found}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The API lets nothing of this in. Should it come nevertheless it lets nothing pass, and is named.
#[test]
fn what_cannot_be_read_lets_nothing_pass() {
    let table = [
        (
            "{ports: [{protocol: SCTP}]}",
            "spec.ingress[0]: port 0: protocol SCTP is not supported",
        ),
        (
            "{ports: [{port: 70000}]}",
            "spec.ingress[0]: port 0: 70000 is no port",
        ),
        (
            "{ports: [{port: 1, endPort: -5}]}",
            "spec.ingress[0]: port 0: -5 is no port",
        ),
        (
            "{from: [{ipBlock: {cidr: 'fd00::/129'}}]}",
            "spec.ingress[0]: peer 0: \"fd00::/129\" is not a range of addresses",
        ),
        (
            "{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [x]}}]}",
            "spec.ingress[0]: peer 0: \"x\" is not a range of addresses",
        ),
        (
            "{from: [{}]}",
            "spec.ingress[0]: peer 0: neither ipBlock nor a selector",
        ),
        (
            "{from: [{ipBlock: {cidr: 0.0.0.0/0}, podSelector: {}}]}",
            "spec.ingress[0]: peer 0: both ipBlock and another peer",
        ),
        (
            "{from: [{podSelector: {matchExpressions: [{key: a, operator: Perhaps}]}}]}",
            "spec.ingress[0]: peer 0: \"Perhaps\" is not a valid label selector operator",
        ),
    ];
    for (rule, why) in table {
        let mut index = cluster();
        let Changed { addresses, ignored } = apply(&mut index, policy_with(rule));
        assert_eq!(ignored, [why], "{rule}");
        assert_eq!(addresses.len(), 3, "the pods of shop are isolated: {rule}");
        for port in ["tcp/1", "tcp/65535", "udp/1"] {
            let found = judge(&index, &format!("ops/web -> shop/web {port}"));
            assert_eq!(found, "not let in", "{rule}");
        }
    }
    // What can be read beside it holds.
    let mut index = cluster();
    let rule = "{ports: [{protocol: SCTP, port: 80}, {port: 80}]}";
    assert_eq!(apply(&mut index, policy_with(rule)).ignored.len(), 1);
    assert_eq!(judge(&index, "ops/web -> shop/web tcp/80"), "allowed");
    // A range that ends before it begins is empty.
    let rule = "{ports: [{port: 80, endPort: 79}]}";
    assert_eq!(apply(&mut index, policy_with(rule)).ignored, [""; 0]);
    assert_eq!(judge(&index, "ops/web -> shop/web tcp/80"), "not let in");
}

fn policy_with(rule: &str) -> serde_yaml::Value {
    let text = format!(
        "{{metadata: {{namespace: shop, name: p}}, spec: {{podSelector: {{}}, ingress: [{rule}]}}}}"
    );
    documents(&text).remove(0)
}
