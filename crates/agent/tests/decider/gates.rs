//! Readiness gates: what somebody else says of a pod before it is ready.

use expect_test::expect;
use k8s_openapi::api::core::v1::PodStatus;
use serde_json::json;

use crate::bench::{Bench, check};

#[test]
fn a_pod_is_ready_when_its_containers_and_all_of_its_gates_are() {
    let mut b = Bench::new(json!({
        "restartPolicy": "Always",
        "readinessGates": [{"conditionType": "example.com/a"}, {"conditionType": "example.com/b"}],
        "containers": [{"name": "main", "image": "hello:v1"}],
    }));
    b.up();
    let mut log = String::new();
    let mut show = |b: &mut Bench, a: Option<&str>, other: Option<&str>| {
        let gates = [("example.com/a", a), ("example.com/b", other)];
        let said = gates.iter().filter_map(|(gate, status)| {
            let status = (*status)?;
            Some(json!({"type": gate, "status": status}))
        });
        let status: PodStatus =
            serde_json::from_value(json!({"conditions": said.collect::<Vec<_>>()})).unwrap();
        b.pod.status = Some(status);
        log += &format!("{a:?} {other:?}\n");
        let summary = b.summary();
        let lines = summary.lines().filter(|line| line.contains("Ready="));
        log.extend(lines.map(|line| format!("{line}\n")));
    };
    for (a, other) in [
        (None, None),
        (Some("False"), None),
        (Some("True"), Some("Unknown")),
        (Some("False"), Some("False")),
        (Some("True"), Some("True")),
        (Some("True"), None),
    ] {
        show(&mut b, a, other);
    }
    // Containers come first.
    b.end("main", 1, "Error");
    show(&mut b, None, Some("True"));
    check(
        &log,
        expect![[r#"
            None None
              Ready=False ReadinessGatesNotReady: corresponding condition of pod readiness gate "example.com/a" does not exist., corresponding condition of pod readiness gate "example.com/b" does not exist.
              ContainersReady=True
            Some("False") None
              Ready=False ReadinessGatesNotReady: the status of pod readiness gate "example.com/a" is not "True", but False, corresponding condition of pod readiness gate "example.com/b" does not exist.
              ContainersReady=True
            Some("True") Some("Unknown")
              Ready=False ReadinessGatesNotReady: the status of pod readiness gate "example.com/b" is not "True", but Unknown
              ContainersReady=True
            Some("False") Some("False")
              Ready=False ReadinessGatesNotReady: the status of pod readiness gate "example.com/a" is not "True", but False, the status of pod readiness gate "example.com/b" is not "True", but False
              ContainersReady=True
            Some("True") Some("True")
              Ready=True
              ContainersReady=True
            Some("True") None
              Ready=False ReadinessGatesNotReady: corresponding condition of pod readiness gate "example.com/b" does not exist.
              ContainersReady=True
            None Some("True")
              Ready=False ContainersNotReady: containers with unready status: [main]
              ContainersReady=False ContainersNotReady: containers with unready status: [main]
        "#]],
    );
}
