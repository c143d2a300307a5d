//! The roles and bindings that every cluster has from birth: Kubernetes 1.36's.
//!
//! Left out are those of parts that carob has not: the single controllers' (`system:controller:*`, all
//! controllers are one user here), the bootstrap signer's, the cloud provider's and the token
//! cleaner's, and those for approving and signing node certificates.

use serde_json::{Value, json};

use super::{GROUP, Rule};

/// What the objects carry: restored at every start unless this says `false`.
pub(super) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// A role, as `VERBS GROUPS RESOURCES [NAMES]` a rule, or `VERBS - PATHS`: lists by commas, `core` the
/// core group, `read`, `write` and `all` for Kubernetes' own lists of verbs.
struct Role {
    /// Empty: one of the cluster's.
    namespace: &'static str,
    name: &'static str,
    /// The role into which this one's rules are taken up.
    part_of: &'static str,
    /// Whether its rules are those of its parts.
    whole: bool,
    rules: &'static [&'static str],
}

/// A binding of the role of the same name, but for a leading `system::`.
struct Binding {
    namespace: &'static str,
    name: &'static str,
    /// `u:` a user, `g:` a group, `s:` a service account of `kube-system`.
    subjects: &'static [&'static str],
}

const fn role(name: &'static str, rules: &'static [&'static str]) -> Role {
    Role {
        namespace: "",
        name,
        part_of: "",
        whole: false,
        rules,
    }
}

const fn part(name: &'static str, part_of: &'static str, rules: &'static [&'static str]) -> Role {
    Role {
        part_of,
        ..role(name, rules)
    }
}

const fn whole(name: &'static str, part_of: &'static str) -> Role {
    Role {
        part_of,
        whole: true,
        ..role(name, &[])
    }
}

