//! Jobs from beginning to end, in simulation.

mod orphans;
mod retries;

use std::collections::BTreeSet;

use client::Key;
use serde_json::{Value, json};

use super::FINALIZER;
use crate::pods;
use crate::simulation::Simulation;

/// A job named `job` in namespace `ns`, as the API defaults it, with `spec` over that.
fn job(spec: Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "job", "namespace": "ns"},
        "spec": {
            "parallelism": 1, "completions": 1, "backoffLimit": 6,
            "selector": {"matchLabels": {"job": "job"}},
            "template": {
                "metadata": {"labels": {"job": "job"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    for (field, value) in spec.as_object().expect("fields") {
        match value {
            Value::Null => drop(job["spec"].as_object_mut().map(|s| s.remove(field))),
            value => job["spec"][field] = value.clone(),
        }
    }
    job
}

fn begin(spec: Value) -> (Simulation, Key) {
    let mut sim = Simulation::new(1);
    sim.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}));
    let key = sim.create(job(spec));
    sim.settle();
    (sim, key)
}

fn status(sim: &Simulation, key: &Key) -> Value {
    sim.load("Job", key).expect("the job")["status"].clone()
}

fn conditions(sim: &Simulation, key: &Key) -> Vec<String> {
    let status = status(sim, key);
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let text = |c: &Value, field: &str| c[field].as_str().unwrap_or_default().to_owned();
    conditions
        .iter()
        .map(|c| {
            format!(
                "{}={} {}",
                text(c, "type"),
                text(c, "status"),
                text(c, "reason")
            )
        })
        .collect()
}

fn active(sim: &Simulation) -> Vec<Key> {
    let pods = sim.pods().into_iter();
    pods.filter(|(_, pod)| pods::is_active(pod))
        .map(|(key, _)| key)
        .collect()
}

fn end_all(sim: &mut Simulation, phase: &str) {
    for key in active(sim) {
        sim.phase(&key, phase);
    }
    sim.settle();
}

fn held(sim: &Simulation) -> usize {
    let has = |pod: &k8s_openapi::api::core::v1::Pod| {
        pod.metadata
            .finalizers
            .iter()
            .flatten()
            .any(|f| f == FINALIZER)
    };
    sim.pods().iter().filter(|(_, pod)| has(pod)).count()
}

#[test]
fn one_pod_that_succeeds_completes_the_job() {
    let (mut sim, key) = begin(json!({}));
    assert_eq!(active(&sim).len(), 1);
    assert_eq!(status(&sim, &key)["active"], 1);
    assert_eq!(held(&sim), 1);
    end_all(&mut sim, "Succeeded");
    assert_eq!(
        conditions(&sim, &key),
        [
            "SuccessCriteriaMet=True CompletionsReached",
            "Complete=True CompletionsReached"
        ]
    );
    let status = status(&sim, &key);
    assert_eq!(status["succeeded"], 1);
    assert!(status["active"].is_null() && status["failed"].is_null());
    assert!(status["completionTime"].is_string());
    assert_eq!(status["uncountedTerminatedPods"], json!({}));
    assert_eq!(held(&sim), 0);
    assert_eq!(sim.events, ["Completed Job completed"]);
}

#[test]
fn the_status_is_written_before_any_finalizer_goes() {
    let (mut sim, key) = begin(json!({"completions": 2, "parallelism": 2}));
    let first = active(&sim).remove(0);
    sim.phase(&first, "Failed");
    let plan = super::reconcile(&key, &sim.view, sim.now);
    assert!(
        matches!(plan.writes[0], crate::Write::Status { .. }),
        "{plan:?}"
    );
    assert!(
        matches!(plan.writes[1], crate::Write::Patch { .. }),
        "{plan:?}"
    );
    let uid = sim.load("Pod", &first).expect("the pod")["metadata"]["uid"].clone();
    let crate::Write::Status { patch, .. } = &plan.writes[0] else {
        panic!()
    };
    assert_eq!(
        patch["status"]["uncountedTerminatedPods"]["failed"],
        json!([uid])
    );
    assert!(
        patch["status"]["failed"].is_null(),
        "not counted before its finalizer is gone"
    );
}

