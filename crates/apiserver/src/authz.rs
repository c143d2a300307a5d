//! Who may do what. A pure judgement over the request's attributes and two indexes: what pods mount,
//! and the roles and bindings.
//!
//! In Kubernetes' order: administrators and the cluster's servers may do everything; a node may do what
//! its agent must (the Node authorizer); everything else is RBAC's to give, also to nodes and to users
//! without a name.

use std::collections::BTreeSet;

use crate::identity::Identity;
use crate::mount;
use crate::node_index::{NodeIndex, Referent};
use crate::rbac;
use crate::request::Verb;

/// The namespace of the nodes' heartbeats.
pub(crate) const NODE_LEASES: &str = "kube-node-lease";

/// What is asked, in the terms of the authorization API.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    /// The object's name, or the one that a `metadata.name=` selector leaves.
    pub(crate) name: &'a str,
    /// The value that the field selector demands of `spec.nodeName`.
    pub(crate) node_name: Option<&'a str>,
    /// There is no pod of this namespace and name: a node may be told so, for that is how it learns
    /// that its pod is gone.
    pub(crate) absent: bool,
}

/// What was decided, and why, as far as there is something to say: what allowed it, or what stood in
/// the way of finding out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    pub(crate) reason: String,
}

/// Whether a decision to allow something says by what. Only reviews ask: to find the words takes
/// longer than to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    Bare,
    Explained,
}

impl Decision {
    const ALLOWED: Decision = Decision {
        allowed: true,
        reason: String::new(),
    };

    fn by_roles(
        found: Result<rbac::Source<'_>, BTreeSet<rbac::Missing>>,
        allowed: Allowed,
    ) -> Decision {
        match found {
            Ok(_) if allowed == Allowed::Bare => Decision::ALLOWED,
            Ok(source) => Decision {
                allowed: true,
                reason: format!("RBAC: allowed by {source}"),
            },
            Err(missing) => Decision {
                allowed: false,
                reason: unresolved(&missing),
            },
        }
    }

    /// A refusal's sentence with the reason behind it, if there is one.
    pub(crate) fn explain(&self, refusal: String) -> String {
        if self.reason.is_empty() {
            return refusal;
        }
        format!("{refusal}: {}", self.reason)
    }
}

/// Roles that are bound and not there, as RBAC's reason; empty if there are none.
pub(crate) fn unresolved(missing: &BTreeSet<rbac::Missing>) -> String {
    let errors: Vec<String> = missing.iter().map(ToString::to_string).collect();
    match errors.as_slice() {
        [] => String::new(),
        [one] => format!("RBAC: {one}"),
        many => format!("RBAC: [{}]", many.join(", ")),
    }
}

/// Whether the user may, given what the pods bound to each node refer to and who was given what.
pub(crate) fn decide(
    identity: &Identity,
    asked: &Attributes<'_>,
    nodes: &NodeIndex,
    rights: &rbac::Index,
    allowed: Allowed,
) -> Decision {
    let node_may = |node| node_may(node, asked, nodes);
    if identity.is_superuser() || identity.node().is_some_and(node_may) {
        return Decision::ALLOWED;
    }
    Decision::by_roles(rights.grant(identity, asked), allowed)
}

/// Whether the user may see a path that is no resource's. The verb is the method in lower case.
pub(crate) fn decide_path(
    identity: &Identity,
    verb: &str,
    path: &str,
    rights: &rbac::Index,
    allowed: Allowed,
) -> Decision {
    if identity.is_superuser() || is_open(verb, path) {
        return Decision::ALLOWED;
    }
    Decision::by_roles(rights.grant_path(identity, verb, path), allowed)
}

