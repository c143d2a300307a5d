//! This machine as a Node: registered, kept true, and its heartbeats.

pub(crate) mod allocation;
mod calls;
mod exec;
mod forward;
mod heartbeat;
pub(crate) mod ledger;
mod machine;
mod port;
mod process;
pub(crate) mod range;
mod rates;
mod service;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, EventType, Informer, Key, ListOptions, Patch, Recorder};
use k8s_openapi::api::core::v1::{Node, Taint};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::eviction::{EvictionHard, Pressures};
use crate::resources::Amounts;

pub(crate) use heartbeat::{heartbeat, until_heard};
pub(crate) use machine::Machine;
pub use machine::{memory_left, memory_of_pods};
pub(crate) use port::links;
pub(crate) use process::Process;
pub(crate) use service::serve;
pub use service::{Service, ServiceError};

/// How many pods a node takes.
const PODS: u32 = 16_000;
/// So often the conditions are written though they hold still, as by the kubelet (`nodeStatusReportFrequency`).
const REPORT: Duration = Duration::from_secs(300);
/// Between two tries to reach the API server.
const PAUSE: Duration = Duration::from_millis(500);

/// What the Node object says.
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    /// The port of the service that servers ask for logs.
    pub(crate) port: u16,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) machine: Machine,
    /// What of the machine no pod is to have.
    pub(crate) hard: EvictionHard,
}

/// Whether the node takes pods, and why not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// It has no range of addresses for its pods yet.
    #[default]
    NoPodRange,
    /// It does.
    Ready,
    /// The agent is ending.
    Ending,
}

/// How the node is, as its conditions tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) readiness: Readiness,
    /// Of what there is too little.
    pub(crate) pressures: Pressures,
}

/// Keeps the Node object in being and true, and records how it turns. It never returns: drop it.
pub(crate) async fn keep(
    client: Client,
    recorder: Recorder,
    facts: Arc<Facts>,
    clock: Clock,
    informer: Informer<Node>,
    mut health: watch::Receiver<Health>,
    mut heard: watch::Receiver<Option<Instant>>,
) {
    let mut changes = informer.subscribe();
    let key = Key::new("", facts.name.as_str());
    let mut reports = tokio::time::interval_at(Instant::now() + REPORT, REPORT);
    // What another agent has said of the node is not of now.
    let mut is_due = true;
    informer.synced().await;
    loop {
        until_heard(&mut heard).await;
        let wanted = *health.borrow_and_update();
        let result = match informer.get(&key) {
            None => create(&client, &facts).await,
            Some(node) => {
                let corrected = correct(&client, &facts, clock, &node, &wanted, is_due).await;
                is_due &= corrected.is_err();
                corrected.map(|turned| tell(&recorder, &node, &turned))
            }
        };
        let failed = match result {
            Ok(()) => false,
            Err(error) if error.is_already_exists() || error.is_not_found() => false,
            Err(error) => {
                tracing::warn!(node = facts.name, %error, "the node could not be registered or updated");
                true
            }
        };
        tokio::select! {
            _ = changes.next() => {}
            changed = health.changed() => if changed.is_err() { std::future::pending().await },
            _ = reports.tick() => is_due = true,
            () = tokio::time::sleep(PAUSE), if failed => {}
        }
    }
}

/// Waits until the Node object says that the node is not ready.
pub(crate) async fn told_not_ready(nodes: &Informer<Node>, name: &str) {
    let mut changes = nodes.subscribe();
    let key = Key::new("", name);
    let ready = |node: &Node| {
        let conditions = node
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten());
        conditions
            .filter(|c| c.type_ == "Ready")
            .any(|c| c.status == "True")
    };
    while nodes.get(&key).is_some_and(|node| ready(&node)) {
        changes.next().await;
    }
}

/// An informer on the one Node.
pub(crate) fn informer(client: &Client, name: &str) -> Informer<Node> {
    Informer::start(
        client.of::<Node>(),
        ListOptions::default().fields(format!("metadata.name={name}")),
    )
}

async fn create(client: &Client, facts: &Facts) -> Result<(), client::Error> {
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": facts.name, "labels": labels(facts)},
        "spec": {"taints": facts.taints},
    });
    let node: Node =
        serde_json::from_value(node).map_err(|e| client::Error::decode("the node", e))?;
    client
        .of::<Node>()
        .create(&node)
        .await
        .map(|_| tracing::info!(node = facts.name, "node registered"))
}

