//! What a deployment tells of itself, as `kubectl rollout status` reads it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet,
    ReplicaSetCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Sets, available, max_unavailable, replicas, size};
use crate::owner;
use crate::plan::{Plan, Write};
use crate::replica_set::{REPLICA_FAILURE, some_if};

/// What this look did that the status must tell.
pub(super) struct News {
    /// The replica set that is made.
    pub(super) made: Option<String>,
    /// The name of one that was to be made is taken.
    pub(super) collided: bool,
}

/// Brings the status up to date.
pub(super) fn report(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    sets: &Sets<'_>,
    news: &News,
    now: Timestamp,
    plan: &mut Plan,
) {
    let old = deployment.status.clone().unwrap_or_default();
    let sum = |of: fn(&ReplicaSet) -> i32| sets.all().map(|set| of(set)).sum::<i32>();
    let there = |set: &ReplicaSet| set.status.as_ref().map_or(0, |s| s.replicas);
    let ready = |set: &ReplicaSet| {
        let status = set.status.as_ref();
        status.and_then(|s| s.ready_replicas).unwrap_or(0)
    };
    let count = |n: i32| some_if(usize::try_from(n).unwrap_or(0));
    let collisions = old.collision_count.unwrap_or(0) + i32::from(news.collided);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: count(sum(there)),
        updated_replicas: count(sets.current.map_or(0, |set| there(set))),
        ready_replicas: count(sum(ready)),
        available_replicas: count(sum(available)),
        unavailable_replicas: count(sum(size) - sum(available)),
        collision_count: count(collisions),
        conditions: None,
        terminating_replicas: old.terminating_replicas,
    };
    let mut conditions = Conditions {
        list: old.conditions.clone().unwrap_or_default(),
        now,
    };
    if sum(available) >= replicas(spec) - max_unavailable(spec) {
        let message = "Deployment has minimum availability.";
        conditions.set("Available", "True", "MinimumReplicasAvailable", message);
    } else {
        let message = "Deployment does not have minimum availability.";
        conditions.set("Available", "False", "MinimumReplicasUnavailable", message);
    }
    match failure(sets) {
        Some(failed) => {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let (reason, message) = (text(&failed.reason), text(&failed.message));
            conditions.set(REPLICA_FAILURE, &failed.status, &reason, &message);
        }
        None => conditions.remove(REPLICA_FAILURE),
    }
    match deadline(spec) {
        None => conditions.remove("Progressing"),
        Some(deadline) => {
            let picture = Picture {
                deployment,
                spec,
                sets,
                status: &status,
                old: &old,
            };
            picture.progress(news, deadline, &mut conditions, plan);
        }
    }
    status.conditions = Some(conditions.list);
    if deployment.status.as_ref() != Some(&status) {
        plan.writes.push(Write::status(
            deployment,
            deployment.status.as_ref(),
            &status,
        ));
    }
}

/// Why pods are missing: what the present replica set says counts first.
fn failure<'a>(sets: &Sets<'a>) -> Option<&'a ReplicaSetCondition> {
    let sets = sets.current.into_iter().chain(sets.old.iter().copied());
    sets.filter_map(|set| set.status.as_ref()?.conditions.as_ref())
        .flatten()
        .find(|condition| condition.type_ == REPLICA_FAILURE)
}

/// Whether a status says that the roll is over.
pub(super) fn is_complete(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    status: &DeploymentStatus,
) -> bool {
    let wanted = replicas(spec);
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.observed_generation >= deployment.metadata.generation
}

/// The largest number means that there is none.
fn deadline(spec: &DeploymentSpec) -> Option<Duration> {
    let seconds = spec.progress_deadline_seconds.unwrap_or(600);
    let seconds = u64::try_from(seconds).unwrap_or(0);
    (seconds != u64::from(i32::MAX.unsigned_abs())).then(|| Duration::from_secs(seconds))
}

struct Picture<'a> {
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    sets: &'a Sets<'a>,
    status: &'a DeploymentStatus,
    old: &'a DeploymentStatus,
}

