use k8s_openapi::api::networking::v1::IngressStatus;
use serde_json::{Value, json};

use super::*;

fn class() -> IngressClass {
    let object =
        json!({"metadata": {"name": "carob"}, "spec": {"controller": api::ingress::CONTROLLER}});
    serde_json::from_value(object).expect("a class")
}

fn ingress(name: &str, created: &str, spec: Value) -> Ingress {
    ingress_in("d", name, created, spec)
}

fn ingress_in(namespace: &str, name: &str, created: &str, spec: Value) -> Ingress {
    let mut spec = spec;
    spec["ingressClassName"] = json!("carob");
    let metadata = json!({"namespace": namespace, "name": name, "creationTimestamp": created});
    let object = json!({"metadata": metadata, "spec": spec});
    serde_json::from_value(object).expect("an Ingress")
}

fn to(service: &str) -> Value {
    json!({"service": {"name": service, "port": {"number": 80}}})
}

/// A rule: its host, and `type path` of each path, which is also the name of the Service that it leads to.
fn rule(host: &str, paths: &[&str]) -> Value {
    let path = |text: &&str| {
        let (kind, path) = text.split_once(' ').expect("a type and a path");
        json!({"path": path, "pathType": kind, "backend": to(&format!("{host}|{text}"))})
    };
    let paths: Vec<_> = paths.iter().map(path).collect();
    json!({"host": host, "http": {"paths": paths}})
}

fn compiled(ingresses: &[Ingress]) -> Compiled {
    Compiled::new(ingresses, &[class()])
}

fn service(compiled: &Compiled, host: &str, path: &str) -> String {
    match compiled.router.route(host, path) {
        None => "-".to_owned(),
        Some(Target::Unserved) => "unserved".to_owned(),
        Some(Target::Service(backend)) => backend.service.name.clone(),
    }
}

/// The table of Kubernetes' documentation of Ingress, with some of our own below.
#[test]
fn paths() {
    for (paths, request, due) in [
        (&["Prefix /"][..], "/whatever", "Prefix /"),
        (&["Exact /foo"], "/foo", "Exact /foo"),
        (&["Exact /foo"], "/bar", "-"),
        (&["Exact /foo"], "/foo/", "-"),
        (&["Exact /foo/"], "/foo", "-"),
        (&["Prefix /foo"], "/foo", "Prefix /foo"),
        (&["Prefix /foo"], "/foo/", "Prefix /foo"),
        (&["Prefix /foo/"], "/foo", "Prefix /foo/"),
        (&["Prefix /foo/"], "/foo/", "Prefix /foo/"),
        (&["Prefix /aaa/bb"], "/aaa/bbb", "-"),
        (&["Prefix /aaa/bbb"], "/aaa/bbb", "Prefix /aaa/bbb"),
        (&["Prefix /aaa/bbb/"], "/aaa/bbb", "Prefix /aaa/bbb/"),
        (&["Prefix /aaa/bbb"], "/aaa/bbb/", "Prefix /aaa/bbb"),
        (&["Prefix /aaa/bbb"], "/aaa/bbb/ccc", "Prefix /aaa/bbb"),
        (&["Prefix /aaa/bbb"], "/aaa/bbbxyz", "-"),
        (&["Prefix /", "Prefix /aaa"], "/aaa/ccc", "Prefix /aaa"),
        (
            &["Prefix /", "Prefix /aaa", "Prefix /aaa/bbb"],
            "/aaa/bbb",
            "Prefix /aaa/bbb",
        ),
        (
            &["Prefix /", "Prefix /aaa", "Prefix /aaa/bbb"],
            "/ccc",
            "Prefix /",
        ),
        (&["Prefix /aaa"], "/ccc", "-"),
        (&["Prefix /foo", "Exact /foo"], "/foo", "Exact /foo"),
        (
            &["Prefix /aaa/bbb/ccc", "Prefix /aaa"],
            "/aaa/bbb",
            "Prefix /aaa",
        ),
        (
            &["ImplementationSpecific /a"],
            "/a/b",
            "ImplementationSpecific /a",
        ),
        (&["Prefix /a"], "/A", "-"),
        (&["Prefix /a"], "/a//b", "Prefix /a"),
        (&["Prefix /a"], "//a", "-"),
        (&["Exact /"], "/a", "-"),
        (&["Prefix /"], "*", "Prefix /"),
        (&["Prefix /"], "", "Prefix /"),
    ] {
        let all = compiled(&[ingress(
            "i",
            "2026-01-01T00:00:00Z",
            json!({"rules": [rule("x", paths)]}),
        )]);
        let due = if due == "-" {
            due.to_owned()
        } else {
            format!("x|{due}")
        };
        assert_eq!(service(&all, "x", request), due, "{paths:?} {request}");
        assert_eq!(all.ignored, []);
    }
}

