//! A cluster of one node: a simulated API server, an agent, scripts instead of guests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent::{Clock, Config, Disk, Memory};
use bytes::Bytes;
use client::simulated::Simulated;
use client::{Body, BoxFuture, Client, Error, ListOptions, Patch, Transport};
use http::{Request, Response};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use network::PodNet;
use runtime::{
    Compiled, Handler, Meter, Metrics, Module, ModuleSource, PrepareError, Running, Runtime,
    StartError, Workload,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The bytes of a module that cannot be run, at `broken.wasm`, and their digest.
const BROKEN: &[u8] = b"\0asm\x01\0\0\0broken";
const BROKEN_DIGEST: &str =
    "sha256:abdb022f7a6ee667fbbd2c09e6845eb5d9b1b7d06847346d8403886c52fae26d";

/// A disk with much room.
pub(crate) const EMPTY: Disk = Disk {
    capacity: 100 << 30,
    available: 90 << 30,
    inodes: 1 << 20,
    inodes_free: 1 << 20,
};

/// A machine with much memory.
pub(crate) const FREE: Memory = Memory {
    capacity: 8 << 30,
    available: 6 << 30,
};

/// The way to the server, which may be cut.
struct Wire {
    server: Simulated,
    is_cut: Arc<AtomicBool>,
}

impl Transport for Wire {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, Error>> {
        match self.is_cut.load(Ordering::Relaxed) {
            false => self.server.send(request),
            true => Box::pin(async { Err(Error::transport("simulated", "the way is cut")) }),
        }
    }
}

/// Plays scripts when the test lets it, and lets the test into the networks of those that say so.
struct Tapped {
    scripts: runtime::Scripted,
    nets: Arc<Mutex<Vec<PodNet>>>,
    fills: Arc<Mutex<Vec<Arc<Meter>>>>,
    handlers: Arc<Mutex<Vec<Handler>>>,
    prepares: Arc<watch::Sender<bool>>,
    forgets: Arc<watch::Sender<bool>>,
}

/// Waits until the gate is open. It has receivers as long as somebody waits.
async fn pass(gate: &watch::Sender<bool>) {
    let mut gate = gate.subscribe();
    // Its other end is as old as the runtime.
    let _ = gate.wait_for(|is_open| *is_open).await;
}

#[async_trait::async_trait]
impl Runtime for Tapped {
    async fn prepare(&self, source: ModuleSource) -> Result<Module, PrepareError> {
        pass(&self.prepares).await;
        self.scripts.prepare(source).await
    }

    fn start(&self, workload: Workload) -> Result<Running, StartError> {
        let says = |what: &str| workload.env.iter().any(|(name, _)| name == what);
        if says("TAPPED") {
            self.nets.lock().unwrap().extend(workload.net.clone());
        }
        if says("FILLS") {
            self.fills.lock().unwrap().extend(workload.meter.clone());
        }
        self.handlers
            .lock()
            .unwrap()
            .push(workload.module.handler());
        self.scripts.start(workload)
    }

    async fn compiled(&self) -> std::io::Result<Vec<Compiled>> {
        self.scripts.compiled().await
    }

    async fn forget(&self, digest: &str) -> std::io::Result<bool> {
        pass(&self.forgets).await;
        self.scripts.forget(digest).await
    }

    fn metrics(&self) -> Metrics {
        self.scripts.metrics()
    }
}

pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) server: Simulated,
    /// No server can be reached by the agent.
    pub(crate) is_cut: Arc<AtomicBool>,
    pub(crate) client: Client,
    pub(crate) runtime: runtime::Scripted,
    /// The networks of the pods whose containers have `TAPPED` in their environment, in the order of their starts.
    pub(crate) nets: Arc<Mutex<Vec<PodNet>>>,
    /// What the pods have added whose containers have `FILLS` in their environment: the agent finds so much less on its disk.
    pub(crate) fills: Arc<Mutex<Vec<Arc<Meter>>>>,
    /// By what was run what was started, in this order.
    pub(crate) handlers: Arc<Mutex<Vec<Handler>>>,
    /// Modules that are asked for are made ready as long as this says so, and wait while it does not.
    pub(crate) prepares: Arc<watch::Sender<bool>>,
    /// The same, for compiled code that is to go.
    pub(crate) forgets: Arc<watch::Sender<bool>>,
    pub(crate) clock: Clock,
    /// How full the agent finds its disk.
    pub(crate) disk: Arc<Mutex<Disk>>,
    /// How full what stands for a directory in memory.
    pub(crate) files: Arc<Mutex<Disk>>,
    /// How much memory the agent finds.
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) agent: Option<(JoinHandle<()>, CancellationToken)>,
    /// The pods' uids, by name.
    pub(crate) uids: Mutex<BTreeMap<String, String>>,
}

impl Bench {
    /// A cluster whose one node has its range of addresses, and an agent that runs.
    pub(crate) async fn new() -> Self {
        Self::in_dir(tempfile::tempdir().unwrap(), "10.128.0.0/18").await
    }