/// Records how the node is now, in the kubelet's words.
fn tell(recorder: &Recorder, node: &Node, turned: &[String]) {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    for reason in turned {
        let about = client::reference(node);
        let message = format!("Node {name} status is now: {reason}");
        recorder.event(&about, EventType::Normal, reason, message);
    }
}

/// Writes what the object says otherwise, and the conditions where that is due, and answers what its users are to be told
/// of that. Most calls find nothing to write.
async fn correct(
    client: &Client,
    facts: &Facts,
    clock: Clock,
    node: &Node,
    health: &Health,
    is_due: bool,
) -> Result<Vec<String>, client::Error> {
    let have = node.metadata.labels.clone().unwrap_or_default();
    let missing: BTreeMap<_, _> = labels(facts)
        .into_iter()
        .filter(|(k, v)| have.get(k) != Some(v))
        .collect();
    let nodes = client.of::<Node>();
    if !missing.is_empty() {
        let patch = Patch::Merge(json!({"metadata": {"labels": missing}}));
        nodes.patch("", &facts.name, &patch, None).await?;
    }
    let now = serde_json::to_value(node.status.clone().unwrap_or_default()).unwrap_or_default();
    let mut wanted = status(facts);
    let at = jiff::Timestamp::from_second(clock.now().as_second())
        .unwrap_or_default()
        .to_string();
    let conditions = conditions(health, &now["conditions"], &at, is_due);
    let same = wanted
        .as_object()
        .into_iter()
        .flatten()
        .all(|(k, v)| now.get(k) == Some(v))
        && conditions.is_empty();
    if same {
        return Ok(Vec::new());
    }
    let turned = turned(&now["conditions"], &conditions);
    wanted["conditions"] = conditions.into();
    let patch = Patch::Strategic(json!({"status": wanted}));
    nodes.patch("", &facts.name, &patch, Some("status")).await?;
    tracing::debug!(node = facts.name, ?health, "node status written");
    Ok(turned)
}

/// `kubernetes.io/os` and `arch` are the host's, although guests run on neither: what users select by has to match.
fn labels(facts: &Facts) -> BTreeMap<String, String> {
    let mut all = facts.labels.clone();
    for prefix in ["kubernetes.io", "beta.kubernetes.io"] {
        all.insert(format!("{prefix}/os"), "linux".to_owned());
        all.insert(format!("{prefix}/arch"), machine::architecture().to_owned());
    }
    all.insert("kubernetes.io/hostname".to_owned(), facts.name.clone());
    all
}

fn status(facts: &Facts) -> Value {
    let m = &facts.machine;
    let amounts = |of: &Amounts| {
        json!({
            "cpu": m.cores.to_string(),
            "memory": format!("{}Ki", of.memory / 1024),
            "ephemeral-storage": format!("{}Ki", of.ephemeral / 1024),
            "pods": PODS.to_string(),
        })
    };
    json!({
        "capacity": amounts(&m.amounts()),
        "allocatable": amounts(&m.allocatable(&facts.hard)),
        "addresses": [
            {"type": "InternalIP", "address": facts.address.to_string()},
            {"type": "Hostname", "address": facts.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": facts.port}},
        "nodeInfo": {
            "architecture": machine::architecture(),
            "bootID": m.boot_id,
            "containerRuntimeVersion": concat!("carob://", env!("CARGO_PKG_VERSION")),
            "kernelVersion": m.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": concat!("v1.36.0+carob.", env!("CARGO_PKG_VERSION")),
            "machineID": m.machine_id,
            "operatingSystem": "linux",
            "osImage": m.os_image,
            "systemUUID": m.machine_id,
        },
    })
}

/// The conditions that do not say what they should, or all of them where that is due.
fn conditions(health: &Health, have: &Value, at: &str, is_due: bool) -> Vec<Value> {
    let (ready, reason, message) = match health.readiness {
        Readiness::Ready => ("True", "KubeletReady", "kubelet is posting ready status"),
        Readiness::NoPodRange => (
            "False",
            "KubeletNotReady",
            "the node has no range of pod addresses yet",
        ),
        Readiness::Ending => ("False", "KubeletNotReady", "node is shutting down"),
    };
    let wanted = [
        match health.pressures.memory {
            false => (
                "MemoryPressure",
                "False",
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ),
            true => (
                "MemoryPressure",
                "True",
                "KubeletHasInsufficientMemory",
                "kubelet has insufficient memory available",
            ),
        },
        match health.pressures.disk {
            false => (
                "DiskPressure",
                "False",
                "KubeletHasNoDiskPressure",
                "kubelet has no disk pressure",
            ),
            true => (
                "DiskPressure",
                "True",
                "KubeletHasDiskPressure",
                "kubelet has disk pressure",
            ),
        },
        (
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        ("Ready", ready, reason, message),
    ];
    let mut differing = Vec::new();
    for (kind, status, reason, message) in wanted {
        let before = of_type(have, kind);
        let since = before
            .filter(|c| c["status"] == status)
            .map_or(json!(at), |c| c["lastTransitionTime"].clone());
        let holds = before.is_some_and(|c| {
            c["status"] == status && c["reason"] == reason && c["message"] == message
        });
        if holds && !is_due {
            continue;
        }
        differing.push(json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": at, "lastTransitionTime": since,
        }));
    }
    differing
}

fn of_type<'a>(conditions: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut all = conditions.as_array().into_iter().flatten();
    all.find(|c| c["type"] == kind)
}

