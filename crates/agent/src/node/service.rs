//! What servers ask of this node: logs, standard input, commands, connections into pods and what is used over gRPC,
//! metrics over HTTP, all on the node's port.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use client::node::node_server::{Node, NodeServer};
use client::node::{
    BreakOffRequest, BreakOffResponse, CONNECTION_WINDOW, ExecRequest, LogStream, LogsChunk,
    LogsRequest, MOST_STREAMS, PortForwardRequest, SERVERS, STREAM_WINDOW, StatsRequest,
    StatsResponse, StdinRequest, StdinResponse, TerminalSize, admit_server, exec_request,
};
use client::tls::{Identity, Subject};
use futures::stream::{BoxStream, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use network::Network;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Request, Response, Status, Streaming};

use super::calls::Calls;
use super::process::Process;
use super::rates::Rates;
use super::{exec, forward, port};
use crate::driver::{Driver, Refusal};
use crate::logs::{Options, Reading, Stream};
use crate::metrics::resource;

/// Why the node's port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The node's certificate or key is of no use.
    #[error(transparent)]
    Identity(#[from] client::tls::Error),
    /// Serving calls ended.
    #[error(transparent)]
    Calls(#[from] tonic::transport::Error),
}

/// Connections that wait to be served.
const WAITING: usize = 64;

/// How long it takes to know how fast CPU time is used where nobody has asked lately. Servers wait for a second at most.
const MOMENT: Duration = Duration::from_millis(250);

/// Those who may also read metrics.
const ADMINISTRATORS: &str = "system:masters";

/// Where the node's port is, and who answers there.
pub struct Service {
    /// Bound to the node's address.
    pub listener: TcpListener,
    /// The node's certificate.
    pub identity: Identity,
}

/// Makes a page.
type Page = Arc<dyn Fn() -> String + Send + Sync>;

/// Serves until `stop`.
///
/// # Errors
/// When the identity cannot be used, or the listener fails.
pub(crate) async fn serve(
    service: Service,
    driver: Driver,
    network: Network,
    clock: crate::Clock,
    metrics: Page,
    stop: CancellationToken,
) -> Result<(), ServiceError> {
    let tls = port::acceptor(&service.identity)?;
    let (calls, mut incoming) = mpsc::channel(WAITING);
    let accepting = port::accept(service.listener, tls, network, calls);
    let _accepting = AbortOnDropHandle::new(tokio::spawn(accepting));
    let of = driver.clone();
    let resource: Page =
        Arc::new(move || resource::page(clock.now(), Process::read(), &of.usage_by_name()));
    let containers = NodeServer::new(Containers {
        driver,
        clock,
        calls: Calls::default(),
        rates: Mutex::default(),
    });
    let get = |made: Page| axum::routing::get(page).with_state(made);
    let pages = axum::Router::new()
        .route("/metrics", get(metrics))
        .route("/metrics/resource", get(resource));
    let routes = tonic::service::Routes::from(pages).add_service(containers);
    tonic::transport::Server::builder()
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            futures::stream::poll_fn(move |cx| incoming.poll_recv(cx)),
            stop.cancelled_owned(),
        )
        .await?;
    Ok(())
}

async fn page(State(made): State<Page>, request: HttpRequest) -> impl IntoResponse {
    let groups = groups(request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>());
    if !groups.iter().any(|g| g == SERVERS || g == ADMINISTRATORS) {
        return (
            StatusCode::FORBIDDEN,
            "only the cluster's servers and administrators may read this\n".to_owned(),
        );
    }
    (StatusCode::OK, made())
}

/// The groups that the other end's certificate names; it was verified by TLS.
fn groups(connection: Option<&TlsConnectInfo<TcpConnectInfo>>) -> Vec<String> {
    let certificates = connection.and_then(TlsConnectInfo::peer_certs);
    let leaf = certificates.as_ref().and_then(|c| c.first());
    leaf.and_then(|c| Subject::of(c).ok())
        .map(|s| s.organizations)
        .unwrap_or_default()
}

struct Containers {
    driver: Driver,
    clock: crate::Clock,
    calls: Calls,
    rates: Mutex<Rates>,
}

#[tonic::async_trait]
impl Node for Containers {
    type LogsStream = BoxStream<'static, Result<LogsChunk, Status>>;
    type PortForwardStream = forward::Responses;
    type ExecStream = exec::Responses;

    async fn logs(
        &self,
        request: Request<LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        admit_server(&request)?;
        let request = request.into_inner();
        let found = self.driver.log(&request).map_err(Status::from)?;
        let options = Options {
            after: found.after,
            ..options(&request, self.clock.now())?
        };
        let internal = |e: std::io::Error| Status::internal(format!("the log cannot be read: {e}"));
        let reading = Reading::start(found.dir, found.attempt, found.live, options)
            .await
            .map_err(internal)?;
        let stream = futures::stream::try_unfold(reading, move |mut reading| async move {
            let next = reading.next().await.map_err(internal)?;
            Ok(next.map(|data| (LogsChunk { data }, reading)))
        });
        Ok(Response::new(stream.boxed()))
    }

