//! Wishes for other resources: what the node takes of them, and what becomes of those that run.

use std::sync::Arc;

use expect_test::expect;
use k8s_openapi::api::core::v1::{PodStatus, ResourceRequirements};
use serde_json::{Value, json};

use agent::pod::{Observation, Observed, Why, summary, wanted};

use crate::bench::{Bench, check};

fn cpu(request: &str, limit: &str) -> Value {
    json!({"limits": {"cpu": limit}, "requests": {"cpu": request}})
}

fn resources(of: Value) -> ResourceRequirements {
    serde_json::from_value(of).unwrap()
}

/// A pod of one container with these fields, already running, with 100m of at most 200m.
fn running(more: Value) -> Bench {
    let mut main = json!({"name": "main", "image": "hello:v1", "resources": cpu("100m", "200m")});
    main.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let mut b = Bench::new(json!({"containers": [main]}));
    b.up();
    assert_eq!(b.plan(), "");
    b
}

fn wish(b: &mut Bench, of: Value) {
    b.pod.spec.as_mut().unwrap().containers[0].resources = Some(resources(of));
    *b.pod.metadata.generation.as_mut().unwrap() += 1;
}

/// The node's answer to what the pod wishes for.
fn room(b: &mut Bench, refused: Option<(Why, &str)>) {
    b.see(Observation::Room {
        wanted: wanted(&b.pod),
        generation: b.pod.metadata.generation.unwrap(),
        refused: refused.map(|(why, message)| (why, message.to_owned())),
    });
}

/// The runtime's answer to a change.
fn resized(b: &mut Bench, attempt: u32, of: Value, error: Option<&str>) {
    b.see(Observation::Resized {
        container: "main".to_owned(),
        attempt,
        resources: resources(of),
        error: error.map(str::to_owned),
    });
}

/// What the status says of resizes.
fn seen(b: &mut Bench) -> String {
    words(&b.status())
}

fn words(status: &PodStatus) -> String {
    let mut out = String::new();
    for c in status.conditions.iter().flatten() {
        if c.type_.starts_with("PodResize") {
            let (reason, message) = (c.reason.as_deref(), c.message.as_deref());
            out += &format!(
                "  {} {} ({}) of generation {}\n",
                c.type_,
                reason.unwrap_or("-"),
                message.unwrap_or("-"),
                c.observed_generation.unwrap(),
            );
        }
    }
    let c = &status.container_statuses.as_ref().unwrap()[0];
    let json = |value: Value| serde_json::to_string(&value).unwrap();
    out += &format!(
        "  has {} of {}, restarts={}\n",
        json(json!(c.resources)),
        json(json!(c.allocated_resources)),
        c.restart_count
    );
    out
}

