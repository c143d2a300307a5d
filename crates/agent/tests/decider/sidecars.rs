//! Init containers that stay: in which order they start and end, and what they count for.

use expect_test::expect;
use serde_json::json;

use agent::pod::{Found, Observation, ProbeKind};

use crate::bench::{Bench, check};

fn probed(b: &mut Bench, container: &str, kind: ProbeKind, found: Found) {
    b.see(Observation::Probed {
        container: container.to_owned(),
        attempt: b.observed.containers[container].starts - 1,
        kind,
        found,
    });
}

/// `early` does its work, `side` starts, `late` does its work, and `main` runs.
fn mixed(policy: &str) -> Bench {
    let startup = json!({"tcpSocket": {"port": 80}, "periodSeconds": 1});
    Bench::new(json!({
        "restartPolicy": policy,
        "initContainers": [
            {"name": "early", "image": "hello:v1"},
            {"name": "side", "image": "hello:v1", "restartPolicy": "Always", "startupProbe": startup},
            {"name": "late", "image": "hello:v1"},
        ],
        "containers": [{"name": "main", "image": "hello:v1"}],
    }))
}

/// A main container between whose start and end two sidecars run.
fn served(policy: &str) -> Bench {
    let mut b = Bench::new(json!({
        "restartPolicy": policy,
        "initContainers": [
            {"name": "first", "image": "hello:v1", "restartPolicy": "Always"},
            {"name": "second", "image": "hello:v1", "restartPolicy": "Always"},
        ],
        "containers": [{"name": "main", "image": "hello:v1"}],
    }));
    b.ready();
    for name in ["first", "second", "main"] {
        b.start(name);
    }
    b
}