#[test]
fn indexes_are_given_once_and_counted_once() {
    let (mut sim, key) =
        begin(json!({"completions": 4, "parallelism": 2, "completionMode": "Indexed"}));
    let index = |sim: &Simulation, key: &Key| {
        let pod = sim.load("Pod", key).expect("the pod");
        assert_eq!(
            pod["spec"]["containers"][0]["env"][0]["name"],
            "JOB_COMPLETION_INDEX"
        );
        pod["metadata"]["labels"][super::INDEX]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let given: Vec<_> = active(&sim).iter().map(|k| index(&sim, k)).collect();
    assert_eq!(given, ["0", "1"]);
    let first = active(&sim).remove(0);
    sim.phase(&first, "Succeeded");
    sim.settle();
    let given: Vec<_> = active(&sim).iter().map(|k| index(&sim, k)).collect();
    assert_eq!(given, ["1", "2"]);
    end_all(&mut sim, "Succeeded");
    assert_eq!(status(&sim, &key)["completedIndexes"], "0-2");
    end_all(&mut sim, "Succeeded");
    assert_eq!(status(&sim, &key)["completedIndexes"], "0-3");
    assert_eq!(status(&sim, &key)["succeeded"], 4);
    assert_eq!(
        conditions(&sim, &key)[1],
        "Complete=True CompletionsReached"
    );
}

#[test]
fn failures_are_retried_later_and_later_up_to_the_limit() {
    let (mut sim, key) = begin(json!({"backoffLimit": 2}));
    for wait in [10, 20] {
        end_all(&mut sim, "Failed");
        assert_eq!(active(&sim).len(), 0, "a failure is not retried at once");
        sim.pass(wait - 1);
        sim.settle();
        assert_eq!(active(&sim).len(), 0);
        sim.pass(1);
        sim.settle();
        assert_eq!(active(&sim).len(), 1, "after {wait} s");
    }
    end_all(&mut sim, "Failed");
    assert_eq!(
        conditions(&sim, &key),
        [
            "FailureTarget=True BackoffLimitExceeded",
            "Failed=True BackoffLimitExceeded"
        ]
    );
    assert_eq!(status(&sim, &key)["failed"], 3);
    assert_eq!(
        sim.events,
        ["BackoffLimitExceeded Job has reached the specified backoff limit"]
    );
    assert_eq!(held(&sim), 0);
}

#[test]
fn restarts_in_place_count_with_on_failure() {
    let mut template = job(json!({}))["spec"]["template"].clone();
    template["spec"]["restartPolicy"] = "OnFailure".into();
    let (mut sim, key) = begin(json!({"backoffLimit": 3, "template": template}));
    let pod = active(&sim).remove(0);
    sim.phase(&pod, "Running");
    let restarts = |n: i32| {
        move |pod: &mut Value| {
            pod["status"]["containerStatuses"] = json!([{"name": "c", "image": "i", "imageID": "",
            "ready": true, "restartCount": n}]);
        }
    };
    sim.change("Pod", &pod, restarts(2));
    sim.settle();
    assert!(conditions(&sim, &key).is_empty());
    sim.change("Pod", &pod, restarts(3));
    sim.settle();
    assert_eq!(
        conditions(&sim, &key),
        ["FailureTarget=True BackoffLimitExceeded"]
    );
    assert!(active(&sim).is_empty(), "the pod is ended");
    sim.let_go(&pod);
    sim.settle();
    assert_eq!(
        conditions(&sim, &key)[1],
        "Failed=True BackoffLimitExceeded"
    );
    assert_eq!(status(&sim, &key)["failed"], 1);
}

#[test]
fn a_deadline_ends_the_pods_and_what_is_decided_stays_decided() {
    let (mut sim, key) = begin(json!({"activeDeadlineSeconds": 30, "backoffLimit": 0}));
    let pod = active(&sim).remove(0);
    sim.phase(&pod, "Running");
    let plan = super::reconcile(&key, &sim.view, sim.now);
    assert_eq!(plan.again_after, Some(std::time::Duration::from_secs(30)));
    sim.pass(30);
    sim.settle();
    assert_eq!(
        conditions(&sim, &key),
        ["FailureTarget=True DeadlineExceeded"]
    );
    assert_eq!(status(&sim, &key)["terminating"], 1);
    // The pod's own failure exceeds the limit, too, which is no reason any more.
    sim.let_go(&pod);
    sim.settle();
    assert_eq!(
        conditions(&sim, &key),
        [
            "FailureTarget=True DeadlineExceeded",
            "Failed=True DeadlineExceeded"
        ]
    );
    assert_eq!(
        sim.events,
        ["DeadlineExceeded Job was active longer than specified deadline"]
    );
    assert!(sim.pods().is_empty());
}

#[test]
fn a_deadline_beyond_all_clocks_is_looked_at_in_time() {
    let (mut sim, key) = begin(json!({"activeDeadlineSeconds": i64::MAX}));
    end_nothing(&mut sim);
    let plan = super::reconcile(&key, &sim.view, sim.now);
    let month = std::time::Duration::from_secs(30 * 24 * 60 * 60);
    assert!(plan.again_after.is_some_and(|delay| delay <= month));
    assert!(conditions(&sim, &key).is_empty());
}

#[test]
fn suspending_ends_pods_without_counting_them_and_stops_the_clock() {
    let (mut sim, key) = begin(json!({"activeDeadlineSeconds": 60, "backoffLimit": 0}));
    end_nothing(&mut sim);
    sim.change("Job", &key, |job| job["spec"]["suspend"] = true.into());
    sim.settle();
    assert_eq!(conditions(&sim, &key), ["Suspended=True JobSuspended"]);
    for (pod, _) in sim.pods() {
        sim.let_go(&pod);
    }
    sim.pass(3600);
    sim.settle();
    assert!(status(&sim, &key)["failed"].is_null());
    assert_eq!(conditions(&sim, &key), ["Suspended=True JobSuspended"]);
    sim.change("Job", &key, |job| job["spec"]["suspend"] = false.into());
    sim.settle();
    assert_eq!(conditions(&sim, &key), ["Suspended=False JobResumed"]);
    assert_eq!(status(&sim, &key)["startTime"], json!(sim.now));
    assert_eq!(active(&sim).len(), 1);
    assert_eq!(
        sim.events,
        ["Suspended Job suspended", "Resumed Job resumed"]
    );
}

/// Lets all pods run.
fn end_nothing(sim: &mut Simulation) {
    end_all(sim, "Running");
}

#[test]
fn less_parallelism_ends_pods_without_counting_them() {
    let (mut sim, key) = begin(json!({"completions": 5, "parallelism": 3, "backoffLimit": 0}));
    end_nothing(&mut sim);
    sim.change("Job", &key, |job| job["spec"]["parallelism"] = 1.into());
    sim.settle();
    assert_eq!(active(&sim).len(), 1);
    assert_eq!(status(&sim, &key)["active"], 1);
    assert!(status(&sim, &key)["failed"].is_null());
    assert!(conditions(&sim, &key).is_empty());
}

#[test]
fn a_work_queue_is_done_when_one_has_succeeded_and_all_have_ended() {
    let (mut sim, key) = begin(json!({"completions": null, "parallelism": 3}));
    assert_eq!(active(&sim).len(), 3);
    let first = active(&sim).remove(0);
    sim.phase(&first, "Succeeded");
    sim.settle();
    assert_eq!(active(&sim).len(), 2, "no new one is made, none is ended");
    assert!(conditions(&sim, &key).is_empty());
    end_all(&mut sim, "Failed");
    assert_eq!(
        conditions(&sim, &key)[1],
        "Complete=True CompletionsReached"
    );
    assert_eq!(status(&sim, &key)["succeeded"], 1);
    assert_eq!(status(&sim, &key)["failed"], 2);
}

#[test]
fn a_deleted_pod_counts_as_failed_and_is_replaced_at_once() {
    let (mut sim, key) = begin(json!({}));
    let pod = active(&sim).remove(0);
    sim.phase(&pod, "Running");
    sim.delete("Pod", &pod, false);
    sim.settle();
    assert_eq!(active(&sim).len(), 1);
    assert_eq!(status(&sim, &key)["failed"], 1);
    assert_eq!(status(&sim, &key)["terminating"], 1);
}

#[test]
fn a_deleted_pod_is_replaced_only_when_it_has_ended_if_the_job_says_so() {
    let (mut sim, key) = begin(json!({"podReplacementPolicy": "Failed"}));
    let pod = active(&sim).remove(0);
    sim.phase(&pod, "Running");
    sim.delete("Pod", &pod, false);
    sim.settle();
    assert_eq!(active(&sim).len(), 0);
    assert!(status(&sim, &key)["failed"].is_null());
    // Its node goes instead of reporting.
    sim.delete("Node", &Key::new("", "node"), true);
    sim.let_go(&pod);
    sim.pass(10);
    sim.settle();
    assert_eq!(active(&sim).len(), 1);
    assert_eq!(status(&sim, &key)["failed"], 1);
}

#[test]
fn an_ended_job_goes_when_its_time_to_live_is_over() {
    let (mut sim, key) = begin(json!({"ttlSecondsAfterFinished": 100}));
    end_all(&mut sim, "Succeeded");
    sim.pass(99);
    sim.settle();
    assert!(sim.load("Job", &key).is_some());
    sim.pass(1);
    sim.settle();
    assert!(sim.load("Job", &key).is_none());
}

#[test]
fn what_is_not_supported_holds_the_job_back_and_says_so() {
    let (sim, key) = begin(json!({"successPolicy": {"rules": [{"succeededCount": 1}]}}));
    assert!(sim.pods().is_empty());
    assert_eq!(conditions(&sim, &key), ["Suspended=True Unsupported"]);
    assert_eq!(
        sim.events,
        ["Unsupported spec.successPolicy is not supported yet"]
    );
}

#[test]
fn a_job_that_another_controller_manages_is_left_alone() {
    let (sim, key) = begin(json!({"managedBy": "example.com/mine"}));
    assert!(sim.pods().is_empty() && status(&sim, &key).is_null());
}

/// Whatever happens to its pods, a job counts each once and lets no more succeed than it asked.
#[test]
fn no_pod_is_counted_twice_or_lost() {
    for seed in 0..24 {
        let mut sim = Simulation::new(seed);
        sim.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}));
        let key = sim.create(job(match seed % 3 {
            0 => json!({"completions": 6, "parallelism": 3, "backoffLimit": 1000}),
            1 => json!({
                "completions": 6, "parallelism": 3, "backoffLimit": 1000,
                "completionMode": "Indexed",
            }),
            _ => retries::per_index(6, 3, 1000),
        }));
        let (mut succeeded, mut failed) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..1500 {
            let pods = sim.pods();
            let open: Vec<_> = pods.iter().filter(|(_, p)| pods::is_active(p)).collect();
            match sim.draw(8) {
                0..=4 => sim.look_somewhere(),
                5 => sim.pass(30),
                what if !open.is_empty() => {
                    let (pod, object) = open[sim.draw(open.len())].clone();
                    let uid = object.metadata.uid.unwrap_or_default();
                    match (what, sim.draw(3)) {
                        (6, _) => {
                            succeeded.insert(uid);
                            sim.phase(&pod, "Succeeded");
                        }
                        (_, 0) => {
                            failed.insert(uid);
                            sim.delete("Pod", &pod, true);
                        }
                        _ => {
                            failed.insert(uid);
                            sim.phase(&pod, "Failed");
                        }
                    }
                }
                _ => {}
            }
            let status = status(&sim, &key);
            let n = |field: &str| status[field].as_u64().unwrap_or(0) as usize;
            let uncounted = |field: &str| {
                let list = status["uncountedTerminatedPods"][field].as_array();
                list.map_or(0, Vec::len)
            };
            assert!(
                n("succeeded") + uncounted("succeeded") <= succeeded.len(),
                "seed {seed}"
            );
            assert!(
                n("failed") + uncounted("failed") <= failed.len(),
                "seed {seed}"
            );
            assert!(
                succeeded.len() <= 6,
                "seed {seed}: more succeed than were asked for"
            );
        }
        sim.settle();
        let status = status(&sim, &key);
        assert_eq!(
            conditions(&sim, &key)[1],
            "Complete=True CompletionsReached",
            "seed {seed}"
        );
        assert_eq!(status["succeeded"], 6, "seed {seed}");
        assert_eq!(
            status["failed"].as_u64().unwrap_or(0) as usize,
            failed.len(),
            "seed {seed}"
        );
        assert_eq!(held(&sim), 0);
    }
}