    async fn stdin(
        &self,
        request: Request<Streaming<StdinRequest>>,
    ) -> Result<Response<StdinResponse>, Status> {
        admit_server(&request)?;
        let mut requests = request.into_inner();
        let first = requests.message().await?;
        let target = first
            .and_then(|r| r.target)
            .ok_or_else(|| Status::invalid_argument("the first request names no container"))?;
        let call = self.calls.enter(target.call)?;
        if let Some(attached) = self.driver.stdin(&target).map_err(Status::from)? {
            // A server that vanished has ended the input: what came before it is all there is.
            let chunks = requests
                .take_while(|request| std::future::ready(request.is_ok()))
                .filter_map(|request| async { request.ok().map(|r| r.data) });
            tokio::select! {
                () = attached.pass(chunks) => {}
                () = call.broken_off() => {}
            }
        }
        Ok(Response::new(StdinResponse {}))
    }

    async fn port_forward(
        &self,
        request: Request<Streaming<PortForwardRequest>>,
    ) -> Result<Response<Self::PortForwardStream>, Status> {
        admit_server(&request)?;
        let mut requests = request.into_inner();
        let first = requests.message().await?;
        let target = first
            .and_then(|r| r.target)
            .ok_or_else(|| Status::invalid_argument("the first request names no port"))?;
        let call = self.calls.enter(target.call)?;
        let connection = self.driver.enter(&target).await?;
        Ok(Response::new(forward::carry(connection, requests, call)))
    }

    async fn exec(
        &self,
        request: Request<Streaming<ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        admit_server(&request)?;
        let mut requests = request.into_inner();
        let first = requests.message().await?;
        let Some(exec_request::What::Target(target)) = first.and_then(|r| r.what) else {
            return Err(Status::invalid_argument(
                "the first request names no container",
            ));
        };
        if target.attach {
            let (call, held) = (
                self.calls.enter(target.call)?,
                exec::Held::of_viewer(&target),
            );
            let viewer = self.driver.terminal(&target).map_err(Status::from)?;
            let screen = viewer.screen.clone();
            let sized = move |size: TerminalSize| screen.resize(size.width, size.height);
            // From now on, though his streams are not there yet: the guest may have ended by then.
            let look = |stdout| {
                let viewer = viewer.look(stdout);
                move |streams| viewer.run(streams)
            };
            return Ok(Response::new(exec::carry(
                look, held, sized, requests, call,
            )));
        }
        if target.command.is_empty() {
            return Err(Status::invalid_argument("a command has a name"));
        }
        let (call, held) = (self.calls.enter(target.call)?, exec::Held::from(&target));
        let command = self.driver.exec(target).map_err(Status::from)?;
        let command = |_| move |streams| command.run(streams);
        // A command is told at its start, and has no signal by which it could be told again.
        let sized = |_: TerminalSize| {};
        Ok(Response::new(exec::carry(
            command, held, sized, requests, call,
        )))
    }

    async fn break_off(
        &self,
        request: Request<BreakOffRequest>,
    ) -> Result<Response<BreakOffResponse>, Status> {
        admit_server(&request)?;
        self.calls.break_off(request.into_inner().call);
        Ok(Response::new(BreakOffResponse {}))
    }

    async fn stats(
        &self,
        request: Request<StatsRequest>,
    ) -> Result<Response<StatsResponse>, Status> {
        admit_server(&request)?;
        let mut stats = self.used();
        if stats.node.is_none_or(|node| node.cpu_rate.is_none()) {
            tokio::time::sleep(MOMENT).await;
            stats = self.used();
        }
        Ok(Response::new(stats))
    }
}

impl Containers {
    fn used(&self) -> StatsResponse {
        // Held meanwhile: samples come in the order of their times.
        let mut rates = self.rates.lock();
        let now = self.clock.now();
        rates.stats(now, Process::read(), self.driver.usage())
    }
}

impl From<Refusal> for Status {
    fn from(why: Refusal) -> Self {
        match why {
            Refusal::Unknown(what) => Status::not_found(what),
            Refusal::NotYet(what) => Status::failed_precondition(what),
            Refusal::Full(what) => Status::resource_exhausted(what),
        }
    }
}

fn options(request: &LogsRequest, now: Timestamp) -> Result<Options, Status> {
    let since = match (&request.since_time, request.since_seconds) {
        (Some(time), _) => Some(
            time.parse()
                .map_err(|e| Status::invalid_argument(format!("sinceTime {time:?}: {e}")))?,
        ),
        (None, Some(secs)) => now.checked_sub(SignedDuration::from_secs(secs.max(0))).ok(),
        (None, None) => None,
    };
    let stream = match LogStream::try_from(request.stream) {
        Ok(LogStream::All) => None,
        Ok(LogStream::Stdout) => Some(Stream::Stdout),
        Ok(LogStream::Stderr) => Some(Stream::Stderr),
        Err(e) => return Err(Status::invalid_argument(format!("stream: {e}"))),
    };
    Ok(Options {
        follow: request.follow,
        tail: request.tail_lines.map(|n| usize::try_from(n).unwrap_or(0)),
        since,
        stream,
        timestamps: request.timestamps,
        limit: request.limit_bytes.map(|n| u64::try_from(n).unwrap_or(0)),
        after: None,
    })
}
