//! Who may do what.

use super::*;
use crate::ca::{MASTERS, NODES, SERVERS};

fn ask<'a>(line: &'a str) -> Attributes<'a> {
    // VERB GROUP/RESOURCE[:SUB] NAMESPACE/NAME [NODE]
    let mut words = line.split_whitespace();
    let verb = words.next().unwrap();
    let (group, resource) = words.next().unwrap().split_once('/').unwrap();
    let (resource, subresource) = resource.split_once(':').unwrap_or((resource, ""));
    let (namespace, name) = words.next().unwrap().split_once('/').unwrap();
    Attributes {
        verb,
        group,
        resource,
        subresource,
        namespace,
        name,
        node_name: words.next(),
        absent: false,
        claim: None,
        disk: None,
    }
}

fn index() -> NodeIndex {
    let mut index = NodeIndex::default();
    let pod = br#"{"spec":{"nodeName":"n1","serviceAccountName":"sa","containers":[
        {"name":"c","envFrom":[{"secretRef":{"name":"env"}}]}],
        "volumes":[{"name":"v","configMap":{"name":"cm"}},
            {"name":"d","persistentVolumeClaim":{"claimName":"data-cm"}}]}}"#;
    index.put("ns", "mine", pod);
    index.put(
        "ns",
        "other",
        &String::from_utf8_lossy(pod)
            .replace("n1", "n2")
            .replace("cm", "theirs")
            .into_bytes(),
    );
    let class = br#"{"metadata":{"name":"carob"},"spec":{"controller":"carob.dev/ingress"}}"#;
    index.certificates.put_class("carob", class);
    for (class, secret) in [("carob", "cert"), ("nginx", "others-cert")] {
        let ingress = format!(
            r#"{{"spec":{{"ingressClassName":"{class}","tls":[{{"secretName":"{secret}"}}]}}}}"#
        );
        index.certificates.put("ns", class, ingress.as_bytes());
    }
    index
}

/// What is allowed where no role is.
fn allowed(identity: &Identity, asked: &Attributes<'_>, nodes: &NodeIndex) -> bool {
    decide(
        identity,
        asked,
        nodes,
        &rbac::Index::default(),
        Allowed::Bare,
    )
    .allowed
}

#[test]
fn a_node_may_do_its_work_and_no_more() {
    let node = Identity::new("system:node:n1", [NODES]);
    let index = index();
    for line in [
        "create /nodes /",
        "get /nodes /n1",
        "watch /nodes /n1",
        "patch /nodes:status /n1",
        "create coordination.k8s.io/leases kube-node-lease/",
        "update coordination.k8s.io/leases kube-node-lease/n1",
        "list /pods / n1",
        "watch /pods / n1",
        "watch /pods ns/mine n1",
        "get /pods ns/mine",
        "patch /pods:status ns/mine",
        "create /pods ns/",
        "delete /pods ns/mine",
        "get /configmaps ns/cm",
        "watch /configmaps ns/cm",
        "list /configmaps / n1",
        "watch /configmaps / n1",
        "list /secrets / n1",
        "watch /secrets / n1",
        "get /secrets ns/env",
        "watch /secrets ns/cert",
        "get /serviceaccounts ns/sa",
        "create /events ns/",
        "patch events.k8s.io/events ns/e",
        "list /services /",
        "watch discovery.k8s.io/endpointslices /",
        "get /namespaces /ns",
        "create /serviceaccounts:token ns/sa",
        "create /pods:eviction ns/mine",
        "get /persistentvolumeclaims ns/data-cm",
        "get storage.k8s.io/csinodes /n1",
        "create storage.k8s.io/csinodes /",
        "update storage.k8s.io/csinodes /n1",
        "patch storage.k8s.io/csinodes /n1",
        "delete storage.k8s.io/csinodes /n1",
        "create certificates.k8s.io/certificatesigningrequests /",
        "get certificates.k8s.io/certificatesigningrequests /csr",
        "list certificates.k8s.io/certificatesigningrequests /",
        "watch certificates.k8s.io/certificatesigningrequests /",
        "get /endpoints ns/e",
        "list storage.k8s.io/csidrivers /",
        "watch node.k8s.io/runtimeclasses /",
        "create authorization.k8s.io/subjectaccessreviews /",
        "create authentication.k8s.io/tokenreviews /",
    ] {
        assert!(allowed(&node, &ask(line), &index), "{line}");
    }
    for line in [
        "get /nodes /n2",
        "list /nodes /",
        "delete /nodes /n1",
        "patch /nodes:status /n2",
        "update coordination.k8s.io/leases kube-node-lease/n2",
        "update coordination.k8s.io/leases default/n1",
        "list /pods /",
        "list /pods / n2",
        "watch /pods ns/other n1",
        "list /pods /mine n1",
        "get /pods ns/other",
        "delete /pods ns/other",
        "patch /pods:status ns/other",
        "update /pods ns/mine",
        "create /pods:binding ns/mine",
        "get /pods:log ns/mine",
        "get /configmaps ns/theirs",
        "list /configmaps ns/",
        "list /configmaps /",
        "watch /secrets /",
        "list /configmaps / n2",
        "watch /configmaps / n2",
        "list /secrets / n2",
        "watch /secrets / n2",
        "list /secrets ns/ n1",
        "watch /secrets ns/theirs n1",
        "get /secrets / n1",
        "deletecollection /secrets / n1",
        "list /serviceaccounts / n1",
        "get /secrets elsewhere/env",
        "update /secrets ns/env",
        "get /secrets ns/others-cert",
        "update /secrets ns/cert",
        "list /events ns/",
        "create /serviceaccounts:token ns/other",
        "create /serviceaccounts:token elsewhere/sa",
        "create /serviceaccounts:token ns/",
        "create /serviceaccounts ns/",
        "create /pods:eviction ns/other",
        "get /persistentvolumeclaims ns/data-theirs",
        "list /persistentvolumeclaims ns/",
        "watch /persistentvolumeclaims ns/data-cm",
        "update /persistentvolumeclaims ns/data-cm",
        "get /persistentvolumes /pv",
        "list /persistentvolumes /",
        "update certificates.k8s.io/certificatesigningrequests /csr",
        "delete certificates.k8s.io/certificatesigningrequests /csr",
        "update certificates.k8s.io/certificatesigningrequests:approval /csr",
        "list /endpoints ns/",
        "get storage.k8s.io/csinodes /n2",
        "create storage.k8s.io/csinodes /n2",
        "patch storage.k8s.io/csinodes /n2",
        "list storage.k8s.io/csinodes /",
        "create authorization.k8s.io/selfsubjectaccessreviews /",
        "create rbac.authorization.k8s.io/clusterrolebindings /",
        "list apps/deployments ns/",
    ] {
        assert!(!allowed(&node, &ask(line), &index), "{line}");
    }
}