const fn in_kube_system(name: &'static str, rules: &'static [&'static str]) -> Role {
    Role {
        namespace: "kube-system",
        ..role(name, rules)
    }
}

const fn binding(name: &'static str, subjects: &'static [&'static str]) -> Binding {
    Binding {
        namespace: "",
        name,
        subjects,
    }
}

const EVENTS: &str = "create,patch,update core,events.k8s.io events";

#[rustfmt::skip]
const ROLES: &[Role] = &[
    role("cluster-admin", &["* * *", "* - *"]),
    // Whoever may write a tag decides what pods run that name it: nobody is bound to it by itself.
    role("carob:image-pusher", &["get,head,post,put,patch - /v2,/v2/*"]),
    // What an agent needs for its pods' network: whom addresses and names belong to, who may talk to whom,
    // and what Ingresses let in.
    role("carob:node-network", &[
        "list,watch core namespaces,nodes,pods,services",
        "list,watch discovery.k8s.io endpointslices",
        "list,watch networking.k8s.io ingressclasses,ingresses,networkpolicies",
    ]),
    role("system:discovery", &["get - /api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,/version,/version/"]),
    role("system:monitoring", &["get - /healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/slis,/readyz,/readyz/*"]),
    role("system:basic-user", &[
        "create authorization.k8s.io selfsubjectaccessreviews,selfsubjectrulesreviews",
        "create authentication.k8s.io selfsubjectreviews",
    ]),
    role("system:public-info-viewer", &["get - /healthz,/livez,/readyz,/version,/version/"]),
    whole("admin", ""),
    whole("edit", "admin"),
    whole("view", "edit"),
    part("system:aggregate-to-admin", "admin", &[
        "create authorization.k8s.io localsubjectaccessreviews",
        "all rbac.authorization.k8s.io rolebindings,roles",
    ]),
    part("system:aggregate-to-edit", "edit", &[
        "read core pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy",
        "impersonate core serviceaccounts",
        "write core pods,pods/attach,pods/exec,pods/portforward,pods/proxy",
        "create core pods/eviction",
        "get,patch,update core pods/resize",
        "write core configmaps,events,persistentvolumeclaims,replicationcontrollers,replicationcontrollers/scale,secrets,serviceaccounts,services,services/proxy",
        "create core serviceaccounts/token",
        "write apps daemonsets,deployments,deployments/rollback,deployments/scale,replicasets,replicasets/scale,statefulsets,statefulsets/scale",
        "write autoscaling horizontalpodautoscalers",
        "write batch cronjobs,jobs",
        "write extensions daemonsets,deployments,deployments/rollback,deployments/scale,ingresses,networkpolicies,replicasets,replicasets/scale,replicationcontrollers/scale",
        "write policy poddisruptionbudgets",
        "write networking.k8s.io ingresses,networkpolicies",
        "all coordination.k8s.io leases",
        "write resource.k8s.io resourceclaims,resourceclaimtemplates",
    ]),
    part("system:aggregate-to-view", "view", &[
        "read core configmaps,endpoints,persistentvolumeclaims,persistentvolumeclaims/status,pods,replicationcontrollers,replicationcontrollers/scale,serviceaccounts,services,services/status",
        "read core bindings,events,limitranges,namespaces/status,pods/log,pods/status,replicationcontrollers/status,resourcequotas,resourcequotas/status",
        "read core namespaces",
        "read discovery.k8s.io endpointslices",
        "read apps controllerrevisions,daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status,replicasets,replicasets/scale,replicasets/status,statefulsets,statefulsets/scale,statefulsets/status",
        "read autoscaling horizontalpodautoscalers,horizontalpodautoscalers/status",
        "read batch cronjobs,cronjobs/status,jobs,jobs/status",
        "read extensions daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status,ingresses,ingresses/status,networkpolicies,replicasets,replicasets/scale,replicasets/status,replicationcontrollers/scale",
        "read policy poddisruptionbudgets,poddisruptionbudgets/status",
        "read networking.k8s.io ingresses,ingresses/status,networkpolicies",
        "read resource.k8s.io resourceclaims,resourceclaims/status,resourceclaimtemplates",
    ]),
    part("system:aggregated-metrics-reader", "view", &["read metrics.k8s.io nodes,pods"]),
    role("system:heapster", &["read core events,namespaces,nodes,pods", "read extensions deployments"]),
    // The Node authorizer gives nodes what they need; the role is there for whoever binds it.
    role("system:node", &[
        "create authentication.k8s.io tokenreviews",
        "create authorization.k8s.io localsubjectaccessreviews,subjectaccessreviews",
        "read core services",
        "create,get,list,watch core nodes",
        "patch,update core nodes/status",
        "patch,update core nodes",
        "create,patch,update core events",
        "read core pods",
        "create,delete core pods",
        "patch,update core pods/status",
        "create core pods/eviction",
        "read core configmaps,secrets",
        "get core persistentvolumeclaims,persistentvolumes",
        "get core endpoints",
        "create,get,list,watch certificates.k8s.io certificatesigningrequests",
        "create,delete,get,patch,update coordination.k8s.io leases",
        "get storage.k8s.io volumeattachments",
        "create core serviceaccounts/token",
        "get,patch,update core persistentvolumeclaims/status",
        "read storage.k8s.io csidrivers",
        "create,delete,get,patch,update storage.k8s.io csinodes",
        "read node.k8s.io runtimeclasses",
    ]),
    role("system:node-problem-detector", &["get core nodes", "patch core nodes/status", EVENTS]),
    role("system:kubelet-api-admin", &["read core nodes", "proxy core nodes", "* core nodes/log,nodes/metrics,nodes/proxy,nodes/stats"]),
    role("system:node-proxier", &[
        "list,watch core endpoints,services",
        "read core nodes",
        EVENTS,
        "list,watch discovery.k8s.io endpointslices",
    ]),
    role("system:auth-delegator", &[
        "create authentication.k8s.io tokenreviews",
        "create authorization.k8s.io subjectaccessreviews",
    ]),
    role("system:kube-aggregator", &["read core endpoints,services"]),
    role("system:kube-controller-manager", &[
        EVENTS,
        "create coordination.k8s.io leases",
        "get,update coordination.k8s.io leases kube-controller-manager",
        "create core secrets,serviceaccounts",
        "delete core secrets",
        "get core configmaps,namespaces,secrets,serviceaccounts",
        "update core secrets,serviceaccounts",
        "create authentication.k8s.io tokenreviews",
        "create authorization.k8s.io subjectaccessreviews",
        "list,watch * *",
        "create core serviceaccounts/token",
    ]),
    role("system:kube-dns", &["list,watch core endpoints,services"]),
    role("system:kube-scheduler", &[
        EVENTS,
        "create coordination.k8s.io leases",
        "get,update coordination.k8s.io leases kube-scheduler",
        "read core nodes",
        "delete,get,list,watch core pods",
        "create core bindings,pods/binding",
        "patch,update core pods/status",
        "read core replicationcontrollers,services",
        "read apps,extensions replicasets",
        "read apps statefulsets",
        "read policy poddisruptionbudgets",
        "read core persistentvolumeclaims,persistentvolumes",
        "create authentication.k8s.io tokenreviews",
        "create authorization.k8s.io subjectaccessreviews",
        "read storage.k8s.io csinodes",
        "read core namespaces",
        "read storage.k8s.io csidrivers",
        "read storage.k8s.io csistoragecapacities",
    ]),
    role("system:volume-scheduler", &[
        "get,list,patch,update,watch core persistentvolumes",
        "read storage.k8s.io storageclasses",
        "get,list,patch,update,watch core persistentvolumeclaims",
    ]),
    role("system:persistent-volume-provisioner", &[
        "create,delete,get,list,watch core persistentvolumes",
        "get,list,update,watch core persistentvolumeclaims",
        "read storage.k8s.io storageclasses",
        "watch core events",
        EVENTS,
    ]),
    role("system:service-account-issuer-discovery", &["get - /.well-known/openid-configuration,/.well-known/openid-configuration/,/openid/v1/jwks,/openid/v1/jwks/"]),
    in_kube_system("extension-apiserver-authentication-reader", &["read core configmaps extension-apiserver-authentication"]),
    in_kube_system("system::leader-locking-kube-controller-manager", &[
        "watch core configmaps",
        "get,update core configmaps kube-controller-manager",
    ]),
    in_kube_system("system::leader-locking-kube-scheduler", &[
        "watch core configmaps",
        "get,update core configmaps kube-scheduler",
    ]),
];

#[rustfmt::skip]
const BINDINGS: &[Binding] = &[
    binding("cluster-admin", &["g:system:masters"]),
    binding("carob:node-network", &["g:system:nodes"]),
    binding("system:monitoring", &["g:system:monitoring"]),
    binding("system:discovery", &["g:system:authenticated"]),
    binding("system:basic-user", &["g:system:authenticated"]),
    binding("system:public-info-viewer", &["g:system:authenticated", "g:system:unauthenticated"]),
    binding("system:node", &[]),
    binding("system:node-proxier", &["u:system:kube-proxy"]),
    binding("system:kube-controller-manager", &["u:system:kube-controller-manager"]),
    binding("system:kube-dns", &["s:kube-dns"]),
    binding("system:kube-scheduler", &["u:system:kube-scheduler"]),
    binding("system:volume-scheduler", &["u:system:kube-scheduler"]),
    binding("system:service-account-issuer-discovery", &["g:system:serviceaccounts"]),
    Binding {
        namespace: "kube-system",
        name: "system::extension-apiserver-authentication-reader",
        subjects: &["u:system:kube-controller-manager", "u:system:kube-scheduler"],
    },
    Binding {
        namespace: "kube-system",
        name: "system::leader-locking-kube-controller-manager",
        subjects: &["u:system:kube-controller-manager", "s:kube-controller-manager"],
    },
    Binding {
        namespace: "kube-system",
        name: "system::leader-locking-kube-scheduler",
        subjects: &["u:system:kube-scheduler", "s:kube-scheduler"],
    },
];

/// All default roles and bindings.
pub(crate) fn objects() -> Vec<Value> {
    let roles = ROLES.iter().map(Role::object);
    roles.chain(BINDINGS.iter().map(Binding::object)).collect()
}

impl Role {
    fn object(&self) -> Value {
        let mut role = object("Role", self.namespace, self.name);
        if !self.part_of.is_empty() {
            role["metadata"]["labels"][aggregate_to(self.part_of)] = "true".into();
        }
        if self.whole {
            let selector = json!({"matchLabels": {aggregate_to(self.name): "true"}});
            role["aggregationRule"] = json!({"clusterRoleSelectors": [selector]});
        }
        role["rules"] = json!(self.rules());
        role
    }

    /// Its own rules, or those of its parts in the order in which the controller that keeps them up
    /// to date takes them: so they count from the first moment.
    fn rules(&self) -> Vec<Rule> {
        if !self.whole {
            return self.rules.iter().map(|line| rule(line)).collect();
        }
        let mut parts: Vec<&Role> = ROLES.iter().filter(|r| r.part_of == self.name).collect();
        parts.sort_by_key(|part| part.name);
        let mut rules = Vec::new();
        for rule in parts.into_iter().flat_map(Role::rules) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        rules
    }
}

impl Binding {
    fn object(&self) -> Value {
        let mut binding = object("RoleBinding", self.namespace, self.name);
        let (kind, role) = match self.namespace {
            "" => ("ClusterRole", self.name),
            ns => {
                let own = ROLES
                    .iter()
                    .any(|r| r.namespace == ns && r.name == self.name);
                let short = self.name.trim_start_matches("system::");
                ("Role", if own { self.name } else { short })
            }
        };
        binding["roleRef"] = json!({"apiGroup": GROUP, "kind": kind, "name": role});
        binding["subjects"] = self.subjects.iter().map(|s| subject(s)).collect();
        binding
    }
}

fn object(kind: &str, namespace: &str, name: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {AUTOUPDATE: "true"},
    });
    let kind = match namespace {
        "" => format!("Cluster{kind}"),
        ns => {
            metadata["namespace"] = ns.into();
            kind.to_owned()
        }
    };
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata})
}

