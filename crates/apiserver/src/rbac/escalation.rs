//! Nobody gives away rights that they lack: what a writer of roles and bindings must have.
//!
//! The source of the rules and of their words is Kubernetes' `pkg/registry/rbac`. The verbs `escalate`
//! (on roles) and `bind` (on the role that a binding names) lift them, as does being an administrator.

use api::Status;
use api::status::Subject;
use serde::Deserialize;
use serde_json::Value;

use super::rule::{self, Rule, list, quoted};
use super::{GROUP, Index, Missing};
use crate::authz::Attributes;
use crate::dispatch::Call;
use crate::identity::Identity;

/// Refuses a write of a role or binding by which the writer would give away more than they have.
/// `old` is what is stored, none for a create.
///
/// # Errors
///
/// 403 with the rights that are missing; 404 if a binding names no role that is there.
pub(crate) fn judge(call: &Call, old: Option<&Value>, new: &Value) -> Result<(), Status> {
    if call.resource.group != GROUP || call.identity.is_superuser() {
        return Ok(());
    }
    let write = Write {
        identity: &call.identity,
        plural: call.resource.plural,
        namespace: call.namespace().unwrap_or_default(),
        name: call.name(),
    };
    let rights = call.server.inner.cache.rights.read();
    write.judge(&rights, old, new).map_err(|refusal| {
        let name = new["metadata"]["name"].as_str().unwrap_or_default();
        match refusal {
            Refusal::Escalation(why) => Status::forbidden(call.resource, name, &why),
            Refusal::NoRole(Missing { kind, name }) => {
                let plural = format!("{}s", kind.to_lowercase());
                let subject = Subject {
                    group: GROUP,
                    name: &plural,
                };
                Status::not_found(subject, &name)
            }
        }
    })
}

/// Why a write is refused.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Escalation(String),
    NoRole(Missing),
}

/// A write to an object of the group.
struct Write<'a> {
    identity: &'a Identity,
    plural: &'a str,
    namespace: &'a str,
    /// The name in the path, which a create has not.
    name: &'a str,
}

/// The part of a role or binding that gives rights.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Granting {
    #[serde(deserialize_with = "list")]
    rules: Vec<Rule>,
    role_ref: Option<RoleRef>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

impl Write<'_> {
    fn judge(&self, rights: &Index, old: Option<&Value>, new: &Value) -> Result<(), Refusal> {
        if old.is_some_and(|old| without_bookkeeping(old) == without_bookkeeping(new)) {
            return Ok(());
        }
        let granting = Granting::deserialize(new)
            .map_err(|e| Refusal::Escalation(format!("its rights cannot be read: {e}")))?;
        match self.plural {
            "roles" | "clusterroles" => self.role(rights, &granting, old, new),
            _ => self.binding(rights, &granting),
        }
    }

    fn role(
        &self,
        rights: &Index,
        granting: &Granting,
        old: Option<&Value>,
        new: &Value,
    ) -> Result<(), Refusal> {
        if self.may(rights, "escalate", self.plural, self.name) {
            return Ok(());
        }
        self.holds(rights, &granting.rules)?;
        let aggregates = |role: &Value| {
            role.pointer("/aggregationRule/clusterRoleSelectors")
                .and_then(Value::as_array)
                .is_some_and(|selectors| !selectors.is_empty())
        };
        // It may gather anything, later too, and its removal may take away what holds it together.
        let gathers = aggregates(new) || old.is_some_and(aggregates);
        if gathers && self.holds(rights, &Rule::everything()).is_err() {
            let why = "must have cluster-admin privileges to use the aggregationRule";
            return Err(Refusal::Escalation(why.to_owned()));
        }
        Ok(())
    }

    fn binding(&self, rights: &Index, granting: &Granting) -> Result<(), Refusal> {
        let role = granting.role_ref.as_ref();
        let (kind, name) = role.map_or(("", ""), |r| (&r.kind, &r.name));
        let plural = match kind {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            // No such binding is stored: the rules of its kind say why.
            _ => return Ok(()),
        };
        if self.may(rights, "bind", plural, name) {
            return Ok(());
        }
        let Some(rules) = rights.role(kind, self.namespace, name) else {
            return Err(Refusal::NoRole(Missing {
                kind: kind.to_owned(),
                name: name.to_owned(),
            }));
        };
        self.holds(rights, rules)
    }

    fn may(&self, rights: &Index, verb: &str, plural: &str, name: &str) -> bool {
        let asked = Attributes {
            verb,
            group: GROUP,
            resource: plural,
            namespace: self.namespace,
            name,
            ..Attributes::default()
        };
        rights.grant(self.identity, &asked).is_ok()
    }

    /// Whether the writer has all of these rights where they would count.
    fn holds(&self, rights: &Index, wanted: &[Rule]) -> Result<(), Refusal> {
        let (held, missing_roles) = rights.rules(self.identity, self.namespace);
        let missing = rule::missing(&held, wanted).map_err(|_| {
            Refusal::Escalation(
                "it consists of too many single rights to compare them with the writer's"
                    .to_owned(),
            )
        })?;
        if missing.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = rule::compact(missing).iter().map(Rule::to_string).collect();
        lines.sort_unstable();
        lines.dedup();
        let mut why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            self.identity.user,
            quoted(&self.identity.groups),
            lines.join("\n")
        );
        if !missing_roles.is_empty() {
            let errors: Vec<String> = missing_roles.iter().map(not_found).collect();
            let errors = match errors.as_slice() {
                [one] => one.clone(),
                many => format!("[{}]", many.join(", ")),
            };
            why.push_str(&format!("; resolution errors: [{errors}]"));
        }
        Err(Refusal::Escalation(why))
    }
}

