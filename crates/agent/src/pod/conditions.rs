//! A pod's conditions: the kubelet's own are computed, everybody else's are kept.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};

use super::phase::is_condemned;
use super::status::time;
use super::{Container, Live, Observed, PodView as _, Role, Sandbox};

/// The conditions that are there only while they hold.
pub(crate) const PASSING: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// What a condition says, without its times.
struct Verdict {
    kind: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

/// The conditions of a pod in `phase` whose containers stand as given.
pub(super) fn conditions(
    pod: &Pod,
    observed: &Observed,
    status: &PodStatus,
    previous: Option<&PodStatus>,
    now: Timestamp,
) -> Vec<PodCondition> {
    let phase = status.phase.as_deref().unwrap_or("Pending");
    // Who fails has no endpoints from then on, whatever still runs.
    let coming = match is_condemned(pod, observed) {
        true => "Failed",
        false => phase,
    };
    let mut ready = containers_ready(coming, &staying(pod, status));
    if observed.shutdown.is_some() && ready.holds {
        // Its endpoints go before it does.
        ready = not(
            "ContainersReady",
            "ContainersNotReady",
            Some("the node's agent is ending".to_owned()),
        );
    }
    let gates = Verdict {
        kind: "Ready",
        message: ready.message.clone(),
        ..ready
    };
    let mut own = vec![
        sandbox_ready(phase, observed),
        initialized(pod, phase, status),
        readiness_gates(pod, gates),
        ready,
        Verdict {
            kind: "PodScheduled",
            holds: true,
            reason: None,
            message: None,
        },
    ];
    own.extend(all_restarting(pod, phase, observed));
    own.extend(disrupted(phase, observed));
    let before = |kind: &str| {
        let all = previous
            .or(pod.status.as_ref())
            .and_then(|s| s.conditions.as_deref())
            .unwrap_or_default();
        all.iter().find(|c| c.type_ == kind)
    };
    let mut all: Vec<PodCondition> = Vec::new();
    for verdict in own {
        let scheduled =
            before("PodScheduled").filter(|c| verdict.kind == "PodScheduled" && c.status == "True");
        all.push(match scheduled {
            Some(kept) => kept.clone(),
            None => with_times(verdict, before, pod.metadata.generation, now),
        });
    }
    for (verdict, generation) in resizing(phase, observed) {
        all.push(with_times(verdict, before, Some(generation), now));
    }
    let foreign = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    for c in foreign {
        let is_over = PASSING.contains(&c.type_.as_str());
        if !is_over && !all.iter().any(|own| own.type_ == c.type_) {
            all.push(c.clone());
        }
    }
    all
}

/// What becomes of wishes for other resources, with the generations of the pod in which they were uttered. Of a
/// pod that has ended nothing becomes of them.
fn resizing(phase: &str, observed: &Observed) -> Vec<(Verdict, i64)> {
    if matches!(phase, "Succeeded" | "Failed") {
        return Vec::new();
    }
    let resize = &observed.resize;
    let pending = resize.pending.as_ref().map(|pending| {
        let verdict = Verdict {
            reason: Some(pending.why.as_str()),
            message: Some(pending.message.clone()),
            ..yes("PodResizePending")
        };
        (verdict, pending.generation)
    });
    let progress = resize.progress.map(|generation| {
        let error = observed.resize_error();
        let verdict = Verdict {
            reason: error.is_some().then_some("Error"),
            message: error,
            ..yes("PodResizeInProgress")
        };
        (verdict, generation)
    });
    pending.into_iter().chain(progress).collect()
}

fn with_times<'a>(
    verdict: Verdict,
    before: impl Fn(&str) -> Option<&'a PodCondition>,
    generation: Option<i64>,
    now: Timestamp,
) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let since = before(verdict.kind)
        .filter(|c| c.status == status)
        .and_then(|c| c.last_transition_time.clone());
    PodCondition {
        type_: verdict.kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_transition_time: Some(since.unwrap_or_else(|| time(now))),
        last_probe_time: None,
        observed_generation: generation,
    }
}

fn yes(kind: &'static str) -> Verdict {
    Verdict {
        kind,
        holds: true,
        reason: None,
        message: None,
    }
}

fn not(kind: &'static str, reason: &'static str, message: Option<String>) -> Verdict {
    Verdict {
        kind,
        holds: false,
        reason: Some(reason),
        message,
    }
}

fn sandbox_ready(phase: &str, observed: &Observed) -> Verdict {
    let ended = matches!(phase, "Succeeded" | "Failed");
    let holds = matches!(observed.sandbox, Sandbox::Ready(_)) && !ended;
    Verdict {
        kind: "PodReadyToStartContainers",
        holds,
        reason: None,
        message: None,
    }
}