impl Picture<'_> {
    /// The `Progressing` condition: paused, complete, moving, or stuck for longer than the
    /// deadline.
    fn progress(
        &self,
        news: &News,
        deadline: Duration,
        conditions: &mut Conditions,
        plan: &mut Plan,
    ) {
        const TYPE: &str = "Progressing";
        let before = conditions.get(TYPE).cloned();
        let reason = before.as_ref().and_then(|c| c.reason.as_deref());
        if self.spec.paused == Some(true) {
            // That it is stuck is worth more than that it is paused.
            if reason != Some("ProgressDeadlineExceeded") {
                let message = "Deployment is paused";
                conditions.set(TYPE, "Unknown", "DeploymentPaused", message);
            }
            return;
        }
        if let Some(name) = &news.made {
            let message = format!("Created new replica set \"{name}\"");
            conditions.set(TYPE, "True", "NewReplicaSetCreated", &message);
            return plan.again(deadline);
        }
        if reason == Some("DeploymentPaused") {
            let message = "Deployment is resumed";
            conditions.set(TYPE, "Unknown", "DeploymentResumed", message);
        }
        let subject = match self.sets.current {
            Some(set) => format!("ReplicaSet \"{}\"", owner::named(&**set).name),
            None => format!("Deployment \"{}\"", owner::named(self.deployment).name),
        };
        // Once a roll is over, losing pods is no roll.
        let over = self.status.replicas == self.status.updated_replicas
            && reason == Some("NewReplicaSetAvailable");
        if over {
            return;
        }
        if is_complete(self.deployment, self.spec, self.status) {
            let message = format!("{subject} has successfully progressed.");
            return conditions.set(TYPE, "True", "NewReplicaSetAvailable", &message);
        }
        if self.has_moved() || before.is_none() {
            let message = format!("{subject} is progressing.");
            conditions.renew(TYPE, "ReplicaSetUpdated", &message);
        }
        let since = conditions.get(TYPE).and_then(|c| {
            let Time(at) = c.last_update_time.as_ref()?;
            Duration::try_from(conditions.now.duration_since(*at)).ok()
        });
        let left = deadline.saturating_sub(since.unwrap_or_default());
        let begun = conditions
            .get(TYPE)
            .is_some_and(|c| c.reason.as_deref() != Some("NewReplicaSetAvailable"));
        if !left.is_zero() {
            plan.again(left);
        } else if begun {
            let message = format!("{subject} has timed out progressing.");
            conditions.set(TYPE, "False", "ProgressDeadlineExceeded", &message);
        }
    }

    /// More of the new, or fewer of the old.
    fn has_moved(&self) -> bool {
        let number = |n: Option<i32>| n.unwrap_or(0);
        let left = |s: &DeploymentStatus| number(s.replicas) - number(s.updated_replicas);
        let (new, old) = (self.status, self.old);
        number(new.updated_replicas) > number(old.updated_replicas)
            || left(new) < left(old)
            || number(new.ready_replicas) > number(old.ready_replicas)
            || number(new.available_replicas) > number(old.available_replicas)
    }
}

struct Conditions {
    list: Vec<DeploymentCondition>,
    now: Timestamp,
}

impl Conditions {
    fn get(&self, type_: &str) -> Option<&DeploymentCondition> {
        self.list.iter().find(|c| c.type_ == type_)
    }

    fn remove(&mut self, type_: &str) {
        self.list.retain(|c| c.type_ != type_);
    }

    /// Sets a condition, unless it is there with this reason already.
    fn set(&mut self, type_: &str, status: &str, reason: &str, message: &str) {
        let same =
            |c: &DeploymentCondition| c.status == status && c.reason.as_deref() == Some(reason);
        if !self.get(type_).is_some_and(same) {
            self.put(type_, status, reason, message);
        }
    }

    /// Sets a condition to true and, whatever it was, its time to now.
    fn renew(&mut self, type_: &str, reason: &str, message: &str) {
        self.put(type_, "True", reason, message);
    }

    fn put(&mut self, type_: &str, status: &str, reason: &str, message: &str) {
        let at = self.list.iter().position(|c| c.type_ == type_);
        let kept = at
            .map(|at| &self.list[at])
            .filter(|c| c.status == status)
            .and_then(|c| c.last_transition_time.clone());
        let condition = DeploymentCondition {
            type_: type_.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_update_time: Some(Time(self.now)),
            last_transition_time: Some(kept.unwrap_or(Time(self.now))),
        };
        match at {
            Some(at) => self.list[at] = condition,
            None => self.list.push(condition),
        }
    }
}
