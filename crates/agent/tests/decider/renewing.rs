//! What volumes show, made anew while the pod runs.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;
use jiff::Timestamp;
use serde_json::json;

use agent::pod::Observation;

use crate::bench::{Bench, check};

fn names(volumes: &[&str]) -> BTreeSet<String> {
    volumes.iter().map(|volume| (*volume).to_owned()).collect()
}

fn stale(volumes: &[&str]) -> Observation {
    Observation::VolumesStale(names(volumes))
}

fn not_renewed(unmade: &[&str], retry: bool, due: Option<Timestamp>) -> Observation {
    let unmade = names(unmade);
    Observation::VolumesNotRenewed { unmade, retry, due }
}

#[test]
fn what_is_due_is_renewed_once_and_retried_ever_later() {
    let mut b = Bench::running("Always");
    b.see(Observation::VolumesReady(Some(b.in_seconds(2800))));
    let mut log = b.plan();
    b.wait(2800);
    log += &b.plan();
    for wait in [10, 20, 40] {
        b.see(not_renewed(&["token"], true, None));
        log += &b.plan();
        b.wait(wait);
        log += &b.plan();
    }
    b.see(Observation::VolumesReady(Some(b.in_seconds(600))));
    log += &b.plan();
    b.wait(601);
    b.delete(30);
    log += &b.plan();
    check(
        &log,
        expect![[r#"
            requeue +2800000ms
            RenewVolumes
            requeue +10000ms
            RenewVolumes
            requeue +20000ms
            RenewVolumes
            requeue +40000ms
            RenewVolumes
            requeue +600000ms
            end main (Stopping container main)
            stop main 30s
            RenewVolumes
            requeue +30000ms
        "#]],
    );
}

#[test]
fn nothing_is_released_while_it_is_still_written() {
    let mut b = Bench::running("Never");
    b.see(Observation::VolumesReady(Some(b.in_seconds(60))));
    b.wait(60);
    let mut log = b.plan();
    b.end("main", 0, "Completed");
    log += &b.plan();
    b.see(not_renewed(&["token"], true, None));
    log += &b.plan();
    b.see(Observation::Released);
    b.wait(3600);
    log += &b.plan();
    check(
        &log,
        expect![[r#"
            RenewVolumes
            RemoveContainer { container: "main", attempt: 0 }
            Release
        "#]],
    );
}

#[test]
fn volumes_that_show_labels_follow_them() {
    let pod = |field: &str| {
        let item = json!({"path": "x", "fieldRef": {"fieldPath": field}});
        json!({
            "containers": [{"name": "main", "image": "hello:v1"}],
            "volumes": [{"name": "v", "projected": {"sources": [{"downwardAPI": {"items": [item]}}]}}],
        })
    };
    let labels = |app: &str| Some(BTreeMap::from([("app".to_owned(), app.to_owned())]));
    let mut log = String::new();
    for field in [
        "metadata.labels",
        "metadata.annotations['a']",
        "metadata.namespace",
    ] {
        let mut b = Bench::new(pod(field));
        b.up();
        log += &format!("{field}: {}\n", b.plan());
        b.pod.metadata.labels = labels("one");
        log += &b.plan();
        // While it is done they change once more.
        b.pod.metadata.labels = labels("two");
        log += &b.plan();
        b.see(Observation::VolumesReady(None));
        log += &b.plan();
        b.see(Observation::VolumesReady(None));
        log += &b.plan();
    }
    check(
        &log,
        expect![[r#"
            metadata.labels: 
            RenewVolumes
            RenewVolumes
            metadata.annotations['a']: 
            RenewVolumes
            RenewVolumes
            metadata.namespace: 
        "#]],
    );
}

#[test]
fn stale_volumes_are_renewed_at_once_and_never_two_at_a_time() {
    let mut b = Bench::running("Always");
    let mut log = String::new();
    let step = |b: &mut Bench, log: &mut String, what: &str| {
        *log += &format!("{what}\n{}", b.plan());
        let behind: Vec<_> = b.observed.renewal.behind().iter().cloned().collect();
        *log += &format!("  behind: {}\n", behind.join(" "));
    };
    step(&mut b, &mut log, "at rest");
    b.see(stale(&["a"]));
    step(&mut b, &mut log, "a changes");
    for _ in 0..3 {
        b.see(stale(&["a"]));
        b.see(stale(&["b"]));
    }
    step(&mut b, &mut log, "a and b change");
    b.see(Observation::VolumesReady(None));
    step(&mut b, &mut log, "a is made anew");
    b.see(not_renewed(&["a", "b"], true, None));
    step(&mut b, &mut log, "that fails");
    b.see(stale(&["c"]));
    step(&mut b, &mut log, "c changes");
    b.see(not_renewed(&["a", "b", "c"], true, None));
    step(&mut b, &mut log, "that fails");
    b.wait(20);
    step(&mut b, &mut log, "later");
    b.see(Observation::VolumesReady(None));
    step(&mut b, &mut log, "it does not");
    check(
        &log,
        expect![[r#"
            at rest
              behind: 
            a changes
            RenewVolumes
              behind: a
            a and b change
              behind: a
            a is made anew
            RenewVolumes
              behind: a b
            that fails
            requeue +10000ms
              behind: a b
            c changes
            RenewVolumes
              behind: a b c
            that fails
            requeue +20000ms
              behind: a b c
            later
            RenewVolumes
              behind: a b c
            it does not
              behind: 
        "#]],
    );
}

#[test]
fn what_cannot_be_made_holds_up_nothing_else() {
    let mut b = Bench::running("Always");
    let mut log = String::new();
    let step = |b: &mut Bench, log: &mut String, what: &str| {
        *log += &format!("{what}\n{}", b.plan());
        let behind: Vec<_> = b.observed.renewal.behind().iter().cloned().collect();
        *log += &format!("  behind: {}\n", behind.join(" "));
    };
    b.see(stale(&["a", "b"]));
    step(&mut b, &mut log, "a and b change");
    b.see(not_renewed(&["a"], true, Some(b.in_seconds(5))));
    step(
        &mut b,
        &mut log,
        "a fails, and another one is due before it is tried again",
    );
    b.wait(5);
    step(&mut b, &mut log, "that is due");
    b.see(not_renewed(&["a"], true, Some(b.in_seconds(600))));
    step(&mut b, &mut log, "a fails again");
    b.wait(20);
    step(&mut b, &mut log, "later");
    b.see(not_renewed(&["a"], false, Some(b.in_seconds(600))));
    step(&mut b, &mut log, "what a shows is gone");
    b.wait(600);
    step(&mut b, &mut log, "another one is due");
    b.see(not_renewed(&["a"], false, None));
    step(&mut b, &mut log, "it is still gone");
    b.see(stale(&["a"]));
    step(&mut b, &mut log, "it comes");
    b.see(not_renewed(&["a"], true, None));
    step(&mut b, &mut log, "a fails as if for the first time");
    check(
        &log,
        expect![[r#"
            a and b change
            RenewVolumes
              behind: a b
            a fails, and another one is due before it is tried again
            requeue +5000ms
              behind: a
            that is due
            RenewVolumes
              behind: a
            a fails again
            requeue +20000ms
              behind: a
            later
            RenewVolumes
              behind: a
            what a shows is gone
            requeue +600000ms
              behind: a
            another one is due
            RenewVolumes
              behind: a
            it is still gone
              behind: a
            it comes
            RenewVolumes
              behind: a
            a fails as if for the first time
            requeue +10000ms
              behind: a
        "#]],
    );
}

#[test]
fn what_changes_while_volumes_are_made_is_made_anew_and_what_changed_before_is_not() {
    let spec = json!({"containers": [{"name": "main", "image": "hello:v1"}]});
    let mut b = Bench::new(spec);
    b.see(stale(&["v"]));
    let mut log = b.plan();
    b.see(Observation::SandboxReady("10.128.0.7".parse().unwrap()));
    b.see(Observation::VolumesReady(None));
    log += "ready\n";
    log += &b.plan();
    b.see(stale(&["v"]));
    log += "stale\n";
    log += &b.plan();
    let mut ended = Bench::running("Never");
    ended.end("main", 0, "Completed");
    ended.plan();
    ended.see(stale(&["v"]));
    log += "ended\n";
    log += &ended.plan();
    check(
        &log,
        expect![[r#"
            PrepareSandbox
            MountVolumes
            ready
            EnsureImage { container: "main" }
            stale
            RenewVolumes
            ended
        "#]],
    );
}
