//! Rollouts from beginning to end, in simulation.

use client::Key;
use serde_json::{Value, json};

use crate::pods;
use crate::simulation::Simulation;

/// A deployment `web` in namespace `ns` as the API defaults it, with `spec` over that.
fn deployment(spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {
            "replicas": 3, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate",
                         "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "v1"}]},
            },
        },
    });
    for (field, value) in spec.as_object().expect("fields") {
        object["spec"][field] = value.clone();
    }
    object
}

fn begin(spec: Value) -> (Simulation, Key) {
    let mut sim = Simulation::new(1);
    let key = sim.create(deployment(spec));
    bring_up(&mut sim);
    (sim, key)
}

/// Lets every pod run and every one that is to go, go, until nothing changes any more.
fn bring_up(sim: &mut Simulation) {
    for _ in 0..40 {
        sim.settle();
        for (key, pod) in sim.pods() {
            if pods::is_active(&pod) {
                if !pods::is_ready(&pod) {
                    sim.phase(&key, "Running");
                }
            } else {
                sim.let_go(&key);
            }
        }
    }
    sim.settle();
}

fn image(sim: &mut Simulation, key: &Key, image: &str) {
    sim.change("Deployment", key, |d| {
        d["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
    });
}

/// `image revision size` of all replica sets, the oldest first.
fn sets(sim: &Simulation) -> Vec<String> {
    let mut sets: Vec<Value> = sim
        .view
        .replica_sets
        .iter()
        .map(|(key, _)| sim.load("ReplicaSet", key).expect("a set"))
        .collect();
    sets.sort_by_key(|s| {
        s["metadata"]["uid"]
            .as_str()
            .and_then(|u| u[4..].parse::<u64>().ok())
    });
    sets.iter()
        .map(|s| {
            let image = &s["spec"]["template"]["spec"]["containers"][0]["image"];
            let revision = &s["metadata"]["annotations"][super::REVISION];
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            format!(
                "{} {} {}",
                text(image),
                text(revision),
                s["spec"]["replicas"]
            )
        })
        .collect()
}

fn condition(sim: &Simulation, key: &Key, type_: &str) -> String {
    let object = sim.load("Deployment", key).expect("the deployment");
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let found = conditions.iter().find(|c| c["type"] == type_);
    found.map_or(String::new(), |c| {
        format!(
            "{} {}",
            c["status"].as_str().unwrap_or_default(),
            c["reason"].as_str().unwrap_or_default()
        )
    })
}

#[test]
fn a_new_deployment_becomes_available() {
    let (sim, key) = begin(json!({}));
    assert_eq!(sets(&sim), ["v1 1 3"]);
    let object = sim.load("Deployment", &key).expect("it");
    let status = &object["status"];
    for field in [
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
    ] {
        assert_eq!(status[field], 3, "{field}");
    }
    assert_eq!(
        status["observedGeneration"],
        object["metadata"]["generation"]
    );
    assert_eq!(object["metadata"]["annotations"][super::REVISION], "1");
    assert_eq!(
        condition(&sim, &key, "Available"),
        "True MinimumReplicasAvailable"
    );
    assert_eq!(
        condition(&sim, &key, "Progressing"),
        "True NewReplicaSetAvailable"
    );
}

#[test]
fn a_rollback_gives_the_old_replica_set_the_newest_revision() {
    let (mut sim, key) = begin(json!({}));
    image(&mut sim, &key, "v2");
    bring_up(&mut sim);
    assert_eq!(sets(&sim), ["v1 1 0", "v2 2 3"]);
    image(&mut sim, &key, "v1");
    bring_up(&mut sim);
    assert_eq!(sets(&sim), ["v1 3 3", "v2 2 0"]);
    let object = sim.load("Deployment", &key).expect("it");
    assert_eq!(object["metadata"]["annotations"][super::REVISION], "3");
    assert_eq!(
        condition(&sim, &key, "Progressing"),
        "True NewReplicaSetAvailable"
    );
}

#[test]
fn recreate_ends_every_old_pod_before_it_makes_a_new_one() {
    let (mut sim, key) = begin(json!({"strategy": {"type": "Recreate"}}));
    image(&mut sim, &key, "v2");
    sim.settle();
    assert_eq!(sets(&sim), ["v1 1 0", "v2 2 0"]);
    let mut old: Vec<_> = sim.pods().into_iter().map(|(key, _)| key).collect();
    let last = old.pop().expect("a pod");
    for pod in &old {
        sim.let_go(pod);
    }
    sim.settle();
    assert_eq!(sets(&sim), ["v1 1 0", "v2 2 0"], "one still ends");
    sim.let_go(&last);
    bring_up(&mut sim);
    assert_eq!(sets(&sim), ["v1 1 0", "v2 2 3"]);
}

#[test]
fn a_paused_deployment_is_resized_but_not_rolled() {
    let (mut sim, key) = begin(json!({}));
    sim.change("Deployment", &key, |d| d["spec"]["paused"] = true.into());
    image(&mut sim, &key, "v2");
    sim.change("Deployment", &key, |d| d["spec"]["replicas"] = 5.into());
    bring_up(&mut sim);
    assert_eq!(sets(&sim), ["v1 1 5"]);
    assert_eq!(
        condition(&sim, &key, "Progressing"),
        "Unknown DeploymentPaused"
    );
    sim.change("Deployment", &key, |d| d["spec"]["paused"] = false.into());
    bring_up(&mut sim);
    assert_eq!(sets(&sim), ["v1 1 0", "v2 2 5"]);
    assert_eq!(
        condition(&sim, &key, "Progressing"),
        "True NewReplicaSetAvailable"
    );
}

#[test]
fn a_resize_amid_a_roll_is_shared() {
    let (mut sim, key) = begin(json!({"replicas": 10, "strategy": {"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}));
    image(&mut sim, &key, "bad");
    for _ in 0..5 {
        sim.settle();
        for (pod, object) in sim.pods() {
            if !pods::is_active(&object) {
                sim.let_go(&pod);
            }
        }
    }
    assert_eq!(sets(&sim), ["v1 1 8", "bad 2 5"]);
    sim.change("Deployment", &key, |d| d["spec"]["replicas"] = 15.into());
    sim.settle();
    assert_eq!(
        sets(&sim),
        ["v1 1 11", "bad 2 7"],
        "as Kubernetes' documentation has it"
    );
}

#[test]
fn a_roll_that_does_not_move_is_told_of_after_its_deadline() {
    let (mut sim, key) = begin(json!({}));
    image(&mut sim, &key, "bad");
    sim.settle();
    assert_eq!(
        condition(&sim, &key, "Progressing"),
        "True ReplicaSetUpdated"
    );
    sim.pass(599);
    sim.settle();
    assert_eq!(
        condition(&sim, &key, "Progressing"),
        "True ReplicaSetUpdated"
    );
    sim.pass(1);
    sim.settle();
    assert_eq!(
        condition(&sim, &key, "Progressing"),
        "False ProgressDeadlineExceeded"
    );
    assert_eq!(
        condition(&sim, &key, "Available"),
        "True MinimumReplicasAvailable"
    );
    bring_up(&mut sim);
    assert_eq!(
        condition(&sim, &key, "Progressing"),
        "True NewReplicaSetAvailable"
    );
}

#[test]
fn a_name_that_is_taken_is_counted_as_a_collision() {
    let mut sim = Simulation::new(1);
    let object = deployment(json!({}));
    let template = serde_json::from_value(object["spec"]["template"].clone()).expect("a template");
    let name = format!("web-{}", super::template::hash(&template, 0));
    sim.create(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "other"}},
                 "template": {"metadata": {"labels": {"app": "other"}}}}}));
    let key = sim.create(object);
    bring_up(&mut sim);
    let object = sim.load("Deployment", &key).expect("it");
    assert_eq!(object["status"]["collisionCount"], 1);
    assert_eq!(object["status"]["availableReplicas"], 3);
}

