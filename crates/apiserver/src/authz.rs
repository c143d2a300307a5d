//! Who may do what. A pure judgement over the request's attributes and two indexes: what pods mount,
//! and the roles and bindings.
//!
//! In Kubernetes' order: administrators and the cluster's servers may do everything; a node may do what
//! its agent must (the Node authorizer); everything else is RBAC's to give, also to nodes and to users
//! without a name.

#[cfg(test)]
mod tests;

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
    /// Namespace and name of the claim that the volume asked for is bound to.
    pub(crate) claim: Option<(&'a str, &'a str)>,
    /// The node on whose disk the volumes asked for lie: by the volume's own label, or by the label selector of a list or
    /// watch, which is then all that it asks.
    pub(crate) disk: Option<&'a str>,
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
    // All that its pods refer to, which is what it is then shown.
    let follows = || {
        let everywhere = asked.namespace.is_empty() && asked.name.is_empty();
        matches!(asked.verb, "list" | "watch") && everywhere && asked.node_name == Some(node)
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
            // Mirrors of its own pods, which is judged at admission.
            "create" => true,
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
        ("", "pods", "eviction") => {
            asked.verb == "create"
                && (asked.absent || index.runs(node, asked.namespace, asked.name))
        }
        ("", "configmaps", "") => refers(Referent::ConfigMap) || follows(),
        // Every node serves every Ingress of the nodes' classes.
        ("", "secrets", "") => {
            let certified = || index.certificates.are_in(asked.namespace, asked.name);
            refers(Referent::Secret) || follows() || (reads && certified())
        }
        ("", "serviceaccounts", "") => refers(Referent::ServiceAccount),
        // That the token is bound to one of these very pods is judged where it is made.
        ("", "serviceaccounts", "token") => {
            let account = Referent::ServiceAccount;
            asked.verb == "create" && index.refers(node, account, asked.namespace, asked.name)
        }
        ("", "persistentvolumeclaims", "") => asked.verb == "get" && refers(Referent::Claim),
        // That of a claim that a pod of the node mounts, and those on the node's own disk.
        ("", "persistentvolumes", "") => {
            let mounts = |(namespace, name)| index.refers(node, Referent::Claim, namespace, name);
            let on_disk = asked.disk == Some(node);
            match asked.verb {
                "get" => on_disk || asked.claim.is_some_and(mounts),
                "list" | "watch" => on_disk,
                // What it may change is judged at admission.
                "update" | "patch" => on_disk && !asked.name.is_empty(),
                _ => false,
            }
        }
        ("" | "events.k8s.io", "events", "") => {
            matches!(asked.verb, "create" | "patch" | "update")
        }
        ("storage.k8s.io", "csinodes", "") => match asked.verb {
            "create" => asked.name.is_empty() || named_itself,
            "get" | "update" | "patch" | "delete" => named_itself,
            _ => false,
        },
        // As in Kubernetes of anybody's requests; what a node may be given is for whoever approves it to judge.
        ("certificates.k8s.io", "certificatesigningrequests", "") => {
            reads || asked.verb == "create"
        }
        ("", "endpoints", "") => asked.verb == "get",
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

/// Whether the user may use a path that a mount serves, whatever roles there are: reading is for nodes, what
/// servers say to each other for nobody else. None: the roles say it.
pub(crate) fn allowed_mount(
    identity: &Identity,
    method: &http::Method,
    path: &str,
) -> Option<bool> {
    if mount::is_for_peers(path) {
        return Some(identity.is_server());
    }
    let reads = matches!(*method, http::Method::GET | http::Method::HEAD);
    let allowed = identity.is_superuser() || (reads && identity.node().is_some());
    allowed.then_some(true)
}

/// The verb of a path that is no resource's: the method in lower case.
pub(crate) fn path_verb(method: &http::Method) -> String {
    method.as_str().to_lowercase()
}

/// Kubernetes authorises a watch or list of one named object as one with that name.
pub(crate) fn takes_name_from_selector(verb: Verb) -> bool {
    matches!(verb, Verb::List | Verb::Watch)
}
