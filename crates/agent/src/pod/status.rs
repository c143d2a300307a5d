//! The status builder: what the API is told about a pod.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container as ContainerSpec, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodIP, PodStatus, VolumeMount,
    VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::backoff::crash_loop_message;
use super::conditions::conditions;
use super::phase::{phase, shown};
use super::problem::is_backing_off;
use super::qos::qos_class;
use super::restart::After;
use super::{
    Container, Ended, Host, Image, Live, Observed, PodView as _, PostStart, Problem, Role,
    container_id, refusal,
};

/// Bytes of all termination messages that a pod may show: each of its containers has the same share.
const MESSAGES: usize = 12 << 10;

/// Bytes of the longest termination message that a container of this pod may show.
pub fn message_share(pod: &Pod) -> usize {
    MESSAGES / pod.all_containers().count().max(1)
}

/// Kubernetes' times have whole seconds.
pub(super) fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// The status to report for a pod, given the one reported before (for what must not change without need).
pub fn status(
    pod: &Pod,
    observed: &Observed,
    host: &Host,
    previous: Option<&PodStatus>,
    now: Timestamp,
) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    let refusal = refusal(pod, host);
    let words = Words {
        pod,
        observed,
        refusal: refusal.as_deref(),
        now,
    };
    let phase = shown(pod, observed);
    // Why it failed is said with that it did.
    let verdict = observed.verdict.as_ref().filter(|_| phase == "Failed");
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        observed_generation: pod.metadata.generation,
        qos_class: Some(qos_class(pod)),
        start_time: observed
            .start_time
            .map(time)
            .or_else(|| old.start_time.clone()),
        reason: verdict
            .map(|v| v.reason.clone())
            .or_else(|| old.reason.clone()),
        message: verdict
            .map(|v| v.message.clone())
            .or_else(|| old.message.clone()),
        init_container_statuses: words.all(|role| role != Role::Main),
        container_statuses: words.all(|role| role == Role::Main),
        ephemeral_container_statuses: words.ephemeral(),
        ..old
    };
    let hosts: Vec<HostIP> = host
        .ips
        .iter()
        .map(|ip| HostIP { ip: ip.to_string() })
        .collect();
    status.host_ip = hosts.first().map(|h| h.ip.clone());
    status.host_ips = Some(hosts).filter(|h| !h.is_empty());
    if let Some(ip) = observed.sandbox.ip() {
        status.pod_ip = Some(ip.to_string());
        status.pod_ips = Some(vec![PodIP { ip: ip.to_string() }]);
    }
    status.conditions = Some(conditions(pod, observed, &status, previous, now));
    status
}

struct Words<'a> {
    pod: &'a Pod,
    observed: &'a Observed,
    refusal: Option<&'a str>,
    now: Timestamp,
}