#[test]
fn a_node_reads_the_volume_of_a_claim_that_its_pod_mounts() {
    let node = Identity::new("system:node:n1", [NODES]);
    for (verb, claim, may) in [
        ("get", Some(("ns", "data-cm")), true),
        ("get", Some(("ns", "data-theirs")), false),
        ("get", Some(("elsewhere", "data-cm")), false),
        ("get", None, false),
        ("watch", Some(("ns", "data-cm")), false),
        ("update", Some(("ns", "data-cm")), false),
    ] {
        let asked = Attributes {
            verb,
            resource: "persistentvolumes",
            name: "pv",
            claim,
            ..Attributes::default()
        };
        assert_eq!(allowed(&node, &asked, &index()), may, "{verb} {claim:?}");
    }
}

#[test]
fn a_node_keeps_the_volumes_on_its_own_disk() {
    let node = Identity::new("system:node:n1", [NODES]);
    for (verb, name, disk, may) in [
        ("get", "pv", Some("n1"), true),
        ("get", "pv", Some("n2"), false),
        ("list", "", Some("n1"), true),
        ("watch", "", Some("n1"), true),
        ("list", "", Some("n2"), false),
        ("watch", "", Some("n1,x=y"), false),
        ("list", "", None, false),
        ("patch", "pv", Some("n1"), true),
        ("update", "pv", Some("n1"), true),
        ("patch", "pv", Some("n2"), false),
        ("patch", "pv", None, false),
        ("patch", "", Some("n1"), false),
        ("delete", "pv", Some("n1"), false),
        ("deletecollection", "", Some("n1"), false),
        ("create", "", Some("n1"), false),
    ] {
        let asked = Attributes {
            verb,
            resource: "persistentvolumes",
            name,
            disk,
            ..Attributes::default()
        };
        let index = index();
        assert_eq!(
            allowed(&node, &asked, &index),
            may,
            "{verb} {name} {disk:?}"
        );
        let of_status = Attributes {
            subresource: "status",
            ..asked
        };
        assert!(
            !allowed(&node, &of_status, &index),
            "{verb} {name} {disk:?}"
        );
    }
}

