//! Requests that a `wasi:http` server answers on one core, with a fresh instance for each, beside those that hyper
//! answers by itself on the same virtual network.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use carob_bench::{Conditions, figure};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use network::{Listener, Network, PodNet};
use runtime::{Config, ModuleSource, Runtime as _, Wasm, Workload};
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};

/// Connections that ask at the same time.
const CONNECTIONS: usize = 16;

/// Requests that are asked before anything is measured.
const WARMING: usize = 2_000;

const REQUESTS: usize = 100_000;

const PORT: u16 = 8080;

fn main() -> ExitCode {
    carob_bench::main(measure())
}

async fn measure() -> Result<()> {
    Conditions {
        nodes: 1,
        runs: 1,
        more: format!("{REQUESTS} requests on {CONNECTIONS} connections, one core for the server"),
    }
    .print();
    let node = Network::new("10.128.0.0/24".parse()?);
    let (guests, natives, client) = (
        node.join("guest")?,
        node.join("native")?,
        node.join("client")?,
    );

    let native = Native::start(&natives)?;
    ask(&client, natives.address(), WARMING).await?;
    let before = native.cpu()?;
    let native_took = ask(&client, natives.address(), REQUESTS).await?;
    let native_cpu = native.cpu()? - before;

    let scratch = tempfile::tempdir()?;
    let mut config = Config::new(scratch.path().join("compiled"));
    config.threads = 1;
    let wasm = Wasm::new(config)?;
    let module = wasm.prepare(source(&guest()?)?).await?;
    let mut workload = Workload::new(module);
    workload.net = Some(guests.clone());
    workload.serve = vec![PORT.into()];
    let running = wasm.start(workload)?;
    ask(&client, guests.address(), WARMING).await?;
    let before = running.usage().cpu;
    let took = ask(&client, guests.address(), REQUESTS).await?;
    let cpu = running.usage().cpu - before;

    print(
        "http-requests",
        per_second(took),
        per_second(native_took),
        "1/s",
    );
    print("http-request-cpu", each(cpu), each(native_cpu), "µs");
    Ok(())
}

fn print(name: &str, value: f64, peer: f64, unit: &str) {
    let beside = format!("{unit} ({:.2} × hyper)", value / peer);
    figure(name, format!("{value:.1}"), &beside);
}

fn per_second(took: Duration) -> f64 {
    REQUESTS as f64 / took.as_secs_f64()
}

fn each(cpu: Duration) -> f64 {
    cpu.as_secs_f64() * 1e6 / REQUESTS as f64
}

/// Asks so often, and says how long that took.
async fn ask(client: &PodNet, server: Ipv4Addr, requests: usize) -> Result<Duration> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = client.connect(SocketAddrV4::new(server, PORT)).await?;
        let io = TokioIo::new(stream.into_io());
        let (sender, connection) = http1::handshake::<_, Empty<Bytes>>(io).await?;
        tokio::spawn(connection);
        connections.push(sender);
    }
    let begun = Instant::now();
    let share = requests / CONNECTIONS;
    let asking = connections
        .into_iter()
        .map(|sender| tokio::spawn(ask_on(sender, share)));
    for asked in asking.collect::<Vec<_>>() {
        asked.await??;
    }
    Ok(begun.elapsed())
}

async fn ask_on(mut sender: SendRequest<Empty<Bytes>>, requests: usize) -> Result<()> {
    for _ in 0..requests {
        sender.ready().await?;
        let request = Request::get("/hello").header("host", "web");
        let response = sender.send_request(request.body(Empty::new())?).await?;
        ensure!(response.status() == 200, "answered {}", response.status());
        response.into_body().collect().await?;
    }
    Ok(())
}

/// A server of hyper's alone, on a thread of its own.
struct Native {
    cpu: std::sync::mpsc::Receiver<Duration>,
    asked: tokio::sync::mpsc::UnboundedSender<()>,
}

impl Native {
    fn start(pod: &PodNet) -> Result<Self> {
        let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT);
        let listener = Listener::new(Arc::new(pod.bind_stream(at)?), network::MOST_WAITING);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (tell, cpu) = std::sync::mpsc::channel();
        let (asked, mut asks) = tokio::sync::mpsc::unbounded_channel();
        let work = async move {
            tokio::spawn(accept(listener));
            while asks.recv().await.is_some() {
                let time = clock_gettime(ClockId::ThreadCPUTime);
                let used = Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32);
                if tell.send(used).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new()
            .name("native".to_owned())
            .spawn(move || runtime.block_on(work))?;
        Ok(Self { cpu, asked })
    }

    /// CPU time that its thread has used.
    fn cpu(&self) -> Result<Duration> {
        self.asked.send(())?;
        Ok(self.cpu.recv()?)
    }
}

async fn accept(listener: Listener) {
    loop {
        let io = TokioIo::new(listener.accept().await.into_io());
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(hello));
        tokio::spawn(connection);
    }
}

fn hello(
    _: Request<hyper::body::Incoming>,
) -> impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> {
    std::future::ready(Ok(Response::new(Full::new(Bytes::from_static(b"hello\n")))))
}

/// Builds the server that the runtime's tests use, too.
fn guest() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let into = root.join("target/guests");
    let target = "wasm32-wasip2";
    let built = Command::new("cargo")
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--target",
            target,
        ])
        .arg("--target-dir")
        .arg(&into)
        .current_dir(root.join("crates/runtime/tests/guests/web"))
        .status()
        .context("cargo")?;
    ensure!(
        built.success(),
        "the guest cannot be built: `rustup target add {target}`?"
    );
    Ok(into.join(target).join("release/web.wasm"))
}

fn source(path: &Path) -> Result<ModuleSource> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(ModuleSource {
        path: path.to_owned(),
        digest: format!("sha256:{}", hex::encode(Sha256::digest(bytes))),
    })
}
