//! What becomes of a container that has ended.

use k8s_openapi::api::core::v1::{Container as ContainerSpec, ContainerRestartRule, Pod};

use super::{Cause, Container, Ended, PodView as _, Role};

/// What becomes of a container that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It has ended for good.
    Stays,
    /// It is started again.
    Restarts,
    /// All containers of the pod are.
    AllRestart,
}

/// When a container is started again where no rule says so: its own restart policy, or its pod's.
pub(super) fn policy<'p>(pod: &'p Pod, spec: &'p ContainerSpec) -> &'p str {
    let own = spec.restart_policy.as_deref();
    own.unwrap_or_else(|| pod.restart_policy())
}

/// What becomes of a container that ended so: the first of its rules that fits says it, or else its restart policy.
pub(super) fn after(pod: &Pod, role: Role, spec: &ContainerSpec, ended: &Ended) -> After {
    if matches!(
        ended.cause,
        Some(Cause::Changed | Cause::Round | Cause::Resized)
    ) {
        return After::Restarts;
    }
    let rules = spec.restart_policy_rules.iter().flatten();
    let mut fitting = rules.filter(|rule| fits(rule, ended.exit_code));
    match fitting.next().map(|rule| rule.action.as_str()) {
        Some("Restart") => return After::Restarts,
        Some("RestartAllContainers") => return After::AllRestart,
        _ => {}
    }
    let unhealthy = ended.cause == Some(Cause::Unhealthy);
    let restarts = match (role, policy(pod, spec)) {
        (Role::Sidecar, _) => true,
        (_, "Never") => false,
        (_, "OnFailure") => unhealthy || ended.exit_code != 0,
        // An init container that succeeded has done its work, whatever the policy.
        (Role::Init, _) => ended.exit_code != 0,
        (Role::Main, _) => true,
    };
    match restarts {
        true => After::Restarts,
        false => After::Stays,
    }
}

fn fits(rule: &ContainerRestartRule, exit_code: i32) -> bool {
    let Some(codes) = &rule.exit_codes else {
        return false;
    };
    let named = codes.values.iter().flatten().any(|v| *v == exit_code);
    match codes.operator.as_str() {
        "In" => named,
        "NotIn" => !named,
        _ => false,
    }
}

impl Container {
    /// What becomes of it now that nothing of it is alive; `None` for one that has not run yet.
    pub(super) fn after(&self, pod: &Pod, role: Role, spec: &ContainerSpec) -> Option<After> {
        let ended = self.ended.as_ref()?;
        Some(after(pod, role, spec, ended))
    }
}