#[test]
fn replica_sets_that_an_orphaning_deletion_left_are_taken_over() {
    let (mut sim, key) = begin(json!({}));
    let (set, _) = sim.view.replica_sets.iter().next().expect("a set");
    let set = set.clone();
    sim.delete("Deployment", &key, true);
    sim.change("ReplicaSet", &set, |s| {
        s["metadata"]["ownerReferences"] = json!([])
    });
    sim.create(deployment(json!({})));
    bring_up(&mut sim);
    assert_eq!(sets(&sim), ["v1 1 3"]);
    assert_eq!(sim.pods().len(), 3);
}

#[test]
fn history_is_kept_up_to_its_limit() {
    let (mut sim, key) = begin(json!({"revisionHistoryLimit": 1}));
    for version in ["v2", "v3", "v4"] {
        image(&mut sim, &key, version);
        bring_up(&mut sim);
    }
    assert_eq!(sets(&sim), ["v3 3 0", "v4 4 3"]);
}

/// In whatever order controllers and nodes act, a roll keeps its bounds and comes to its end.
#[test]
fn a_rolling_update_never_leaves_its_bounds() {
    for seed in 0..24 {
        let (surge, unavailable) = [(1, 0), (0, 1), (2, 2), (3, 1)][seed % 4];
        let wanted = 4 + seed % 5;
        let mut sim = Simulation::new(seed as u64);
        let key = sim.create(deployment(json!({"replicas": wanted, "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}})));
        bring_up(&mut sim);
        image(&mut sim, &key, "v2");
        for step in 0..1500 {
            if step == 300 {
                image(&mut sim, &key, "v3");
            }
            let pods = sim.pods();
            match sim.draw(3) {
                0 if !pods.is_empty() => {
                    let (pod, object) = &pods[sim.draw(pods.len())];
                    if !pods::is_active(object) {
                        sim.let_go(pod);
                    } else if !pods::is_ready(object) {
                        sim.phase(pod, "Running");
                    }
                }
                _ => sim.look_somewhere(),
            }
            let pods = sim.pods();
            let active = pods.iter().filter(|(_, p)| pods::is_active(p)).count();
            let ready = pods
                .iter()
                .filter(|(_, p)| pods::is_active(p) && pods::is_ready(p))
                .count();
            assert!(
                active <= wanted + surge,
                "seed {seed} step {step}: {active} pods"
            );
            assert!(
                ready + unavailable >= wanted,
                "seed {seed} step {step}: {ready} available"
            );
        }
        bring_up(&mut sim);
        let left = sets(&sim);
        assert_eq!(left.last(), Some(&format!("v3 3 {wanted}")), "seed {seed}");
        assert_eq!(
            condition(&sim, &key, "Progressing"),
            "True NewReplicaSetAvailable"
        );
    }
}

#[test]
fn a_deployment_tells_why_its_replica_set_lacks_pods() {
    let (mut sim, key) = begin(json!({}));
    let (set, _) = sim.view.replica_sets.iter().next().expect("one");
    let set = set.clone();
    let failure = |sim: &Simulation| {
        let status = sim.load("Deployment", &key).expect("it")["status"].clone();
        let conditions = status["conditions"].as_array().cloned();
        let mut conditions = conditions.unwrap_or_default().into_iter();
        conditions.find(|c| c["type"] == "ReplicaFailure")
    };
    sim.change("ReplicaSet", &set, |set| {
        set["status"]["conditions"] = json!([{"type": "ReplicaFailure", "status": "True",
            "reason": "FailedCreate", "message": "quota"}]);
    });
    sim.look(&(crate::controller::Controller::Deployment, key.clone()));
    let told = failure(&sim).expect("a condition");
    assert_eq!(
        (&told["reason"], &told["message"]),
        (&json!("FailedCreate"), &json!("quota"))
    );
    sim.settle();
    assert_eq!(failure(&sim), None);
}