#[test]
fn the_deepest_path_is_dropped_on_little_stack() {
    let path = "/".repeat(LONGEST);
    let text = format!("ImplementationSpecific {path}");
    let spec = json!({"rules": [rule("x", &[text.as_str()])]});
    let all = compiled(&[ingress("i", "2026-01-01T00:00:00Z", spec)]);
    assert_eq!(service(&all, "x", &path), format!("x|{text}"));
    let thread = std::thread::Builder::new().stack_size(128 << 10);
    let dropping = thread.spawn(move || drop(all)).expect("a thread");
    dropping.join().expect("dropped");
}

#[test]
fn hosts() {
    let rules = [
        rule("foo.bar.com", &["Exact /only"]),
        rule("*.bar.com", &["Prefix /"]),
        rule("", &["Prefix /any"]),
    ];
    let spec = json!({"rules": rules, "defaultBackend": to("default")});
    let all = compiled(&[ingress("i", "2026-01-01T00:00:00Z", spec)]);
    for (host, path, due) in [
        ("foo.bar.com", "/only", "foo.bar.com|Exact /only"),
        ("FOO.bar.com.:8080", "/only", "foo.bar.com|Exact /only"),
        // No path of the host itself is for it.
        ("foo.bar.com", "/else", "*.bar.com|Prefix /"),
        ("baz.bar.com", "/only", "*.bar.com|Prefix /"),
        ("baz.foo.bar.com", "/", "default"),
        ("bar.com", "/else", "default"),
        ("bar.com", "/any/x", "|Prefix /any"),
        ("[::1]:80", "/any", "|Prefix /any"),
        ("", "/", "default"),
        ("*.bar.com", "/", "*.bar.com|Prefix /"),
    ] {
        assert_eq!(service(&all, host, path), due, "{host} {path}");
    }
    let none = compiled(&[ingress(
        "i",
        "2026-01-01T00:00:00Z",
        json!({"rules": [rule("x", &["Prefix /"])]}),
    )]);
    assert_eq!(service(&none, "y", "/"), "-");
}

#[test]
fn the_older_one_has_it() {
    let of = |name: &str, created: &str| {
        let path = json!({"path": "/", "pathType": "Prefix", "backend": to(name)});
        let rules = json!([{"host": "x", "http": {"paths": [path]}}]);
        let tls = json!([{"secretName": name, "hosts": ["x"]}, {"hosts": ["y"]}]);
        ingress(
            name,
            created,
            json!({"rules": rules, "defaultBackend": to(name), "tls": tls}),
        )
    };
    let bare = |name: &str, created: &str| {
        let spec = json!({"defaultBackend": to(name)});
        ingress(name, created, spec)
    };
    let (first, second) = (
        bare("e", "2026-01-03T00:00:00Z"),
        bare("f", "2026-01-04T00:00:00Z"),
    );
    let (young, old, twin) = (
        of("a", "2026-01-02T00:00:00Z"),
        of("b", "2026-01-01T00:00:00Z"),
        of("c", "2026-01-01T00:00:00Z"),
    );
    for order in [
        [&young, &old, &twin, &first, &second],
        [&second, &twin, &first, &young, &old],
    ] {
        let all = Compiled::new(order, &[class()]);
        assert_eq!(
            (service(&all, "x", "/"), service(&all, "y", "/")),
            ("b".to_owned(), "e".to_owned())
        );
        let names: Vec<_> = all.ours.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(names, ["b", "c", "a", "e", "f"]);
        let secrets: Vec<_> = all
            .certificates
            .iter()
            .map(|wanted| wanted.secret.to_string())
            .collect();
        assert_eq!(secrets, ["d/b", "d/c", "d/a"]);
        let said: Vec<_> = all
            .ignored
            .iter()
            .map(|(key, what)| format!("{key}: {what}"))
            .collect();
        assert_eq!(
            said,
            [
                "d/c: path / of x has no effect: an earlier rule has it",
                "d/a: path / of x has no effect: an earlier rule has it",
                "d/f: its default backend has no effect: that of d/e is older",
            ]
        );
    }
}

#[test]
fn what_a_hosts_rules_leave_over_stays_with_its_ingress() {
    let spec = json!({"rules": [rule("b.com", &["Prefix /api"]), rule("*.b.com", &["Exact /x"])],
        "defaultBackend": to("own")});
    let own = ingress_in("b", "i", "2026-01-02T00:00:00Z", spec);
    let spec = json!({"rules": [rule("c.com", &["Prefix /api"]), rule("*.c.com", &["Exact /x"])]});
    let bare = ingress_in("c", "i", "2026-01-02T00:00:00Z", spec);
    let spec =
        json!({"rules": [rule("", &["Prefix /", "Exact /login"])], "defaultBackend": to("all")});
    let older = ingress_in("a", "i", "2026-01-01T00:00:00Z", spec);
    let spec = json!({"rules": [rule("", &["Prefix /api/mine"])]});
    let same = ingress_in("c", "j", "2026-01-03T00:00:00Z", spec);
    let spec = json!({"defaultBackend": to("everywhere")});
    let default = ingress_in("a", "d", "2026-01-01T00:00:00Z", spec);
    let all = compiled(&[own, bare, older, same, default]);
    for (host, path, due) in [
        ("b.com", "/api/1", "b.com|Prefix /api"),
        ("b.com", "/login", "own"),
        ("x.b.com", "/x", "*.b.com|Exact /x"),
        ("x.b.com", "/login", "own"),
        // Nobody's, rather than another namespace's.
        ("c.com", "/login", "-"),
        ("x.c.com", "/login", "-"),
        ("x.c.com", "/api/mine/1", "|Prefix /api/mine"),
        ("d.com", "/login", "|Exact /login"),
        ("d.com", "/else", "|Prefix /"),
    ] {
        assert_eq!(service(&all, host, path), due, "{host} {path}");
    }
    assert_eq!(all.ignored, []);
}

