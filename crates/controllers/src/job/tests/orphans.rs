//! Pods whose job is gone, or not theirs any more.

use super::*;
use crate::job::JOB_NAME;

#[test]
fn pods_of_a_job_that_is_gone_are_let_go() {
    let (mut sim, key) = begin(json!({"completions": 3, "parallelism": 3}));
    end_nothing(&mut sim);
    sim.delete("Job", &key, true);
    assert_eq!(held(&sim), 3);
    // A namesake does not take them over, but lets them go, too.
    sim.create(job(json!({"parallelism": 0})));
    sim.settle();
    assert_eq!(held(&sim), 0);
}

/// Takes the owner away from all pods, as the collector does for a job that goes without them.
fn orphan(sim: &mut Simulation) {
    for (pod, _) in sim.pods() {
        sim.change("Pod", &pod, |pod| {
            pod["metadata"]["labels"][JOB_NAME] = "job".into();
            pod["metadata"]["ownerReferences"] = json!([]);
        });
    }
}

#[test]
fn orphans_are_let_go_whoever_comes_first_to_them() {
    for collector_first in [true, false] {
        let (mut sim, key) = begin(json!({"completions": 3, "parallelism": 3}));
        end_nothing(&mut sim);
        let look = (crate::controller::Controller::Job, key.clone());
        sim.change("Job", &key, |job| {
            job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            job["metadata"]["finalizers"] = json!(["orphan"]);
        });
        if collector_first {
            orphan(&mut sim);
            sim.look(&look);
        } else {
            sim.look(&look);
            orphan(&mut sim);
        }
        assert_eq!(held(&sim), 0, "the collector first: {collector_first}");
        assert_eq!(active(&sim).len(), 3);
    }
}

#[test]
fn a_pod_taken_from_its_job_is_let_go_and_replaced() {
    let (mut sim, key) = begin(json!({}));
    end_nothing(&mut sim);
    orphan(&mut sim);
    sim.settle();
    assert_eq!(sim.pods().len(), 2);
    assert_eq!(held(&sim), 1);
    // Nor does it matter that the job is gone.
    sim.delete("Job", &key, true);
    orphan(&mut sim);
    sim.look(&(crate::controller::Controller::Job, key));
    assert_eq!(held(&sim), 0);
}
