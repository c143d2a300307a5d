//! Pods that come and go leave nothing behind, however they lived and ended.

use std::path::Path;
use std::time::Duration;

use client::{DeleteOptions, ListOptions};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, ServiceAccount};
use runtime::Runtime as _;
use serde_json::{Value, json};

use crate::bench::{Bench, files_below};

/// How many pods live at a time. They have all the node's addresses and nearly all its CPU: what one of them kept, later
/// ones would lack.
const AT_ONCE: usize = 120;
/// Room for them, the node's own address and its DNS server's.
const RANGE: &str = "10.128.0.0/25";
/// How often that many come and go.
const ROUNDS: usize = 84;

/// What becomes of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Ends,
    IsEnded,
    IsForced,
    NeverRuns,
    HasVolumes,
    Crashes,
    HasCompany,
    Lacks,
}

const LIVES: [Life; 8] = [
    Life::Ends,
    Life::IsEnded,
    Life::IsForced,
    Life::NeverRuns,
    Life::HasVolumes,
    Life::Crashes,
    Life::HasCompany,
    Life::Lacks,
];

impl Life {
    /// The spec of one whose container requests so much CPU.
    fn spec(self, cpu: &str) -> Value {
        let script = match self {
            Self::Ends => json!(["print done"]),
            Self::Crashes => json!(["trap ouch"]),
            _ => json!(["forever"]),
        };
        let mut main =
            json!({"name": "main", "args": script, "resources": {"requests": {"cpu": cpu}}});
        let missing = json!([{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "missing", "key": "k"}}}]);
        match self {
            Self::Ends => json!({"restartPolicy": "Never", "containers": [main]}),
            Self::HasVolumes => {
                let names = ["shown", "disk", "memory", "token"];
                let mounts =
                    names.map(|name| json!({"name": name, "mountPath": format!("/{name}")}));
                main["volumeMounts"] = json!(mounts);
                let token =
                    json!({"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}});
                json!({"serviceAccountName": "default", "containers": [main], "volumes": [
                    {"name": "shown", "configMap": {"name": "shown"}},
                    {"name": "disk", "emptyDir": {}},
                    {"name": "memory", "emptyDir": {"medium": "Memory"}},
                    {"name": "token", "projected": {"sources": [token]}},
                ]})
            }
            Self::HasCompany => {
                main["readinessProbe"] = json!({"tcpSocket": {"port": 80}, "periodSeconds": 1});
                json!({"containers": [main], "initContainers": [
                    {"name": "beside", "restartPolicy": "Always", "args": ["forever"]},
                    {"name": "before", "args": ["exit 0"]},
                ]})
            }
            Self::Lacks => {
                main["env"] = missing;
                json!({"containers": [main]})
            }
            _ => json!({"containers": [main]}),
        }
    }

    /// Whether a pod is as far as it is to come before it goes.
    fn has_come(self, pod: &Pod) -> bool {
        let Some(status) = &pod.status else {
            return false;
        };
        let phase = status.phase.as_deref().unwrap_or_default();
        let main = status.container_statuses.iter().flatten().next();
        let waiting =
            main.and_then(|main| main.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
        match self {
            Self::Ends => phase == "Succeeded",
            Self::Crashes => waiting == Some("CrashLoopBackOff"),
            Self::Lacks => waiting == Some("CreateContainerConfigError"),
            _ => phase == "Running",
        }
    }

    /// Whether it is told to end, and its node removes it. Else its object goes at once.
    fn is_told(self) -> bool {
        matches!(
            self,
            Self::IsEnded | Self::HasVolumes | Self::Crashes | Self::HasCompany
        )
    }
}

/// What is held for pods, in and around the agent.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    tasks: usize,
    watches: usize,
    guests: u64,
    /// The directories of pods.
    pods: Vec<String>,
    /// How many directories and files there are in memory.
    in_memory: usize,
    /// How many of the files that are open lie in the test's directory.
    open: usize,
}

impl Held {
    fn now(b: &Bench) -> Self {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let open = open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        Self {
            tasks: tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks(),
            watches: b.server.watches(),
            guests: b.runtime.metrics().running,
            pods: directories(b),
            in_memory: count_below(&b.shared_memory()),
            open: open.filter(|file| file.starts_with(b.dir.path())).count(),
        }
    }
}

fn directories(b: &Bench) -> Vec<String> {
    files_below(&b.dir.path().join("agent/pods"))
}

fn count_below(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let counts = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => 1 + count_below(&entry.path()),
        false => 1,
    });
    counts.sum()
}