impl Words<'_> {
    fn all(&self, wanted: impl Fn(Role) -> bool) -> Option<Vec<ContainerStatus>> {
        // As the kubelet has it, nothing waits in a pod that was turned away: why it was is all that is shown.
        if self
            .observed
            .verdict
            .as_ref()
            .is_some_and(|v| v.turned_away)
        {
            return None;
        }
        let wanted = self.pod.all_containers().filter(|(role, _)| wanted(*role));
        let all: Vec<_> = wanted.map(|(role, c)| self.one(c, role)).collect();
        (!all.is_empty()).then_some(all)
    }

    fn one(&self, spec: &ContainerSpec, role: Role) -> ContainerStatus {
        let fresh = Container::default();
        let c = self.observed.get(&spec.name).unwrap_or(&fresh);
        let waiting = match c.is_up(spec) {
            true => None,
            false => self.waiting(spec, c, role),
        };
        let (state, last, of) = match (&c.live, waiting, &c.ended) {
            (
                Live::Running {
                    started_at,
                    attempt,
                    ..
                },
                _,
                ended,
            ) if c.is_up(spec) => {
                let started_at = Some(time(*started_at));
                let state = ContainerState {
                    running: Some(ContainerStateRunning { started_at }),
                    ..Default::default()
                };
                (state, ended.as_ref(), Some(*attempt))
            }
            (_, Some(waiting), ended) => {
                let state = ContainerState {
                    waiting: Some(waiting),
                    ..Default::default()
                };
                (state, ended.as_ref(), ended.as_ref().map(|e| e.attempt))
            }
            (_, None, Some(ended)) => (
                self.terminated(&spec.name, ended),
                c.before.as_ref(),
                Some(ended.attempt),
            ),
            (_, None, None) => (ContainerState::default(), None, None),
        };
        let (image, image_id) = match (&c.live, &c.ended) {
            (
                Live::Running {
                    image, image_id, ..
                },
                _,
            ) => (Some(image), image_id.clone()),
            (_, Some(ended)) => (Some(&ended.image), ended.image_id.clone()),
            (_, None) => (None, String::new()),
        };
        // What the spec names now may be another.
        let image = image.filter(|image| !image.is_empty());
        let allocated = self.observed.allocated.get(&spec.name);
        let allocated = allocated.or(spec.resources.as_ref());
        let runs_with = c.resources.as_ref().filter(|_| state.running.is_some());
        let succeeded = state.terminated.as_ref().is_some_and(|t| t.exit_code == 0);
        ContainerStatus {
            name: spec.name.clone(),
            image: image.or(spec.image.as_ref()).cloned().unwrap_or_default(),
            image_id,
            container_id: of.map(|attempt| container_id(self.pod.uid(), &spec.name, attempt)),
            ready: match role {
                Role::Init => succeeded,
                Role::Sidecar | Role::Main => c.is_ready(spec),
            },
            started: Some(c.is_started(spec)),
            restart_count: c.restart_count(),
            resources: Some(runs_with.or(allocated).cloned().unwrap_or_default()),
            allocated_resources: allocated.and_then(|a| a.requests.clone()),
            last_state: Some(
                last.map(|e| self.terminated(&spec.name, e))
                    .unwrap_or_default(),
            ),
            state: Some(state),
            volume_mounts: volume_mounts(spec),
            ..Default::default()
        }
    }

    /// Why a container that does not run waits; `None` if it has ended and that is what counts.
    fn waiting(
        &self,
        spec: &ContainerSpec,
        c: &Container,
        role: Role,
    ) -> Option<ContainerStateWaiting> {
        if let Some(why) = self.refusal.filter(|_| c.starts == 0) {
            return Some(waiting("Unsupported", Some(why.to_owned())));
        }
        let final_phase = matches!(phase(self.pod, self.observed), "Succeeded" | "Failed");
        let ending =
            final_phase || self.pod.deletion_grace().is_some() || self.observed.shutdown.is_some();
        let trouble = if ending {
            None
        } else {
            self.trouble(spec, c, role)
        };
        // What runs and is not up yet waits as it did before it ran.
        let ended = c.ended.is_some() && c.live == Live::Idle;
        match (trouble, ended) {
            (Some(trouble), _) => Some(trouble),
            (None, true) => None,
            (None, false) => {
                let reason = if role != Role::Main || !self.pod.init_containers().is_empty() {
                    "PodInitializing"
                } else {
                    "ContainerCreating"
                };
                Some(waiting(reason, None))
            }
        }
    }

    fn trouble(
        &self,
        spec: &ContainerSpec,
        c: &Container,
        role: Role,
    ) -> Option<ContainerStateWaiting> {
        if let Some(p) = &c.problem {
            return Some(waiting(&p.reason, Some(p.message.clone())));
        }
        if let Image::Failed(p, announced) | Image::Pulling(Some((p, announced))) = c.image_of(spec)
        {
            return Some(image_trouble(spec, p, *announced));
        }
        let will_start =
            c.round < self.observed.round || c.after(self.pod, role, spec) != Some(After::Stays);
        if let Some(p) = self.observed.volumes.problem()
            && p.reason != "FailedMount"
            && will_start
        {
            return Some(volume_trouble(p, is_backing_off(p, self.now)));
        }
        if c.backing_off.is_some() {
            let message = crash_loop_message(self.pod, &spec.name, c);
            return Some(waiting("CrashLoopBackOff", Some(message)));
        }
        match &c.post_start {
            PostStart::Failed(why) if will_start => {
                Some(waiting("PostStartHookError", Some(why.clone())))
            }
            _ => None,
        }
    }

    /// As much of a termination message as the pod has room for.
    fn shown<'m>(&self, message: &'m str) -> &'m str {
        &message[..message.floor_char_boundary(message_share(self.pod))]
    }

    fn terminated(&self, container: &str, ended: &Ended) -> ContainerState {
        let terminated = ContainerStateTerminated {
            container_id: Some(container_id(self.pod.uid(), container, ended.attempt)),
            exit_code: ended.exit_code,
            reason: Some(ended.reason.clone()),
            message: ended.message.as_deref().map(|m| self.shown(m).to_owned()),
            started_at: Some(time(ended.started_at)),
            finished_at: Some(time(ended.finished_at)),
            signal: None,
        };
        ContainerState {
            terminated: Some(terminated),
            ..Default::default()
        }
    }

    /// Ephemeral containers are added to running pods, which go on; each says for itself that it will not start.
    fn ephemeral(&self) -> Option<Vec<ContainerStatus>> {
        let asked = self
            .pod
            .pod_spec()?
            .ephemeral_containers
            .as_deref()
            .filter(|e| !e.is_empty())?;
        let all = asked.iter().enumerate().map(|(i, c)| {
            let why = format!(
                "spec.ephemeralContainers[{i}]: ephemeral containers are not supported by carob yet"
            );
            ContainerStatus {
                name: c.name.clone(),
                image: c.image.clone().unwrap_or_default(),
                started: Some(false),
                state: Some(ContainerState {
                    waiting: Some(waiting("Unsupported", Some(why))),
                    ..Default::default()
                }),
                last_state: Some(ContainerState::default()),
                ..Default::default()
            }
        });
        Some(all.collect())
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerStateWaiting {
    ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message,
    }
}

