//! What bindings give to whom.

use serde_json::{Value, json};

use super::*;
use crate::rbac::defaults;

fn role(rules: &[&str]) -> Vec<u8> {
    let rules: Vec<Rule> = rules.iter().map(|line| defaults::rule(line)).collect();
    json!({"rules": rules}).to_string().into_bytes()
}

/// Subjects as `KIND NAME [NAMESPACE]`.
fn binding(role: (&str, &str), subjects: &[&str]) -> Vec<u8> {
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let namespace = words.get(2).copied().unwrap_or_default();
            json!({"kind": words[0], "name": words[1], "namespace": namespace})
        })
        .collect();
    json!({"roleRef": {"kind": role.0, "name": role.1}, "subjects": subjects})
        .to_string()
        .into_bytes()
}

fn asked(verb: &'static str, plural: &'static str, namespace: &'static str) -> Attributes<'static> {
    Attributes {
        verb,
        resource: plural,
        namespace,
        ..Attributes::default()
    }
}

fn index() -> Index {
    let mut index = Index::default();
    index.put(
        Kind::Role,
        "",
        "reader",
        &role(&["get core pods", "get - /x"]),
    );
    index.put(Kind::Role, "ns", "writer", &role(&["update core pods"]));
    index.put(Kind::Role, "", "writer", &role(&["delete core pods"]));
    let to = [
        "User bob",
        "Group dev",
        "ServiceAccount robot",
        "ServiceAccount far other",
    ];
    index.put(Kind::Binding, "ns", "b", &binding(("Role", "writer"), &to));
    index.put(
        Kind::Binding,
        "ns",
        "c",
        &binding(("ClusterRole", "writer"), &["User carol"]),
    );
    index.put(
        Kind::Binding,
        "",
        "all",
        &binding(("ClusterRole", "reader"), &["Group dev"]),
    );
    index.put(
        Kind::Binding,
        "",
        "nowhere",
        &binding(("ClusterRole", "none"), &["User bob"]),
    );
    index.put(
        Kind::Binding,
        "",
        "lost",
        &binding(("Role", "writer"), &["User dora"]),
    );
    index
}

#[test]
fn who_may_what_where() {
    let index = index();
    let bob = Identity::new("bob", Vec::<String>::new());
    let dev = Identity::new("eve", ["dev"]);
    let robot = Identity::new("system:serviceaccount:ns:robot", ["x"]);
    let far = Identity::new("system:serviceaccount:other:far", ["x"]);
    let stranger = Identity::new("system:serviceaccount:other:robot", ["x"]);
    let carol = Identity::new("carol", ["x"]);
    for (who, request, reason) in [
        (
            &bob,
            asked("update", "pods", "ns"),
            r#"RoleBinding "b/ns" of Role "writer" to User "bob""#,
        ),
        (&bob, asked("update", "pods", "other"), ""),
        (&bob, asked("update", "pods", ""), ""),
        (&bob, asked("get", "pods", "ns"), ""),
        (&bob, asked("delete", "pods", "ns"), ""),
        (
            &dev,
            asked("update", "pods", "ns"),
            r#"RoleBinding "b/ns" of Role "writer" to Group "dev""#,
        ),
        (
            &dev,
            asked("get", "pods", "other"),
            r#"ClusterRoleBinding "all" of ClusterRole "reader" to Group "dev""#,
        ),
        (
            &dev,
            asked("get", "pods", ""),
            r#"ClusterRoleBinding "all" of ClusterRole "reader" to Group "dev""#,
        ),
        (
            &robot,
            asked("update", "pods", "ns"),
            r#"RoleBinding "b/ns" of Role "writer" to ServiceAccount "robot/ns""#,
        ),
        (
            &far,
            asked("update", "pods", "ns"),
            r#"RoleBinding "b/ns" of Role "writer" to ServiceAccount "far/other""#,
        ),
        (&stranger, asked("update", "pods", "ns"), ""),
        (
            &carol,
            asked("delete", "pods", "ns"),
            r#"RoleBinding "c/ns" of ClusterRole "writer" to User "carol""#,
        ),
        (&carol, asked("delete", "pods", "other"), ""),
        (&carol, asked("update", "pods", "ns"), ""),
    ] {
        let found = index.grant(who, &request);
        let found = found.map(|source| source.to_string()).unwrap_or_default();
        assert_eq!(found, reason, "{} {request:?}", who.user);
    }
    assert!(index.grant_path(&dev, "get", "/x").is_ok());
    assert!(index.grant_path(&bob, "get", "/x").is_err());
}

#[test]
fn roles_that_are_not_there_are_named() {
    let index = index();
    let bob = Identity::new("bob", ["x"]);
    let missing = index.grant(&bob, &asked("list", "pods", "")).err().unwrap();
    let missing: Vec<String> = missing.iter().map(Missing::to_string).collect();
    assert_eq!(
        missing,
        [r#"clusterrole.rbac.authorization.k8s.io "none" not found"#]
    );
    // A ClusterRoleBinding cannot name a namespace's role.
    let dora = Identity::new("dora", ["x"]);
    assert!(index.grant(&dora, &asked("update", "pods", "ns")).is_err());
    let eve = Identity::new("eve", ["dev"]);
    let (rules, missing) = index.rules(&eve, "ns");
    assert_eq!((rules.len(), missing.len()), (3, 0));
}

#[test]
fn what_changes_or_goes_counts_at_once() {
    let mut index = index();
    let bob = Identity::new("bob", ["x"]);
    let update = asked("update", "pods", "ns");
    index.put(
        Kind::Binding,
        "ns",
        "b",
        &binding(("Role", "writer"), &["User eve"]),
    );
    assert!(index.grant(&bob, &update).is_err());
    index.put(
        Kind::Binding,
        "ns",
        "b",
        &binding(("Role", "writer"), &["User bob"]),
    );
    assert!(index.grant(&bob, &update).is_ok());
    index.put(Kind::Role, "ns", "writer", &role(&["get core pods"]));
    assert!(index.grant(&bob, &update).is_err());
    index.put(Kind::Role, "ns", "writer", b"{\"rules\":7}");
    assert!(index.grant(&bob, &asked("get", "pods", "ns")).is_err());
    index.remove(Kind::Role, "ns", "writer");
    index.remove(Kind::Binding, "ns", "b");
    index.remove(Kind::Binding, "ns", "c");
    index.remove(Kind::Binding, "ns", "c");
    assert!(!index.scopes.contains_key("ns"));
}
