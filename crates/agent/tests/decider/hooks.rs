//! Lifecycle hooks: what waits for them, and what follows from them.

use expect_test::expect;
use serde_json::{Value, json};

use agent::pod::{Found, HookKind, Observation, ProbeKind};

use crate::bench::{Bench, check};
use HookKind::{PostStart, PreStop};

impl Bench {
    fn hooked(&mut self, container: &str, kind: HookKind, error: Option<&str>) {
        self.see(Observation::Hooked {
            container: container.to_owned(),
            attempt: self.observed.containers[container].starts - 1,
            kind,
            error: error.map(str::to_owned),
        });
    }
}

fn socket() -> Value {
    json!({"tcpSocket": {"port": 80}})
}

/// `first` has these hooks, `second` none.
fn two(policy: &str, hooks: Value) -> Bench {
    let mut b = Bench::new(json!({
        "restartPolicy": policy,
        "containers": [
            {"name": "first", "image": "hello:v1", "lifecycle": hooks,
                "livenessProbe": {"tcpSocket": {"port": 80}, "failureThreshold": 1}},
            {"name": "second", "image": "hello:v1"},
        ],
    }));
    b.ready();
    b
}

#[test]
fn what_comes_after_a_container_waits_for_its_first_hook() {
    let mut b = two("Always", json!({"postStart": socket()}));
    let mut log = b.plan();
    b.start("first");
    log += &format!("first was started\n{}{}", b.plan(), b.summary());
    b.hooked("first", PostStart, None);
    log += &format!("its hook is done\n{}{}", b.plan(), b.summary());
    b.start("second");
    b.end("first", 1, "Error");
    log += &format!("first starts again\n{}", b.plan());
    b.start("first");
    b.end("second", 1, "Error");
    log += &format!("and second waits again\n{}{}", b.plan(), b.summary());
    check(
        &log,
        expect![[r#"
            EnsureImage { container: "first" }
            first was started
            RunHook { container: "first", attempt: 0, kind: PostStart, within: None }
            Pending
              PodReadyToStartContainers=True
              Initialized=True
              Ready=False ContainersNotReady: containers with unready status: [first second]
              ContainersReady=False ContainersNotReady: containers with unready status: [first second]
              PodScheduled=True
              main first: waiting ContainerCreating restarts=0 ready=false
              main second: waiting ContainerCreating restarts=0 ready=false
            its hook is done
            await first Liveness, again +10000ms
            EnsureImage { container: "second" }
            requeue +10000ms
            Pending
              PodReadyToStartContainers=True
              Initialized=True
              Ready=False ContainersNotReady: containers with unready status: [second]
              ContainersReady=False ContainersNotReady: containers with unready status: [second]
              PodScheduled=True
              main first: running restarts=0 ready=true
              main second: waiting ContainerCreating restarts=0 ready=false
            first starts again
            RemoveContainer { container: "first", attempt: 0 }
            EnsureImage { container: "first" }
            and second waits again
            RemoveContainer { container: "second", attempt: 0 }
            RunHook { container: "first", attempt: 1, kind: PostStart, within: None }
            Running
              PodReadyToStartContainers=True
              Initialized=True
              Ready=False ContainersNotReady: containers with unready status: [first second]
              ContainersReady=False ContainersNotReady: containers with unready status: [first second]
              PodScheduled=True
              main first: waiting ContainerCreating after terminated Error 1 restarts=1 ready=false
              main second: terminated Error 1 restarts=0 ready=false
        "#]],
    );
}

#[test]
fn nothing_waits_for_one_that_cannot_start() {
    let mut b = two("Always", json!({"postStart": socket()}));
    b.plan();
    b.not_pulled("first", "ErrImagePull", "no such module");
    check(
        &b.plan(),
        expect![[r#"
        EnsureImage { container: "second" }
        requeue +2000ms
    "#]],
    );
}

#[test]
fn a_container_whose_first_hook_fails_is_ended() {
    let mut log = String::new();
    for policy in ["Always", "Never"] {
        let mut b = two(policy, json!({"postStart": socket()}));
        b.start("first");
        b.plan();
        b.hooked("first", PostStart, Some("connection refused"));
        log += &format!("{policy}\n{}", b.plan());
        b.end("first", 143, "Error");
        log += &format!("it has ended\n{}{}", b.plan(), b.summary());
        if policy == "Never" {
            continue;
        }
        b.start("first");
        b.plan();
        b.hooked("first", PostStart, Some("connection refused"));
        b.plan();
        b.end("first", 143, "Error");
        log += &format!("and again\n{}{}", b.plan(), b.summary());
    }
    check(
        &log,
        expect![[r#"
        Always
        end first (FailedPostStartHook)
        stop first 30s
        requeue +30000ms
        it has ended
        RemoveContainer { container: "first", attempt: 0 }
        EnsureImage { container: "first" }
        Pending
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [first second]
          ContainersReady=False ContainersNotReady: containers with unready status: [first second]
          PodScheduled=True
          main first: waiting PostStartHookError (connection refused) after terminated Error 143 restarts=0 ready=false
          main second: waiting ContainerCreating restarts=0 ready=false
        and again
        RemoveContainer { container: "first", attempt: 1 }
        back-off first +10000ms
        EnsureImage { container: "second" }
        requeue +10000ms
        Pending
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [first second]
          ContainersReady=False ContainersNotReady: containers with unready status: [first second]
          PodScheduled=True
          main first: waiting CrashLoopBackOff (back-off 10s restarting failed container=first pod=web_shop(u-1)) after terminated Error 143 restarts=1 ready=false
          main second: waiting ContainerCreating restarts=0 ready=false
        Never
        end first (FailedPostStartHook)
        stop first 30s
        requeue +30000ms
        it has ended
        RemoveContainer { container: "first", attempt: 0 }
        EnsureImage { container: "second" }
        Pending
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [first second]
          ContainersReady=False ContainersNotReady: containers with unready status: [first second]
          PodScheduled=True
          main first: terminated Error 143 restarts=0 ready=false
          main second: waiting ContainerCreating restarts=0 ready=false
    "#]],
    );
}

#[test]
fn the_last_hook_is_part_of_the_grace_period() {
    let mut b = two("Always", json!({"preStop": socket()}));
    b.start("first");
    b.start("second");
    b.delete(10);
    let mut log = b.plan();
    b.end("second", 143, "Error");
    b.wait(4);
    log += &format!("four seconds later\n{}", b.plan());
    b.hooked("first", PreStop, Some("connection refused"));
    log += &format!("it has run\n{}", b.plan());
    check(
        &log,
        expect![[r#"
        end first (Stopping container first)
        RunHook { container: "first", attempt: 0, kind: PreStop, within: Some(10s) }
        end second (Stopping container second)
        stop second 10s
        requeue +10000ms
        four seconds later
        RemoveContainer { container: "second", attempt: 0 }
        requeue +6000ms
        it has run
        stop first 6s
        requeue +6000ms
    "#]],
    );
}

#[test]
fn a_last_hook_that_overruns_leaves_the_least() {
    let mut b = two("Always", json!({"preStop": socket()}));
    b.start("first");
    b.delete(10);
    let mut log = b.plan();
    b.wait(3);
    b.delete(4);
    log += &format!("less time\n{}", b.plan());
    b.wait(4);
    log += &format!("the time is over\n{}", b.plan());
    b.hooked("first", PreStop, None);
    b.wait(2);
    log += &format!("so is the least\n{}", b.plan());
    check(
        &log,
        expect![[r#"
        end first (Stopping container first)
        RunHook { container: "first", attempt: 0, kind: PreStop, within: Some(10s) }
        requeue +10000ms
        less time
        end first by +4000ms
        requeue +4000ms
        the time is over
        stop first 2s
        requeue +2000ms
        so is the least
        KillContainer { container: "first" }
    "#]],
    );
}

#[test]
fn who_has_no_time_runs_no_last_hook() {
    let hooks = json!({"preStop": socket()});
    let mut b = two("Always", hooks.clone());
    b.start("first");
    b.observed.gone = true;
    let mut log = format!("by force\n{}", b.plan());
    let mut b = two("Always", hooks);
    b.start("first");
    b.end("first", 0, "Completed");
    log += &format!("ended by itself\n{}", b.plan());
    check(
        &log,
        expect![[r#"
            by force
            end first (Stopping container first)
            stop first 2s
            requeue +2000ms
            ended by itself
            RemoveContainer { container: "first", attempt: 0 }
            EnsureImage { container: "first" }
        "#]],
    );
}

#[test]
fn who_is_started_anew_runs_its_last_hook_first() {
    let hooks = json!({"preStop": socket()});
    let mut b = two("Always", hooks.clone());
    b.start("first");
    b.plan();
    b.see(Observation::Probed {
        container: "first".into(),
        attempt: 0,
        kind: ProbeKind::Liveness,
        found: Found::Failure,
    });
    let mut log = format!("not alive\n{}", b.plan());
    let mut b = two("Always", hooks);
    b.start("first");
    b.set_image("first", "hello:v2");
    log += &format!("another image\n{}", b.plan());
    check(
        &log,
        expect![[r#"
        not alive
        end first (Container first failed liveness probe, will be restarted)
        RunHook { container: "first", attempt: 0, kind: PreStop, within: Some(30s) }
        requeue +30000ms
        another image
        end first (Container first definition changed, will be restarted)
        RunHook { container: "first", attempt: 0, kind: PreStop, within: Some(30s) }
        requeue +30000ms
    "#]],
    );
}

#[test]
fn sidecars_run_their_last_hook_before_their_turn() {
    let mut b = Bench::new(json!({
        "restartPolicy": "Always",
        "initContainers": [{"name": "side", "image": "hello:v1", "restartPolicy": "Always",
            "lifecycle": {"preStop": socket()}}],
        "containers": [{"name": "main", "image": "hello:v1"}],
    }));
    b.ready();
    b.start("side");
    b.start("main");
    b.delete(10);
    let mut log = b.plan();
    b.hooked("side", PreStop, None);
    log += &format!("its hook is done\n{}", b.plan());
    b.end("main", 143, "Error");
    log += &format!("it has its turn\n{}", b.plan());
    check(
        &log,
        expect![[r#"
        end side (Stopping container side)
        RunHook { container: "side", attempt: 0, kind: PreStop, within: Some(10s) }
        end main (Stopping container main)
        stop main 10s
        requeue +10000ms
        its hook is done
        requeue +10000ms
        it has its turn
        RemoveContainer { container: "main", attempt: 0 }
        stop side 10s
        requeue +10000ms
    "#]],
    );
}