#[test]
fn masters_and_servers_may_all_and_others_nothing() {
    let index = index();
    for line in [
        "delete /nodes /n1",
        "list /secrets /",
        "create /pods:eviction ns/mine",
    ] {
        assert!(
            allowed(&Identity::new("a", [MASTERS]), &ask(line), &index),
            "{line}"
        );
        assert!(
            allowed(&Identity::new("b", [SERVERS]), &ask(line), &index),
            "{line}"
        );
        for nobody in [
            Identity::new("jane", ["dev"]),
            Identity::anonymous(),
            // A node's group without a node's name, and the reverse.
            Identity::new("system:node:", [NODES]),
            Identity::new("system:node:n1", ["dev"]),
        ] {
            assert!(!allowed(&nobody, &ask(line), &index), "{line} {nobody:?}");
        }
    }
}

#[test]
fn what_roles_give_and_how_it_is_said() {
    let mut rights = rbac::Index::default();
    let mut put = |kind, name: &str, json: &str| rights.put(kind, "", name, json.as_bytes());
    put(
        rbac::Kind::Role,
        "reader",
        r#"{"rules":[{"verbs":["list"],"apiGroups":["apps"],"resources":["deployments"]},
            {"verbs":["get"],"nonResourceURLs":["/version"]}]}"#,
    );
    let to = |role: &str, group: &str| {
        format!(
            r#"{{"roleRef":{{"kind":"ClusterRole","name":"{role}"}},"subjects":[{{"kind":"Group","name":"{group}"}}]}}"#
        )
    };
    put(rbac::Kind::Binding, "b", &to("reader", "system:nodes"));
    put(
        rbac::Kind::Binding,
        "c",
        &to("reader", "system:unauthenticated"),
    );
    put(rbac::Kind::Binding, "d", &to("gone", "dev"));
    let nodes = index();
    let decide =
        |who: &Identity, line| decide(who, &ask(line), &nodes, &rights, Allowed::Explained);
    let node = Identity::new("system:node:n1", [NODES]);
    let list = "list apps/deployments ns/";
    let reason = r#"RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "reader" to Group "system:nodes""#;
    assert_eq!(decide(&node, list).reason, reason);
    assert_eq!(decide(&node, "get /nodes /n1"), Decision::ALLOWED);
    assert!(decide(&Identity::anonymous(), list).allowed);
    let jane = Identity::new("jane", ["dev"]);
    let refused = decide(&jane, list);
    let missing = r#"RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found"#;
    assert_eq!((refused.allowed, refused.reason.as_str()), (false, missing));
    assert_eq!(refused.explain("no".to_owned()), format!("no: {missing}"));
    let path =
        |who: &Identity, verb, path| decide_path(who, verb, path, &rights, Allowed::Bare).allowed;
    assert!(path(&Identity::anonymous(), "get", "/version"));
    assert!(!path(&Identity::anonymous(), "head", "/version"));
    assert!(!path(&jane, "get", "/version"));
    assert!(path(&Identity::new("x", [MASTERS]), "get", "/metrics"));
}

#[test]
fn health_is_everybodys() {
    for path in ["/livez", "/readyz", "/healthz", "/readyz/ping"] {
        assert!(is_open("get", path), "{path}");
        assert!(!is_open("post", path), "{path}");
    }
    for path in ["/version", "/api", "/readyzz", "/"] {
        assert!(!is_open("get", path), "{path}");
    }
}

#[test]
fn mounts() {
    let may = |group: &str, method: http::Method, path: &str| {
        let identity = Identity::new("system:node:n1", [group]);
        allowed_mount(&identity, &method, path)
    };
    let (get, put) = (http::Method::GET, http::Method::PUT);
    let (image, peer) = ("/v2/app/manifests/v1", "/v2/_peer/blobs/sha256:00");
    assert_eq!(may(SERVERS, put.clone(), peer), Some(true));
    for group in [MASTERS, NODES, "dev"] {
        assert_eq!(may(group, get.clone(), peer), Some(false), "{group}");
    }
    assert_eq!(may(MASTERS, put.clone(), image), Some(true));
    assert_eq!(may(NODES, get.clone(), image), Some(true));
    // For others it is as their roles have it.
    assert_eq!(may(NODES, put, image), None);
    assert_eq!(may("dev", get.clone(), image), None);
    // No repository's name begins with an underscore; one that looks alike is another.
    assert_eq!(may(NODES, get, "/v2/_peers/blobs/x"), Some(true));
}

#[test]
fn the_refusal_is_kubernetes_own() {
    let jane = Identity::new("jane", ["dev"]);
    assert_eq!(
        refusal(&jane, &ask("list /pods demo/")),
        "User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"demo\""
    );
    assert_eq!(
        refusal(&jane, &ask("create /pods:binding /p")),
        "User \"jane\" cannot create resource \"pods/binding\" in API group \"\" at the cluster scope"
    );
}
