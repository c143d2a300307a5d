//! Indexes that are retried each by itself.

use super::*;
use crate::job::{INDEX, INDEX_FAILURES};

/// The pods of index `of` that are active.
fn active_of(sim: &Simulation, of: &str) -> Vec<Key> {
    let label = |key: &Key| sim.load("Pod", key).expect("the pod")["metadata"]["labels"].clone();
    let keys = active(sim).into_iter();
    keys.filter(|key| label(key)[INDEX] == of).collect()
}

fn fail_index(sim: &mut Simulation, of: &str) {
    let pod = active_of(sim, of).remove(0);
    sim.phase(&pod, "Failed");
    sim.settle();
}

pub(super) fn per_index(completions: u32, parallelism: u32, limit: u32) -> Value {
    json!({
        "completions": completions, "parallelism": parallelism, "completionMode": "Indexed",
        "backoffLimit": i32::MAX, "backoffLimitPerIndex": limit,
    })
}

#[test]
fn a_failed_index_holds_up_no_other_and_fails_the_job_at_the_end() {
    let (mut sim, key) = begin(per_index(4, 2, 0));
    fail_index(&mut sim, "1");
    assert_eq!(status(&sim, &key)["failedIndexes"], "1");
    for of in ["0", "2", "3"] {
        let pod = active_of(&sim, of).remove(0);
        sim.phase(&pod, "Succeeded");
        sim.settle();
    }
    assert_eq!(sim.pods().len(), 4, "one pod an index");
    assert_eq!(
        conditions(&sim, &key),
        [
            "FailureTarget=True FailedIndexes",
            "Failed=True FailedIndexes"
        ]
    );
    let status = status(&sim, &key);
    assert_eq!(status["failedIndexes"], "1");
    assert_eq!(status["completedIndexes"], "0,2,3");
    assert_eq!(status["failed"], 1);
    assert_eq!(held(&sim), 0);
    assert_eq!(sim.events, ["FailedIndexes Job has failed indexes"]);
}

#[test]
fn each_index_is_retried_by_its_own_count() {
    let (mut sim, key) = begin(per_index(3, 1, 1));
    fail_index(&mut sim, "0");
    assert_eq!(active_of(&sim, "1").len(), 1, "the others go on meanwhile");
    let failed = sim.pods().remove(0).0;
    sim.delete("Pod", &failed, true);
    sim.settle();
    assert!(
        sim.load("Pod", &failed).is_some(),
        "it keeps the count until it is replaced"
    );
    fail_index(&mut sim, "1");
    assert_eq!(active_of(&sim, "2").len(), 1);
    sim.pass(10);
    let pod = active_of(&sim, "2").remove(0);
    sim.phase(&pod, "Succeeded");
    sim.settle();
    let retry = active_of(&sim, "0").remove(0);
    assert!(sim.load("Pod", &failed).is_none());
    assert_eq!(
        sim.load("Pod", &retry).expect("the pod")["metadata"]["annotations"][INDEX_FAILURES],
        "1"
    );
    fail_index(&mut sim, "0");
    assert_eq!(status(&sim, &key)["failedIndexes"], "0");
    let pod = active_of(&sim, "1").remove(0);
    sim.phase(&pod, "Succeeded");
    sim.settle();
    assert_eq!(conditions(&sim, &key)[1], "Failed=True FailedIndexes");
    assert_eq!(status(&sim, &key)["failed"], 3);
    assert_eq!(held(&sim), 0);
}

#[test]
fn too_many_failed_indexes_end_the_job_at_once() {
    let mut spec = per_index(4, 2, 0);
    spec["maxFailedIndexes"] = 0.into();
    let (mut sim, key) = begin(spec);
    fail_index(&mut sim, "0");
    assert!(active(&sim).is_empty());
    assert_eq!(
        conditions(&sim, &key)[0],
        "FailureTarget=True MaxFailedIndexesExceeded"
    );
}
