//! One pod under test, with a clock that the test moves.

use expect_test::Expect;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};
use serde_json::json;

use agent::pod::{Action, Host, Observation, Observed, PodView as _, status, sync};

/// One pod under test, with a clock that the test moves.
pub(crate) struct Bench {
    pub(crate) pod: Pod,
    pub(crate) observed: Observed,
    host: Host,
    now: Timestamp,
    reported: Option<PodStatus>,
}

impl Bench {
    pub(crate) fn new(spec: serde_json::Value) -> Self {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "generation": 1},
            "spec": spec,
        });
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        let host = Host {
            host_path: false,
            ips: vec!["127.0.0.1".parse().unwrap()],
            memory: Some("/dev/shm/n1".into()),
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
    pub(crate) fn running(policy: &str) -> Self {
        let mut bench = Self::new(json!({
            "restartPolicy": policy,
            "containers": [{"name": "main", "image": "hello:v1"}],
        }));
        bench.up();
        bench
    }

    /// Plans, takes up all actions, and returns them as lines.
    pub(crate) fn plan(&mut self) -> String {
        self.observed.sees(&self.pod, self.now);
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
            Action::BeginStop {
                container,
                message,
                by,
                ..
            } => match message {
                Some(why) => format!("end {container} ({why})"),
                None => format!("end {container} by {}ms", after(by)),
            },
            Action::EnsureImage { container, .. } => {
                format!("EnsureImage {{ container: {container:?} }}")
            }
            Action::StopContainer {
                container, grace, ..
            } => format!("stop {container} {grace:#}"),
            Action::Probe {
                container,
                kind,
                terms,
                awaits,
                ..
            } => {
                let how = if *awaits { "await" } else { "probe" };
                format!("{how} {container} {kind}, again {}ms", after(&terms.next))
            }
            Action::ResizeContainer {
                container,
                resources,
                ..
            } => {
                let resources = serde_json::to_string(resources).unwrap();
                format!("resize {container} {resources}")
            }
            other => format!("{other:?}"),
        }
    }

    pub(crate) fn see(&mut self, observation: Observation) {
        self.observed.observe(observation, self.now);
    }

    pub(crate) fn in_seconds(&self, secs: i64) -> Timestamp {
        self.now + SignedDuration::from_secs(secs)
    }

    pub(crate) fn wait(&mut self, secs: i64) {
        self.now += SignedDuration::from_secs(secs);
    }

    pub(crate) fn end(&mut self, container: &str, exit_code: i32, reason: &str) {
        let (container, reason) = (container.to_owned(), reason.to_owned());
        self.see(Observation::Ended {
            container,
            exit_code,
            reason,
            message: None,
        });
    }

    pub(crate) fn ready(&mut self) {
        self.plan();
        self.see(Observation::SandboxReady("10.128.0.7".parse().unwrap()));
        self.see(Observation::VolumesReady(None));
    }

    pub(crate) fn start(&mut self, container: &str) {
        self.plan();
        self.pulled(container);
        self.plan();
        self.started(container);
    }

    /// The image that a container is to have is there.
    pub(crate) fn pulled(&mut self, container: &str) {
        let image = self.image(container);
        let container = container.to_owned();
        self.see(Observation::ImageReady { container, image });
    }

    /// A container was started from the image that it is to have.
    pub(crate) fn started(&mut self, container: &str) {
        let image = self.image(container);
        self.started_from(container, &image);
    }

    pub(crate) fn started_from(&mut self, container: &str, image: &str) {
        self.see(Observation::Started {
            container: container.to_owned(),
            image: image.to_owned(),
            image_id: "hello@sha256:aa".to_owned(),
        });
    }

    /// The image that a container is to have cannot be had.
    pub(crate) fn not_pulled(&mut self, container: &str, reason: &str, message: &str) {
        self.see(Observation::ImageFailed {
            container: container.to_owned(),
            image: self.image(container),
            reason: reason.to_owned(),
            message: message.to_owned(),
        });
    }

    pub(crate) fn not_started(&mut self, container: &str, reason: &str, message: &str) {
        let [container, reason, message] = [container, reason, message].map(str::to_owned);
        self.see(Observation::StartFailed(container, reason, message));
    }

    fn image(&self, container: &str) -> String {
        let spec = self.pod.container(container).unwrap();
        spec.image.clone().unwrap_or_default()
    }

    /// The spec names another image from now on.
    pub(crate) fn set_image(&mut self, container: &str, image: &str) {
        let spec = self.pod.spec.as_mut().unwrap();
        let inits = spec.init_containers.iter_mut().flatten();
        let mut all = inits.chain(&mut spec.containers);
        all.find(|c| c.name == container).unwrap().image = Some(image.to_owned());
    }

    /// Brings all containers to run, as if everything went well.
    pub(crate) fn up(&mut self) {
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

    pub(crate) fn status(&mut self) -> PodStatus {
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

    /// The condition by which the pod has endpoints.
    pub(crate) fn shown_ready(&mut self) -> String {
        let conditions = self.status().conditions.into_iter().flatten();
        let mut ready = conditions.filter(|c| c.type_ == "Ready");
        ready.next().unwrap().status
    }

    /// The status in a few lines: phase, conditions, containers.
    pub(crate) fn summary(&mut self) -> String {
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

    pub(crate) fn delete(&mut self, grace: i64) {
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

pub(crate) fn check(actual: &str, expected: Expect) {
    expected.assert_eq(actual);
}
