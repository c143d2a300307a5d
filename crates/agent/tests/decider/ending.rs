//! Pods that are deleted, and pods whose time is over.

use expect_test::expect;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::ContainerState;
use serde_json::json;

use agent::pod::{Found, Observation, ProbeKind, Verdict};

use crate::bench::{Bench, check};

#[test]
fn deletion_waits_for_the_grace_period() {
    let mut b = Bench::running("Always");
    b.delete(30);
    let mut log = b.plan() + &b.summary();
    b.wait(10);
    b.delete(5);
    log += &b.plan();
    b.wait(5);
    log += &b.plan();
    b.end("main", 137, "Error");
    log += &(b.plan() + &b.summary());
    b.see(Observation::Released);
    log += &b.plan();
    b.observed.gone = true;
    log += &b.plan();
    check(
        &log,
        expect![[r#"
            end main (Stopping container main)
            stop main 30s
            requeue +30000ms
            Running
              PodReadyToStartContainers=True
              Initialized=True
              Ready=True
              ContainersReady=True
              PodScheduled=True
              main main: running restarts=0 ready=true
            end main by +5000ms
            stop main 5s
            requeue +5000ms
            KillContainer { container: "main" }
            RemoveContainer { container: "main", attempt: 0 }
            Release
            Failed
              PodReadyToStartContainers=False
              Initialized=True
              Ready=False PodFailed
              ContainersReady=False PodFailed
              PodScheduled=True
              main main: terminated Error 137 restarts=0 ready=false
            DeletePod
            Forget
        "#]],
    );
}

#[test]
fn the_grace_period_is_counted_by_the_nodes_own_clock() {
    let mut b = Bench::running("Always");
    b.delete(30);
    // The API server's clock is far behind.
    b.pod.metadata.deletion_timestamp = Some(
        "2026-11-21T09:00:00Z"
            .parse::<jiff::Timestamp>()
            .unwrap()
            .into(),
    );
    let mut log = b.plan();
    b.wait(10);
    b.observed = serde_json::from_value(serde_json::to_value(&b.observed).unwrap()).unwrap();
    log += &b.plan();
    check(
        &log,
        expect![[r#"
            end main (Stopping container main)
            stop main 30s
            requeue +30000ms
            requeue +20000ms
        "#]],
    );
}

#[test]
fn the_active_deadline_ends_a_pod_that_was_refused() {
    let mut b = Bench::new(json!({
        "activeDeadlineSeconds": 20, "hostNetwork": true,
        "containers": [{"name": "main", "image": "hello:v1"}],
    }));
    let mut log = b.plan();
    b.wait(20);
    log += &b.plan();
    let status = b.status();
    log += &format!("{}\n", status.phase.unwrap());
    // Why it never ran is still said.
    let state = &status.container_statuses.unwrap()[0].state;
    let waiting = state.as_ref().unwrap().waiting.as_ref().unwrap();
    log += &format!("{}\n", waiting.reason.as_ref().unwrap());
    check(
        &log,
        expect![[r#"
            Refuse { message: "spec.hostNetwork is not supported by carob yet" }
            requeue +20000ms
            Event { kind: Normal, reason: "DeadlineExceeded", message: "Pod was active on the node longer than the specified deadline" }
            Fail { reason: "DeadlineExceeded", message: "Pod was active on the node longer than the specified deadline" }
            Release
            Failed
            Unsupported
        "#]],
    );
}

#[test]
fn a_pod_that_is_gone_from_the_api_ends_at_once() {
    let mut b = Bench::running("Always");
    b.observed.gone = true;
    let mut log = b.plan();
    b.end("main", 143, "Error");
    log += &b.plan();
    b.see(Observation::Released);
    log += &b.plan();
    check(
        &log,
        expect![[r#"
            end main (Stopping container main)
            stop main 2s
            requeue +2000ms
            RemoveContainer { container: "main", attempt: 0 }
            Release
            Forget
        "#]],
    );
}

#[test]
fn the_active_deadline_ends_a_pod() {
    let mut b = Bench::new(json!({
        "activeDeadlineSeconds": 20, "restartPolicy": "OnFailure",
        "containers": [{"name": "main", "image": "hello:v1"}],
    }));
    b.up();
    let mut log = b.plan();
    b.wait(20);
    log += &(b.plan() + &b.summary());
    b.end("main", 143, "Error");
    log += &b.plan();
    check(
        &log,
        expect![[r#"
            requeue +20000ms
            Event { kind: Normal, reason: "DeadlineExceeded", message: "Pod was active on the node longer than the specified deadline" }
            Fail { reason: "DeadlineExceeded", message: "Pod was active on the node longer than the specified deadline" }
            end main (Stopping container main)
            stop main 30s
            requeue +30000ms
            Running
              PodReadyToStartContainers=True
              Initialized=True
              Ready=False PodFailed
              ContainersReady=False PodFailed
              PodScheduled=True
              main main: running restarts=0 ready=true
            RemoveContainer { container: "main", attempt: 0 }
            Release
        "#]],
    );
}

#[test]
fn the_termination_messages_of_a_pod_share_its_room() {
    let names = ["a", "b", "c", "d"];
    let containers = names.map(|name| json!({"name": name, "image": "hello:v1"}));
    let mut b = Bench::new(json!({"restartPolicy": "Always", "containers": containers}));
    b.up();
    // Characters of three bytes each: no message ends in the middle of one.
    let long = "€".repeat(1365);
    for (name, message) in [("a", format!("{long}x")), ("b", format!("x{long}"))] {
        b.see(Observation::Ended {
            container: name.to_owned(),
            exit_code: 1,
            reason: "Error".to_owned(),
            message: Some(message),
        });
    }
    let mut lengths = || {
        let statuses = b.status().container_statuses.unwrap().into_iter();
        let messages = statuses.map(|s| {
            let length = |state: Option<ContainerState>| {
                let message = state.and_then(|s| s.terminated?.message);
                message.map(|m| m.len())
            };
            (length(s.state), length(s.last_state))
        });
        messages.take(2).collect::<Vec<_>>()
    };
    assert_eq!(lengths(), [(Some(3072), None), (Some(3070), None)]);
    b.start("a");
    let statuses = b.status().container_statuses.unwrap();
    let last = statuses[0].last_state.as_ref().unwrap();
    let message = last.terminated.as_ref().unwrap().message.as_ref();
    assert_eq!(message.unwrap().len(), 3072);
}

fn evicted(message: &str) -> Observation {
    Observation::Evicted {
        message: message.to_owned(),
        disrupted: false,
    }
}

#[test]
fn a_deleted_pod_that_is_evicted_ends_sooner() {
    let mut b = Bench::running("Always");
    b.delete(30);
    let mut log = b.plan();
    b.wait(10);
    b.see(evicted("too much"));
    log += &b.plan();
    b.wait(2);
    log += &b.plan();
    b.end("main", 137, "Error");
    log += &b.plan();
    b.see(Observation::Released);
    log += &b.plan();
    check(
        &log,
        expect![[r#"
            end main (Stopping container main)
            stop main 30s
            requeue +30000ms
            end main by +1000ms
            stop main 2s
            requeue +2000ms
            KillContainer { container: "main" }
            RemoveContainer { container: "main", attempt: 0 }
            Release
            DeletePod
        "#]],
    );
    assert_eq!(b.status().reason.as_deref(), Some("Evicted"));
}

#[test]
fn an_evicted_pod_has_a_second_and_what_the_least_is() {
    let mut b = Bench::running("Always");
    b.see(Observation::Evicted {
        message: "too much".to_owned(),
        disrupted: true,
    });
    // Another reason comes too late.
    b.see(Observation::Evicted {
        message: "more".to_owned(),
        disrupted: false,
    });
    b.observed = serde_json::from_value(serde_json::to_value(&b.observed).unwrap()).unwrap();
    let mut log = b.plan();
    b.wait(2);
    log += &b.plan();
    b.end("main", 137, "Error");
    log += &(b.plan() + &b.summary());
    check(
        &log,
        expect![[r#"
            end main (Stopping container main)
            stop main 2s
            requeue +2000ms
            KillContainer { container: "main" }
            RemoveContainer { container: "main", attempt: 0 }
            Release
            Failed
              PodReadyToStartContainers=False
              Initialized=True
              Ready=False PodFailed
              ContainersReady=False PodFailed
              PodScheduled=True
              DisruptionTarget=True TerminationByKubelet: too much
              main main: terminated Error 137 restarts=0 ready=false
        "#]],
    );
    let status = b.status();
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    assert_eq!(status.message.as_deref(), Some("too much"));
    // Its deletion leaves it no more time.
    let mut b = Bench::running("Always");
    b.see(evicted("too much"));
    let mut log = b.plan();
    b.delete(30);
    log += &b.plan();
    check(
        &log,
        expect![[r#"
            end main (Stopping container main)
            stop main 2s
            requeue +2000ms
            requeue +2000ms
        "#]],
    );
    // As earlier agents have written it.
    let known: Verdict =
        serde_json::from_value(json!({"reason": "DeadlineExceeded", "message": "late"})).unwrap();
    assert_eq!(known, Verdict::new("DeadlineExceeded", "late".to_owned()));
}

#[test]
fn a_pod_that_fails_is_what_it_was_until_nothing_of_it_runs() {
    type Failing = fn(&mut Bench);
    let cases: [(&str, Option<&str>, Failing); 4] = [
        ("an init container fails", None, |b| {
            b.end("init", 1, "Error")
        }),
        ("too late, initialising", Some("init"), |b| b.wait(20)),
        ("evicted, initialising", Some("init"), |b| {
            b.see(Observation::Evicted {
                message: "too much".to_owned(),
                disrupted: true,
            });
        }),
        ("too late, running", Some("main"), |b| {
            b.end("init", 0, "Completed");
            b.start("main");
            b.wait(20);
        }),
    ];
    let mut log = String::new();
    for (why, runs, fail) in cases {
        let mut b = Bench::new(json!({
            "restartPolicy": "Never", "activeDeadlineSeconds": 20,
            "initContainers": [
                {"name": "side", "image": "hello:v1", "restartPolicy": "Always"},
                {"name": "init", "image": "hello:v1"},
            ],
            "containers": [{"name": "main", "image": "hello:v1"}],
        }));
        b.ready();
        b.start("side");
        b.start("init");
        let said = |b: &mut Bench| {
            b.plan();
            let status = b.status();
            let why = [status.reason, status.message].map(Option::unwrap_or_default);
            let conditions = status.conditions.into_iter().flatten();
            let conditions = conditions.filter(|c| c.type_ != "ContainersReady");
            let conditions = conditions.map(|c| {
                let reason = c.reason.map(|reason| format!(" {reason}"));
                format!("{}={}{}", c.type_, c.status, reason.unwrap_or_default())
            });
            let conditions = conditions.collect::<Vec<_>>().join(", ");
            format!("  {} {why:?}: {conditions}\n", status.phase.unwrap())
        };
        fail(&mut b);
        log += &format!("{why}\n{}", said(&mut b));
        for name in runs.into_iter().chain(["side"]) {
            b.end(name, 143, "Error");
        }
        log += &said(&mut b);
    }
    check(
        &log,
        expect![[r#"
        an init container fails
          Pending ["", ""]: PodReadyToStartContainers=True, Initialized=False ContainersNotInitialized, Ready=False PodFailed, PodScheduled=True
          Failed ["", ""]: PodReadyToStartContainers=False, Initialized=False ContainersNotInitialized, Ready=False PodFailed, PodScheduled=True
        too late, initialising
          Pending ["", ""]: PodReadyToStartContainers=True, Initialized=False ContainersNotInitialized, Ready=False PodFailed, PodScheduled=True
          Failed ["DeadlineExceeded", "Pod was active on the node longer than the specified deadline"]: PodReadyToStartContainers=False, Initialized=False ContainersNotInitialized, Ready=False PodFailed, PodScheduled=True
        evicted, initialising
          Pending ["", ""]: PodReadyToStartContainers=True, Initialized=False ContainersNotInitialized, Ready=False PodFailed, PodScheduled=True
          Failed ["Evicted", "too much"]: PodReadyToStartContainers=False, Initialized=False ContainersNotInitialized, Ready=False PodFailed, PodScheduled=True, DisruptionTarget=True TerminationByKubelet
        too late, running
          Running ["", ""]: PodReadyToStartContainers=True, Initialized=True, Ready=False PodFailed, PodScheduled=True
          Failed ["DeadlineExceeded", "Pod was active on the node longer than the specified deadline"]: PodReadyToStartContainers=False, Initialized=True, Ready=False PodFailed, PodScheduled=True
    "#]],
    );
}

#[test]
fn endpoints_go_first() {
    type Ending = fn(&mut Bench);
    let all: [(&str, Ending); 7] = [
        ("another image", |b| b.set_image("main", "hello:v2")),
        ("a failed probe", |b| {
            b.see(Observation::Probed {
                container: "main".to_owned(),
                attempt: 0,
                kind: ProbeKind::Liveness,
                found: Found::Failure,
            });
        }),
        ("the agent's end", |b| {
            b.observed.shutdown = Some(SignedDuration::from_secs(5));
        }),
        ("too late", |b| {
            b.pod.spec.as_mut().unwrap().active_deadline_seconds = Some(0);
        }),
        // It would go on taking what others need.
        ("evicted", |b| b.see(evicted("too much"))),
        // Of these the API has told.
        ("deleted", |b| b.delete(30)),
        ("gone", |b| b.observed.gone = true),
    ];
    let line = |b: &mut Bench| {
        let plan = b.plan();
        let lines = plan
            .lines()
            .filter(|line| !line.contains("DeadlineExceeded"));
        let plan = lines.collect::<Vec<_>>().join("; ");
        format!("  ready={}: {plan}\n", b.shown_ready())
    };
    let mut log = String::new();
    for (why, end) in all {
        for is_heard in [true, false] {
            let mut b = Bench::new(json!({"containers": [{
                "name": "main", "image": "hello:v1",
                "livenessProbe": {"exec": {"command": ["true"]}, "failureThreshold": 1},
                "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
            }]}));
            b.up();
            b.plan();
            b.observed.held_ready = true;
            end(&mut b);
            log += &format!(
                "{why}, {}\n",
                if is_heard { "heard of" } else { "not heard of" }
            );
            log += &line(&mut b);
            match is_heard {
                true => b.observed.held_ready = false,
                false => b.wait(1),
            }
            log += &line(&mut b);
        }
    }
    check(
        &log,
        expect![[r#"
            another image, heard of
              ready=False: end main (Container main definition changed, will be restarted); requeue +1000ms
              ready=False: RunHook { container: "main", attempt: 0, kind: PreStop, within: Some(30s) }; requeue +30000ms
            another image, not heard of
              ready=False: end main (Container main definition changed, will be restarted); requeue +1000ms
              ready=False: RunHook { container: "main", attempt: 0, kind: PreStop, within: Some(29s) }; requeue +29000ms
            a failed probe, heard of
              ready=False: end main (Container main failed liveness probe, will be restarted); requeue +1000ms
              ready=False: RunHook { container: "main", attempt: 0, kind: PreStop, within: Some(30s) }; requeue +30000ms
            a failed probe, not heard of
              ready=False: end main (Container main failed liveness probe, will be restarted); requeue +1000ms
              ready=False: RunHook { container: "main", attempt: 0, kind: PreStop, within: Some(29s) }; requeue +29000ms
            the agent's end, heard of
              ready=False: end main (Stopping container main); requeue +1000ms
              ready=False: RunHook { container: "main", attempt: 0, kind: PreStop, within: Some(5s) }; requeue +5000ms
            the agent's end, not heard of
              ready=False: end main (Stopping container main); requeue +1000ms
              ready=False: RunHook { container: "main", attempt: 0, kind: PreStop, within: Some(4s) }; requeue +4000ms
            too late, heard of
              ready=False: end main (Stopping container main); requeue +1000ms
              ready=False: RunHook { container: "main", attempt: 0, kind: PreStop, within: Some(30s) }; requeue +30000ms
            too late, not heard of
              ready=False: end main (Stopping container main); requeue +1000ms
              ready=False: RunHook { container: "main", attempt: 0, kind: PreStop, within: Some(29s) }; requeue +29000ms
            evicted, heard of
              ready=False: end main (Stopping container main); RunHook { container: "main", attempt: 0, kind: PreStop, within: Some(1s) }; requeue +1000ms
              ready=False: requeue +1000ms
            evicted, not heard of
              ready=False: end main (Stopping container main); RunHook { container: "main", attempt: 0, kind: PreStop, within: Some(1s) }; requeue +1000ms
              ready=False: stop main 2s; requeue +2000ms
            deleted, heard of
              ready=True: end main (Stopping container main); RunHook { container: "main", attempt: 0, kind: PreStop, within: Some(30s) }; requeue +30000ms
              ready=True: requeue +30000ms
            deleted, not heard of
              ready=True: end main (Stopping container main); RunHook { container: "main", attempt: 0, kind: PreStop, within: Some(30s) }; requeue +30000ms
              ready=True: requeue +29000ms
            gone, heard of
              ready=True: end main (Stopping container main); stop main 2s; requeue +2000ms
              ready=True: requeue +2000ms
            gone, not heard of
              ready=True: end main (Stopping container main); stop main 2s; requeue +2000ms
              ready=True: requeue +1000ms
        "#]],
    );
}

#[test]
fn who_has_less_time_than_the_news_takes_ends_in_time() {
    let mut b = Bench::running("Always");
    let spec = b.pod.spec.as_mut().unwrap();
    spec.termination_grace_period_seconds = Some(0);
    b.observed.held_ready = true;
    b.set_image("main", "hello:v2");
    let log = b.plan();
    check(
        &log,
        expect![[r#"
        end main (Container main definition changed, will be restarted)
        stop main 2s
        requeue +2000ms
    "#]],
    );
}
