//! Telling the API how a pod is: what differs from what it holds, whoever wrote that.

use std::sync::Arc;

use client::{DeleteOptions, Patch};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Map, Value, json};

use super::Driver;
use super::cell::{Cell, version};
use crate::node;
use crate::pod::{self, Observation};

/// How long the first report, which says nothing but "seen", waits for the one that says "running".
const FIRST_REPORT: SignedDuration = SignedDuration::from_millis(50);

/// The conditions that are this agent's to say.
const OWN: [&str; 9] = [
    "AllContainersRestarting",
    "DisruptionTarget",
    "PodResizePending",
    "PodResizeInProgress",
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

impl Driver {
    /// Sets off a report if the pod's status is not what the API holds.
    pub(super) fn report(&self, cell: &Arc<Cell>) {
        let now = self.0.tools.clock.now();
        let mut state = cell.state.lock();
        let is_known = cell.told_as(&state).is_some();
        if state.observed.gone || state.observed.deleting || !is_known {
            state.untold = false;
            return;
        }
        if state.reporting {
            return;
        }
        let status = self.status(&state);
        if is_told(state.reported.as_ref(), &status) {
            state.untold = false;
            return;
        }
        if says_little(&status)
            && state
                .reported
                .as_ref()
                .is_none_or(|r| r.start_time.is_none())
        {
            let at = *state.report_at.get_or_insert(now + FIRST_REPORT);
            if at > now {
                drop(state);
                return self.again_at(cell, at);
            }
        }
        state.reporting = true;
        drop(state);
        let (this, cell) = (self.clone(), cell.clone());
        tokio::spawn(async move {
            node::until_heard(&mut this.0.tools.heard.clone()).await;
            let told = this.tell(&cell).await;
            cell.state.lock().reporting = false;
            match told {
                Ok(()) => {
                    this.0.queue.forget(&cell.uid);
                    this.0.queue.add(cell.uid.clone());
                }
                // If it is gone the informer will say so; a server that lags behind may not know it yet.
                Err(error) => {
                    tracing::debug!(pod = %cell.key, uid = %cell.uid, %error, "the pod's status could not be reported");
                    this.0.queue.retry(cell.uid.clone());
                }
            }
        });
    }

    /// Reports the last status and removes the Pod object, which is done with when its finalizers are. What came from a
    /// file has none, and nobody is waited for.
    pub(super) async fn delete(&self, cell: &Arc<Cell>) {
        if cell.is_static {
            return self.vanished(&cell.uid);
        }
        let result = async {
            self.tell(cell).await?;
            let options = DeleteOptions::uid(&cell.uid).grace_period_seconds(0);
            self.0
                .tools
                .client
                .of::<Pod>()
                .delete(&cell.key.namespace, &cell.key.name, &options)
                .await
        };
        match result.await {
            Ok(()) => {}
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => {
                tracing::warn!(pod = %cell.key, uid = %cell.uid, %error, "the ended pod could not be removed");
                cell.state
                    .lock()
                    .observed
                    .observe(Observation::DeleteFailed, self.0.tools.clock.now());
                self.0.queue.retry(cell.uid.clone());
            }
        }
    }

    async fn tell(&self, cell: &Arc<Cell>) -> Result<(), client::Error> {
        let _one_at_a_time = cell.telling.lock().await;
        let (before, held_in, status, uid) = {
            let state = cell.state.lock();
            let Some(uid) = cell.told_as(&state).map(str::to_owned) else {
                return Ok(());
            };
            (
                state.reported.clone().unwrap_or_default(),
                state.reported_in,
                self.status(&state),
                uid,
            )
        };
        let changed = changes(&before, &status)?;
        if changed.is_empty() {
            return Ok(());
        }
        let patch = json!({"metadata": {"uid": uid}, "status": changed});
        let pods = self.0.tools.client.of::<Pod>();
        let answer = pods
            .patch(
                &cell.key.namespace,
                &cell.key.name,
                &Patch::Strategic(patch),
                Some("status"),
            )
            .await?;
        tracing::debug!(pod = %cell.key, uid = %cell.uid, phase = status.phase, "status reported");
        let mut state = cell.state.lock();
        if version(&answer) == held_in {
            // It changed nothing: the server words something in another way, and asking again would not help.
            state.reported = Some(status);
        } else {
            state.holds(&answer);
        }
        Ok(())
    }

    pub(super) fn status(&self, state: &super::cell::State) -> PodStatus {
        let now = self.0.tools.clock.now();
        pod::status(
            &state.pod,
            &state.observed,
            &self.0.tools.host,
            state.reported.as_ref(),
            now,
        )
    }
}

/// Whether a status tells no more than that the pod is being brought up.
fn says_little(status: &PodStatus) -> bool {
    let all = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    let quiet =
        |reason: Option<&str>| matches!(reason, Some("ContainerCreating" | "PodInitializing"));
    let mut waiting = all.map(|c| c.state.as_ref().and_then(|s| s.waiting.as_ref()));
    status.phase.as_deref() == Some("Pending")
        && waiting.all(|w| w.is_some_and(|w| quiet(w.reason.as_deref())))
}

/// Whether the API holds this status already. What cannot be compared has to be told.
fn is_told(held: Option<&PodStatus>, status: &PodStatus) -> bool {
    held.is_some_and(|held| {
        held == status || changes(held, status).is_ok_and(|changed| changed.is_empty())
    })
}

/// What a strategic merge patch has to hold to make `new` of `old`: fields that differ, and only this agent's
/// conditions.
fn changes(old: &PodStatus, new: &PodStatus) -> Result<Map<String, Value>, client::Error> {
    let fields = |status: &PodStatus| -> Result<Map<String, Value>, client::Error> {
        match serde_json::to_value(status)
            .map_err(|e| client::Error::decode("a pod's status", e))?
        {
            Value::Object(map) => Ok(map),
            _ => Ok(Map::new()),
        }
    };
    let (old, new) = (fields(old)?, fields(new)?);
    let mut changed = Map::new();
    for (field, value) in &new {
        if !same(field, old.get(field), value) {
            changed.insert(field.clone(), of_field(field, old.get(field), value));
        }
    }
    for field in old.keys().filter(|f| !new.contains_key(*f)) {
        changed.insert(field.clone(), Value::Null);
    }
    Ok(changed)
}

/// Whether a field has its value already. Conditions come in any order, and only this agent's own count.
fn same(field: &str, old: Option<&Value>, new: &Value) -> bool {
    let items = |list: Option<&Value>| list.and_then(Value::as_array).cloned().unwrap_or_default();
    match field {
        "conditions" => {
            let (old, new) = (items(old), items(Some(new)));
            let mut own = new.iter().filter(|c| is_own(c));
            own.all(|c| old.contains(c)) && passed(&old, &new).next().is_none()
        }
        _ => old == Some(new),
    }
}

fn is_own(condition: &Value) -> bool {
    condition["type"].as_str().is_some_and(|t| OWN.contains(&t))
}

/// The types of conditions that hold no more, and go.
fn passed<'a>(old: &'a [Value], new: &'a [Value]) -> impl Iterator<Item = &'a Value> {
    let kinds = old.iter().map(|c| &c["type"]);
    kinds.filter(|kind| {
        let passes = kind.as_str().is_some_and(|k| pod::PASSING.contains(&k));
        passes && !new.iter().any(|c| c["type"] == **kind)
    })
}

fn of_field(field: &str, old: Option<&Value>, new: &Value) -> Value {
    let items = new.as_array().map(Vec::as_slice).unwrap_or_default();
    match field {
        "conditions" => {
            let held = old.and_then(Value::as_array).map(Vec::as_slice);
            let passed = passed(held.unwrap_or_default(), items);
            let gone = passed.map(|kind| json!({"$patch": "delete", "type": kind}));
            let own = items.iter().filter(|c| is_own(c));
            own.map(|c| cleared(c, old)).chain(gone).collect()
        }
        // Lists that are merged by address: what is no longer there would stay.
        "podIPs" | "hostIPs" if old.is_some() => std::iter::once(json!({"$patch": "replace"}))
            .chain(items.iter().cloned())
            .collect(),
        _ => new.clone(),
    }
}

/// A condition that is merged into an older one takes away the reason and message that it has no more.
fn cleared(condition: &Value, old: Option<&Value>) -> Value {
    let before = old
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|c| c["type"] == condition["type"]);
    let mut condition = condition.clone();
    for field in ["reason", "message"] {
        if before.is_some_and(|b| b.get(field).is_some()) && condition.get(field).is_none() {
            condition[field] = Value::Null;
        }
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_holds_what_changed() {
        let status = |v: Value| serde_json::from_value::<PodStatus>(v).unwrap();
        let old = status(json!({
            "phase": "Pending", "qosClass": "BestEffort", "reason": "Gone",
            "podIPs": [{"ip": "10.128.0.1"}],
            "conditions": [
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m"},
                {"type": "Mine", "status": "False"},
                {"type": "AllContainersRestarting", "status": "False"},
                {"type": "PodResizePending", "status": "True", "reason": "Deferred"},
                {"type": "PodResizeInProgress", "status": "True", "reason": "Error"},
            ],
        }));
        let new = status(json!({
            "phase": "Running", "qosClass": "BestEffort",
            "podIPs": [{"ip": "10.128.0.2"}],
            "conditions": [
                {"type": "Ready", "status": "True"}, {"type": "Mine", "status": "True"},
                {"type": "AllContainersRestarting", "status": "True"},
                {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"},
                {"type": "PodResizeInProgress", "status": "True"},
            ],
        }));
        let want = json!({
            "phase": "Running", "reason": null,
            "podIPs": [{"$patch": "replace"}, {"ip": "10.128.0.2"}],
            "conditions": [
                {"type": "Ready", "status": "True", "reason": null, "message": null},
                {"type": "AllContainersRestarting", "status": "True"},
                {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"},
                {"type": "PodResizeInProgress", "status": "True", "reason": null},
                {"$patch": "delete", "type": "PodResizePending"},
            ],
        });
        assert_eq!(Value::Object(changes(&old, &new).unwrap()), want);
        let none = status(json!({"phase": "Running", "conditions": []}));
        let pending = json!({"conditions": [{"type": "PodResizePending", "status": "True"}]});
        let pending = status(pending);
        assert!(!is_told(Some(&pending), &none));
        assert!(is_told(Some(&none), &none));
    }
}
