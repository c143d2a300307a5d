//! Probes: when they are due, what their results come to, and what follows from that.

use expect_test::expect;
use jiff::SignedDuration;
use serde_json::{Value, json};

use agent::pod::{Found, Observation, Observed, ProbeKind};

use crate::bench::{Bench, check};
use Found::{Failure, Nothing, Success};
use ProbeKind::{Liveness, Readiness, Startup};

fn probe(more: Value) -> Value {
    let mut probe = json!({
        "tcpSocket": {"port": 80}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
    });
    probe
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    probe
}

fn spec(policy: &str, probes: Value) -> Value {
    let mut main = json!({"name": "main", "image": "hello:v1"});
    main.as_object_mut()
        .unwrap()
        .extend(probes.as_object().unwrap().clone());
    json!({"restartPolicy": policy, "terminationGracePeriodSeconds": 30, "containers": [main]})
}

/// A pod that runs, with such probes.
fn running(policy: &str, probes: Value) -> Bench {
    let mut b = Bench::new(spec(policy, probes));
    b.up();
    b
}

impl Bench {
    fn found(&mut self, kind: ProbeKind, found: Found) {
        let attempt = self.observed.get("main").unwrap().starts - 1;
        self.found_of(attempt, kind, found);
    }

    fn found_of(&mut self, attempt: u32, kind: ProbeKind, found: Found) {
        self.see(Observation::Probed {
            container: "main".to_owned(),
            attempt,
            kind,
            found,
        });
    }

    /// What is planned, and how the container stands then.
    fn told(&mut self) -> String {
        let plan = self.plan().lines().collect::<Vec<_>>().join("; ");
        let status = self.status();
        let c = &status.container_statuses.as_ref().unwrap()[0];
        format!(
            "{plan} | started={} ready={}\n",
            c.started == Some(true),
            c.ready
        )
    }
}

