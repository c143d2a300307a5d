//! The decider's tables: scripts of observations, the plans that follow, the statuses that are reported.

use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};
use serde_json::json;

use agent::pod::{Action, Host, Observation, Observed, status, sync};

/// One pod under test, with a clock that the test moves.
struct Bench {
    pod: Pod,
    observed: Observed,
    host: Host,
    now: Timestamp,
    reported: Option<PodStatus>,
}

impl Bench {
    fn new(spec: serde_json::Value) -> Self {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "generation": 1},
            "spec": spec,
        });
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        let host = Host {
            host_path: false,
            file_images: true,
            ips: vec!["127.0.0.1".parse().unwrap()],
        };
        let observed = Observed {
            start_time: Some(now),
            ..Observed::default()
        };
        Self {
            pod: serde_json::from_value(pod).unwrap(),
            observed,
            host,
            now,
            reported: None,
        }
    }

    /// A pod of one container with this restart policy, already running.
    fn running(policy: &str) -> Self {
        let mut bench = Self::new(json!({
            "restartPolicy": policy,
            "containers": [{"name": "main", "image": "hello:v1"}],
        }));
        bench.up();
        bench
    }

    /// Plans, takes up all actions, and returns them as lines.
    fn plan(&mut self) -> String {
        let actions = sync(&self.pod, &self.observed, &self.host, self.now);
        for action in &actions {
            self.observed.begin(action, self.now);
        }
        let again = sync(&self.pod, &self.observed, &self.host, self.now);
        let only_waits = again
            .iter()
            .all(|a| matches!(a, Action::Requeue(_) | Action::Forget));
        assert!(only_waits, "asked twice: {again:?}");
        actions
            .iter()
            .map(|a| format!("{}\n", self.line(a)))
            .collect()
    }

    fn line(&self, action: &Action) -> String {
        let after = |at: &Timestamp| format!("+{}", at.duration_since(self.now).as_millis());
        match action {
            Action::Requeue(at) => format!("requeue {}ms", after(at)),
            Action::AnnounceBackOff { container, until } => {
                format!("back-off {container} {}ms", after(until))
            }
            Action::StopContainer {
                container,
                grace,
                why,
                ..
            } => format!("stop {container} {grace:#} ({why})"),
            other => format!("{other:?}"),
        }
    }

    fn see(&mut self, observation: Observation) {
        self.observed.observe(observation, self.now);
    }

    fn wait(&mut self, secs: i64) {
        self.now += SignedDuration::from_secs(secs);
    }

    fn end(&mut self, container: &str, exit_code: i32, reason: &str) {
        let (container, reason) = (container.to_owned(), reason.to_owned());
        self.see(Observation::Ended {
            container,
            exit_code,
            reason,
            message: None,
        });
    }

    fn ready(&mut self) {
        self.plan();
        self.see(Observation::SandboxReady("10.128.0.7".parse().unwrap()));
        self.see(Observation::VolumesReady);
    }

    fn start(&mut self, container: &str) {
        self.plan();
        self.see(Observation::ImageReady(
            container.to_owned(),
            "hello@sha256:aa".to_owned(),
        ));
        self.plan();
        self.see(Observation::Started(
            container.to_owned(),
            "hello:v1".to_owned(),
        ));
    }

    /// Brings all containers to run, as if everything went well.
    fn up(&mut self) {
        self.ready();
        let names: Vec<String> = self
            .pod
            .spec
            .iter()
            .flat_map(|s| &s.containers)
            .map(|c| c.name.clone())
            .collect();
        for name in names {
            self.start(&name);
        }
    }

    fn status(&mut self) -> PodStatus {
        let status = status(
            &self.pod,
            &self.observed,
            &self.host,
            self.reported.as_ref(),
            self.now,
        );
        self.reported = Some(status.clone());
        status
    }

    /// The status in a few lines: phase, conditions, containers.
    fn summary(&mut self) -> String {
        let status = self.status();
        let mut out = format!("{}\n", status.phase.as_deref().unwrap_or_default());
        for c in status.conditions.iter().flatten() {
            let why = [c.reason.as_deref(), c.message.as_deref()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(": ");
            out += &format!("  {}={} {why}\n", c.type_, c.status);
        }
        let inits = status
            .init_container_statuses
            .iter()
            .flatten()
            .map(|c| ("init", c));
        for (kind, c) in inits.chain(
            status
                .container_statuses
                .iter()
                .flatten()
                .map(|c| ("main", c)),
        ) {
            out += &format!("  {kind} {}\n", container(c));
        }
        out.lines().map(|l| format!("{}\n", l.trim_end())).collect()
    }

    fn delete(&mut self, grace: i64) {
        self.pod.metadata.deletion_timestamp =
            Some((self.now + SignedDuration::from_secs(grace)).into());
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
    }
}