/// What the API says of such a role.
fn not_found(role: &Missing) -> String {
    let kind = role.kind.to_lowercase();
    format!("{kind}s.{GROUP} {:?} not found", role.name)
}

/// The object without what garbage collection and the server itself change.
fn without_bookkeeping(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in [
            "ownerReferences",
            "finalizers",
            "managedFields",
            "resourceVersion",
        ] {
            metadata.remove(field);
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Kind, defaults};
    use super::*;

    fn rules(lines: &[&str]) -> Value {
        let rules: Vec<Rule> = lines.iter().map(|line| defaults::rule(line)).collect();
        json!(rules)
    }

    /// bob reads pods in `ns`, binds `view`, escalates the role `own`; root has everything.
    fn rights() -> Index {
        let mut index = Index::default();
        let mut put = |kind, namespace: &str, name: &str, object: Value| {
            index.put(kind, namespace, name, object.to_string().as_bytes());
        };
        put(
            Kind::Role,
            "",
            "view",
            json!({"rules": rules(&["read core configmaps"])}),
        );
        put(
            Kind::Role,
            "",
            "all",
            json!({"rules": rules(&["* * *", "* - *"])}),
        );
        let own = [
            "get,list core pods",
            "bind rbac.authorization.k8s.io clusterroles view",
            "escalate rbac.authorization.k8s.io roles own",
        ];
        put(Kind::Role, "ns", "own", json!({"rules": rules(&own)}));
        put(
            Kind::Role,
            "ns",
            "reader",
            json!({"rules": rules(&["get core pods"])}),
        );
        for (namespace, name, kind, user) in [
            ("ns", "own", "Role", "bob"),
            ("", "all", "ClusterRole", "root"),
        ] {
            let subjects = json!([{"kind": "User", "name": user}]);
            let binding = json!({"roleRef": {"kind": kind, "name": name}, "subjects": subjects});
            put(Kind::Binding, namespace, name, binding);
        }
        index
    }

    fn why(user: &str, write: (&str, &str, &str), old: Option<&Value>, new: &Value) -> String {
        let identity = Identity::new(user, ["dev"]);
        let (plural, namespace, name) = write;
        let write = Write {
            identity: &identity,
            plural,
            namespace,
            name,
        };
        match write.judge(&rights(), old, new) {
            Ok(()) => String::new(),
            Err(Refusal::Escalation(why)) => why,
            Err(Refusal::NoRole(role)) => role.to_string(),
        }
    }

    #[test]
    fn roles_hold_no_more_than_their_writer() {
        let lacking = |rights: &str| {
            format!(
                "user \"bob\" (groups=[\"dev\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{rights}"
            )
        };
        let role = |lines: &[&str]| json!({"metadata": {"name": "r"}, "rules": rules(lines)});
        let pods = role(&["get core pods"]);
        let (here, there) = (("roles", "ns", ""), ("clusterroles", "", ""));
        assert_eq!(why("bob", here, None, &pods), "");
        assert_eq!(
            why("bob", there, None, &pods),
            lacking(r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#)
        );
        assert_eq!(
            why("bob", here, None, &role(&["get,delete core secrets,pods"])),
            lacking(
                "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}\n\
                 {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"delete\"]}"
            )
        );
        let secrets = role(&["get core secrets"]);
        assert_eq!(
            why("bob", ("roles", "ns", "own"), Some(&pods), &secrets),
            ""
        );
        assert_ne!(
            why("bob", ("roles", "ns", "other"), Some(&pods), &secrets),
            ""
        );
        assert_eq!(why("root", there, None, &secrets), "");
        // What the garbage collector changes gives nobody anything.
        let mut freed = secrets.clone();
        freed["metadata"]["finalizers"] = json!(["x"]);
        assert_eq!(why("bob", here, Some(&freed), &secrets), "");
        freed["metadata"]["labels"] = json!({"a": "b"});
        assert_ne!(why("bob", here, Some(&freed), &secrets), "");
        assert_ne!(why("bob", here, None, &json!({"rules": [7]})), "");
    }

    #[test]
    fn aggregation_is_for_those_who_have_everything() {
        let mut role = json!({"metadata": {"name": "r"}});
        let plain = role.clone();
        role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
        let denied = "must have cluster-admin privileges to use the aggregationRule";
        let create = ("clusterroles", "", "");
        assert_eq!(why("bob", create, None, &role), denied);
        assert_eq!(
            why("bob", ("clusterroles", "", "r"), Some(&role), &plain),
            denied
        );
        assert_eq!(why("root", create, None, &role), "");
    }

    #[test]
    fn bindings_give_no_more_than_their_writer_has() {
        let to = |kind: &str, name: &str| json!({"metadata": {"name": "b"}, "roleRef": {"kind": kind, "name": name}});
        let here = ("rolebindings", "ns", "");
        assert_eq!(why("bob", here, None, &to("Role", "reader")), "");
        assert_eq!(why("bob", here, None, &to("ClusterRole", "view")), "");
        let refused = why("bob", here, None, &to("ClusterRole", "all"));
        assert!(
            refused.contains(r#"{NonResourceURLs:["*"], Verbs:["*"]}"#),
            "{refused}"
        );
        assert_eq!(
            why("bob", here, None, &to("Role", "none")),
            r#"role.rbac.authorization.k8s.io "none" not found"#
        );
        // What may be bound in a namespace may not be bound in the cluster.
        let cluster = ("clusterrolebindings", "", "");
        assert_ne!(why("bob", cluster, None, &to("ClusterRole", "view")), "");
        assert_eq!(why("root", cluster, None, &to("ClusterRole", "view")), "");
    }
}