#[test]
fn default_backends_without_rules_are_for_hosts_without_rules() {
    let spec = json!({"rules": [rule("c.com", &["Prefix /api"])]});
    let bare = ingress_in("c", "i", "2026-01-02T00:00:00Z", spec);
    let default = |namespace: &str| {
        let spec = json!({"defaultBackend": to("default")});
        ingress_in(namespace, "d", "2026-01-01T00:00:00Z", spec)
    };
    for (namespace, due) in [("a", "-"), ("c", "default")] {
        let all = compiled(&[bare.clone(), default(namespace)]);
        let found = ["c.com", "d.com"].map(|host| service(&all, host, "/login"));
        assert_eq!(found, [due, "default"], "{namespace}");
    }
}

#[test]
fn what_cannot_be_served() {
    let path =
        |backend: Value, path: &str| json!({"path": path, "pathType": "Exact", "backend": backend});
    let paths = [
        path(
            json!({"resource": {"kind": "Bucket", "name": "b"}}),
            "/resource",
        ),
        path(json!({}), "/nothing"),
        path(json!({"service": {"name": "s"}}), "/portless"),
        path(
            json!({"service": {"name": "s", "port": {"number": 70_000}}}),
            "/large",
        ),
        path(
            json!({"service": {"name": "s", "port": {"name": "web"}}}),
            "/named",
        ),
        path(to("s"), &"/x".repeat(LONGEST)),
        json!({"path": "/odd", "pathType": "Regex", "backend": to("s")}),
    ];
    let spec = json!({"rules": [{"http": {"paths": paths}}]});
    let all = compiled(&[ingress("i", "2026-01-01T00:00:00Z", spec)]);
    for (path, due) in [
        ("/resource", "unserved"),
        ("/nothing", "unserved"),
        ("/portless", "unserved"),
        ("/large", "unserved"),
        ("/named", "s"),
        ("/odd", "-"),
    ] {
        assert_eq!(service(&all, "any", path), due, "{path}");
    }
    let said: Vec<_> = all.ignored.iter().map(|(_, what)| what.as_str()).collect();
    assert_eq!(
        said,
        [
            "the backend of path /resource cannot be asked, and 503 is answered: resources are not supported as backends",
            "the backend of path /nothing cannot be asked, and 503 is answered: it names no Service",
            "the backend of path /portless cannot be asked, and 503 is answered: it names no port",
            "the backend of path /large cannot be asked, and 503 is answered: 70000 is no port's number",
            "a path has no effect: it is longer than 4096 bytes",
            "path /odd has no effect: its type Regex is not known",
        ]
    );
}

#[test]
fn a_host_without_paths_is_the_default_backends() {
    let hosts = json!({"rules": [{"host": "x"}], "defaultBackend": to("own")});
    let older = ingress(
        "older",
        "2025-01-01T00:00:00Z",
        json!({"defaultBackend": to("older")}),
    );
    let all = compiled(&[ingress("i", "2026-01-01T00:00:00Z", hosts), older]);
    assert_eq!(
        (service(&all, "x", "/a"), service(&all, "y", "/a")),
        ("own".to_owned(), "older".to_owned())
    );
}

#[test]
fn others_are_left_to_others() {
    let mut other = ingress(
        "i",
        "2026-01-01T00:00:00Z",
        json!({"defaultBackend": to("s")}),
    );
    other.spec.as_mut().expect("a spec").ingress_class_name = Some("nginx".to_owned());
    let all = compiled(&[other]);
    assert_eq!(
        (all.ours.len(), service(&all, "x", "/")),
        (0, "-".to_owned())
    );
}

#[test]
fn what_of_an_ingress_matters() {
    let spec = json!({"rules": [rule("x", &["Prefix /"])]});
    let old = ingress("i", "2026-01-01T00:00:00Z", spec);
    let changed = |change: &dyn Fn(&mut Ingress)| {
        let mut new = old.clone();
        new.metadata.resource_version = Some("2".to_owned());
        change(&mut new);
        !is_same(&old, &new)
    };
    assert!(!changed(&|_| {}));
    assert!(!changed(&|new| new.status = Some(IngressStatus::default())));
    assert!(changed(&|new| new.spec = None));
    assert!(changed(&|new| {
        let elder = (api::ingress::ELDER.to_owned(), "nginx".to_owned());
        new.metadata.annotations = Some([elder].into());
    }));
    assert!(changed(&|new| new.metadata.creation_timestamp = None));
}