fn container(c: &ContainerStatus) -> String {
    let last = c
        .last_state
        .as_ref()
        .filter(|s| **s != ContainerState::default());
    let last = last
        .map(|s| format!(" after {}", state(s)))
        .unwrap_or_default();
    format!(
        "{}: {}{last} restarts={} ready={}",
        c.name,
        state(c.state.as_ref().unwrap()),
        c.restart_count,
        c.ready
    )
}

fn state(s: &ContainerState) -> String {
    if let Some(w) = &s.waiting {
        let message = w
            .message
            .as_deref()
            .map(|m| format!(" ({m})"))
            .unwrap_or_default();
        return format!(
            "waiting {}{message}",
            w.reason.as_deref().unwrap_or_default()
        );
    }
    if let Some(t) = &s.terminated {
        return format!(
            "terminated {} {}",
            t.reason.as_deref().unwrap_or_default(),
            t.exit_code
        );
    }
    if s.running.is_some() {
        "running".to_owned()
    } else {
        "unknown".to_owned()
    }
}

fn check(actual: &str, expected: Expect) {
    expected.assert_eq(actual);
}

#[test]
fn a_pod_comes_up_step_by_step() {
    let mut b = Bench::new(json!({"containers": [{"name": "main", "image": "hello:v1"}]}));
    let mut log = b.plan() + &b.summary();
    b.see(Observation::VolumesReady);
    log += &b.plan();
    b.see(Observation::SandboxReady("10.128.0.7".parse().unwrap()));
    log += &b.plan();
    b.see(Observation::ImageReady(
        "main".into(),
        "hello@sha256:aa".into(),
    ));
    log += &b.plan();
    b.see(Observation::Started("main".into(), "hello:v1".into()));
    log += &(b.plan() + &b.summary());
    check(
        &log,
        expect![[r#"
        PrepareSandbox
        MountVolumes
        Pending
          PodReadyToStartContainers=False
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: waiting ContainerCreating restarts=0 ready=false
        EnsureImage { container: "main" }
        StartContainer { container: "main", attempt: 0 }
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
fn the_whole_status_of_a_running_pod() {
    let mut b = Bench::running("Always");
    b.end("main", 137, "OOMKilled");
    b.wait(1);
    b.start("main");
    let yaml = serde_json::to_string_pretty(&b.status()).unwrap();
    check(
        &yaml,
        expect![[r#"
        {
          "conditions": [
            {
              "lastTransitionTime": "2026-11-21T10:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "PodReadyToStartContainers"
            },
            {
              "lastTransitionTime": "2026-11-21T10:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "Initialized"
            },
            {
              "lastTransitionTime": "2026-11-21T10:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "Ready"
            },
            {
              "lastTransitionTime": "2026-11-21T10:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "ContainersReady"
            },
            {
              "lastTransitionTime": "2026-11-21T10:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "PodScheduled"
            }
          ],
          "containerStatuses": [
            {
              "containerID": "carob://422206d84ad73a8d439bee525a114009972238614418d84fe8e0284a9bd20a72",
              "image": "hello:v1",
              "imageID": "hello@sha256:aa",
              "lastState": {
                "terminated": {
                  "containerID": "carob://4e3ccaab465b8a5cbad4e472cb325eda4ddbfd5770e43b16c55571d81192fa6f",
                  "exitCode": 137,
                  "finishedAt": "2026-11-21T10:00:00Z",
                  "reason": "OOMKilled",
                  "startedAt": "2026-11-21T10:00:00Z"
                }
              },
              "name": "main",
              "ready": true,
              "restartCount": 1,
              "started": true,
              "state": {
                "running": {
                  "startedAt": "2026-11-21T10:00:01Z"
                }
              }
            }
          ],
          "hostIP": "127.0.0.1",
          "hostIPs": [
            {
              "ip": "127.0.0.1"
            }
          ],
          "observedGeneration": 1,
          "phase": "Running",
          "podIP": "10.128.0.7",
          "podIPs": [
            {
              "ip": "10.128.0.7"
            }
          ],
          "qosClass": "BestEffort",
          "startTime": "2026-11-21T10:00:00Z"
        }"#]],
    );
}

#[test]
fn init_containers_run_in_order() {
    let mut b = Bench::new(json!({
        "restartPolicy": "OnFailure",
        "initContainers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "x:1"}],
        "containers": [{"name": "main", "image": "x:1"}],
    }));
    b.ready();
    let mut log = b.plan() + &b.summary();
    b.start("a");
    log += &b.summary();
    b.wait(1);
    b.end("a", 0, "Completed");
    log += &(b.plan() + &b.summary());
    b.start("b");
    b.end("b", 3, "Error");
    log += &(b.plan() + &b.summary());
    b.start("b");
    b.end("b", 0, "Completed");
    log += &(b.plan() + &b.summary());
    b.start("main");
    b.end("main", 0, "Completed");
    log += &(b.plan() + &b.summary());
    check(
        &log,
        expect![[r#"
        EnsureImage { container: "a" }
        Pending
          PodReadyToStartContainers=True
          Initialized=False ContainersNotInitialized: containers with incomplete status: [a b]
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          init a: waiting PodInitializing restarts=0 ready=false
          init b: waiting PodInitializing restarts=0 ready=false
          main main: waiting PodInitializing restarts=0 ready=false
        Pending
          PodReadyToStartContainers=True
          Initialized=False ContainersNotInitialized: containers with incomplete status: [a b]
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          init a: running restarts=0 ready=false
          init b: waiting PodInitializing restarts=0 ready=false
          main main: waiting PodInitializing restarts=0 ready=false
        RemoveContainer { container: "a", attempt: 0 }
        EnsureImage { container: "b" }
        Pending
          PodReadyToStartContainers=True
          Initialized=False ContainersNotInitialized: containers with incomplete status: [b]
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          init a: terminated Completed 0 restarts=0 ready=true
          init b: waiting PodInitializing restarts=0 ready=false
          main main: waiting PodInitializing restarts=0 ready=false
        RemoveContainer { container: "b", attempt: 0 }
        EnsureImage { container: "b" }
        Pending
          PodReadyToStartContainers=True
          Initialized=False ContainersNotInitialized: containers with incomplete status: [b]
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          init a: terminated Completed 0 restarts=0 ready=true
          init b: terminated Error 3 restarts=0 ready=false
          main main: waiting PodInitializing restarts=0 ready=false
        RemoveContainer { container: "b", attempt: 1 }
        EnsureImage { container: "main" }
        Pending
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          init a: terminated Completed 0 restarts=0 ready=true
          init b: terminated Completed 0 after terminated Error 3 restarts=1 ready=true
          main main: waiting PodInitializing restarts=0 ready=false
        RemoveContainer { container: "main", attempt: 0 }
        Release
        Succeeded
          PodReadyToStartContainers=False
          Initialized=True PodCompleted
          Ready=False PodCompleted
          ContainersReady=False PodCompleted
          PodScheduled=True
          init a: terminated Completed 0 restarts=0 ready=true
          init b: terminated Completed 0 after terminated Error 3 restarts=1 ready=true
          main main: terminated Completed 0 restarts=0 ready=false
    "#]],
    );
}

#[test]
fn a_failing_init_container_ends_a_pod_that_is_never_restarted() {
    let mut b = Bench::new(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "a", "image": "x:1"}],
        "containers": [{"name": "main", "image": "x:1"}],
    }));
    b.ready();
    b.start("a");
    b.end("a", 1, "Error");
    let log = b.plan() + &b.summary();
    check(
        &log,
        expect![[r#"
        RemoveContainer { container: "a", attempt: 0 }
        Release
        Failed
          PodReadyToStartContainers=False
          Initialized=False ContainersNotInitialized: containers with incomplete status: [a]
          Ready=False PodFailed
          ContainersReady=False PodFailed
          PodScheduled=True
          init a: terminated Error 1 restarts=0 ready=false
          main main: waiting PodInitializing restarts=0 ready=false
    "#]],
    );
}

#[test]
fn a_crash_loop_backs_off() {
    let mut b = Bench::running("Always");
    b.wait(1);
    b.end("main", 1, "Error");
    let mut log = b.plan() + &b.summary();
    b.see(Observation::ImageReady(
        "main".into(),
        "hello@sha256:aa".into(),
    ));
    b.plan();
    b.see(Observation::Started("main".into(), "hello:v1".into()));
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
fn images_that_cannot_be_pulled() {
    let mut b = Bench::new(json!({"containers": [{"name": "main", "image": "nope:v1"}]}));
    b.ready();
    b.plan();
    b.see(Observation::ImageFailed(
        "main".into(),
        "ErrImagePull".into(),
        "nope:v1 not found".into(),
    ));
    let mut log = b.plan() + &b.summary();
    b.wait(2);
    log += &(b.plan() + &b.summary());
    b.wait(8);
    log += &b.plan();
    b.see(Observation::ImageFailed(
        "main".into(),
        "ErrImagePull".into(),
        "nope:v1 not found".into(),
    ));
    log += &b.plan();
    let never = "Container image \"nope:v1\" is not present with pull policy of Never";
    b.wait(20);
    b.plan();
    b.see(Observation::ImageFailed(
        "main".into(),
        "ErrImageNeverPull".into(),
        never.into(),
    ));
    log += &(b.plan() + &b.summary());
    check(
        &log,
        expect![[r#"
        requeue +2000ms
        Pending
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: waiting ErrImagePull (nope:v1 not found) restarts=0 ready=false
        AnnounceImageBackOff { container: "main", image: "nope:v1" }
        requeue +8000ms
        Pending
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: waiting ImagePullBackOff (Back-off pulling image "nope:v1": ErrImagePull: nope:v1 not found) restarts=0 ready=false
        EnsureImage { container: "main" }
        requeue +2000ms
        requeue +40000ms
        Pending
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: waiting ErrImageNeverPull (Container image "nope:v1" is not present with pull policy of Never) restarts=0 ready=false
    "#]],
    );
}

#[test]
fn missing_objects_are_looked_for_again() {
    let mut b = Bench::new(json!({"containers": [{"name": "main", "image": "x:1"}]}));
    b.plan();
    b.see(Observation::SandboxReady("10.128.0.7".parse().unwrap()));
    b.see(Observation::VolumesFailed(
        "configmap \"c\" not found".into(),
    ));
    let mut log = b.plan() + &b.summary();
    b.wait(1);
    log += &b.plan();
    b.see(Observation::VolumesFailed(
        "configmap \"c\" not found".into(),
    ));
    log += &b.plan();
    b.wait(1);
    b.plan();
    b.see(Observation::VolumesReady);
    b.plan();
    b.see(Observation::ImageReady("main".into(), "x@sha256:aa".into()));
    b.plan();
    let (reason, message) = ("CreateContainerConfigError", "configmap \"c\" not found");
    b.see(Observation::StartFailed(
        "main".into(),
        reason.into(),
        message.into(),
    ));
    log += &(b.plan() + &b.summary());
    b.wait(1);
    log += &b.plan();
    check(
        &log,
        expect![[r#"
        requeue +500ms
        Pending
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: waiting ContainerCreating restarts=0 ready=false
        MountVolumes
        requeue +1000ms
        requeue +500ms
        Pending
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: waiting CreateContainerConfigError (configmap "c" not found) restarts=0 ready=false
        StartContainer { container: "main", attempt: 0 }
    "#]],
    );
}

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
    b.observed.gone = true;
    log += &b.plan();
    check(
        &log,
        expect![[r#"
        stop main 30s (Stopping container main)
        requeue +30000ms
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=True
          ContainersReady=True
          PodScheduled=True
          main main: running restarts=0 ready=true
        stop main 5s (Stopping container main)
        requeue +5000ms
        KillContainer { container: "main" }
        RemoveContainer { container: "main", attempt: 0 }
        Release
        DeletePod
        Failed
          PodReadyToStartContainers=False
          Initialized=True
          Ready=False PodFailed
          ContainersReady=False PodFailed
          PodScheduled=True
          main main: terminated Error 137 restarts=0 ready=false
        Forget
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
        stop main 2s (Stopping container main)
        requeue +2000ms
        RemoveContainer { container: "main", attempt: 0 }
        Release
        Forget
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
        stop main 5s (Stopping container main)
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
            stop main 30s (Stopping container main)
            requeue +30000ms
            Running
              PodReadyToStartContainers=True
              Initialized=True
              Ready=True
              ContainersReady=True
              PodScheduled=True
              main main: running restarts=0 ready=true
            RemoveContainer { container: "main", attempt: 0 }
            Release
        "#]],
    );
}

#[test]
fn a_changed_image_restarts_the_container() {
    let mut b = Bench::running("Always");
    b.pod.spec.as_mut().unwrap().containers[0].image = Some("hello:v2".into());
    let mut log = b.plan();
    b.end("main", 143, "Error");
    log += &b.plan();
    check(
        &log,
        expect![[r#"
        stop main 30s (Container main definition changed, will be restarted)
        requeue +30000ms
        RemoveContainer { container: "main", attempt: 0 }
        EnsureImage { container: "main" }
    "#]],
    );
}

#[test]
fn what_is_not_supported_is_named() {
    let container = |extra: serde_json::Value| {
        let mut c = json!({"name": "main", "image": "x:1"});
        c.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        json!({"containers": [c]})
    };
    let probe = json!({"httpGet": {"port": 80}});
    let with = |extra: serde_json::Value| {
        let mut spec = container(json!({}));
        spec.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        spec
    };
    let specs = [
        container(json!({"livenessProbe": probe})),
        container(json!({"readinessProbe": probe})),
        container(json!({"startupProbe": probe})),
        container(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}})),
        container(json!({"stdin": true})),
        container(json!({"ports": [{"containerPort": 80, "hostPort": 80}]})),
        container(json!({"securityContext": {"privileged": true}})),
        container(
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPathExpr": "$(X)"}]}),
        ),
        with(json!({"initContainers": [{"name": "s", "image": "x:1", "restartPolicy": "Always"}]})),
        with(json!({"hostNetwork": true})),
        with(json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]})),
        with(json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]})),
        with(json!({"volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]})),
        with(json!({"volumes": [{"name": "kube-api-access-x", "projected": {"sources": []}}]})),
    ];
    let mut log = String::new();
    for spec in specs {
        let mut b = Bench::new(spec);
        log += &b.plan();
    }
    let mut b = Bench::new(container(json!({"livenessProbe": probe})));
    log += &(b.plan() + &b.summary());
    b.delete(0);
    log += &b.plan();
    check(
        &log,
        expect![[r#"
        Refuse { message: "spec.containers[0].livenessProbe is not supported by carob yet" }
        Refuse { message: "spec.containers[0].readinessProbe is not supported by carob yet" }
        Refuse { message: "spec.containers[0].startupProbe is not supported by carob yet" }
        Refuse { message: "spec.containers[0].lifecycle is not supported by carob yet" }
        Refuse { message: "spec.containers[0].stdin is not supported by carob yet" }
        Refuse { message: "spec.containers[0].ports[].hostPort is not supported by carob yet" }
        Refuse { message: "spec.containers[0].securityContext.privileged is not supported by carob yet" }
        Refuse { message: "spec.containers[0].volumeMounts[0].subPathExpr is not supported by carob yet" }
        Refuse { message: "spec.initContainers[0].restartPolicy Always (a sidecar) is not supported by carob yet" }
        Refuse { message: "spec.hostNetwork is not supported by carob yet" }
        Refuse { message: "spec.volumes[0] (v) is of a kind that is not supported by carob yet" }
        Refuse { message: "spec.volumes[0].hostPath: this node's operator does not allow host paths" }
        Refuse { message: "spec.volumes[0].emptyDir: medium Memory is not supported by carob yet" }
        PrepareSandbox
        MountVolumes
        Refuse { message: "spec.containers[0].livenessProbe is not supported by carob yet" }
        Pending
          PodReadyToStartContainers=False
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: waiting Unsupported (spec.containers[0].livenessProbe is not supported by carob yet) restarts=0 ready=false
        Release
        DeletePod
    "#]],
    );
}
