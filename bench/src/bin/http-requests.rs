//! Requests that a `wasi:http` server answers on one core, with a fresh instance for each, beside those that a server of
//! hyper's alone answers: as people run one, on the system's loopback, and on the same virtual network.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use carob_bench::{Built, Conditions, built, figure, source};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use network::{Listener, Network, PodNet};
use runtime::{Config, Runtime as _, Wasm, Workload};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

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
    let system = native(Place::System).await?;
    let node = Network::new("10.128.0.0/24".parse()?);
    let (guests, natives, client) = (
        node.join("guest")?,
        node.join("native")?,
        node.join("client")?,
    );
    let piped = native(Place::Pods(natives, client.clone())).await?;

    // The function that the examples begin with.
    let guest = built("examples/guests/hello", "hello.wasm", Built::Component)?;
    let scratch = tempfile::tempdir()?;
    let mut config = Config::new(scratch.path().join("compiled"));
    config.threads = 1;
    let wasm = Wasm::new(config)?;
    let module = wasm.prepare(source(&guest)?).await?;
    let mut workload = Workload::new(module);
    workload.net = Some(guests.clone());
    workload.serve = vec![PORT.into()];
    let running = wasm.start(workload)?;
    let to = To::Pod(&client, SocketAddrV4::new(guests.address(), PORT));
    ask(&to, WARMING).await?;
    let before = running.usage().cpu;
    let took = ask(&to, REQUESTS).await?;
    let cpu = running.usage().cpu - before;
    let function = Measured { took, cpu };
    print(
        "http-requests",
        function.rate(),
        "1/s",
        [&system, &piped].map(Measured::rate),
    );
    print(
        "http-request-cpu",
        function.each(),
        "µs",
        [&system, &piped].map(Measured::each),
    );
    Ok(())
}

fn print(name: &str, value: f64, unit: &str, [system, piped]: [f64; 2]) {
    let beside = format!(
        "{unit} ({:.2} × native hyper on loopback, {system:.1}; {:.2} × hyper in place of the guest, {piped:.1})",
        value / system,
        value / piped
    );
    figure(name, format!("{value:.1}"), &beside);
}

/// What all requests took: as the clients saw it, and of the server's thread.
struct Measured {
    took: Duration,
    cpu: Duration,
}

impl Measured {
    /// Requests a second.
    fn rate(&self) -> f64 {
        REQUESTS as f64 / self.took.as_secs_f64()
    }

    /// Microseconds of the server's CPU for one.
    fn each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / REQUESTS as f64
    }
}

/// Where a server of hyper's is asked.
enum Place {
    /// By the system's sockets.
    System,
    /// In the first pod, by the second.
    Pods(PodNet, PodNet),
}

/// Whom the clients ask.
enum To<'a> {
    System(SocketAddr),
    Pod(&'a PodNet, SocketAddrV4),
}

async fn native(place: Place) -> Result<Measured> {
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT);
    let (server, to) = match &place {
        Place::System => {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let at = listener.local_addr()?;
            (Native::start(Door::System(listener))?, To::System(at))
        }
        Place::Pods(pod, client) => {
            let listener = Listener::new(Arc::new(pod.bind_stream(any)?), network::MOST_WAITING);
            let at = SocketAddrV4::new(pod.address(), PORT);
            (Native::start(Door::Pod(listener))?, To::Pod(client, at))
        }
    };
    ask(&to, WARMING).await?;
    let before = server.cpu()?;
    let took = ask(&to, REQUESTS).await?;
    let cpu = server.cpu()? - before;
    Ok(Measured { took, cpu })
}

impl To<'_> {
    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>> {
        Ok(match self {
            Self::System(at) => {
                let stream = TcpStream::connect(at).await?;
                stream.set_nodelay(true)?;
                converse(stream).await?
            }
            Self::Pod(client, at) => converse(client.connect(*at).await?.into_io()).await?,
        })
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Empty<Bytes>>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Asks so often, and says how long that took.
async fn ask(to: &To<'_>, requests: usize) -> Result<Duration> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(to.connect().await?);
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
    fn start(door: Door) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (tell, cpu) = std::sync::mpsc::channel();
        let (asked, mut asks) = tokio::sync::mpsc::unbounded_channel();
        let work = async move {
            tokio::spawn(accept(door));
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

/// Where a server of hyper's listens.
enum Door {
    System(std::net::TcpListener),
    Pod(Listener),
}

async fn accept(door: Door) -> Result<()> {
    match door {
        Door::System(listener) => {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(answer(stream));
            }
        }
        Door::Pod(listener) => loop {
            tokio::spawn(answer(listener.accept().await.into_io()));
        },
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let server = hyper::server::conn::http1::Builder::new();
    // However it ends: its client says so.
    let _ = server
        .serve_connection(TokioIo::new(stream), service_fn(hello))
        .await;
}

fn hello(
    _: Request<hyper::body::Incoming>,
) -> impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> {
    std::future::ready(Ok(Response::new(Full::new(Bytes::from_static(b"hello\n")))))
}
