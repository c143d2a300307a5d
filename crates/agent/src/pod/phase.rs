//! A pod's phase, as the kubelet's `getPhase` computes it.

use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod};

use super::restart::{After, after};
use super::{Live, Observed, PodView as _, Role};

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

fn standing(pod: &Pod, observed: &Observed, (role, spec): (Role, &ContainerSpec)) -> Standing {
    let ending = pod.deletion_grace().is_some();
    let Some(c) = observed.get(&spec.name) else {
        return Standing::Waiting;
    };
    match (&c.live, &c.ended) {
        (Live::Running { .. }, _) if c.is_up(spec) => Standing::Running,
        (_, None) => Standing::Waiting,
        (_, Some(ended)) if ending => Standing::Stopped(ended.exit_code),
        // On its way to run again, whatever its exit code.
        _ if c.round < observed.round => Standing::Running,
        (_, Some(ended)) => match after(pod, role, spec, ended) {
            After::Stays => Standing::Stopped(ended.exit_code),
            After::Restarts | After::AllRestart => Standing::Running,
        },
    }
}

/// `Pending`, `Running`, `Succeeded` or `Failed`. The last two are final: nothing of the pod will be started again.
/// Sidecars have no part in them.
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
    if not_initialized(pod, observed) {
        return "Failed";
    }
    let mains = mains(pod, observed);
    // So it is for as long as it initialises.
    let waiting = mains.contains(&Standing::Waiting);
    if waiting && pod.deletion_grace().is_some() && !observed.any_live() {
        // It will never get to the rest of its containers.
        "Failed"
    } else if waiting {
        "Pending"
    } else if mains.contains(&Standing::Running) {
        "Running"
    } else if mains.iter().all(|m| *m == Standing::Stopped(0)) {
        "Succeeded"
    } else {
        "Failed"
    }
}

/// The phase that is reported. As the kubelet does it, a pod is not reported to have ended while anything of it still
/// runs, but as what it was: whoever counts on its end (a Job's next pod, say) would meet it.
pub(super) fn shown(pod: &Pod, observed: &Observed) -> &'static str {
    match phase(pod, observed) {
        "Succeeded" | "Failed" if observed.any_live() && !pod.ended_in_api() => {
            match mains(pod, observed).contains(&Standing::Waiting) {
                true => "Pending",
                false => "Running",
            }
        }
        phase => phase,
    }
}

/// Whether it fails whatever its main containers come to.
pub(super) fn is_condemned(pod: &Pod, observed: &Observed) -> bool {
    observed.verdict.is_some() || not_initialized(pod, observed)
}

/// Whether an init container has failed for good.
fn not_initialized(pod: &Pod, observed: &Observed) -> bool {
    let mut inits = pod.all_containers().filter(|(role, _)| *role == Role::Init);
    let failed = |c| matches!(standing(pod, observed, c), Standing::Stopped(code) if code != 0);
    pod.deletion_grace().is_none() && inits.any(failed)
}

fn mains(pod: &Pod, observed: &Observed) -> Vec<Standing> {
    let mains = pod.all_containers().filter(|(role, _)| *role == Role::Main);
    mains.map(|c| standing(pod, observed, c)).collect()
}