#[test]
fn each_begins_after_its_delay_and_comes_again_after_its_period() {
    let mut b = running(
        "Always",
        json!({
            "readinessProbe": probe(json!({"initialDelaySeconds": 2, "periodSeconds": 5})),
            "livenessProbe": probe(json!({"initialDelaySeconds": 4})),
        }),
    );
    let mut log = b.told();
    b.wait(2);
    log += &b.told();
    b.found(Readiness, Success);
    b.wait(2);
    log += &b.told();
    b.found(Liveness, Success);
    b.wait(3);
    log += &b.told();
    // One that takes longer than its period is followed by the next at once, not by two at a time.
    b.wait(6);
    log += &b.told();
    b.found(Readiness, Success);
    log += &b.told();
    check(
        &log,
        expect![[r#"
            requeue +2000ms | started=true ready=false
            await main Readiness, again +5000ms; requeue +2000ms | started=true ready=false
            await main Liveness, again +10000ms; requeue +3000ms | started=true ready=true
            probe main Readiness, again +5000ms; requeue +5000ms | started=true ready=true
            requeue +1000ms | started=true ready=true
            probe main Readiness, again +5000ms; requeue +1000ms | started=true ready=true
        "#]],
    );
}

#[test]
fn what_is_left_out_has_kubernetes_defaults() {
    let bare = json!({"tcpSocket": {"port": 80}});
    let mut b = running("Always", json!({"livenessProbe": bare}));
    let mut log = String::new();
    for _ in 0..3 {
        log += &b.told();
        b.found(Liveness, Failure);
        b.wait(10);
    }
    log += &b.told();
    check(
        &log,
        expect![[r#"
            await main Liveness, again +10000ms; requeue +10000ms | started=true ready=true
            await main Liveness, again +10000ms; requeue +10000ms | started=true ready=true
            await main Liveness, again +10000ms; requeue +10000ms | started=true ready=true
            end main (Container main failed liveness probe, will be restarted); stop main 30s; requeue +30000ms | started=true ready=false
        "#]],
    );
}

#[test]
fn thresholds_count_what_comes_in_a_row() {
    let mut b = running(
        "Always",
        json!({"readinessProbe": probe(json!({"successThreshold": 2, "failureThreshold": 3}))}),
    );
    let mut log = String::new();
    let found = [
        Success, Failure, Success, Nothing, Success, Failure, Failure, Success, Failure, Failure,
        Nothing, Failure, Success, Success,
    ];
    for found in found {
        b.plan();
        b.found(Readiness, found);
        b.wait(10);
        let ready = b.status().container_statuses.unwrap()[0].ready;
        log += &format!("{found:?} {ready}\n");
    }
    log += &b.summary();
    check(
        &log,
        expect![[r#"
            Success false
            Failure false
            Success false
            Nothing false
            Success true
            Failure true
            Failure true
            Success true
            Failure true
            Failure true
            Nothing true
            Failure false
            Success false
            Success true
            Running
              PodReadyToStartContainers=True
              Initialized=True
              Ready=True
              ContainersReady=True
              PodScheduled=True
              main main: running restarts=0 ready=true
        "#]],
    );
}

#[test]
fn the_start_is_waited_for() {
    let all = json!({
        "startupProbe": probe(json!({"periodSeconds": 2, "failureThreshold": 30})),
        "readinessProbe": probe(json!({})),
        "livenessProbe": probe(json!({"initialDelaySeconds": 60})),
    });
    let mut b = running("Always", all);
    let mut log = b.told();
    b.found(Startup, Failure);
    b.wait(2);
    log += &b.told();
    // At once then, and not with the next period.
    b.wait(1);
    b.found(Startup, Success);
    log += &b.told();
    b.found(Readiness, Success);
    b.wait(57);
    log += &b.told();
    // The next instance starts for itself.
    b.found(Readiness, Success);
    b.found(Liveness, Success);
    b.end("main", 1, "Error");
    log += &b.told();
    b.pulled("main");
    b.plan();
    b.started("main");
    log += &b.told();
    check(
        &log,
        expect![[r#"
            await main Startup, again +2000ms; requeue +2000ms | started=false ready=false
            await main Startup, again +2000ms; requeue +2000ms | started=false ready=false
            await main Readiness, again +10000ms; requeue +10000ms | started=true ready=false
            probe main Readiness, again +10000ms; await main Liveness, again +10000ms; requeue +10000ms | started=true ready=true
            RemoveContainer { container: "main", attempt: 0 }; EnsureImage { container: "main" } | started=false ready=false
            await main Startup, again +2000ms; requeue +2000ms | started=false ready=false
        "#]],
    );
}

#[test]
fn what_is_condemned_is_started_anew() {
    let once = |kind: &str, own: Value| {
        let mut terms = json!({"failureThreshold": 1});
        terms
            .as_object_mut()
            .unwrap()
            .extend(own.as_object().unwrap().clone());
        json!({kind: probe(terms)})
    };
    let own = json!({"terminationGracePeriodSeconds": 7});
    let mut log = String::new();
    for (policy, kind, probes) in [
        ("Always", Liveness, once("livenessProbe", json!({}))),
        ("Always", Startup, once("startupProbe", own.clone())),
        ("OnFailure", Liveness, once("livenessProbe", own)),
        ("Never", Liveness, once("livenessProbe", json!({}))),
    ] {
        let mut b = running(policy, probes);
        b.plan();
        b.found(kind, Failure);
        log += &format!("{policy}: {}", b.plan());
        b.wait(1);
        log += &b.plan();
        // In order, as after a good end: it is started again because it was condemned.
        b.end("main", 0, "Completed");
        log += &b.plan();
        log += &format!("{}\n", b.status().phase.unwrap());
    }
    check(
        &log,
        expect![[r#"
            Always: end main (Container main failed liveness probe, will be restarted)
            stop main 30s
            requeue +30000ms
            requeue +29000ms
            RemoveContainer { container: "main", attempt: 0 }
            EnsureImage { container: "main" }
            Running
            Always: end main (Container main failed startup probe, will be restarted)
            stop main 7s
            requeue +7000ms
            requeue +6000ms
            RemoveContainer { container: "main", attempt: 0 }
            EnsureImage { container: "main" }
            Running
            OnFailure: end main (Container main failed liveness probe, will be restarted)
            stop main 7s
            requeue +7000ms
            requeue +6000ms
            RemoveContainer { container: "main", attempt: 0 }
            EnsureImage { container: "main" }
            Running
            Never: end main (Container main failed liveness probe)
            stop main 30s
            requeue +30000ms
            requeue +29000ms
            RemoveContainer { container: "main", attempt: 0 }
            Release
            Succeeded
        "#]],
    );
}

#[test]
fn what_never_lives_backs_off() {
    let mut b = running(
        "Always",
        json!({"livenessProbe": probe(json!({"failureThreshold": 1}))}),
    );
    let mut log = String::new();
    for _ in 0..2 {
        b.plan();
        b.found(Liveness, Failure);
        b.plan();
        b.end("main", 143, "Error");
        log += &b.plan();
        b.pulled("main");
        b.plan();
        b.started("main");
    }
    check(
        &log,
        expect![[r#"
            RemoveContainer { container: "main", attempt: 0 }
            EnsureImage { container: "main" }
            RemoveContainer { container: "main", attempt: 1 }
            back-off main +10000ms
            requeue +10000ms
        "#]],
    );
}

#[test]
fn results_of_earlier_instances_say_nothing() {
    let mut b = running(
        "Always",
        json!({
            "livenessProbe": probe(json!({"failureThreshold": 1})), "readinessProbe": probe(json!({})),
        }),
    );
    b.plan();
    b.end("main", 1, "Error");
    let mut log = b.told();
    b.found_of(0, Readiness, Success);
    b.pulled("main");
    b.plan();
    b.started("main");
    b.found_of(0, Liveness, Failure);
    b.plan();
    b.found_of(0, Liveness, Failure);
    b.found_of(0, Readiness, Success);
    log += &b.told();
    // Nor do those that nobody asked for.
    b.found(Liveness, Success);
    b.found(Liveness, Failure);
    log += &b.told();
    check(
        &log,
        expect![[r#"
            RemoveContainer { container: "main", attempt: 0 }; EnsureImage { container: "main" } | started=false ready=false
            requeue +10000ms | started=true ready=false
            requeue +10000ms | started=true ready=false
        "#]],
    );
}

/// A pod with both probes, ready, whose next ones are due in a second.
fn well() -> Bench {
    let mut b = running(
        "Always",
        json!({
            "readinessProbe": probe(json!({"failureThreshold": 1})),
            "livenessProbe": probe(json!({"failureThreshold": 1})),
        }),
    );
    b.plan();
    b.found(Readiness, Success);
    b.found(Liveness, Success);
    b.wait(9);
    b
}

#[test]
fn what_ends_with_its_pod_is_asked_for_its_readiness_alone() {
    type Ending = fn(&mut Bench);
    let all: [(&str, Ending); 5] = [
        ("deleted", |b| b.delete(30)),
        ("gone", |b| b.observed.gone = true),
        ("shut down", |b| {
            b.observed.shutdown = Some(SignedDuration::from_secs(20));
        }),
        ("past its deadline", |b| {
            b.pod.spec.as_mut().unwrap().active_deadline_seconds = Some(1);
        }),
        ("changed", |b| {
            b.set_image("main", "hello:v2");
        }),
    ];
    let mut log = String::new();
    for (what, end) in all {
        let mut b = well();
        end(&mut b);
        log += &format!("{what}: {}", b.told());
        b.wait(1);
        log += &format!("  {}", b.told());
        b.found(Readiness, Failure);
        b.found(Liveness, Failure);
        b.wait(10);
        log += &format!("  {}", b.told());
    }
    check(
        &log,
        expect![[r#"
            deleted: end main (Stopping container main); stop main 30s; requeue +1000ms | started=true ready=true
              probe main Readiness, again +10000ms; requeue +10000ms | started=true ready=true
              await main Readiness, again +10000ms; requeue +10000ms | started=true ready=false
            gone: end main (Stopping container main); stop main 2s; requeue +2000ms | started=true ready=true
              requeue +1000ms | started=true ready=true
              KillContainer { container: "main" } | started=true ready=true
            shut down: end main (Stopping container main); stop main 20s; requeue +1000ms | started=true ready=true
              probe main Readiness, again +10000ms; requeue +10000ms | started=true ready=true
              await main Readiness, again +10000ms; requeue +9000ms | started=true ready=false
            past its deadline: Event { kind: Normal, reason: "DeadlineExceeded", message: "Pod was active on the node longer than the specified deadline" }; Fail { reason: "DeadlineExceeded", message: "Pod was active on the node longer than the specified deadline" }; end main (Stopping container main); stop main 30s; requeue +1000ms | started=true ready=true
              probe main Readiness, again +10000ms; requeue +10000ms | started=true ready=true
              await main Readiness, again +10000ms; requeue +10000ms | started=true ready=false
            changed: end main (Container main definition changed, will be restarted); stop main 30s; requeue +30000ms | started=true ready=false
              requeue +29000ms | started=true ready=false
              requeue +19000ms | started=true ready=false
        "#]],
    );
}

#[test]
fn a_start_that_is_not_over_at_the_end_is_not_waited_for() {
    let mut b = running(
        "Always",
        json!({
            "startupProbe": probe(json!({"failureThreshold": 1})), "readinessProbe": probe(json!({})),
        }),
    );
    b.plan();
    b.delete(30);
    let mut log = b.told();
    b.found(Startup, Failure);
    b.wait(10);
    log += &b.told();
    check(
        &log,
        expect![[r#"
            end main (Stopping container main); stop main 30s; requeue +30000ms | started=false ready=false
            requeue +20000ms | started=false ready=false
        "#]],
    );
}

#[test]
fn after_its_agent_a_pod_begins_anew() {
    let mut b = well();
    let kept = serde_json::to_string(&b.observed).unwrap();
    b.observed = serde_json::from_str::<Observed>(&kept).unwrap();
    b.see(Observation::AgentRestarted);
    b.plan();
    b.see(Observation::VolumesReady(None));
    let mut log = b.told();
    b.pulled("main");
    b.plan();
    b.started("main");
    // Its liveness probe comes at a time of its own within the period: all of the node's pods have started together.
    let first = b.told();
    let rest = first.strip_prefix("await main Readiness, again +10000ms; requeue +");
    let (millis, _) = rest.and_then(|rest| rest.split_once("ms")).unwrap();
    assert!((0..10_000).contains(&millis.parse().unwrap()), "{first}");
    b.wait(10);
    b.found(Readiness, Success);
    log += &b.told();
    check(
        &log,
        expect![[r#"
            EnsureImage { container: "main" } | started=false ready=false
            probe main Readiness, again +10000ms; await main Liveness, again +10000ms; requeue +10000ms | started=true ready=true
        "#]],
    );
}

#[test]
fn probes_do_not_concern_what_has_none() {
    let mut b = Bench::running("Always");
    assert_eq!(b.plan(), "");
    b.found(Readiness, Failure);
    b.found(Liveness, Failure);
    assert_eq!(b.plan(), "");
    assert!(b.status().container_statuses.unwrap()[0].ready);
}
