//! Probes: when each of them is due, and what their results come to. Nothing here outlives the instance they are of.

use std::hash::{DefaultHasher, Hasher as _};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod, Probe};

use super::observed::later;
use super::restart::policy;
use super::{Action, Cause, Container, Live, PodView as _, Role};

/// What a probe is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Whether the container has started. Until it has, the other two wait.
    Startup,
    /// Whether the container takes requests now.
    Readiness,
    /// Whether the container is better started anew.
    Liveness,
}

impl ProbeKind {
    const ALL: [Self; 3] = [Self::Startup, Self::Readiness, Self::Liveness];

    /// The container's probe of this kind.
    pub fn of(self, spec: &ContainerSpec) -> Option<&Probe> {
        match self {
            Self::Startup => spec.startup_probe.as_ref(),
            Self::Readiness => spec.readiness_probe.as_ref(),
            Self::Liveness => spec.liveness_probe.as_ref(),
        }
    }
}

/// As events begin with it.
impl std::fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        })
    }
}

/// What one probe has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// All is well.
    Success,
    /// It is not.
    Failure,
    /// The probe could not be made, which says nothing of the container.
    Nothing,
}

/// What a result means for the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The instance that was probed has ended.
    TooLate,
    /// Nothing that was not known.
    Nothing,
    /// The pod is to be looked at again.
    News,
}

/// By what the results of a probe are judged, and when it is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How many successes in a row count.
    pub successes: u32,
    /// How many failures in a row count.
    pub failures: u32,
    /// When the next one is due.
    pub next: Timestamp,
}

impl Terms {
    fn of(probe: &Probe, now: Timestamp) -> Self {
        let count = |threshold: Option<i32>, default| {
            let count = threshold.and_then(|n| u32::try_from(n).ok());
            count.filter(|n| *n > 0).unwrap_or(default)
        };
        Self {
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
            next: later(now, period(probe)),
        }
    }
}

fn period(probe: &Probe) -> SignedDuration {
    let secs = probe.period_seconds.filter(|s| *s > 0).unwrap_or(10);
    SignedDuration::from_secs(secs.into())
}

/// The probes of one instance of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probes {
    startup: Series,
    readiness: Series,
    liveness: Series,
}

/// All probes of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
struct Series {
    /// What they have come to: what was found often enough in a row the last time.
    settled: Option<bool>,
    /// What was found last, and how often in a row.
    last: Option<bool>,
    run: u32,
    /// One is being made.
    under_way: bool,
    /// By what the present one was begun.
    terms: Option<Terms>,
}

impl Series {
    /// Takes in a result; whether the series has come to something else by it.
    fn take(&mut self, success: bool) -> bool {
        self.run = match self.last == Some(success) {
            true => self.run.saturating_add(1),
            false => 1,
        };
        self.last = Some(success);
        let enough = self.terms.is_none_or(|terms| match success {
            true => self.run >= terms.successes,
            false => self.run >= terms.failures,
        });
        enough && self.settled.replace(success) != Some(success)
    }
}

impl Probes {
    fn of(&self, kind: ProbeKind) -> &Series {
        match kind {
            ProbeKind::Startup => &self.startup,
            ProbeKind::Readiness => &self.readiness,
            ProbeKind::Liveness => &self.liveness,
        }
    }

    fn of_mut(&mut self, kind: ProbeKind) -> &mut Series {
        match kind {
            ProbeKind::Startup => &mut self.startup,
            ProbeKind::Readiness => &mut self.readiness,
            ProbeKind::Liveness => &mut self.liveness,
        }
    }

    /// One is being made.
    pub(super) fn begin(&mut self, kind: ProbeKind, terms: Terms) {
        let series = self.of_mut(kind);
        series.under_way = true;
        series.terms = Some(terms);
    }

    /// The kind that has failed so often that the container has to be ended.
    pub(super) fn condemned(&self) -> Option<ProbeKind> {
        let fatal = [ProbeKind::Liveness, ProbeKind::Startup];
        let mut failed = fatal
            .into_iter()
            .filter(|kind| self.of(*kind).settled == Some(false));
        failed.next()
    }
}

impl Container {
    /// `status.containerStatuses[].started`: it runs, its first hook is done, and its startup probe has succeeded, where it
    /// has them.
    pub(super) fn is_started(&self, spec: &ContainerSpec) -> bool {
        self.is_up(spec) && self.holds(spec, ProbeKind::Startup)
    }

    /// `status.containerStatuses[].ready`. What is ended alone is not from then on, so that nothing new reaches it; of one
    /// that ends with its pod the pod's deletion, phase or conditions say so, and those who have nobody else still may.
    pub(super) fn is_ready(&self, spec: &ContainerSpec) -> bool {
        !self.ends_alone() && self.is_started(spec) && self.holds(spec, ProbeKind::Readiness)
    }