    /// The same, with all its files in this directory, and with this range.
    pub(crate) async fn in_dir(dir: tempfile::TempDir, cidr: &str) -> Self {
        std::fs::create_dir(dir.path().join("shared")).unwrap();
        std::fs::write(dir.path().join("hello.wasm"), b"\0asm\x01\0\0\0").unwrap();
        std::fs::write(dir.path().join("broken.wasm"), BROKEN).unwrap();
        let server = Simulated::new();
        let client = server.client("test");
        let clock = Clock::simulated("2026-11-21T10:00:00Z".parse().unwrap());
        let mut bench = Self {
            dir,
            server,
            is_cut: Arc::default(),
            client,
            runtime: runtime::Scripted::with_invalid([BROKEN_DIGEST.to_owned()]),
            nets: Arc::default(),
            fills: Arc::default(),
            handlers: Arc::default(),
            prepares: Arc::new(watch::Sender::new(true)),
            forgets: Arc::new(watch::Sender::new(true)),
            clock,
            disk: Arc::new(Mutex::new(EMPTY)),
            files: Arc::new(Mutex::new(EMPTY)),
            memory: Arc::new(Mutex::new(FREE)),
            agent: None,
            uids: Mutex::default(),
        };
        bench.start();
        bench
            .until("registered", async |b| {
                b.client
                    .of::<Node>()
                    .find("", "n1")
                    .await
                    .unwrap()
                    .is_some()
            })
            .await;
        let range = json!({"spec": {"podCIDR": cidr}});
        bench
            .client
            .of::<Node>()
            .patch("", "n1", &Patch::Merge(range), None)
            .await
            .unwrap();
        bench.until("ready", async |b| b.node_ready().await).await;
        bench
    }

