//! Roles and bindings that are drawn: who writes them gives away nothing that they lack.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::Transport;
use http::Request;
use serde_json::{Value, json};

use crate::harness::{Random, now, prove};
use crate::judge::refusal;
use crate::mutate::bend;
use crate::world::{Answer, World};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
/// How long one answer may take, whatever must be compared for it.
const LONGEST: Duration = Duration::from_secs(2);

const VERBS: &[&str] = &[
    "get",
    "list",
    "create",
    "delete",
    "bind",
    "escalate",
    "impersonate",
    "fly",
];
const GROUPS: &[&str] = &["", "apps", "rbac.authorization.k8s.io", "example.com"];
const RESOURCES: &[&str] = &[
    "pods",
    "pods/log",
    "configmaps",
    "secrets",
    "deployments/scale",
    "things/scale",
    "roles",
    "things",
];
const NAMES: &[&str] = &["", "a", "b", "c"];

/// What bob holds in the namespace `default`.
fn held() -> Value {
    json!([
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]},
        {"verbs": ["*"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a", "b"]},
        {"verbs": ["get"], "apiGroups": ["*"], "resources": ["*/scale"]},
        {"verbs": ["create", "update", "get"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"]},
    ])
}

/// Whether a rule's list has a word, or all.
fn has(rule: &Value, list: &str, word: &str) -> bool {
    let words = rule[list].as_array().into_iter().flatten();
    words.into_iter().any(|own| own == word || own == "*")
}

/// Whether rules allow a request: the plain meaning of a rule, said once more.
fn allow(rules: &Value, verb: &str, group: &str, resource: &str, name: &str) -> bool {
    let any = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    rules.as_array().into_iter().flatten().any(|rule| {
        let names = rule["resourceNames"].as_array();
        has(rule, "verbs", verb)
            && has(rule, "apiGroups", group)
            && (has(rule, "resources", resource)
                || any.as_ref().is_some_and(|any| has(rule, "resources", any)))
            && names.is_none_or(|names| names.is_empty() || names.iter().any(|own| own == name))
    })
}

/// The first request that rules allow and what bob holds does not.
fn escalation(rules: &Value) -> Option<String> {
    let held = held();
    for verb in VERBS {
        for group in GROUPS {
            for resource in RESOURCES {
                for name in NAMES {
                    if allow(rules, verb, group, resource, name)
                        && !allow(&held, verb, group, resource, name)
                    {
                        return Some(format!("{verb} {group:?} {resource} {name:?}"));
                    }
                }
            }
        }
    }
    None
}

fn words(from: &[&str], special: &[&str], random: &mut Random) -> Value {
    (0..random.below(4))
        .map(|_| match random.percent(12) {
            true => random.pick(special),
            false => random.pick(from),
        })
        .collect()
}

/// A rule, half of the time one that bob holds with something more or less.
fn rule(random: &mut Random) -> Value {
    let mut rule = match random.percent(50) {
        true => held()[random.below(4)].clone(),
        false => json!({}),
    };
    let kept = rule.as_object().is_some_and(|rule| !rule.is_empty());
    for (list, from, special) in [
        ("verbs", VERBS, &["*", ""][..]),
        ("apiGroups", GROUPS, &["*", "**"][..]),
        (
            "resources",
            RESOURCES,
            &["*", "*/scale", "*/log", "pods/*", "*/*"][..],
        ),
        ("resourceNames", NAMES, &["*"][..]),
        ("nonResourceURLs", &[][..], &["*", "/metrics", "/*"][..]),
    ] {
        let chance = if list == "nonResourceURLs" { 3 } else { 90 };
        if random.percent(if kept { 15 } else { chance })
            && !(from.is_empty() && list != "nonResourceURLs")
        {
            let from = if from.is_empty() { special } else { from };
            rule[list] = words(from, special, random);
        }
    }
    rule
}

fn role(random: &mut Random) -> Value {
    let rules: Vec<Value> = (0..random.below(4)).map(|_| rule(random)).collect();
    let mut role = json!({"metadata": {"name": "drawn"}, "rules": rules});
    if random.percent(20) {
        let others = [held(), role.clone()];
        bend(&mut role, &others, random);
    }
    role
}

fn binding(random: &mut Random) -> Value {
    let kind = random.pick(&["Role", "ClusterRole", "role", ""]);
    let name = random.pick(&[
        "own",
        "less",
        "more",
        "view",
        "admin",
        "cluster-admin",
        "none",
        "",
    ]);
    let subject = json!({"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"});
    let mut binding = json!({
        "metadata": {"name": "drawn"}, "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
    });
    if random.percent(30) {
        let others = [role(random)];
        bend(&mut binding, &others, random);
    }
    binding
}

/// A server and bob, whose rights are [`held`].
struct Bob {
    world: World,
    bob: Arc<dyn Transport>,
}

impl Bob {
    fn new() -> Self {
        let world = World::start();
        let rules = |name: &str, rules: Value| json!({"metadata": {"name": name}, "rules": rules});
        let secrets = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]);
        let pods = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        for role in [
            rules("own", held()),
            rules("more", secrets),
            rules("less", pods),
        ] {
            let path = format!("{RBAC}/roles");
            let made = world.server.post(&path, role);
            world.block_on(made).expect(201);
        }
        let bob = world.server.server.transport("bob", ["dev"]);
        let this = Self { world, bob };
        this.bind("own");
        this
    }

    /// Gives bob the rights of a role.
    fn bind(&self, role: &str) {
        let binding = json!({
            "metadata": {"name": role}, "subjects": [{"kind": "User", "name": "bob"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        });
        let path = format!("{RBAC}/rolebindings");
        self.world
            .block_on(self.world.server.post(&path, binding))
            .expect(201);
    }

    /// What the server says to bob; nothing is stored of it.
    fn ask(&self, plural: &str, body: &Value) -> Result<Answer, String> {
        let path = format!("{RBAC}/{plural}?dryRun=All");
        let request = Request::post(&path)
            .header("content-type", "application/json")
            .body(Bytes::from(body.to_string()));
        let begin = now();
        let answer = self.world.send(&self.bob, request.unwrap(), true)?;
        let took = begin.elapsed();
        if took > LONGEST {
            return Err(format!("{} after {took:?}", answer.code));
        }
        refusal(&answer, "POST", &path)?;
        Ok(answer)
    }
}

#[test]
fn no_role_gives_more_than_its_writer_holds() {
    let bob = Bob::new();
    let own = json!({"metadata": {"name": "drawn"}, "rules": held()});
    assert_eq!(bob.ask("roles", &own).unwrap().code, 201);
    prove("no_role_gives_more_than_its_writer_holds", role, |role| {
        let answer = bob.ask("roles", role)?;
        if answer.code >= 400 {
            return Ok(());
        }
        match escalation(&answer.json()?["rules"]) {
            Some(request) => Err(format!("bob gives away {request}")),
            None => Ok(()),
        }
    });
}

#[test]
fn no_binding_gives_more_than_its_writer_holds() {
    let bob = Bob::new();
    prove(
        "no_binding_gives_more_than_its_writer_holds",
        binding,
        |binding| {
            let answer = bob.ask("rolebindings", binding)?;
            if answer.code >= 400 {
                return Ok(());
            }
            let role = &answer.json()?["roleRef"];
            let name = role["name"].as_str().unwrap_or_default();
            match role["kind"] == "Role" && ["own", "less"].contains(&name) {
                true => Ok(()),
                false => Err(format!("bob binds {role}")),
            }
        },
    );
}

#[test]
fn comparing_many_rights_takes_little_time() {
    let many = |word: &str, count: usize| -> Vec<String> {
        (0..count).map(|at| format!("{word}{at:06}")).collect()
    };
    let rule = |verbs: Vec<String>, resources: Vec<String>, names: Vec<String>| {
        let mut rule = json!({"verbs": verbs, "apiGroups": [""], "resources": resources});
        if !names.is_empty() {
            rule["resourceNames"] = names.into();
        }
        rule
    };
    let one = |word: &str| vec![word.to_owned()];
    let turned = |mut list: Vec<String>| {
        list.reverse();
        list
    };
    let count = 100_000;
    let get = |names| rule(one("get"), one("secrets"), names);
    let on = |resources| rule(one("get"), resources, vec![]);
    let verbs = |verbs| rule(verbs, one("secrets"), vec![]);
    for (what, word, make) in [
        ("names", "n", &get as &dyn Fn(Vec<String>) -> Value),
        ("resources", "r", &on),
        ("verbs", "v", &verbs),
    ] {
        let (held, wanted) = (make(many(word, count)), make(turned(many(word, count))));
        let bob = Bob::new();
        let wide = json!({"metadata": {"name": "wide"}, "rules": [held.clone()]});
        let path = format!("{RBAC}/roles");
        bob.world
            .block_on(bob.world.server.post(&path, wide))
            .expect(201);
        bob.bind("wide");
        for (rules, code) in [(json!([wanted]), 403), (json!([held]), 201)] {
            let role = json!({"metadata": {"name": "drawn"}, "rules": rules});
            let answer = bob.ask("roles", &role);
            let answer = answer.unwrap_or_else(|why| panic!("{what}: {why}"));
            assert_eq!(answer.code, code, "{what}: {}", answer.text());
        }
    }
}