/// What a pod may request for the node's CPU to be enough for all at once, and for few more.
async fn cpu_each(b: &Bench) -> String {
    let node = b.client.of::<Node>().get("", "n1").await.unwrap();
    let node = serde_json::to_value(node).unwrap();
    let cores = node["status"]["allocatable"]["cpu"].as_str().unwrap();
    let cores: usize = cores.parse().unwrap();
    format!("{}m", cores * 1000 / AT_ONCE)
}

/// Looks less often than the bench does: there are many to look at.
async fn until(b: &Bench, what: &str, done: impl AsyncFn(&Bench) -> bool) {
    for _ in 0..9000 {
        if done(b).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let pods = b.client.of::<Pod>().list(&ListOptions::default()).await;
    panic!(
        "never {what}: {:?}, {:#?}",
        Held::now(b),
        pods.unwrap().items
    );
}

/// As many pods as there may be come, live and go.
async fn round(b: &Bench, number: usize, cpu: &str) {
    let pods = b.client.of::<Pod>();
    let all = LIVES.iter().cycle().take(AT_ONCE).enumerate();
    let all: Vec<_> = all
        .map(|(n, life)| (format!("p-{number}-{n}"), *life))
        .collect();
    let options = DeleteOptions::default();
    for (name, life) in &all {
        b.create(name, life.spec(cpu)).await;
    }
    // The agent may have begun with them.
    tokio::task::yield_now().await;
    for (name, _) in all.iter().filter(|(_, life)| *life == Life::NeverRuns) {
        pods.delete("default", name, &options).await.unwrap();
    }
    until(b, "as far as they are to come", async |b| {
        let list = b
            .client
            .of::<Pod>()
            .list(&ListOptions::default())
            .await
            .unwrap();
        let life_of = |pod: &Pod| {
            let name = pod.metadata.name.as_deref();
            let found = all.iter().find(|(of, _)| Some(of.as_str()) == name);
            found.unwrap().1
        };
        list.items.iter().all(|pod| life_of(pod).has_come(pod))
    })
    .await;
    for (name, life) in &all {
        match life {
            Life::NeverRuns => {}
            life if life.is_told() => b.begin_deletion(name, 5).await,
            _ => {
                pods.delete("default", name, &options).await.unwrap();
            }
        }
    }
    until(b, "gone", async |b| directories(b).is_empty()).await;
    let left = pods.list(&ListOptions::default()).await.unwrap().items;
    assert!(left.is_empty(), "{left:?}");
}

/// What was said of pods expires, and so does the history.
async fn expire(b: &Bench) {
    let (events, options) = (b.client.of::<Event>(), DeleteOptions::default());
    let list = events.list(&ListOptions::namespace("default")).await;
    for event in list.unwrap().items {
        let name = event.metadata.name.unwrap();
        events.delete("default", &name, &options).await.unwrap();
    }
    // Who watches has seen all there was.
    tokio::time::sleep(Duration::from_millis(10)).await;
    b.server.compact();
}

/// Where all files are: in memory, where the machine has a place for that. What is left of them is the same there, and a disk
/// is what nearly all the time would be spent on: thousands of inodes a second that come and go, and records that are
/// synced.
fn files() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_lives_leave_nothing_behind() {
    let b = Bench::in_dir(files(), RANGE).await;
    let metadata = |name: &str| json!({"name": name, "namespace": "default"});
    let account = json!({"metadata": metadata("default")});
    let account = serde_json::from_value(account).unwrap();
    b.client
        .of::<ServiceAccount>()
        .create(&account)
        .await
        .unwrap();
    let shown = json!({"metadata": metadata("shown"), "data": {"k": "v"}});
    let shown = serde_json::from_value(shown).unwrap();
    b.client.of::<ConfigMap>().create(&shown).await.unwrap();
    let cpu = cpu_each(&b).await;

    round(&b, 0, &cpu).await;
    expire(&b).await;
    // Beside the agent's own rhythm of whole seconds.
    let pause = Duration::from_millis(120_337);
    tokio::time::sleep(pause).await;
    let before = Held::now(&b);
    assert_eq!(before.guests, 0, "{before:?}");
    for number in 1..=ROUNDS {
        round(&b, number, &cpu).await;
        expire(&b).await;
    }
    assert!(b.runtime.metrics().starts as usize > ROUNDS * AT_ONCE * 6 / 8);
    for _ in 0..10 {
        tokio::time::sleep(pause).await;
        if Held::now(&b) == before {
            break;
        }
    }
    assert_eq!(Held::now(&b), before);
}
