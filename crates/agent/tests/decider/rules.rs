//! Restart policies of containers, and rules by which they restart.

use expect_test::expect;
use serde_json::{Value, json};

use agent::pod::Observation;

use crate::bench::{Bench, check};

fn rule(action: &str, operator: &str, values: &[i32]) -> Value {
    json!({"action": action, "exitCodes": {"operator": operator, "values": values}})
}

#[test]
fn the_first_that_fits_decides() {
    let restart = rule("Restart", "In", &[3]);
    let any_other = rule("Restart", "NotIn", &[0, 3]);
    let table = [
        ("Never", Some("Always"), vec![], vec![0, 1]),
        ("Never", Some("OnFailure"), vec![], vec![0, 1]),
        ("Always", Some("Never"), vec![], vec![0, 1]),
        ("Always", Some("OnFailure"), vec![], vec![0, 1]),
        ("Never", Some("Never"), vec![restart.clone()], vec![0, 3, 4]),
        (
            "OnFailure",
            Some("Never"),
            vec![any_other.clone()],
            vec![0, 3, 4],
        ),
        (
            "Always",
            Some("Never"),
            vec![restart, any_other],
            vec![0, 3, 4],
        ),
    ];
    let mut log = String::new();
    for (pod, container, rules, codes) in table {
        log += &format!(
            "{pod}, {}, {} rules:",
            container.unwrap_or("-"),
            rules.len()
        );
        for code in codes {
            let mut b = Bench::new(json!({
                "restartPolicy": pod,
                "containers": [{"name": "main", "image": "hello:v1",
                    "restartPolicy": container, "restartPolicyRules": rules}],
            }));
            b.up();
            b.end("main", code, if code == 0 { "Completed" } else { "Error" });
            let starts = b.plan().contains("EnsureImage");
            let then = if starts { "restarts" } else { "stays" };
            log += &format!(" {code} {then} ({})", b.status().phase.unwrap());
        }
        log += "\n";
    }
    check(
        &log,
        expect![[r#"
        Never, Always, 0 rules: 0 restarts (Running) 1 restarts (Running)
        Never, OnFailure, 0 rules: 0 stays (Succeeded) 1 restarts (Running)
        Always, Never, 0 rules: 0 stays (Succeeded) 1 stays (Failed)
        Always, OnFailure, 0 rules: 0 stays (Succeeded) 1 restarts (Running)
        Never, Never, 1 rules: 0 stays (Succeeded) 3 restarts (Running) 4 stays (Failed)
        OnFailure, Never, 1 rules: 0 stays (Succeeded) 3 stays (Failed) 4 restarts (Running)
        Always, Never, 2 rules: 0 stays (Succeeded) 3 restarts (Running) 4 restarts (Running)
    "#]],
    );
}

#[test]
fn a_pod_ends_when_none_of_its_containers_restarts() {
    let mut b = Bench::new(json!({
        "restartPolicy": "Always",
        "containers": [
            {"name": "work", "image": "hello:v1", "restartPolicy": "Never"},
            {"name": "help", "image": "hello:v1", "restartPolicy": "OnFailure"},
        ],
    }));
    b.up();
    b.end("work", 1, "Error");
    let mut log = b.plan() + &b.status().phase.unwrap() + "\n";
    b.end("help", 2, "Error");
    log += &(b.plan() + &b.status().phase.unwrap() + "\n");
    b.start("help");
    b.end("help", 0, "Completed");
    log += &(b.plan() + &b.status().phase.unwrap() + "\n");
    check(
        &log,
        expect![[r#"
        RemoveContainer { container: "work", attempt: 0 }
        Running
        RemoveContainer { container: "help", attempt: 0 }
        EnsureImage { container: "help" }
        Running
        RemoveContainer { container: "help", attempt: 1 }
        Release
        Failed
    "#]],
    );
}

#[test]
fn an_init_container_of_its_own_policy_fails_its_pod() {
    let mut b = Bench::new(json!({
        "restartPolicy": "Always",
        "initContainers": [{"name": "early", "image": "hello:v1", "restartPolicy": "Never",
            "restartPolicyRules": [rule("Restart", "In", &[9])]}],
        "containers": [{"name": "main", "image": "hello:v1"}],
    }));
    b.ready();
    b.start("early");
    b.end("early", 9, "Error");
    let mut log = b.plan() + &b.status().phase.unwrap() + "\n";
    b.start("early");
    b.end("early", 1, "Error");
    log += &(b.plan() + &b.summary());
    check(
        &log,
        expect![[r#"
        RemoveContainer { container: "early", attempt: 0 }
        EnsureImage { container: "early" }
        Pending
        RemoveContainer { container: "early", attempt: 1 }
        Release
        Failed
          PodReadyToStartContainers=False
          Initialized=False ContainersNotInitialized: containers with incomplete status: [early]
          Ready=False PodFailed
          ContainersReady=False PodFailed
          PodScheduled=True
          init early: terminated Error 1 after terminated Error 9 restarts=1 ready=false
          main main: waiting PodInitializing restarts=0 ready=false
    "#]],
    );
}

#[test]
fn all_containers_start_anew_together() {
    let all = rule("RestartAllContainers", "In", &[42]);
    let mut b = Bench::new(json!({
        "restartPolicy": "Never",
        "initContainers": [
            {"name": "early", "image": "hello:v1"},
            {"name": "side", "image": "hello:v1", "restartPolicy": "Always"},
        ],
        "containers": [
            {"name": "main", "image": "hello:v1"},
            {"name": "done", "image": "hello:v1"},
            {"name": "watch", "image": "hello:v1", "restartPolicy": "Never", "restartPolicyRules": [all]},
        ],
    }));
    b.ready();
    b.start("early");
    b.end("early", 0, "Completed");
    b.start("side");
    for name in ["main", "done", "watch"] {
        b.start(name);
    }
    b.end("done", 0, "Completed");
    b.end("watch", 42, "Error");
    let mut log = b.plan() + &b.summary();
    b.observed = serde_json::from_value(serde_json::to_value(&b.observed).unwrap()).unwrap();
    b.see(Observation::VolumesReady(None));
    b.end("side", 143, "Error");
    log += &format!("side has ended\n{}", b.plan());
    b.end("main", 143, "Error");
    log += &format!("all have ended\n{}{}", b.plan(), b.summary());
    b.start("early");
    b.end("early", 0, "Completed");
    log += &format!("early is done again\n{}", b.plan());
    b.start("side");
    log += &format!("side runs\n{}", b.plan());
    for name in ["main", "done", "watch"] {
        b.start(name);
    }
    log += &format!("all run\n{}{}", b.plan(), b.summary());
    b.wait(1);
    b.end("watch", 42, "Error");
    b.plan();
    b.end("side", 143, "Error");
    b.end("main", 143, "Error");
    b.end("done", 143, "Error");
    log += &format!("and again\n{}", b.plan());
    check(
        &log,
        expect![[r#"
            RemoveContainer { container: "done", attempt: 0 }
            RemoveContainer { container: "watch", attempt: 0 }
            RestartAll { container: "watch" }
            end side (Init container side will be restarted with all of its pod)
            stop side 30s
            end main (Container main will be restarted with all of its pod)
            stop main 30s
            requeue +30000ms
            Running
              PodReadyToStartContainers=True
              Initialized=True
              Ready=False ContainersNotReady: containers with unready status: [side main done watch]
              ContainersReady=False ContainersNotReady: containers with unready status: [side main done watch]
              PodScheduled=True
              AllContainersRestarting=True RestartAllContainersStarted: container exited with restart policy rule
              init early: terminated Completed 0 restarts=0 ready=true
              init side: running restarts=0 ready=false
              main main: running restarts=0 ready=false
              main done: terminated Completed 0 restarts=0 ready=false
              main watch: terminated Error 42 restarts=0 ready=false
            side has ended
            RemoveContainer { container: "side", attempt: 0 }
            requeue +30000ms
            all have ended
            RemoveContainer { container: "main", attempt: 0 }
            EnsureImage { container: "early" }
            Running
              PodReadyToStartContainers=True
              Initialized=True
              Ready=False ContainersNotReady: containers with unready status: [side main done watch]
              ContainersReady=False ContainersNotReady: containers with unready status: [side main done watch]
              PodScheduled=True
              AllContainersRestarting=False
              init early: terminated Completed 0 restarts=0 ready=true
              init side: terminated Error 143 restarts=0 ready=false
              main main: terminated Error 143 restarts=0 ready=false
              main done: terminated Completed 0 restarts=0 ready=false
              main watch: terminated Error 42 restarts=0 ready=false
            early is done again
            RemoveContainer { container: "early", attempt: 1 }
            EnsureImage { container: "side" }
            side runs
            EnsureImage { container: "main" }
            EnsureImage { container: "done" }
            EnsureImage { container: "watch" }
            all run
            Running
              PodReadyToStartContainers=True
              Initialized=True
              Ready=True
              ContainersReady=True
              PodScheduled=True
              AllContainersRestarting=False
              init early: terminated Completed 0 after terminated Completed 0 restarts=1 ready=true
              init side: running after terminated Error 143 restarts=1 ready=true
              main main: running after terminated Error 143 restarts=1 ready=true
              main done: running after terminated Completed 0 restarts=1 ready=true
              main watch: running after terminated Error 42 restarts=1 ready=true
            and again
            RemoveContainer { container: "done", attempt: 1 }
            RemoveContainer { container: "main", attempt: 1 }
            RemoveContainer { container: "side", attempt: 1 }
            EnsureImage { container: "early" }
        "#]],
    );
}

#[test]
fn a_start_that_is_under_way_is_of_the_last_round() {
    let all = rule("RestartAllContainers", "In", &[42]);
    let mut b = Bench::new(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "early", "image": "hello:v1"}],
        "containers": [
            {"name": "late", "image": "hello:v1"},
            {"name": "watch", "image": "hello:v1", "restartPolicy": "Never", "restartPolicyRules": [all]},
        ],
    }));
    b.ready();
    b.start("early");
    b.end("early", 0, "Completed");
    b.start("watch");
    b.pulled("late");
    let mut log = b.plan();
    b.end("watch", 42, "Error");
    log += &format!("late is being started\n{}", b.plan());
    b.started("late");
    log += &format!("it runs\n{}", b.plan());
    b.end("late", 143, "Error");
    log += &format!("all have ended\n{}", b.plan());
    check(
        &log,
        expect![[r#"
        StartContainer { container: "late", attempt: 0 }
        late is being started
        RemoveContainer { container: "watch", attempt: 0 }
        it runs
        RestartAll { container: "watch" }
        end late (Container late will be restarted with all of its pod)
        stop late 30s
        requeue +30000ms
        all have ended
        RemoveContainer { container: "late", attempt: 0 }
        EnsureImage { container: "early" }
    "#]],
    );
}

#[test]
fn a_status_tells_of_the_mounts() {
    let mounts = [
        json!({"name": "v", "mountPath": "/a"}),
        json!({"name": "v", "mountPath": "/b", "readOnly": false}),
        json!({"name": "v", "mountPath": "/c", "readOnly": true}),
        json!({"name": "v", "mountPath": "/d", "readOnly": true, "recursiveReadOnly": "IfPossible"}),
        json!({"name": "v", "mountPath": "/e", "readOnly": true, "recursiveReadOnly": "Disabled"}),
    ];
    let mut b = Bench::new(json!({
        "containers": [
            {"name": "main", "image": "hello:v1", "volumeMounts": mounts},
            {"name": "bare", "image": "hello:v1"},
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
    }));
    let status = serde_json::to_value(b.status()).unwrap();
    assert_eq!(
        status["containerStatuses"][0]["volumeMounts"],
        json!([
            {"name": "v", "mountPath": "/a"},
            {"name": "v", "mountPath": "/b"},
            {"name": "v", "mountPath": "/c", "readOnly": true, "recursiveReadOnly": "Disabled"},
            {"name": "v", "mountPath": "/d", "readOnly": true, "recursiveReadOnly": "Enabled"},
            {"name": "v", "mountPath": "/e", "readOnly": true, "recursiveReadOnly": "Disabled"},
        ])
    );
    assert!(status["containerStatuses"][1]["volumeMounts"].is_null());
}
