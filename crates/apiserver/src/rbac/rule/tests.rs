//! What rules allow and cover.

use super::*;

/// `VERBS GROUPS RESOURCES [NAMES]`, or `VERBS - URLS`; lists by commas, `core` for the core group.
fn rule(line: &str) -> Rule {
    crate::rbac::defaults::rule(line)
}

fn asked(line: &str) -> Attributes<'_> {
    // VERB GROUP/RESOURCE[:SUB] [NAME]
    let mut words = line.split(' ');
    let verb = words.next().unwrap();
    let (group, resource) = words.next().unwrap().split_once('/').unwrap();
    let (resource, subresource) = resource.split_once(':').unwrap_or((resource, ""));
    Attributes {
        verb,
        group,
        resource,
        subresource,
        name: words.next().unwrap_or_default(),
        ..Attributes::default()
    }
}

#[test]
fn what_a_rule_allows() {
    for (allowed, line, request) in [
        (true, "get core pods", "get /pods"),
        (true, "get core pods", "get /pods p"),
        (false, "get core pods", "list /pods"),
        (false, "get core pods", "get apps/pods"),
        (false, "get core pods", "get /pods:log p"),
        (true, "get core pods/log", "get /pods:log p"),
        (false, "get core pods/log", "get /pods p"),
        (false, "get core pods/log", "get /pods:status p"),
        (true, "* core pods", "fly /pods"),
        (true, "get * pods", "get any/pods"),
        (true, "get core *", "get /pods:log p"),
        (true, "get core *", "get /secrets"),
        (true, "get core */log", "get /pods:log p"),
        (false, "get core */log", "get /pods p"),
        (false, "get core */log", "get /pods:logs p"),
        (false, "get core pods/*", "get /pods:log p"),
        (false, "get core po*", "get /pods"),
        (true, "get core pods a,b", "get /pods b"),
        (false, "get core pods a,b", "get /pods c"),
        // A list or creation has no name, so a rule with names says nothing of it.
        (false, "list core pods a", "list /pods"),
        (true, "get,list apps,core pods,nodes", "list apps/nodes"),
        (false, "get - /api", "get /api"),
        (false, "get core pods", "get /"),
    ] {
        assert_eq!(
            rule(line).allows(&asked(request)),
            allowed,
            "{line}: {request}"
        );
    }
}

#[test]
fn what_a_rule_allows_of_paths() {
    for (allowed, line, path) in [
        (true, "get - /healthz", "/healthz"),
        (false, "get - /healthz", "/healthz/ping"),
        (false, "get - /healthz/*", "/healthz"),
        (true, "get - /healthz/*", "/healthz/ping/x"),
        (true, "get - *", "/anything"),
        (true, "* - /api*", "/apis"),
        (false, "post - /api", "/api"),
        (false, "get core *", "/api"),
        (false, "get - /a*c", "/abc"),
    ] {
        assert_eq!(
            rule(line).allows_path("get", path),
            allowed,
            "{line}: {path}"
        );
    }
}

#[test]
fn what_rules_cover() {
    for (held, wanted, lacking) in [
        (&["get core pods"][..], "get core pods", &[][..]),
        (
            &["get core pods"],
            "get,list core pods",
            &["list core pods"],
        ),
        (
            &["get core pods", "list core pods"],
            "get,list core pods",
            &[],
        ),
        (&["* * *"], "get,fly core,apps pods,x/y n", &[]),
        (&["* * *"], "get - /api", &["get - /api"]),
        (&["get - *"], "get - /api,/apis/*", &[]),
        (&["get - /api/*"], "get - /api/*,/api", &["get - /api"]),
        (&["get core pods a"], "get core pods", &["get core pods"]),
        (&["get core pods"], "get core pods a", &[]),
        (
            &["get core pods a"],
            "get core pods a,b",
            &["get core pods b"],
        ),
        (&["get core */log"], "get core pods/log", &[]),
        (&["get core */log"], "get core pods", &["get core pods"]),
        (&["get core pods"], "get core *", &["get core *"]),
        (&["get core pods"], "* core pods", &["* core pods"]),
        (
            &["get core pods/log"],
            "get core */log",
            &["get core */log"],
        ),
    ] {
        let rules: Vec<Rule> = held.iter().map(|line| rule(line)).collect();
        let held_rules: Vec<&Rule> = rules.iter().collect();
        let found = missing(&held_rules, [&rule(wanted)]).unwrap();
        let lacking: Vec<Rule> = lacking.iter().map(|line| rule(line)).collect();
        assert_eq!(found, lacking, "{held:?} covers {wanted}");
    }
}