fn aggregate_to(role: &str) -> String {
    format!("{GROUP}/aggregate-to-{role}")
}

fn subject(line: &str) -> Value {
    let (kind, name) = line.split_once(':').unwrap_or_default();
    match kind {
        "s" => json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}),
        "g" => json!({"kind": "Group", "apiGroup": GROUP, "name": name}),
        _ => json!({"kind": "User", "apiGroup": GROUP, "name": name}),
    }
}

/// A rule from its line in the table.
pub(super) fn rule(line: &str) -> Rule {
    let mut words = line.split_whitespace();
    let mut word = || words.next().unwrap_or_default();
    let list = |text: &str| -> Vec<String> {
        let items = text.split(',').filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    };
    let verbs = match word() {
        "read" => list("get,list,watch"),
        "write" => list("create,delete,deletecollection,patch,update"),
        "all" => list("create,delete,deletecollection,get,list,patch,update,watch"),
        verbs => list(verbs),
    };
    let groups = word();
    if groups == "-" {
        return Rule {
            verbs,
            non_resource_urls: list(word()),
            ..Rule::default()
        };
    }
    let core = |group: &str| if group == "core" { "" } else { group }.to_owned();
    Rule {
        verbs,
        api_groups: groups.split(',').map(core).collect(),
        resources: list(word()),
        resource_names: list(word()),
        ..Rule::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_says_something_and_every_binding_has_its_role() {
        for line in ROLES.iter().flat_map(|role| role.rules) {
            let rule = rule(line);
            let resources = !rule.api_groups.is_empty() && !rule.resources.is_empty();
            assert!(!rule.verbs.is_empty(), "{line}");
            assert_eq!(resources, rule.non_resource_urls.is_empty(), "{line}");
        }
        let objects = objects();
        let key = |o: &Value, kind: &str, name: &Value| {
            format!("{kind} {} {name}", o["metadata"]["namespace"])
        };
        let all: BTreeSet<String> = objects
            .iter()
            .map(|o| key(o, o["kind"].as_str().unwrap(), &o["metadata"]["name"]))
            .collect();
        assert_eq!(all.len(), objects.len(), "no name twice");
        for binding in objects.iter().filter(|o| o.get("roleRef").is_some()) {
            let role = &binding["roleRef"];
            let role = key(binding, role["kind"].as_str().unwrap(), &role["name"]);
            assert!(all.contains(&role), "{role}");
        }
    }

    #[test]
    fn the_great_roles_hold_their_parts() {
        let of = |name: &str| {
            let role = ROLES.iter().find(|role| role.name == name).unwrap();
            role.rules()
        };
        let (admin, edit, view) = (of("admin"), of("edit"), of("view"));
        assert!(view.iter().all(|rule| edit.contains(rule)));
        assert!(edit.iter().all(|rule| admin.contains(rule)));
        assert!(
            view.iter()
                .all(|rule| !rule.resources.iter().any(|r| r == "secrets"))
        );
        assert_eq!(
            edit.len(),
            view.len() + of("system:aggregate-to-edit").len()
        );
        assert!(view.contains(&of("system:aggregated-metrics-reader")[0]));
        // The order of names: `edit` comes before `system:aggregate-to-admin`.
        assert_eq!(admin[..edit.len()], edit);
    }
}
