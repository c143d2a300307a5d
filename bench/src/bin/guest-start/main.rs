//! From the decision to start a guest to its first instruction: in the runtime, beside plain wasmtime, and in an agent.

mod node;
mod plain;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use carob_bench::{Conditions, Printed, Samples, figure, first, source};
use clap::Parser;
use network::Network;
use runtime::{Config, Exit, Module, Mount, Runtime as _, Wasm, Workload};
use tokio::sync::mpsc::unbounded_channel;

use node::Node;
use plain::Plain;

/// Starts that are not counted: caches and pools fill.
const WARMING: usize = 20;
/// How many instances the pools of carob have room for: as many as plain wasmtime's. There are several in this process,
/// which has addresses for one of the usual size.
const INSTANCES: u32 = 1_000;

/// As that of the binary that is measured.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
struct Arguments {
    /// How many starts of each kind in the runtime and in plain wasmtime
    #[arg(long, default_value_t = 2_000)]
    runs: usize,
    /// How many in the agent
    #[arg(long, default_value_t = 300)]
    agent_runs: usize,
}

/// What is started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Core,
    Component,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Core, Self::Component];

    fn name(self) -> &'static str {
        match self {
            Self::Core => "p1",
            Self::Component => "component",
        }
    }

    fn binary(self) -> Result<Vec<u8>> {
        let text = match self {
            Self::Core => first::CORE,
            Self::Component => first::COMPONENT,
        };
        wat::parse_str(text).with_context(|| format!("the guest of the kind {}", self.name()))
    }

    /// Its binary as a file.
    fn file(self, dir: &Path) -> Result<PathBuf> {
        let file = dir.join(format!("{}.wasm", self.name()));
        std::fs::write(&file, self.binary()?)?;
        Ok(file)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    carob_bench::main(async move { measure(&arguments).await })
}

async fn measure(arguments: &Arguments) -> Result<()> {
    Conditions {
        nodes: 1,
        runs: arguments.runs,
        more: format!(
            "{} in the agent; one after the other, modules compiled and linked before, instances from pools of \
             {INSTANCES}; a guest reads the time as the first thing it does",
            arguments.agent_runs
        ),
    }
    .print();
    println!(
        "guest-start-…: from the call of the runtime, with a root directory, ten variables and a network, as a pod's \
         container has them: includes opening the root and the way to a thread for guests"
    );
    println!(
        "plain wasmtime: from before its store is made, with nothing but standard output, on the thread that decides"
    );
    println!(
        "guest-start-agent-…: from the beginning of the look at the pod that decides, in a whole agent in this process \
         that is told of pods by a simulated API: includes making the container's root, its log and its environment"
    );
    let scratch = tempfile::tempdir()?;
    let wasm = wasm(&scratch.path().join("compiled"))?;
    let plain = Plain::new(&Kind::Core.binary()?, &Kind::Component.binary()?)?;
    let mut alone = Vec::new();
    for kind in Kind::ALL {
        let ours = Box::pin(in_runtime(&wasm, kind, scratch.path(), arguments.runs)).await?;
        let beside = Box::pin(in_wasmtime(&plain, kind, arguments.runs)).await?;
        print(&format!("guest-start-{}", kind.name()), &ours, &beside);
        alone.push(beside);
    }
    let mut node = Box::pin(Node::start(scratch.path())).await?;
    for (kind, beside) in Kind::ALL.into_iter().zip(&alone) {
        let file = kind.file(scratch.path())?;
        let (mut whole, mut from_call) = (Samples::default(), Samples::default());
        for run in 0..WARMING + arguments.agent_runs {
            let name = format!("{}-{run}", kind.name());
            let started = Box::pin(node.run(&name, &file)).await?;
            if run >= WARMING {
                whole.push(started.from_decision);
                from_call.push(started.from_call);
            }
        }
        let name = format!("guest-start-agent-{}", kind.name());
        print(&name, &whole, beside);
        print(&format!("{name}-of-it-runtime"), &from_call, beside);
    }
    Ok(())
}

/// Prints what starts took, and how many times as long as plain wasmtime's.
fn print(name: &str, ours: &Samples, beside: &Samples) {
    for (quantile, share) in [("p50", 0.5), ("p99", 0.99)] {
        let [ours, beside] = [ours, beside].map(|samples| micros(samples.quantile(share)));
        figure(
            &format!("{name}-{quantile}"),
            format!("{ours:.1}"),
            &format!("µs ({:.2} × plain wasmtime, {beside:.1} µs)", ours / beside),
        );
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The real runtime, but for its size.
fn wasm(cache: &Path) -> Result<Wasm> {
    let mut config = Config::new(cache);
    config.instances = INSTANCES;
    Ok(Wasm::new(config)?)
}

async fn in_runtime(wasm: &Wasm, kind: Kind, scratch: &Path, runs: usize) -> Result<Samples> {
    let module = wasm.prepare(source(&kind.file(scratch)?)?).await?;
    let root = scratch.join("root");
    std::fs::create_dir_all(&root)?;
    let network = Network::new("10.128.0.0/24".parse()?);
    let mut samples = Samples::default();
    for run in 0..WARMING + runs {
        let (printed, mut lines) = unbounded_channel();
        let mut workload = workload(&module, &root);
        workload.net = Some(network.join("pod")?);
        workload.stdout = Box::new(Printed(printed));
        let decided = SystemTime::now();
        let running = wasm.start(workload)?;
        let exit = running.wait().await;
        ensure!(exit == Exit::Code(0), "a guest ended with {exit:?}");
        let printed = lines.recv().await.context("a guest printed nothing")?;
        if run >= WARMING {
            samples.push(first::after(decided, &printed)?);
        }
    }
    Ok(samples)
}

/// What an agent gives to a container, but for the network and the outputs.
fn workload(module: &Module, root: &Path) -> Workload {
    let variable = |n| (format!("VARIABLE_{n}"), "value".to_owned());
    let mut workload = Workload::new(module.clone());
    workload.env = (0..10).map(variable).collect();
    workload.mounts = vec![Mount {
        host: root.into(),
        beneath: String::new(),
        guest: "/".to_owned(),
        read_only: false,
    }];
    workload
}

async fn in_wasmtime(plain: &Plain, kind: Kind, runs: usize) -> Result<Samples> {
    let mut samples = Samples::default();
    for run in 0..WARMING + runs {
        let took = match kind {
            Kind::Core => plain.core().await?,
            Kind::Component => plain.component().await?,
        };
        if run >= WARMING {
            samples.push(took);
        }
    }
    Ok(samples)
}