    pub(crate) fn start(&mut self) {
        let config = Config {
            data_dir: self.dir.path().join("agent"),
            node_name: "n1".to_owned(),
            address: IpAddr::from([127, 0, 0, 1]),
            transport: Arc::new(Wire {
                server: self.server.clone(),
                is_cut: self.is_cut.clone(),
            }),
            service: None,
            runtime: Arc::new(Tapped {
                scripts: self.runtime.clone(),
                nets: self.nets.clone(),
                fills: self.fills.clone(),
                handlers: self.handlers.clone(),
                prepares: self.prepares.clone(),
                forgets: self.forgets.clone(),
            }),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            taints: Vec::new(),
            pod_manifest_path: Some(self.manifests()),
            allow_host_path: false,
            shared_dirs: Vec::new(),
            allow_file_images: true,
            ingress: api::ingress::Ports::default(),
            shutdown_grace: Duration::from_secs(5),
            clock: self.clock,
            disk: {
                let (disk, fills) = (self.disk.clone(), self.fills.clone());
                let (files, shared) = (self.files.clone(), self.shared_memory());
                Arc::new(move |dir| match dir == shared {
                    true => Ok(*files.lock().unwrap()),
                    false => Ok(filled(&disk, &fills)),
                })
            },
            memory: {
                let memory = self.memory.clone();
                Arc::new(move || Ok(*memory.lock().unwrap()))
            },
            shared_memory: Some(self.shared_memory()),
            eviction_hard: agent::EvictionHard::default(),
        };
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { agent::run(config, stop).await.unwrap() });
        self.agent = Some((task, shutdown));
    }

    /// How full the disk is with what pods have added to it.
    pub(crate) fn filled(&self) -> Disk {
        filled(&self.disk, &self.fills)
    }

    /// Ends the agent as SIGTERM does.
    pub(crate) async fn stop(&mut self) {
        let (task, shutdown) = self.agent.take().unwrap();
        shutdown.cancel();
        task.await.unwrap();
    }

    /// Ends the agent as SIGKILL does.
    pub(crate) async fn kill(&mut self) {
        let (task, _) = self.agent.take().unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }

    pub(crate) async fn until(&self, what: &str, done: impl AsyncFn(&Self) -> bool) {
        let wait = async {
            while !done(self).await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(900), wait)
            .await
            .is_err()
        {
            let pods = self
                .client
                .of::<Pod>()
                .list(&ListOptions::default())
                .await
                .unwrap();
            panic!(
                "never {what}: {}",
                serde_json::to_string_pretty(&pods.items).unwrap()
            );
        }
    }

    pub(crate) async fn node_ready(&self) -> bool {
        let node =
            serde_json::to_value(self.client.of::<Node>().get("", "n1").await.unwrap()).unwrap();
        let conditions = node["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        conditions
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True")
    }

    pub(crate) async fn create(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!("n1");
        let image = format!("file://{}", self.dir.path().join("hello.wasm").display());
        for kind in ["containers", "initContainers"] {
            for c in spec[kind].as_array_mut().into_iter().flatten() {
                if c["image"].is_null() {
                    c["image"] = json!(image);
                }
            }
        }
        let pod = json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": spec, "status": {"phase": "Pending"},
        });
        let pod = serde_json::from_value(pod).unwrap();
        let created = self.client.of::<Pod>().create(&pod).await.unwrap();
        let uid = created.metadata.uid.unwrap();
        self.uids.lock().unwrap().insert(name.to_owned(), uid);
    }

    /// What the API server does when a pod is deleted with this grace, in seconds, which the simulated one does not.
    pub(crate) async fn begin_deletion(&self, name: &str, grace: i64) {
        let at = self.clock.now() + jiff::SignedDuration::from_secs(grace);
        let metadata = json!({"deletionTimestamp": at, "deletionGracePeriodSeconds": grace});
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let pods = self.client.of::<Pod>();
        pods.patch("default", name, &patch, None).await.unwrap();
    }

    pub(crate) async fn pod(&self, name: &str) -> Value {
        let pod = self.client.of::<Pod>().find("default", name).await.unwrap();
        serde_json::to_value(pod).unwrap()
    }

    pub(crate) async fn phase(&self, name: &str) -> String {
        self.pod(name).await["status"]["phase"]
            .as_str()
            .unwrap_or("gone")
            .to_owned()
    }

    pub(crate) async fn until_phase(&self, name: &str, phase: &str) {
        self.until(&format!("{name} {phase}"), async |b| {
            b.phase(name).await == phase
        })
        .await;
    }

    pub(crate) async fn until_ready(&self, name: &str, status: &str) {
        self.until(&format!("{name} Ready={status}"), async |b| {
            let pod = b.pod(name).await;
            let conditions = pod["status"]["conditions"].as_array();
            conditions
                .into_iter()
                .flatten()
                .any(|c| c["type"] == "Ready" && c["status"] == status)
        })
        .await;
    }

    pub(crate) async fn until_waiting(&self, name: &str, reason: &str) -> Value {
        let state = async |b: &Self| b.pod(name).await["status"]["containerStatuses"][0].clone();
        self.until(&format!("{name} waiting {reason}"), async |b| {
            state(b).await["state"]["waiting"]["reason"] == reason
        })
        .await;
        state(self).await
    }

    /// Where the files of static pods are.
    pub(crate) fn manifests(&self) -> std::path::PathBuf {
        self.dir.path().join("manifests")
    }

    pub(crate) fn uid(&self, name: &str) -> String {
        let known = self.uids.lock().unwrap().get(name).cloned();
        known.unwrap_or_else(|| name.to_owned())
    }

    pub(crate) fn pod_dir(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("agent/pods").join(self.uid(name))
    }

    /// Where a pod's volumes in memory lie.
    pub(crate) fn memory_dir(&self, name: &str) -> std::path::PathBuf {
        let nodes = std::fs::read_dir(self.shared_memory()).unwrap();
        let mut nodes = nodes.map(|entry| entry.unwrap().path());
        let node = nodes.find(|path| path.is_dir()).unwrap();
        node.join(self.uid(name))
    }

    /// What stands for a directory in memory.
    pub(crate) fn shared_memory(&self) -> std::path::PathBuf {
        self.dir.path().join("shared")
    }

    pub(crate) fn log(&self, name: &str, container: &str, attempt: u32) -> String {
        let file = self
            .pod_dir(name)
            .join(format!("logs/{container}/{attempt}.0.log"));
        let text = std::fs::read_to_string(file).unwrap();
        text.lines()
            .map(|l| l.splitn(4, ' ').last().unwrap_or_default().to_owned() + "\n")
            .collect()
    }

    async fn events_of(&self, name: &str) -> impl Iterator<Item = Event> {
        let all = self
            .client
            .of::<Event>()
            .list(&ListOptions::namespace("default"))
            .await
            .unwrap();
        let of = move |e: &Event| e.involved_object.name.as_deref() == Some(name);
        all.items.into_iter().filter(of)
    }

    /// How often something of this reason was said of a pod, in the same words or in others.
    pub(crate) async fn times_said(&self, name: &str, reason: &str) -> i32 {
        let of = self.events_of(name).await;
        let of = of.filter(|e| e.reason.as_deref() == Some(reason));
        of.map(|e| e.count.unwrap_or(1)).sum()
    }

    pub(crate) async fn events(&self, name: &str) -> Vec<String> {
        let of = self.events_of(name).await;
        of.map(|e| {
            format!(
                "{}: {}",
                e.reason.unwrap_or_default(),
                e.message.unwrap_or_default()
            )
        })
        .collect()
    }
}

fn filled(disk: &Mutex<Disk>, fills: &Mutex<Vec<Arc<Meter>>>) -> Disk {
    let disk = *disk.lock().unwrap();
    let added: u64 = fills.lock().unwrap().iter().map(|m| m.added()).sum();
    let available = disk.available.saturating_sub(added);
    Disk { available, ..disk }
}

pub(crate) fn files_below(dir: &Path) -> Vec<String> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    all
}