/// A container's mounts. None has another below it that could be written to, so whoever asks for that has it.
fn volume_mounts(spec: &ContainerSpec) -> Option<Vec<VolumeMountStatus>> {
    let mounts = spec.volume_mounts.as_ref().filter(|m| !m.is_empty())?;
    let mount = |mount: &VolumeMount| {
        let read_only = mount.read_only.filter(|read_only| *read_only);
        let recursive = match mount.recursive_read_only.as_deref() {
            Some("Enabled" | "IfPossible") => "Enabled",
            _ => "Disabled",
        };
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only,
            recursive_read_only: read_only.map(|_| recursive.to_owned()),
            ..Default::default()
        }
    };
    Some(mounts.iter().map(mount).collect())
}

/// As the kubelet shows the missing image of a volume: on each container that would start.
fn volume_trouble(problem: &Problem, backs_off: bool) -> ContainerStateWaiting {
    match backs_off {
        false => waiting(&problem.reason, Some(problem.message.clone())),
        true => {
            let message = format!("Back-off: {}: {}", problem.reason, problem.message);
            waiting("ImagePullBackOff", Some(message))
        }
    }
}

fn image_trouble(
    spec: &ContainerSpec,
    problem: &Problem,
    announced: bool,
) -> ContainerStateWaiting {
    if !announced {
        return waiting(&problem.reason, Some(problem.message.clone()));
    }
    let image = spec.image.as_deref().unwrap_or_default();
    let message = format!(
        "Back-off pulling image \"{image}\": {}: {}",
        problem.reason, problem.message
    );
    waiting("ImagePullBackOff", Some(message))
}