/// The kubelet's events about conditions that are to be otherwise than they are: of what the node has, or lacks. That
/// it is ready, or not, is for the controllers to say.
fn turned(have: &Value, conditions: &[Value]) -> Vec<String> {
    let turns = conditions.iter().filter(|c| {
        let before = of_type(have, c["type"].as_str().unwrap_or_default());
        before.is_some_and(|before| before["status"] != c["status"])
    });
    let reasons = turns.filter_map(|c| c["reason"].as_str()?.strip_prefix("KubeletHas"));
    reasons.map(|what| format!("NodeHas{what}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_written_when_they_differ() {
        let health = |readiness, disk| Health {
            readiness,
            pressures: Pressures {
                disk,
                memory: false,
            },
        };
        let conditions =
            |health: &Health, have: &Value, at: &str| conditions(health, have, at, false);
        let ready = health(Readiness::Ready, false);
        let first = conditions(&ready, &Value::Null, "2026-11-21T10:00:00Z");
        assert_eq!(first.len(), 4);
        let have = Value::from(first);
        assert!(conditions(&ready, &have, "2026-11-21T10:00:09Z").is_empty());
        assert!(turned(&Value::Null, have.as_array().unwrap()).is_empty());
        let pressed = health(Readiness::Ready, true);
        let pressed = conditions(&pressed, &have, "2026-11-21T10:00:09Z");
        assert_eq!(turned(&have, &pressed), ["NodeHasDiskPressure"]);
        let wanted = json!([{
            "type": "DiskPressure", "status": "True",
            "reason": "KubeletHasDiskPressure", "message": "kubelet has disk pressure",
            "lastHeartbeatTime": "2026-11-21T10:00:09Z", "lastTransitionTime": "2026-11-21T10:00:09Z",
        }]);
        let pressed = Value::from(pressed);
        assert_eq!(pressed, wanted);
        let relieved = conditions(&ready, &pressed, "2026-11-21T10:00:10Z");
        assert_eq!(turned(&pressed, &relieved), ["NodeHasNoDiskPressure"]);
        let short = Health {
            readiness: Readiness::Ready,
            pressures: Pressures {
                disk: false,
                memory: true,
            },
        };
        let short = conditions(&short, &have, "2026-11-21T10:00:09Z");
        assert_eq!(short.len(), 1);
        assert_eq!(short[0]["type"], "MemoryPressure");
        assert_eq!(turned(&have, &short), ["NodeHasInsufficientMemory"]);
        let ending = health(Readiness::Ending, false);
        let ending = conditions(&ending, &have, "2026-11-21T10:00:09Z");
        assert_eq!(ending.len(), 1);
        assert!(turned(&have, &ending).is_empty());
        assert_eq!(ending[0]["lastTransitionTime"], "2026-11-21T10:00:09Z");
    }

    #[test]
    fn all_conditions_are_written_when_that_is_due() {
        let health = Health {
            readiness: Readiness::Ready,
            ..Health::default()
        };
        let first = conditions(&health, &Value::Null, "2026-11-21T10:00:00Z", false);
        let again = conditions(&health, &first.clone().into(), "2026-11-21T10:05:00Z", true);
        let later = |mut condition: Value| {
            condition["lastHeartbeatTime"] = "2026-11-21T10:05:00Z".into();
            condition
        };
        assert_eq!(again, first.into_iter().map(later).collect::<Vec<_>>());
    }
}
