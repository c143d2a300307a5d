//! Containers that end and start again, under the same agent and under the next.

use expect_test::expect;
use jiff::SignedDuration;
use serde_json::json;

use agent::pod::{Observation, Observed};

use crate::bench::{Bench, check};

#[test]
fn a_crash_loop_backs_off() {
    let mut b = Bench::running("Always");
    b.wait(1);
    b.end("main", 1, "Error");
    let mut log = b.plan() + &b.summary();
    b.pulled("main");
    b.plan();
    b.started("main");
    b.wait(1);
    b.end("main", 134, "Error");
    log += &(b.plan() + &b.summary());
    b.wait(9);
    log += &b.plan();
    b.wait(1);
    log += &(b.plan() + &b.summary());
    check(
        &log,
        expect![[r#"
        RemoveContainer { container: "main", attempt: 0 }
        EnsureImage { container: "main" }
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: terminated Error 1 restarts=0 ready=false
        RemoveContainer { container: "main", attempt: 1 }
        back-off main +10000ms
        requeue +10000ms
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: waiting CrashLoopBackOff (back-off 10s restarting failed container=main pod=web_shop(u-1)) after terminated Error 134 restarts=1 ready=false
        requeue +1000ms
        EnsureImage { container: "main" }
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: waiting CrashLoopBackOff (back-off 10s restarting failed container=main pod=web_shop(u-1)) after terminated Error 134 restarts=1 ready=false
    "#]],
    );
}

#[test]
fn a_changed_image_restarts_whatever_the_policy() {
    let mut log = String::new();
    for policy in ["Always", "OnFailure", "Never"] {
        let mut b = Bench::running(policy);
        b.set_image("main", "hello:v2");
        b.plan();
        b.end("main", 0, "Completed");
        let plan = b.plan().replace('\n', "; ");
        let phase = b.status().phase.unwrap();
        log += &format!("{policy}: {phase} | {plan}\n");
        b.delete(0);
        log += &format!("  deleted: {}\n", b.status().phase.unwrap());
    }
    check(
        &log,
        expect![[r#"
        Always: Running | RemoveContainer { container: "main", attempt: 0 }; EnsureImage { container: "main" }; 
          deleted: Succeeded
        OnFailure: Running | RemoveContainer { container: "main", attempt: 0 }; EnsureImage { container: "main" }; 
          deleted: Succeeded
        Never: Running | RemoveContainer { container: "main", attempt: 0 }; EnsureImage { container: "main" }; 
          deleted: Succeeded
    "#]],
    );
}

#[test]
fn restart_policies() {
    let mut log = String::new();
    for (policy, code) in [
        ("Always", 0),
        ("OnFailure", 0),
        ("OnFailure", 2),
        ("Never", 0),
        ("Never", 2),
    ] {
        let mut b = Bench::running(policy);
        b.end("main", code, if code == 0 { "Completed" } else { "Error" });
        let plan = b.plan().replace('\n', "; ");
        let phase = b.status().phase.unwrap();
        log += &format!("{policy} {code}: {phase} | {plan}\n");
    }
    check(
        &log,
        expect![[r#"
        Always 0: Running | RemoveContainer { container: "main", attempt: 0 }; EnsureImage { container: "main" }; 
        OnFailure 0: Succeeded | RemoveContainer { container: "main", attempt: 0 }; Release; 
        OnFailure 2: Running | RemoveContainer { container: "main", attempt: 0 }; EnsureImage { container: "main" }; 
        Never 0: Succeeded | RemoveContainer { container: "main", attempt: 0 }; Release; 
        Never 2: Failed | RemoveContainer { container: "main", attempt: 0 }; Release; 
    "#]],
    );
}

#[test]
fn the_agents_end_keeps_the_pod() {
    let mut b = Bench::running("Always");
    b.observed.shutdown = Some(SignedDuration::from_secs(5));
    let mut log = b.plan() + &b.summary();
    b.end("main", 143, "Error");
    log += &(b.plan() + &b.summary());

    b.observed = serde_json::from_value(serde_json::to_value(&b.observed).unwrap()).unwrap();
    b.see(Observation::AgentRestarted);
    b.wait(60);
    b.ready();
    b.start("main");
    log += &b.summary();
    check(
        &log,
        expect![[r#"
            end main (Stopping container main)
            stop main 5s
            requeue +5000ms
            Running
              PodReadyToStartContainers=True
              Initialized=True
              Ready=False ContainersNotReady: the node's agent is ending
              ContainersReady=False ContainersNotReady: the node's agent is ending
              PodScheduled=True
              main main: running restarts=0 ready=true
            RemoveContainer { container: "main", attempt: 0 }
            Running
              PodReadyToStartContainers=True
              Initialized=True
              Ready=False ContainersNotReady: containers with unready status: [main]
              ContainersReady=False ContainersNotReady: containers with unready status: [main]
              PodScheduled=True
              main main: terminated Error 143 restarts=0 ready=false
            Running
              PodReadyToStartContainers=True
              Initialized=True
              Ready=True
              ContainersReady=True
              PodScheduled=True
              main main: running after terminated Error 143 restarts=1 ready=true
        "#]],
    );
}

#[test]
fn what_was_lost_with_the_agent_runs_again() {
    let mut log = String::new();
    for policy in ["Always", "OnFailure", "Never"] {
        let mut b = Bench::running(policy);
        b.observed = serde_json::from_value(serde_json::to_value(&b.observed).unwrap()).unwrap();
        b.wait(60);
        b.see(Observation::AgentRestarted);
        log += &format!("{policy}\n{}{}", b.plan(), b.summary());
    }
    check(
        &log,
        expect![[r#"
        Always
        RemoveContainer { container: "main", attempt: 0 }
        MountVolumes
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: terminated Unknown 255 restarts=0 ready=false
        OnFailure
        RemoveContainer { container: "main", attempt: 0 }
        MountVolumes
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: terminated Unknown 255 restarts=0 ready=false
        Never
        RemoveContainer { container: "main", attempt: 0 }
        Release
        Failed
          PodReadyToStartContainers=False
          Initialized=True
          Ready=False PodFailed
          ContainersReady=False PodFailed
          PodScheduled=True
          main main: terminated Unknown 255 restarts=0 ready=false
    "#]],
    );
}

#[test]
fn a_pod_is_rebuilt_from_its_status_alone() {
    let mut log = String::new();
    for (policy, code) in [("Always", None), ("Never", Some(0)), ("OnFailure", Some(1))] {
        let mut b = Bench::running(policy);
        if let Some(code) = code {
            b.end("main", code, if code == 0 { "Completed" } else { "Error" });
        }
        let status = b.status();
        b.observed = Observed::from_status(&status);
        b.wait(60);
        b.see(Observation::AgentRestarted);
        log += &format!("{policy} {code:?}\n{}{}", b.plan(), b.summary());
    }
    check(
        &log,
        expect![[r#"
        Always None
        RemoveContainer { container: "main", attempt: 0 }
        MountVolumes
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: terminated Unknown 255 restarts=0 ready=false
        Never Some(0)
        Release
        Succeeded
          PodReadyToStartContainers=False
          Initialized=True PodCompleted
          Ready=False PodCompleted
          ContainersReady=False PodCompleted
          PodScheduled=True
          main main: terminated Completed 0 restarts=0 ready=false
        OnFailure Some(1)
        MountVolumes
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: terminated Error 1 restarts=0 ready=false
    "#]],
    );
}

#[test]
fn a_changed_image_restarts_the_container() {
    let mut b = Bench::running("Always");
    b.set_image("main", "hello:v2");
    let mut log = b.plan();
    b.end("main", 143, "Error");
    log += &b.plan();
    check(
        &log,
        expect![[r#"
            end main (Container main definition changed, will be restarted)
            stop main 30s
            requeue +30000ms
            RemoveContainer { container: "main", attempt: 0 }
            EnsureImage { container: "main" }
        "#]],
    );
}

#[test]
fn what_is_remembered_of_a_pod_is_understood_by_later_agents() {
    let mut b = Bench::running("Always");
    b.end("main", 1, "Error");
    b.start("main");
    b.set_image("main", "hello:v2");
    b.plan();
    let record = json!({
        "start_time": "2026-11-21T10:00:00Z",
        "sandbox": {"Ready": "10.128.0.7"},
        "containers": {"main": {
            "starts": 2,
            "live": {"Running": {
                "attempt": 1, "started_at": "2026-11-21T10:00:00Z", "image": "hello:v1", "image_id": "hello@sha256:aa",
                "stopping": {"cause": "Changed", "by": "2026-11-21T10:00:30Z", "stage": {"Told": "2026-11-21T10:00:30Z"}},
            }},
            "ended": {
                "attempt": 0, "image": "hello:v1", "image_id": "hello@sha256:aa",
                "exit_code": 1, "reason": "Error", "message": null,
                "started_at": "2026-11-21T10:00:00Z", "finished_at": "2026-11-21T10:00:00Z",
                "cause": null, "removed": true,
            },
            "before": null,
            "backoff": {"delay": "PT10S", "since": "2026-11-21T10:00:00Z"},
            "round": 0,
        }},
        "allocated": {"main": {}},
        "handler": null,
        "round": 0,
        "verdict": null,
        "deletion": null,
    });
    assert_eq!(serde_json::to_value(&b.observed).unwrap(), record);
    let understood: Observed = serde_json::from_value(record.clone()).unwrap();
    assert_eq!(serde_json::to_value(&understood).unwrap(), record);
    // Earlier ones did not say what an ended instance was started from.
    let mut earlier = record;
    let ended = earlier["containers"]["main"]["ended"].as_object_mut();
    ended.unwrap().remove("image");
    let understood: Observed = serde_json::from_value(earlier).unwrap();
    let ended = understood.containers["main"].ended.as_ref().unwrap();
    assert_eq!((ended.attempt, ended.image.as_str()), (0, ""));
}