#[test]
fn what_fits_is_changed_while_it_runs() {
    let mut b = running(json!({}));
    let mut log = seen(&mut b);
    wish(&mut b, cpu("500m", "1"));
    log += &(b.plan() + &seen(&mut b) + "given\n");
    room(&mut b, None);
    log += &(b.plan() + &seen(&mut b) + "changed\n");
    resized(&mut b, 0, cpu("500m", "1"), None);
    log += &(b.plan() + &seen(&mut b) + "the same in other words\n");
    wish(&mut b, cpu("0.5", "1000m"));
    log += &(b.plan() + &seen(&mut b));
    check(
        &log,
        expect![[r#"
              has {"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}} of {"cpu":"100m"}, restarts=0
            AskRoom
              has {"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}} of {"cpu":"100m"}, restarts=0
            given
            resize main {"limits":{"cpu":"1"},"requests":{"cpu":"500m"}}
              PodResizeInProgress - (-) of generation 2
              has {"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}} of {"cpu":"500m"}, restarts=0
            changed
            CompleteResize { generation: 2 }
              has {"limits":{"cpu":"1"},"requests":{"cpu":"500m"}} of {"cpu":"500m"}, restarts=0
            the same in other words
              has {"limits":{"cpu":"1"},"requests":{"cpu":"500m"}} of {"cpu":"500m"}, restarts=0
        "#]],
    );
}

#[test]
fn what_does_not_fit_waits_or_is_left() {
    let mut b = running(json!({}));
    wish(&mut b, cpu("500m", "1"));
    let mut log = b.plan();
    room(&mut b, Some((Why::Deferred, "others have it")));
    log += &(b.plan() + &seen(&mut b) + "more\n");
    wish(&mut b, cpu("500", "500"));
    log += &b.plan();
    room(&mut b, Some((Why::Infeasible, "nobody has it")));
    b.wait(3600);
    log += &(b.plan() + &seen(&mut b) + "taken back\n");
    wish(&mut b, cpu("100m", "200m"));
    log += &(b.plan() + &seen(&mut b) + "again\n");
    wish(&mut b, cpu("500m", "1"));
    log += &b.plan();
    room(&mut b, Some((Why::Deferred, "others have it")));
    log += &(b.plan() + "there is room\n");
    room(&mut b, None);
    log += &(b.plan() + &seen(&mut b));
    check(
        &log,
        expect![[r#"
            AskRoom
              PodResizePending Deferred (others have it) of generation 2
              has {"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}} of {"cpu":"100m"}, restarts=0
            more
            AskRoom
              PodResizePending Infeasible (nobody has it) of generation 3
              has {"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}} of {"cpu":"100m"}, restarts=0
            taken back
              has {"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}} of {"cpu":"100m"}, restarts=0
            again
            AskRoom
            there is room
            resize main {"limits":{"cpu":"1"},"requests":{"cpu":"500m"}}
              PodResizeInProgress - (-) of generation 5
              has {"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}} of {"cpu":"500m"}, restarts=0
        "#]],
    );
}

#[test]
fn who_takes_it_at_its_start_only_is_started_anew() {
    let policy = |of: &str| json!({"resizePolicy": [{"resourceName": of, "restartPolicy": "RestartContainer"}]});
    // Of another resource than the one that changes: nothing is restarted.
    let mut b = running(policy("memory"));
    wish(&mut b, cpu("500m", "1"));
    let mut log = b.plan();
    room(&mut b, None);
    log += &b.plan();
    let mut b = running(policy("cpu"));
    wish(&mut b, cpu("500m", "1"));
    log += &b.plan();
    room(&mut b, None);
    log += &b.plan();
    b.end("main", 143, "Error");
    log += &(b.plan() + &seen(&mut b));
    b.pulled("main");
    log += &b.plan();
    b.started("main");
    log += &(b.plan() + &seen(&mut b));
    check(
        &log,
        expect![[r#"
            AskRoom
            resize main {"limits":{"cpu":"1"},"requests":{"cpu":"500m"}}
            AskRoom
            end main (Container main resize requires restart)
            stop main 30s
            requeue +30000ms
            RemoveContainer { container: "main", attempt: 0 }
            EnsureImage { container: "main" }
              PodResizeInProgress - (-) of generation 2
              has {"limits":{"cpu":"1"},"requests":{"cpu":"500m"}} of {"cpu":"500m"}, restarts=0
            StartContainer { container: "main", attempt: 1 }
            CompleteResize { generation: 2 }
              has {"limits":{"cpu":"1"},"requests":{"cpu":"500m"}} of {"cpu":"500m"}, restarts=1
        "#]],
    );
}

#[test]
fn what_a_container_refuses_is_tried_again() {
    let mut b = running(json!({}));
    wish(&mut b, cpu("500m", "1"));
    b.plan();
    room(&mut b, None);
    b.plan();
    resized(&mut b, 0, cpu("500m", "1"), Some("it has more"));
    let mut log = b.plan() + &seen(&mut b);
    b.wait(60);
    log += &(b.plan() + &seen(&mut b));
    resized(&mut b, 0, cpu("500m", "1"), Some("it has more"));
    log += &(b.plan() + "another wish\n");
    wish(&mut b, cpu("300m", "1"));
    log += &b.plan();
    room(&mut b, None);
    log += &(b.plan() + &seen(&mut b) + "it ends\n");
    // What comes too late is not about what runs then.
    b.end("main", 1, "Error");
    resized(&mut b, 0, cpu("300m", "1"), Some("it has more"));
    log += &(b.plan() + &seen(&mut b));
    check(
        &log,
        expect![[r#"
            requeue +60000ms
              PodResizeInProgress Error (it has more) of generation 2
              has {"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}} of {"cpu":"500m"}, restarts=0
            resize main {"limits":{"cpu":"1"},"requests":{"cpu":"500m"}}
              PodResizeInProgress Error (it has more) of generation 2
              has {"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}} of {"cpu":"500m"}, restarts=0
            requeue +60000ms
            another wish
            AskRoom
            requeue +60000ms
            resize main {"limits":{"cpu":"1"},"requests":{"cpu":"300m"}}
              PodResizeInProgress - (-) of generation 3
              has {"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}} of {"cpu":"300m"}, restarts=0
            it ends
            RemoveContainer { container: "main", attempt: 0 }
            CompleteResize { generation: 3 }
            EnsureImage { container: "main" }
              has {"limits":{"cpu":"1"},"requests":{"cpu":"300m"}} of {"cpu":"300m"}, restarts=0
        "#]],
    );
}

#[test]
fn a_refusal_is_of_one_change_only() {
    let mut b = running(json!({}));
    let refuse = |b: &mut Bench, of: &Value| {
        resized(b, 0, of.clone(), Some("it has more"));
        b.plan() + &seen(b)
    };
    let (first, second) = (cpu("500m", "1"), cpu("300m", "1"));
    wish(&mut b, first.clone());
    b.plan();
    room(&mut b, None);
    b.plan();
    let mut log = refuse(&mut b, &first);
    // The next try is under way when something else is given.
    b.wait(60);
    b.plan();
    wish(&mut b, second.clone());
    log += &b.plan();
    room(&mut b, None);
    log += &(b.plan() + &seen(&mut b) + "the old one is refused\n");
    log += &(refuse(&mut b, &first) + "the new one is\n");
    log += &refuse(&mut b, &second);
    check(
        &log,
        expect![[r#"
            requeue +60000ms
              PodResizeInProgress Error (it has more) of generation 2
              has {"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}} of {"cpu":"500m"}, restarts=0
            AskRoom
              PodResizeInProgress - (-) of generation 3
              has {"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}} of {"cpu":"300m"}, restarts=0
            the old one is refused
            resize main {"limits":{"cpu":"1"},"requests":{"cpu":"300m"}}
              PodResizeInProgress - (-) of generation 3
              has {"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}} of {"cpu":"300m"}, restarts=0
            the new one is
            requeue +60000ms
              PodResizeInProgress Error (it has more) of generation 3
              has {"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}} of {"cpu":"300m"}, restarts=0
        "#]],
    );
}

#[test]
fn of_what_has_ended_nothing_is_said() {
    for refused in [
        Some((Why::Deferred, "others have it")),
        Some((Why::Infeasible, "nobody has it")),
        None,
    ] {
        let mut b = running(json!({}));
        b.pod.spec.as_mut().unwrap().restart_policy = Some("Never".to_owned());
        wish(&mut b, cpu("500m", "1"));
        b.plan();
        room(&mut b, refused);
        b.plan();
        assert!(seen(&mut b).contains("PodResize"), "{refused:?}");
        b.end("main", 0, "Completed");
        let said = seen(&mut b);
        assert!(!said.contains("PodResize"), "{refused:?}: {said}");
        let planned = b.plan();
        assert!(!planned.contains("AskRoom"), "{refused:?}: {planned}");
    }
}

#[test]
fn what_was_given_outlives_the_agent() {
    let mut b = running(json!({}));
    wish(&mut b, cpu("500m", "1"));
    b.plan();
    room(&mut b, None);
    wish(&mut b, cpu("700m", "1"));
    assert_eq!(
        b.plan(),
        "AskRoom\nresize main {\"limits\":{\"cpu\":\"1\"},\"requests\":{\"cpu\":\"500m\"}}\n"
    );
    room(&mut b, Some((Why::Deferred, "others have it")));
    assert_eq!(b.plan(), "");
    let record = serde_json::to_string(&b.observed).unwrap();
    b.observed = serde_json::from_str(&record).unwrap();
    b.see(Observation::AgentRestarted);
    let mut log = seen(&mut b);
    // The wish that waited is put to the node once more; what starts meanwhile has what it was given before.
    log += &b.plan();
    b.see(Observation::VolumesReady(None));
    b.plan();
    b.pulled("main");
    log += &b.plan();
    b.started("main");
    log += &seen(&mut b);
    check(
        &log,
        expect![[r#"
              has {"limits":{"cpu":"1"},"requests":{"cpu":"500m"}} of {"cpu":"500m"}, restarts=0
            RemoveContainer { container: "main", attempt: 0 }
            AskRoom
            MountVolumes
            StartContainer { container: "main", attempt: 1 }
              has {"limits":{"cpu":"1"},"requests":{"cpu":"500m"}} of {"cpu":"500m"}, restarts=1
        "#]],
    );
    // A record of an agent that knew nothing of it, and a pod of which only the API knows.
    let mut record: Value = serde_json::from_str(&record).unwrap();
    record.as_object_mut().unwrap().remove("allocated");
    let old: Observed = serde_json::from_value(record).unwrap();
    assert!(old.allocated.is_empty());
    let told = Observed::from_status(&b.status());
    assert_eq!(told.allocated["main"], resources(cpu("500m", "1")));
}

#[test]
fn who_can_be_resized_and_what_that_counts() {
    let container =
        |name: &str| json!({"name": name, "image": "hello:v1", "resources": cpu("100m", "200m")});
    let mut side = container("side");
    side["restartPolicy"] = json!("Always");
    let mut b = Bench::new(json!({
        "containers": [container("main"), {"name": "bare", "image": "hello:v1"}],
        "initContainers": [container("init"), side],
    }));
    let names: Vec<String> = wanted(&b.pod).into_keys().collect();
    assert_eq!(names, ["bare", "main", "side"]);
    b.plan();
    assert!(b.observed.is_allocated(&b.pod));
    // Of an init container nothing is changed.
    b.pod
        .spec
        .as_mut()
        .unwrap()
        .init_containers
        .as_mut()
        .unwrap()[0]
        .resources = None;
    assert!(b.observed.is_allocated(&b.pod));

    let mut b = running(json!({}));
    let counts = |b: &Bench| {
        let spec = &b.pod.spec.as_ref().unwrap().containers[0];
        b.observed.counted(spec)["cpu"].0.clone()
    };
    let mut log = vec![counts(&b)];
    wish(&mut b, cpu("50m", "200m"));
    b.plan();
    log.push(counts(&b));
    room(&mut b, None);
    // It runs with more still.
    log.push(counts(&b));
    b.plan();
    resized(&mut b, 0, cpu("50m", "200m"), None);
    log.push(counts(&b));
    wish(&mut b, cpu("150m", "200m"));
    b.plan();
    room(&mut b, None);
    log.push(counts(&b));
    assert_eq!(log, ["100m", "100m", "100m", "50m", "150m"]);
}

#[test]
fn who_waits_sees_what_it_has() {
    let mut b = running(json!({}));
    let init = json!([{"name": "init", "image": "hello:v1", "resources": cpu("1", "1")}]);
    b.pod.spec.as_mut().unwrap().init_containers = serde_json::from_value(init).unwrap();
    let sees = |b: &Bench| {
        let pod = Arc::new(b.pod.clone());
        serde_json::to_value(&b.observed.as_allocated(&pod).spec).unwrap()
    };
    let mut before = sees(&b);
    assert_eq!(before["containers"][0]["resources"], cpu("100m", "200m"));
    wish(&mut b, cpu("500m", "1"));
    b.plan();
    assert_eq!(sees(&b), before);
    room(&mut b, None);
    before["containers"][0]["resources"] = cpu("500m", "1");
    assert_eq!(sees(&b), before);
}

#[test]
fn events_say_it_as_the_kubelet_does() {
    let mut b = running(json!({}));
    wish(&mut b, cpu("500m", "1"));
    let wished = wanted(&b.pod);
    assert_eq!(
        summary(&b.pod, &wished, "started", 2, ""),
        r#"Pod resize started: {"containers":[{"name":"main","resources":{"limits":{"cpu":"1"},"requests":{"cpu":"500m"}}}],"generation":2}"#
    );
    let init = json!([{"name": "init", "image": "hello:v1"}]);
    b.pod.spec.as_mut().unwrap().init_containers = serde_json::from_value(init).unwrap();
    assert_eq!(
        summary(&b.pod, &b.observed.allocated, "Deferred", 3, "no room"),
        r#"Pod resize Deferred: {"initContainers":[{"name":"init","resources":{}}],"containers":[{"name":"main","resources":{"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}}}],"generation":3,"error":"no room"}"#
    );
}