#[test]
fn each_waits_for_those_before_it() {
    let mut b = mixed("Always");
    b.ready();
    let mut log = "nothing runs\n".to_owned() + &b.plan();
    b.start("early");
    b.end("early", 0, "Completed");
    log += &format!("early is done\n{}", b.plan());
    b.start("side");
    log += &format!("side runs\n{}{}", b.plan(), b.summary());
    probed(&mut b, "side", ProbeKind::Startup, Found::Success);
    log += &format!("side has started\n{}{}", b.plan(), b.summary());
    b.start("late");
    b.end("side", 1, "Error");
    log += &format!(
        "side has crashed while late runs\n{}{}",
        b.plan(),
        b.summary()
    );
    b.end("late", 0, "Completed");
    log += &format!("late is done, side is not back\n{}", b.plan());
    b.start("main");
    log += &format!("main runs\n{}{}", b.plan(), b.summary());
    b.start("side");
    b.end("main", 1, "Error");
    log += &format!("side is back, and main has crashed\n{}", b.plan());
    check(
        &log,
        expect![[r#"
        nothing runs
        EnsureImage { container: "early" }
        early is done
        RemoveContainer { container: "early", attempt: 0 }
        EnsureImage { container: "side" }
        side runs
        await side Startup, again +1000ms
        requeue +1000ms
        Pending
          PodReadyToStartContainers=True
          Initialized=False ContainersNotInitialized: containers with incomplete status: [side late]
          Ready=False ContainersNotReady: containers with unready status: [side main]
          ContainersReady=False ContainersNotReady: containers with unready status: [side main]
          PodScheduled=True
          init early: terminated Completed 0 restarts=0 ready=true
          init side: running restarts=0 ready=false
          init late: waiting PodInitializing restarts=0 ready=false
          main main: waiting PodInitializing restarts=0 ready=false
        side has started
        EnsureImage { container: "late" }
        Pending
          PodReadyToStartContainers=True
          Initialized=False ContainersNotInitialized: containers with incomplete status: [late]
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          init early: terminated Completed 0 restarts=0 ready=true
          init side: running restarts=0 ready=true
          init late: waiting PodInitializing restarts=0 ready=false
          main main: waiting PodInitializing restarts=0 ready=false
        side has crashed while late runs
        RemoveContainer { container: "side", attempt: 0 }
        EnsureImage { container: "side" }
        Pending
          PodReadyToStartContainers=True
          Initialized=False ContainersNotInitialized: containers with incomplete status: [side late]
          Ready=False ContainersNotReady: containers with unready status: [side main]
          ContainersReady=False ContainersNotReady: containers with unready status: [side main]
          PodScheduled=True
          init early: terminated Completed 0 restarts=0 ready=true
          init side: terminated Error 1 restarts=0 ready=false
          init late: running restarts=0 ready=false
          main main: waiting PodInitializing restarts=0 ready=false
        late is done, side is not back
        RemoveContainer { container: "late", attempt: 0 }
        EnsureImage { container: "main" }
        main runs
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [side]
          ContainersReady=False ContainersNotReady: containers with unready status: [side]
          PodScheduled=True
          init early: terminated Completed 0 restarts=0 ready=true
          init side: terminated Error 1 restarts=0 ready=false
          init late: terminated Completed 0 restarts=0 ready=true
          main main: running restarts=0 ready=true
        side is back, and main has crashed
        RemoveContainer { container: "main", attempt: 0 }
        await side Startup, again +1000ms
        EnsureImage { container: "main" }
        requeue +1000ms
    "#]],
    );
}

#[test]
fn a_pod_completes_without_its_sidecars() {
    let mut b = served("Never");
    let mut log = b.plan() + &b.summary();
    b.end("main", 0, "Completed");
    log += &format!("main is done\n{}{}", b.plan(), b.summary());
    b.wait(1);
    b.end("second", 143, "Error");
    log += &format!("second has ended\n{}{}", b.plan(), b.summary());
    b.end("first", 143, "Error");
    log += &format!("first has ended\n{}{}", b.plan(), b.summary());
    check(
        &log,
        expect![[r#"
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=True
          ContainersReady=True
          PodScheduled=True
          init first: running restarts=0 ready=true
          init second: running restarts=0 ready=true
          main main: running restarts=0 ready=true
        main is done
        RemoveContainer { container: "main", attempt: 0 }
        end first (Stopping container first)
        end second (Stopping container second)
        stop second 30s
        requeue +30000ms
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          init first: running restarts=0 ready=true
          init second: running restarts=0 ready=true
          main main: terminated Completed 0 restarts=0 ready=false
        second has ended
        RemoveContainer { container: "second", attempt: 0 }
        stop first 29s
        requeue +29000ms
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [second main]
          ContainersReady=False ContainersNotReady: containers with unready status: [second main]
          PodScheduled=True
          init first: running restarts=0 ready=true
          init second: terminated Error 143 restarts=0 ready=false
          main main: terminated Completed 0 restarts=0 ready=false
        first has ended
        RemoveContainer { container: "first", attempt: 0 }
        Release
        Succeeded
          PodReadyToStartContainers=False
          Initialized=True PodCompleted
          Ready=False PodCompleted
          ContainersReady=False PodCompleted
          PodScheduled=True
          init first: terminated Error 143 restarts=0 ready=false
          init second: terminated Error 143 restarts=0 ready=false
          main main: terminated Completed 0 restarts=0 ready=false
    "#]],
    );
}

#[test]
fn who_takes_all_the_time_leaves_the_others_the_least() {
    let mut b = served("Always");
    b.delete(5);
    let mut log = b.plan();
    b.wait(5);
    log += &format!("the time is over\n{}", b.plan());
    b.end("main", 137, "Error");
    b.wait(2);
    log += &format!("the least is over\n{}", b.plan());
    b.end("second", 137, "Error");
    b.end("first", 137, "Error");
    log += &format!("all have ended\n{}{}", b.plan(), b.summary());
    check(
        &log,
        expect![[r#"
        end first (Stopping container first)
        end second (Stopping container second)
        end main (Stopping container main)
        stop main 5s
        requeue +5000ms
        the time is over
        stop first 2s
        stop second 2s
        KillContainer { container: "main" }
        requeue +2000ms
        the least is over
        RemoveContainer { container: "main", attempt: 0 }
        KillContainer { container: "first" }
        KillContainer { container: "second" }
        all have ended
        RemoveContainer { container: "first", attempt: 0 }
        RemoveContainer { container: "second", attempt: 0 }
        Release
        Failed
          PodReadyToStartContainers=False
          Initialized=True
          Ready=False PodFailed
          ContainersReady=False PodFailed
          PodScheduled=True
          init first: terminated Error 137 restarts=0 ready=false
          init second: terminated Error 137 restarts=0 ready=false
          main main: terminated Error 137 restarts=0 ready=false
    "#]],
    );
}

#[test]
fn by_force_nobody_waits() {
    let mut b = served("Always");
    b.observed.gone = true;
    let mut log = b.plan();
    b.wait(2);
    log += &b.plan();
    check(
        &log,
        expect![[r#"
        end first (Stopping container first)
        stop first 2s
        end second (Stopping container second)
        stop second 2s
        end main (Stopping container main)
        stop main 2s
        requeue +2000ms
        KillContainer { container: "first" }
        KillContainer { container: "second" }
        KillContainer { container: "main" }
    "#]],
    );
}

#[test]
fn one_that_is_ending_already_is_not_told_to_wait() {
    let mut b = served("Always");
    b.set_image("first", "hello:v2");
    let mut log = b.plan();
    b.wait(1);
    b.delete(10);
    log += &format!("deleted\n{}", b.plan());
    b.end("first", 143, "Error");
    log += &format!("first has ended\n{}", b.plan());
    check(
        &log,
        expect![[r#"
        end first (Init container first definition changed, will be restarted)
        stop first 30s
        requeue +30000ms
        deleted
        end first by +10000ms
        stop first 10s
        end second (Stopping container second)
        end main (Stopping container main)
        stop main 10s
        requeue +10000ms
        first has ended
        RemoveContainer { container: "first", attempt: 0 }
        requeue +10000ms
    "#]],
    );
}

#[test]
fn sidecars_restart_whatever_the_policy() {
    let mut b = served("Never");
    let mut log = String::new();
    b.end("first", 0, "Completed");
    log += &(b.plan() + &b.summary());
    b.start("first");
    b.wait(1);
    b.end("first", 0, "Completed");
    log += &format!("again\n{}{}", b.plan(), b.summary());
    check(
        &log,
        expect![[r#"
        RemoveContainer { container: "first", attempt: 0 }
        EnsureImage { container: "first" }
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [first]
          ContainersReady=False ContainersNotReady: containers with unready status: [first]
          PodScheduled=True
          init first: terminated Completed 0 restarts=0 ready=false
          init second: running restarts=0 ready=true
          main main: running restarts=0 ready=true
        again
        RemoveContainer { container: "first", attempt: 1 }
        back-off first +10000ms
        requeue +10000ms
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [first]
          ContainersReady=False ContainersNotReady: containers with unready status: [first]
          PodScheduled=True
          init first: waiting CrashLoopBackOff (back-off 10s restarting failed container=first pod=web_shop(u-1)) after terminated Completed 0 restarts=1 ready=false
          init second: running restarts=0 ready=true
          main main: running restarts=0 ready=true
    "#]],
    );
}

#[test]
fn their_probes_count() {
    let probe =
        |port: u16| json!({"tcpSocket": {"port": port}, "periodSeconds": 1, "failureThreshold": 1});
    let mut b = Bench::new(json!({
        "restartPolicy": "Never",
        "initContainers": [{
            "name": "side", "image": "hello:v1", "restartPolicy": "Always",
            "readinessProbe": probe(80), "livenessProbe": probe(81),
        }],
        "containers": [{"name": "main", "image": "hello:v1"}],
    }));
    b.ready();
    b.start("side");
    b.start("main");
    // Nobody waits for its readiness.
    let mut log = b.plan() + &b.summary();
    probed(&mut b, "side", ProbeKind::Readiness, Found::Success);
    log += &format!("ready\n{}", b.summary());
    probed(&mut b, "side", ProbeKind::Liveness, Found::Failure);
    log += &format!("not alive\n{}", b.plan());
    check(
        &log,
        expect![[r#"
        requeue +1000ms
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [side]
          ContainersReady=False ContainersNotReady: containers with unready status: [side]
          PodScheduled=True
          init side: running restarts=0 ready=false
          main main: running restarts=0 ready=true
        ready
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=True
          ContainersReady=True
          PodScheduled=True
          init side: running restarts=0 ready=true
          main main: running restarts=0 ready=true
        not alive
        end side (Init container side failed liveness probe, will be restarted)
        stop side 30s
        requeue +30000ms
    "#]],
    );
}

#[test]
fn after_their_agent_sidecars_come_first_again() {
    let mut b = mixed("Always");
    b.ready();
    b.start("early");
    b.end("early", 0, "Completed");
    b.start("side");
    probed(&mut b, "side", ProbeKind::Startup, Found::Success);
    b.start("late");
    b.end("late", 0, "Completed");
    b.start("main");
    b.observed = serde_json::from_value(serde_json::to_value(&b.observed).unwrap()).unwrap();
    b.see(Observation::AgentRestarted);
    b.see(Observation::VolumesReady(None));
    let mut log = b.plan();
    b.start("side");
    log += &format!("side runs\n{}{}", b.plan(), b.summary());
    probed(&mut b, "side", ProbeKind::Startup, Found::Success);
    log += &format!("side has started\n{}", b.plan());
    check(
        &log,
        expect![[r#"
        RemoveContainer { container: "main", attempt: 0 }
        RemoveContainer { container: "side", attempt: 0 }
        EnsureImage { container: "side" }
        side runs
        await side Startup, again +1000ms
        requeue +1000ms
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [side main]
          ContainersReady=False ContainersNotReady: containers with unready status: [side main]
          PodScheduled=True
          init early: terminated Completed 0 restarts=0 ready=true
          init side: running after terminated Unknown 255 restarts=1 ready=false
          init late: terminated Completed 0 restarts=0 ready=true
          main main: terminated Unknown 255 restarts=0 ready=false
        side has started
        EnsureImage { container: "main" }
    "#]],
    );
}
