//! An agent in this process, with a simulated API server: what decides, and what then happens, is the agent's own.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use carob_bench::{Printed, first};
use client::simulated::Simulated;
use client::{Client, DeleteOptions, Patch};
use k8s_openapi::api::core::v1::{self, Pod};
use runtime::{
    Compiled, Metrics, Module, ModuleSource, PrepareError, Running, Runtime, StartError, Wasm,
    Workload,
};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, registry};

const NAME: &str = "n1";
/// A guest that has not begun by then will not begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long the agent has after each pod to clear up.
const REST: Duration = Duration::from_millis(20);

/// The only node, as long as it is kept.
pub(crate) struct Node {
    client: Client,
    decisions: Decisions,
    /// When the runtime was called last to start a guest. Nobody is woken to hear it: that would take a core from the guest.
    called: Arc<Mutex<Option<SystemTime>>>,
    printed: UnboundedReceiver<Bytes>,
    _agent: AbortOnDropHandle<()>,
}

/// How long a guest took to its first instruction.
pub(crate) struct Started {
    /// From the beginning of the look that decided to start it.
    pub(crate) from_decision: Duration,
    /// From the call of the runtime.
    pub(crate) from_call: Duration,
}

impl Node {
    /// Starts an agent, and waits until it takes pods.
    pub(crate) async fn start(dir: &Path) -> Result<Self> {
        let decisions = Decisions::default();
        registry()
            .with(LevelFilter::INFO)
            .with(decisions.clone())
            .try_init()?;
        let called = Arc::<Mutex<_>>::default();
        let (says, printed) = unbounded_channel();
        let wasm = crate::wasm(&dir.join("compiled-by-agent"))?;
        let runtime = Arc::new(Tapped {
            wasm,
            called: called.clone(),
            says,
        });
        let server = Simulated::new();
        let client = server.client("carob-bench");
        let config = config(dir, server, runtime);
        let running = agent::run(config, CancellationToken::new());
        let agent = tokio::spawn(async move {
            if let Err(error) = running.await {
                eprintln!("the agent ended: {error}");
            }
        });
        let node = Self {
            client,
            decisions,
            called,
            printed,
            _agent: AbortOnDropHandle::new(agent),
        };
        let ready = tokio::time::timeout(BEGIN_WITHIN, node.ready());
        ready.await.context("the agent is not ready")??;
        Ok(node)
    }

    /// Gives the node its pods' addresses as soon as it is registered, and waits until it is ready.
    async fn ready(&self) -> Result<()> {
        let nodes = self.client.of::<v1::Node>();
        while nodes.find("", NAME).await?.is_none() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let range = json!({"spec": {"podCIDR": "10.128.0.0/18"}});
        nodes.patch("", NAME, &Patch::Merge(range), None).await?;
        loop {
            let node = nodes.get("", NAME).await?;
            let conditions = node.status.and_then(|status| status.conditions);
            let mut conditions = conditions.into_iter().flatten();
            if conditions.any(|one| one.type_ == "Ready" && one.status == "True") {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Has a pod of this module come and go.
    pub(crate) async fn run(&mut self, name: &str, module: &Path) -> Result<Started> {
        let pods = self.client.of::<Pod>();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "nodeName": NAME, "restartPolicy": "Never",
                "containers": [{"name": "main", "image": format!("file://{}", module.display())}],
            },
            "status": {"phase": "Pending"},
        }))?;
        pods.create(&pod).await?;
        let printed = tokio::time::timeout(BEGIN_WITHIN, self.printed.recv());
        let printed = match printed.await {
            Ok(printed) => printed.context("the agent is gone")?,
            Err(_) => {
                let pod = pods.get("default", name).await?;
                bail!("the pod {name} does not run: {:?}", pod.status);
            }
        };
        let called = *self.called.lock().unwrap_or_else(PoisonError::into_inner);
        let called = called.context("nobody called the runtime")?;
        let decided = self.decisions.last().context("nobody decided")?;
        let started = Started {
            from_decision: first::after(decided, &printed)?,
            from_call: first::after(called, &printed)?,
        };
        pods.delete("default", name, &DeleteOptions::default())
            .await?;
        tokio::time::sleep(REST).await;
        Ok(started)
    }
}

fn config(dir: &Path, server: Simulated, runtime: Arc<dyn Runtime>) -> agent::Config {
    agent::Config {
        data_dir: dir.join("agent"),
        node_name: NAME.to_owned(),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        transport: Arc::new(server),
        service: None,
        runtime,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        pod_manifest_path: None,
        allow_host_path: false,
        shared_dirs: Vec::new(),
        allow_file_images: true,
        ingress: Default::default(),
        shutdown_grace: Duration::from_secs(1),
        clock: agent::Clock::Wall,
        disk: Arc::new(agent::read_disk),
        memory: Arc::new(agent::read_memory),
        shared_memory: None,
        eviction_hard: agent::EvictionHard::default(),
    }
}

/// The real runtime, but that it tells when it is called and what guests print.
struct Tapped {
    wasm: Wasm,
    called: Arc<Mutex<Option<SystemTime>>>,
    says: UnboundedSender<Bytes>,
}

#[async_trait]
impl Runtime for Tapped {
    async fn prepare(&self, source: ModuleSource) -> Result<Module, PrepareError> {
        self.wasm.prepare(source).await
    }

    fn start(&self, mut workload: Workload) -> Result<Running, StartError> {
        *self.called.lock().unwrap_or_else(PoisonError::into_inner) = Some(SystemTime::now());
        workload.stdout = Box::new(Printed(self.says.clone()));
        self.wasm.start(workload)
    }

    async fn compiled(&self) -> io::Result<Vec<Compiled>> {
        self.wasm.compiled().await
    }

    async fn forget(&self, digest: &str) -> io::Result<bool> {
        self.wasm.forget(digest).await
    }

    fn metrics(&self) -> Metrics {
        self.wasm.metrics()
    }
}

/// When the agent began the look at a pod that ended in the last start of a container, as its spans tell.
#[derive(Clone, Default)]
struct Decisions(Arc<Mutex<Option<SystemTime>>>);

struct Looked(SystemTime);

impl Decisions {
    fn last(&self) -> Option<SystemTime> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Layer<S> for Decisions
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let now = SystemTime::now();
        let Some(span) = context.span(id) else {
            return;
        };
        match attributes.metadata().name() {
            "sync_pod" => span.extensions_mut().insert(Looked(now)),
            "start_container" => {
                let parent = span.parent();
                let looked = parent.and_then(|look| look.extensions().get().map(|Looked(at)| *at));
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = looked;
            }
            _ => {}
        }
    }
}
