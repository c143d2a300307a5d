//! A pod's phase, as the kubelet's `getPhase` computes it.

use k8s_openapi::api::core::v1::Pod;

use super::{Ended, Live, Observed, PodView as _, Role};

/// How one container stands for the phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Never ran.
    Waiting,
    /// Runs.
    Running,
    /// Ran and ended with this code.
    Stopped(i32),
}

fn standing(pod: &Pod, observed: &Observed, container: &str, ending: bool) -> Standing {
    let Some(c) = observed.get(container) else {
        return Standing::Waiting;
    };
    match (&c.live, &c.ended) {
        (Live::Running { .. }, _) => Standing::Running,
        // On its way to run again, whatever its exit code.
        (_, Some(ended)) if is_replaced(pod, ended) && !ending => Standing::Running,
        (_, Some(ended)) => Standing::Stopped(ended.exit_code),
        (_, None) => Standing::Waiting,
    }
}

/// `Pending`, `Running`, `Succeeded` or `Failed`. The last two are final: nothing of the pod will be started again.
pub fn phase(pod: &Pod, observed: &Observed) -> &'static str {
    if observed.verdict.is_some() {
        return "Failed";
    }
    if let Some(phase @ ("Succeeded" | "Failed")) =
        pod.status.as_ref().and_then(|s| s.phase.as_deref())
    {
        // A final phase stays, whoever wrote it.
        return if phase == "Succeeded" {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    let restarts = pod.restart_policy();
    let ending = pod.deletion_grace().is_some();
    let mut initialising = false;
    for c in pod.init_containers() {
        match standing(pod, observed, &c.name, ending) {
            Standing::Stopped(0) => {}
            Standing::Stopped(_) if restarts == "Never" => return "Failed",
            _ => initialising = true,
        }
    }
    let containers = pod.containers().iter();
    let standings = || {
        containers
            .clone()
            .map(|c| standing(pod, observed, &c.name, ending))
    };
    if ending
        && !observed.any_live()
        && (initialising || standings().any(|s| s == Standing::Waiting))
    {
        // It will never get to the rest of its containers.
        return "Failed";
    }
    if initialising || standings().any(|s| s == Standing::Waiting) {
        "Pending"
    } else if standings().any(|s| s == Standing::Running) || (restarts == "Always" && !ending) {
        "Running"
    } else if standings().all(|s| s == Standing::Stopped(0)) {
        "Succeeded"
    } else if restarts == "Never" || ending {
        "Failed"
    } else {
        "Running"
    }
}

/// Whether a container was ended in order to be started again: with another image, or for a probe that failed.
fn is_replaced(pod: &Pod, ended: &Ended) -> bool {
    ended.changed || (ended.unhealthy && pod.restart_policy() != "Never")
}

/// Whether a container that ended so is started again.
pub(super) fn restarts(pod: &Pod, role: Role, ended: &Ended) -> bool {
    match pod.restart_policy() {
        _ if is_replaced(pod, ended) => true,
        "Never" => false,
        "OnFailure" => ended.exit_code != 0,
        // An init container that succeeded has done its work, whatever the policy.
        _ => role == Role::Main || ended.exit_code != 0,
    }
}