#[test]
fn too_many_rights_are_not_taken_apart() {
    let many = |prefix: &str| (0..200).map(|n| format!("{prefix}{n}")).collect();
    let rule = Rule {
        verbs: many("v"),
        api_groups: many("g"),
        resources: many("r"),
        resource_names: many("n"),
        ..Rule::default()
    };
    assert_eq!(missing(&[], [&rule]), Err(TooMany));
    // Few rights, but of a long text each.
    let long = Rule {
        verbs: many("v"),
        api_groups: vec!["x".repeat(1 << 20)],
        resources: vec!["r".to_owned()],
        ..Rule::default()
    };
    assert_eq!(missing(&[], [&long]), Err(TooMany));
    // Few rights, held by who has rules without number.
    let names = (0..500_000).map(|n| n.to_string()).collect();
    let held = Rule {
        resource_names: names,
        ..Rule::default()
    };
    let wanted = Rule {
        verbs: many("v"),
        api_groups: vec!["g".to_owned()],
        resources: vec!["r".to_owned()],
        ..Rule::default()
    };
    assert_eq!(missing(&[&held], [&wanted]), Err(TooMany));
    let [all, _] = Rule::everything();
    assert_eq!(missing(&[&all], [&rule]), Ok(vec![]));
}

#[test]
fn a_long_rule_is_held_as_it_stands_or_not_compared() {
    let many = || (0..100_000).map(|n| n.to_string());
    let lists: [fn(&mut Rule) -> &mut Vec<String>; 5] = [
        |rule| &mut rule.verbs,
        |rule| &mut rule.api_groups,
        |rule| &mut rule.resources,
        |rule| &mut rule.resource_names,
        |rule| &mut rule.non_resource_urls,
    ];
    for list in lists {
        let mut held = Rule::default();
        *list(&mut held) = many().collect();
        assert_eq!(missing(&[&held], [&held.clone()]), Ok(vec![]));
        let mut wanted = Rule::default();
        *list(&mut wanted) = many().rev().collect();
        assert_eq!(missing(&[&held], [&wanted]), Err(TooMany));
    }
}

#[test]
fn rules_in_kubernetes_short_form() {
    let shown = |lines: &[&str]| -> Vec<String> {
        let rules = lines.iter().map(|line| rule(line)).collect();
        compact(rules).iter().map(Rule::to_string).collect()
    };
    assert_eq!(
        shown(&["get core pods", "list core pods", "get core pods a"]),
        [
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#,
            r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["a"], Verbs:["get"]}"#,
        ]
    );
    assert_eq!(
        shown(&["get - /a", "get - /b"]),
        [
            r#"{NonResourceURLs:["/a"], Verbs:["get"]}"#,
            r#"{NonResourceURLs:["/b"], Verbs:["get"]}"#,
        ]
    );
}

#[test]
fn null_is_an_empty_list() {
    let read: Rule = serde_json::from_str(r#"{"verbs":["get"],"resources":null}"#).unwrap();
    assert_eq!((read.verbs.len(), read.resources.len()), (1, 0));
    let written = serde_json::to_string(&rule("get - /a")).unwrap();
    assert_eq!(written, r#"{"verbs":["get"],"nonResourceURLs":["/a"]}"#);
}