/// Whether everybody may see this, whatever roles there are: a server must be able to say how it is
/// before it knows any.
pub(crate) fn is_open(verb: &str, path: &str) -> bool {
    let health = ["/healthz", "/livez", "/readyz"].iter().any(|open| {
        path.strip_prefix(open)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    health && matches!(verb, "get" | "head")
}

/// The node's rules, one line a resource.
fn node_may(node: &str, asked: &Attributes<'_>, index: &NodeIndex) -> bool {
    let named_itself = asked.name == node;
    let reads = matches!(asked.verb, "get" | "list" | "watch");
    let refers = |kind: Referent| {
        reads && !asked.name.is_empty() && index.refers(node, kind, asked.namespace, asked.name)
    };
    match (asked.group, asked.resource, asked.subresource) {
        // Its own Node. The name in a create's body is judged at admission.
        ("", "nodes", "") => match asked.verb {
            "create" => asked.name.is_empty() || named_itself,
            "get" | "list" | "watch" | "update" | "patch" => named_itself,
            _ => false,
        },
        ("", "nodes", "status") => matches!(asked.verb, "update" | "patch" | "get") && named_itself,
        ("coordination.k8s.io", "leases", "") if asked.namespace == NODE_LEASES => {
            match asked.verb {
                "create" => asked.name.is_empty() || named_itself,
                "get" | "update" | "patch" | "delete" => named_itself,
                _ => false,
            }
        }
        ("", "pods", "") => match asked.verb {
            "list" | "watch" => {
                asked.node_name == Some(node)
                    && (asked.name.is_empty() || index.runs(node, asked.namespace, asked.name))
            }
            "get" | "delete" => asked.absent || index.runs(node, asked.namespace, asked.name),
            _ => false,
        },
        ("", "pods", "status") => {
            matches!(asked.verb, "update" | "patch" | "get")
                && (asked.absent || index.runs(node, asked.namespace, asked.name))
        }
        ("", "configmaps", "") => refers(Referent::ConfigMap),
        ("", "secrets", "") => refers(Referent::Secret),
        ("", "serviceaccounts", "") => refers(Referent::ServiceAccount),
        // That the token is bound to one of these very pods is judged where it is made.
        ("", "serviceaccounts", "token") => {
            let account = Referent::ServiceAccount;
            asked.verb == "create" && index.refers(node, account, asked.namespace, asked.name)
        }
        ("", "persistentvolumeclaims", "") => refers(Referent::Claim),
        ("" | "events.k8s.io", "events", "") => {
            matches!(asked.verb, "create" | "patch" | "update")
        }
        ("storage.k8s.io", "csinodes", "") => asked.verb == "get" && named_itself,
        ("", "services" | "namespaces", "")
        | ("discovery.k8s.io", "endpointslices", "")
        | ("node.k8s.io", "runtimeclasses", "")
        | ("storage.k8s.io", "csidrivers", "") => reads,
        // By these a node asks who calls its own port, and whether they may.
        ("authentication.k8s.io", "tokenreviews", "")
        | ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", "") => {
            asked.verb == "create"
        }
        _ => false,
    }
}

/// Kubernetes' sentence for a refused request: what follows `RESOURCE is forbidden: `.
pub(crate) fn refusal(identity: &Identity, asked: &Attributes<'_>) -> String {
    let resource = match asked.subresource {
        "" => asked.resource.to_owned(),
        sub => format!("{}/{sub}", asked.resource),
    };
    let scope = match asked.namespace {
        "" => "at the cluster scope".to_owned(),
        ns => format!("in the namespace {ns:?}"),
    };
    format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?} {scope}",
        identity.user, asked.verb, asked.group
    )
}

/// Whether the user may use a path that a mount serves: reading is for nodes too, what servers say
/// to each other for nobody else.
pub(crate) fn allowed_mount(identity: &Identity, method: &http::Method, path: &str) -> bool {
    if mount::is_for_peers(path) {
        return identity.is_server();
    }
    let reads = matches!(*method, http::Method::GET | http::Method::HEAD);
    identity.is_superuser() || (reads && identity.node().is_some())
}

/// The verb of a path that is no resource's: the method in lower case.
pub(crate) fn path_verb(method: &http::Method) -> String {
    method.as_str().to_lowercase()
}

/// Kubernetes authorises a watch or list of one named object as one with that name.
pub(crate) fn takes_name_from_selector(verb: Verb) -> bool {
    matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection)
}

#[cfg(test)]
mod tests {
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
        }
    }

    fn index() -> NodeIndex {
        let mut index = NodeIndex::default();
        let pod = br#"{"spec":{"nodeName":"n1","serviceAccountName":"sa","containers":[
            {"name":"c","envFrom":[{"secretRef":{"name":"env"}}]}],
            "volumes":[{"name":"v","configMap":{"name":"cm"}}]}}"#;
        index.put("ns", "mine", pod);
        index.put(
            "ns",
            "other",
            &String::from_utf8_lossy(pod)
                .replace("n1", "n2")
                .replace("cm", "theirs")
                .into_bytes(),
        );
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
            "delete /pods ns/mine",
            "get /configmaps ns/cm",
            "watch /configmaps ns/cm",
            "get /secrets ns/env",
            "get /serviceaccounts ns/sa",
            "create /events ns/",
            "patch events.k8s.io/events ns/e",
            "list /services /",
            "watch discovery.k8s.io/endpointslices /",
            "get /namespaces /ns",
            "create /serviceaccounts:token ns/sa",
            "get storage.k8s.io/csinodes /n1",
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
            "create /pods ns/",
            "update /pods ns/mine",
            "create /pods:binding ns/mine",
            "get /pods:log ns/mine",
            "get /configmaps ns/theirs",
            "list /configmaps ns/",
            "get /secrets elsewhere/env",
            "update /secrets ns/env",
            "list /events ns/",
            "create /serviceaccounts:token ns/other",
            "create /serviceaccounts:token elsewhere/sa",
            "create /serviceaccounts:token ns/",
            "create /serviceaccounts ns/",
            "get storage.k8s.io/csinodes /n2",
            "list storage.k8s.io/csinodes /",
            "create authorization.k8s.io/selfsubjectaccessreviews /",
            "create rbac.authorization.k8s.io/clusterrolebindings /",
            "list apps/deployments ns/",
        ] {
            assert!(!allowed(&node, &ask(line), &index), "{line}");
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
        let path = |who: &Identity, verb, path| {
            decide_path(who, verb, path, &rights, Allowed::Bare).allowed
        };
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
        assert!(may(SERVERS, put.clone(), peer));
        for group in [MASTERS, NODES, "dev"] {
            assert!(!may(group, get.clone(), peer), "{group}");
        }
        assert!(may(MASTERS, put.clone(), image));
        assert!(may(NODES, get.clone(), image));
        assert!(!may(NODES, put, image));
        assert!(!may("dev", get.clone(), image));
        // No repository's name begins with an underscore; one that looks alike is another.
        assert!(may(NODES, get, "/v2/_peers/blobs/x"));
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
}
