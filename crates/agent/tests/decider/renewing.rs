//! What volumes show, made anew while the pod runs.

use std::collections::BTreeMap;

use expect_test::expect;
use serde_json::json;

use agent::pod::Observation;

use crate::bench::{Bench, check};

#[test]
fn what_is_due_is_renewed_once_and_retried_ever_later() {
    let mut b = Bench::running("Always");
    b.see(Observation::VolumesReady(Some(b.in_seconds(2800))));
    let mut log = b.plan();
    b.wait(2800);
    log += &b.plan();
    for wait in [10, 20, 40] {
        b.see(Observation::VolumesNotRenewed);
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
    b.see(Observation::VolumesNotRenewed);
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