    fn ends_alone(&self) -> bool {
        let Live::Running { stopping, .. } = &self.live else {
            return false;
        };
        stopping.is_some_and(|s| !matches!(s.cause, Cause::Pod | Cause::Agent))
    }

    fn holds(&self, spec: &ContainerSpec, kind: ProbeKind) -> bool {
        kind.of(spec).is_none() || self.probes.of(kind).settled == Some(true)
    }

    /// Takes in what a probe of an instance has found.
    pub(super) fn probed(
        &mut self,
        of: u32,
        kind: ProbeKind,
        found: Found,
        now: Timestamp,
    ) -> Heard {
        let series = self.probes.of_mut(kind);
        let present = matches!(self.live, Live::Running { attempt, .. } if attempt == of);
        if !present || !std::mem::take(&mut series.under_way) {
            return Heard::TooLate;
        }
        let changed = match found {
            Found::Success => series.take(true),
            Found::Failure => series.take(false),
            Found::Nothing => false,
        };
        // One that took longer than its period is followed by the next at once, for which nobody waits yet.
        let overdue = series.terms.is_none_or(|terms| terms.next <= now);
        match changed || overdue {
            true => Heard::News,
            false => Heard::Nothing,
        }
    }
}

/// What is to be probed of a container, and when to look again.
///
/// One that ends with its pod is asked for its readiness alone, as by the kubelet: its endpoints may still be in use.
pub(super) fn due(
    pod: &Pod,
    spec: &ContainerSpec,
    c: &Container,
    ending: bool,
    now: Timestamp,
) -> (Vec<Action>, Option<Timestamp>) {
    let (mut actions, mut again) = (Vec::new(), None::<Timestamp>);
    let Live::Running { attempt, .. } = c.live else {
        return (actions, again);
    };
    if !c.is_up(spec) {
        return (actions, again);
    }
    let started = c.is_started(spec);
    for kind in ProbeKind::ALL {
        let Some(probe) = kind.of(spec) else { continue };
        let gated = (kind == ProbeKind::Startup) == started;
        if gated || (ending && kind != ProbeKind::Readiness) {
            continue;
        }
        let series = c.probes.of(kind);
        let at = match series.terms {
            Some(terms) => terms.next,
            None => first(pod, spec, c, kind, probe),
        };
        let mut look_at = |at: Timestamp| again = Some(again.map_or(at, |a| a.min(at)));
        if at > now {
            look_at(at);
        } else if !series.under_way {
            let terms = Terms::of(probe, now);
            actions.push(Action::Probe {
                container: spec.name.clone(),
                attempt,
                kind,
                terms,
                awaits: series.settled != Some(true),
            });
            look_at(terms.next);
        }
    }
    (actions, again)
}

/// When an instance is probed first.
fn first(
    pod: &Pod,
    spec: &ContainerSpec,
    c: &Container,
    kind: ProbeKind,
    probe: &Probe,
) -> Timestamp {
    let Live::Running { started_at, .. } = c.live else {
        return Timestamp::MAX;
    };
    let delay = probe.initial_delay_seconds.unwrap_or(0).max(0);
    let at = later(started_at, SignedDuration::from_secs(delay.into()));
    // All pods of the node start together after their agent: as the kubelet does then, they are spread over the period.
    // What others wait for is not put off.
    let together = c.ended.as_ref();
    let together = together.is_some_and(|ended| ended.cause == Some(Cause::Agent));
    match together && kind == ProbeKind::Liveness {
        true => later(at, portion(period(probe), (pod.uid(), &spec.name))),
        false => at,
    }
}

/// A part of `whole` that is always the same for the same thing, and any for different ones.
fn portion(whole: SignedDuration, of: impl std::hash::Hash) -> SignedDuration {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    let share = u128::from(hasher.finish()) * whole.as_millis().unsigned_abs();
    let millis = share >> u64::BITS;
    SignedDuration::from_millis(i64::try_from(millis).unwrap_or(0))
}

/// How long a container has to end that a probe has condemned, and what the event says.
pub(super) fn sentence(
    pod: &Pod,
    role: Role,
    spec: &ContainerSpec,
    kind: ProbeKind,
) -> (SignedDuration, String) {
    let own = kind
        .of(spec)
        .and_then(|p| p.termination_grace_period_seconds);
    let grace = own.map_or_else(|| pod.grace(), |s| SignedDuration::from_secs(s.max(0)));
    let which = kind.to_string().to_lowercase();
    let then = match (role, policy(pod, spec)) {
        (Role::Init | Role::Main, "Never") => "",
        _ => ", will be restarted",
    };
    let who = who(role);
    let why = format!("{who} {} failed {which} probe{then}", spec.name);
    (grace, why)
}

/// What events call a container.
pub(super) fn who(role: Role) -> &'static str {
    match role {
        Role::Init | Role::Sidecar => "Init container",
        Role::Main => "Container",
    }
}
