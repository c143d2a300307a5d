//! What was deployed becomes what it says; until then, what it waits for.

use std::time::Duration;

use anyhow::{Result, bail};
use client::{Client, Informer, Key, ListOptions, Untyped};
use indicatif::ProgressBar;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::super::pods::{selector, unready};
use crate::progress;

/// How long something is lacking before it is said: most of what a rollout waits for passes by.
const MOMENT: Duration = Duration::from_secs(1);

/// What an object lacks, and what was said of it.
pub(super) struct Told {
    title: String,
    bar: ProgressBar,
    lacks: String,
    said: String,
    /// When what it lacks is to be said, unless it has been.
    due: Option<Instant>,
}

impl Told {
    pub(super) fn new(title: String) -> Self {
        Self {
            bar: progress::step(format!("waiting for {title}")),
            title,
            lacks: "nobody has seen it yet".to_owned(),
            said: String::new(),
            due: None,
        }
    }

    /// What it lacked last.
    pub(super) fn last(&self) -> &str {
        &self.lacks
    }

    fn lacks(&mut self, what: String) {
        if what == self.lacks {
            return;
        }
        self.due = (what != self.said).then(|| Instant::now() + MOMENT);
        self.lacks = what;
    }

    async fn due(&self) {
        match self.due {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    fn say(&mut self) {
        self.due = None;
        self.said.clone_from(&self.lacks);
        let (title, lacks) = (&self.title, &self.lacks);
        self.bar
            .suspend(|| eprintln!("carob: waiting for {title}: {lacks}"));
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Follows one object, and its pods, until it is there.
///
/// # Errors
/// When it never will be.
pub(super) async fn until_there(
    client: &Client,
    resource: &'static api::Resource,
    namespace: &str,
    name: &str,
    told: &mut Told,
) -> Result<()> {
    let named = ListOptions::named(namespace, name);
    let informer = Informer::<Untyped>::start(client.untyped(resource), named);
    let mut changes = informer.subscribe();
    let key = Key::new(namespace, name);
    let mut followed = None;
    loop {
        if let Some(object) = informer.get(&key) {
            if followed.is_none()
                && let Some(options) = pods_of(resource.kind, &object.0, namespace, name)
            {
                let pods = Informer::<Pod>::start(client.of(), options);
                let changes = pods.subscribe();
                followed = Some((pods, changes));
            }
            let pods = followed.as_ref().map(|(pods, _)| pods.view());
            let pods = pods.iter().flat_map(|pods| pods.values());
            match lacks(resource.kind, &object.0, pods.map(AsRef::as_ref))? {
                None => return Ok(()),
                Some(what) => told.lacks(what),
            }
        } else if informer.is_synced() {
            told.lacks("it is not there".to_owned());
        }
        let of_pods = async {
            match &mut followed {
                Some((_, changes)) => changes.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = changes.next() => {}
            _ = of_pods => {}
            () = told.due() => told.say(),
        }
    }
}

/// The pods that an object is, or that it selects.
fn pods_of(kind: &str, object: &Value, namespace: &str, name: &str) -> Option<ListOptions> {
    match kind {
        "Pod" => Some(ListOptions::named(namespace, name)),
        _ => {
            let labels = selector(&object["spec"]["selector"])?;
            Some(ListOptions::namespace(namespace).labels(labels))
        }
    }
}

/// What an object lacks to be what it says, if anything; an error where it never will be.
fn lacks<'a>(
    kind: &str,
    object: &Value,
    pods: impl Iterator<Item = &'a Pod>,
) -> Result<Option<String>> {
    let own = match kind {
        "Deployment" => of_deployment(object),
        "ReplicaSet" => of_replica_set(object),
        "Job" => of_job(object)?,
        _ => return of_pod(object, pods),
    };
    let Some(own) = own else {
        return Ok(None);
    };
    let mut remain = pods.filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let of_one = remain.find_map(|pod| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        Some(format!("pod {name}: {}", unready(pod)?))
    });
    let failure = condition(object, "ReplicaFailure").map(message);
    let more = of_one.or(failure);
    Ok(Some(match more {
        Some(more) => format!("{own}; {more}"),
        None => own,
    }))
}

fn of_deployment(object: &Value) -> Option<String> {
    let (wanted, updated) = (replicas(object), number(object, "/status/updatedReplicas"));
    let all = number(object, "/status/replicas");
    let available = number(object, "/status/availableReplicas");
    if !observed(object) {
        Some("the controllers have yet to look at it".to_owned())
    } else if updated != wanted {
        Some(format!("{updated} of {wanted} replicas have been updated"))
    } else if all != wanted {
        let old = all - updated;
        Some(format!("{old} old replicas are pending termination"))
    } else if available != wanted {
        Some(format!("{available} of {wanted} replicas are available"))
    } else {
        None
    }
}

fn of_replica_set(object: &Value) -> Option<String> {
    let available = number(object, "/status/availableReplicas");
    let wanted = replicas(object);
    let there = observed(object) && available == wanted;
    (!there).then(|| format!("{available} of {wanted} replicas are available"))
}

fn of_job(object: &Value) -> Result<Option<String>> {
    if let Some(failed) = condition(object, "Failed") {
        bail!("it failed: {}", message(failed));
    }
    if condition(object, "Complete").is_some() {
        return Ok(None);
    }
    if object.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
        return Ok(Some("it is suspended".to_owned()));
    }
    let succeeded = number(object, "/status/succeeded");
    let completions = object.pointer("/spec/completions").and_then(Value::as_i64);
    Ok(Some(match completions {
        Some(wanted) => format!("{succeeded} of {wanted} pods have succeeded"),
        None => "no pod has succeeded".to_owned(),
    }))
}

fn of_pod<'a>(object: &Value, mut pods: impl Iterator<Item = &'a Pod>) -> Result<Option<String>> {
    let phase = object.pointer("/status/phase").and_then(Value::as_str);
    if phase == Some("Succeeded") || condition(object, "Ready").is_some() {
        return Ok(None);
    }
    let why = pods.find_map(unready);
    match phase {
        Some("Failed") => bail!(why.unwrap_or_else(|| "it failed".to_owned())),
        _ => Ok(Some(why.unwrap_or_else(|| "it is not ready".to_owned()))),
    }
}

fn observed(object: &Value) -> bool {
    number(object, "/status/observedGeneration") >= number(object, "/metadata/generation")
}

fn replicas(object: &Value) -> i64 {
    let replicas = object.pointer("/spec/replicas").and_then(Value::as_i64);
    replicas.unwrap_or(1)
}

fn number(object: &Value, path: &str) -> i64 {
    object.pointer(path).and_then(Value::as_i64).unwrap_or(0)
}

/// The condition of this type that holds.
fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let all = object.pointer("/status/conditions")?.as_array()?;
    all.iter()
        .find(|c| c["type"] == name && c["status"] == "True")
}