fn initialized(pod: &Pod, phase: &str, status: &PodStatus) -> Verdict {
    if phase == "Succeeded" {
        return Verdict {
            reason: Some("PodCompleted"),
            ..yes("Initialized")
        };
    }
    let statuses = status
        .init_container_statuses
        .as_deref()
        .unwrap_or_default();
    let done = |role: Role, name: &str| {
        let status = statuses.iter().find(|s| s.name == name);
        status.is_some_and(|s| match role {
            Role::Sidecar => s.started == Some(true),
            Role::Init | Role::Main => s.ready,
        })
    };
    let open: Vec<&str> = pod
        .all_containers()
        .filter(|(role, c)| *role != Role::Main && !done(*role, &c.name))
        .map(|(_, c)| c.name.as_str())
        .collect();
    let has_run = |s: &ContainerStatus| {
        let state = s.state.as_ref();
        state.is_some_and(|s| s.running.is_some() || s.terminated.is_some())
    };
    // What runs again later does not undo it.
    if open.is_empty() || status.container_statuses.iter().flatten().any(has_run) {
        return yes("Initialized");
    }
    not(
        "Initialized",
        "ContainersNotInitialized",
        Some(format!(
            "containers with incomplete status: [{}]",
            open.join(" ")
        )),
    )
}

/// The statuses of all that runs for as long as the pod does: the sidecars come first.
fn staying<'s>(pod: &Pod, status: &'s PodStatus) -> Vec<&'s ContainerStatus> {
    let is_sidecar = |name: &str| {
        let mut all = pod.all_containers();
        all.any(|(role, c)| role == Role::Sidecar && c.name == name)
    };
    let init = status.init_container_statuses.iter().flatten();
    let sidecars = init.filter(|s| is_sidecar(&s.name));
    let mains = status.container_statuses.iter().flatten();
    sidecars.chain(mains).collect()
}

/// Whether all containers are being ended in order to be started anew; only of a pod that may come to that.
fn all_restarting(pod: &Pod, phase: &str, observed: &Observed) -> Option<Verdict> {
    let mut all = pod.all_containers();
    let may = all.any(|(_, c)| {
        let mut rules = c.restart_policy_rules.iter().flatten();
        rules.any(|rule| rule.action == "RestartAllContainers")
    });
    if !may {
        return None;
    }
    let kind = "AllContainersRestarting";
    // What is being started has the round of its last instance still.
    let still = |c: &Container| matches!(c.live, Live::Running { .. }) && c.round < observed.round;
    Some(match phase {
        "Succeeded" => not(kind, "PodCompleted", None),
        "Failed" => not(kind, "PodFailed", None),
        _ if observed.containers.values().any(still) => Verdict {
            reason: Some("RestartAllContainersStarted"),
            message: Some("container exited with restart policy rule".to_owned()),
            ..yes(kind)
        },
        _ => Verdict {
            holds: false,
            ..yes(kind)
        },
    })
}

/// Whether the pod has ended for the node's sake.
fn disrupted(phase: &str, observed: &Observed) -> Option<Verdict> {
    let verdict = observed.verdict.as_ref();
    let verdict = verdict.filter(|v| v.disrupted && phase == "Failed")?;
    Some(Verdict {
        reason: Some("TerminationByKubelet"),
        message: Some(verdict.message.clone()),
        ..yes("DisruptionTarget")
    })
}

fn containers_ready(phase: &str, containers: &[&ContainerStatus]) -> Verdict {
    match phase {
        "Succeeded" => return not("ContainersReady", "PodCompleted", None),
        "Failed" => return not("ContainersReady", "PodFailed", None),
        _ => {}
    }
    let unready: Vec<&str> = containers
        .iter()
        .filter(|c| !c.ready)
        .map(|c| c.name.as_str())
        .collect();
    if unready.is_empty() {
        return yes("ContainersReady");
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    not("ContainersReady", "ContainersNotReady", Some(message))
}

/// `Ready` is the containers' readiness and that of every gate that the pod names.
fn readiness_gates(pod: &Pod, ready: Verdict) -> Verdict {
    let gates = pod
        .pod_spec()
        .and_then(|s| s.readiness_gates.as_deref())
        .unwrap_or_default();
    if !ready.holds || gates.is_empty() {
        return ready;
    }
    let have = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let missing: Vec<String> = gates
        .iter()
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match have.iter().find(|c| &c.type_ == kind) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{kind}\" does not exist."
                )),
                Some(c) if c.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                    c.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if missing.is_empty() {
        ready
    } else {
        not("Ready", "ReadinessGatesNotReady", Some(missing.join(", ")))
    }
}
