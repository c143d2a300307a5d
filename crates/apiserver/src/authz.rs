//! Who may do what. A pure judgement over the request's attributes and an index of what pods mount.
//!
//! Administrators and the cluster's servers may do everything. A node may do what its agent must and no
//! more; everyone may ask who they are and what they may do, and read what is served. RBAC objects are
//! stored but not yet consulted: nobody else is let in.

use crate::identity::Identity;
use crate::mount;
use crate::node_index::{NodeIndex, Referent};
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

/// Whether the user may, given what the pods bound to each node refer to.
pub(crate) fn allowed(identity: &Identity, asked: &Attributes<'_>, index: &NodeIndex) -> bool {
    if identity.is_superuser() {
        return true;
    }
    if identity.is_anonymous() {
        return false;
    }
    let about_self = matches!(
        (asked.group, asked.resource),
        (
            "authorization.k8s.io",
            "selfsubjectaccessreviews" | "selfsubjectrulesreviews"
        ) | ("authentication.k8s.io", "selfsubjectreviews")
    );
    if about_self && asked.verb == "create" {
        return true;
    }
    identity
        .node()
        .is_some_and(|node| node_may(node, asked, index))
}

/// Whether the user may see a path that is no resource's.
pub(crate) fn allowed_path(identity: &Identity, method: &http::Method, path: &str) -> bool {
    if identity.is_superuser() {
        return true;
    }
    let reads = matches!(*method, http::Method::GET | http::Method::HEAD);
    let open = ["/healthz", "/livez", "/readyz", "/version"]
        .iter()
        .any(|p| path == *p || (path.starts_with(p) && path[p.len()..].starts_with('/')));
    let discovery = ["/api", "/apis", "/openapi"]
        .iter()
        .any(|p| path == *p || (path.starts_with(p) && path[p.len()..].starts_with('/')));
    reads && (open || (discovery && !identity.is_anonymous()))
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
        ("", "persistentvolumeclaims", "") => refers(Referent::Claim),
        ("" | "events.k8s.io", "events", "") => {
            matches!(asked.verb, "create" | "patch" | "update")
        }
        ("", "services" | "namespaces", "") | ("discovery.k8s.io", "endpointslices", "") => reads,
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
            "create authorization.k8s.io/selfsubjectaccessreviews /",
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
    fn paths() {
        let get = http::Method::GET;
        let anonymous = Identity::anonymous();
        let jane = Identity::new("jane", ["dev"]);
        for path in ["/version", "/livez", "/readyz", "/healthz", "/readyz/ping"] {
            assert!(allowed_path(&anonymous, &get, path), "{path}");
        }
        for path in [
            "/api",
            "/apis/apps/v1",
            "/openapi/v3",
            "/metrics",
            "/versions",
        ] {
            assert!(!allowed_path(&anonymous, &get, path), "{path}");
        }
        assert!(allowed_path(&jane, &get, "/openapi/v3"));
        assert!(!allowed_path(&jane, &get, "/metrics"));
        assert!(allowed_path(
            &Identity::new("x", [MASTERS]),
            &get,
            "/metrics"
        ));
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