fn message(condition: &Value) -> String {
    let message = condition["message"].as_str();
    message.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(kind: &str, object: &Value, pods: &[Value]) -> String {
        let pods = pods.iter().cloned().map(serde_json::from_value);
        let pods: Vec<Pod> = pods.collect::<Result<_, _>>().unwrap();
        match lacks(kind, object, pods.iter()) {
            Ok(None) => "there".to_owned(),
            Ok(Some(why)) => why,
            Err(never) => format!("never: {never}"),
        }
    }

    #[test]
    fn what_objects_wait_for() {
        let full = json!({"metadata": {"name": "p-1"}, "status": {"phase": "Pending", "conditions":
            [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]}});
        let mut going = full.clone();
        going["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        let failed = json!({"metadata": {"name": "p-2"}, "status": {"phase": "Failed", "reason": "Evicted"}});
        let done = json!({"metadata": {"name": "p-3"}, "status": {"phase": "Succeeded"}});
        let of = |replicas: i64, status: Value| json!({"metadata": {"generation": 2}, "spec": {"replicas": replicas}, "status": status});
        let counts = |updated: i64, all: i64, available: i64| json!({"observedGeneration": 2, "updatedReplicas": updated, "replicas": all, "availableReplicas": available});
        let refused = json!({"observedGeneration": 2, "conditions":
            [{"type": "ReplicaFailure", "status": "True", "message": "forbidden"}]});
        let job = |status: Value| json!({"spec": {"completions": 3}, "status": status});
        let condition = |name: &str| json!({"conditions": [{"type": name, "status": "True", "message": "too many"}]});
        for (kind, object, pods, want) in [
            (
                "Deployment",
                of(2, json!({"observedGeneration": 1})),
                vec![],
                "the controllers have yet to look at it",
            ),
            (
                "Deployment",
                of(2, counts(1, 2, 2)),
                vec![full.clone()],
                "1 of 2 replicas have been updated; pod p-1: 0/3 nodes are available",
            ),
            (
                "Deployment",
                of(2, counts(2, 3, 2)),
                vec![going.clone()],
                "1 old replicas are pending termination",
            ),
            (
                "Deployment",
                of(2, counts(2, 2, 1)),
                vec![going, failed.clone()],
                "1 of 2 replicas are available; pod p-2: it failed: Evicted",
            ),
            (
                "Deployment",
                of(2, counts(2, 2, 2)),
                vec![full.clone()],
                "there",
            ),
            (
                "ReplicaSet",
                of(1, refused),
                vec![],
                "0 of 1 replicas are available; forbidden",
            ),
            ("ReplicaSet", of(2, counts(0, 2, 2)), vec![], "there"),
            (
                "Job",
                job(json!({"succeeded": 1})),
                vec![done.clone(), failed.clone()],
                "1 of 3 pods have succeeded; pod p-2: it failed: Evicted",
            ),
            (
                "Job",
                job(condition("Failed")),
                vec![],
                "never: it failed: too many",
            ),
            ("Job", job(condition("Complete")), vec![], "there"),
            (
                "Job",
                json!({"spec": {"suspend": true}}),
                vec![],
                "it is suspended",
            ),
            ("Pod", full.clone(), vec![full], "0/3 nodes are available"),
            (
                "Pod",
                failed.clone(),
                vec![failed],
                "never: it failed: Evicted",
            ),
            ("Pod", done.clone(), vec![done], "there"),
        ] {
            assert_eq!(said(kind, &object, &pods), want, "{kind} {object}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_said_once_it_stands() {
        let mut told = Told::new("Pod/p".to_owned());
        let begun = Instant::now();
        told.lacks("one".to_owned());
        told.lacks("two".to_owned());
        told.due().await;
        assert_eq!(begun.elapsed().as_secs(), 1);
        told.say();
        // What was said is not said again, but what comes between is.
        told.lacks("three".to_owned());
        told.lacks("two".to_owned());
        assert_eq!(told.due, None);
        told.lacks("three".to_owned());
        told.due().await;
        assert_eq!((begun.elapsed().as_secs(), told.last()), (2, "three"));
    }
}
