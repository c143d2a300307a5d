//! `pods/attach`: a running container's streams over a WebSocket, as `kubectl attach` wants them.
//!
//! Each binary message begins with its channel's number: 0 standard input, 1 output, 2 errors, 3
//! the `Status` by which it ends. In version 5 of the protocol the message `[255, 0]` says that
//! the input has ended; in version 4 only the connection's end does. Outputs are those of the log
//! from now on: the log is what every other reader sees too.

use std::pin::pin;
use std::time::Duration;

use api::Status;
use bytes::{BufMut, Bytes, BytesMut};
use client::node::{LogStream, LogsChunk, LogsRequest, StdinRequest, StdinTarget};
use futures::stream::{BoxStream, SelectAll, SplitStream};
use futures::{SinkExt, Stream, StreamExt};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::agents::{self, Held};
use super::container::{Agent, PodContainer, may_create};
use super::websocket::{self, FAREWELL, Handshake, Socket, breach, close};
use crate::body::Response;
use crate::dispatch::Call;
use crate::request::Query;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const CLOSE: u8 = 255;
/// The versions of the protocol that are spoken, the best first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// Messages of input that wait for the agent.
const WAITING: usize = 4;
/// How long a container may take for the rest of its input after the client has gone.
const GRACE: Duration = Duration::from_secs(10);

type Outputs = SelectAll<BoxStream<'static, (u8, Result<LogsChunk, tonic::Status>)>>;

/// Answers a request for `…/pods/NAME/attach`.
pub(super) async fn attach(call: &Call) -> Result<Response, Status> {
    may_create(call).await?;
    let pod = PodContainer::read(call).await?;
    let wanted = Wanted::read(&call.query)?;
    pod.may_run(call.name())?;
    let mut agent = pod.agent(call).await?.ok_or_else(|| {
        Status::bad_request(format!("pod {} does not have a host assigned", call.name()))
    })?;
    // Before the protocol is changed: kubectl shows the log of a container that has ended, but only
    // where it is refused.
    let outputs = outputs(call, &pod, &wanted, &mut agent).await?;
    let handshake = Handshake::read(call, &PROTOCOLS)?;
    if handshake.protocol.is_none() {
        return Err(websocket::none_spoken(&PROTOCOLS));
    }
    let held = wanted.stdin.then(|| agent.hold()).transpose()?;
    let input = held.map(|held| {
        let target = StdinTarget {
            namespace: pod.namespace,
            pod: call.name().to_owned(),
            uid: pod.uid,
            container: pod.container,
            call: agents::call(),
        };
        Input::start(agent, target, held)
    });
    handshake.serve(call, |socket| serve(socket, outputs, input))
}

/// What the container prints from now on. It is asked for although nobody may want it: by it the
/// agent says whether the container runs.
async fn outputs(
    call: &Call,
    pod: &PodContainer,
    wanted: &Wanted,
    agent: &mut Agent,
) -> Result<Outputs, Status> {
    let mut outputs = Outputs::new();
    for (channel, stream) in wanted.asked() {
        let request = LogsRequest {
            namespace: pod.namespace.clone(),
            pod: call.name().to_owned(),
            uid: pod.uid.clone(),
            container: pod.container.clone(),
            follow: true,
            attach: true,
            stream: stream.into(),
            ..LogsRequest::default()
        };
        let chunks = agent.logs(request).await?;
        if wanted.any_output() {
            outputs.push(chunks.map(move |chunk| (channel, chunk)).boxed());
        }
    }
    Ok(outputs)
}

/// The streams that the client wants.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

impl Wanted {
    fn read(query: &Query) -> Result<Self, Status> {
        if query.flag("tty") {
            return Err(Status::bad_request(
                "carob does not offer terminals (tty) yet",
            ));
        }
        let wanted = Self {
            stdin: query.flag("stdin"),
            stdout: query.flag("stdout"),
            stderr: query.flag("stderr"),
        };
        if wanted.stdin || wanted.stdout || wanted.stderr {
            return Ok(wanted);
        }
        Err(Status::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ))
    }

    fn any_output(&self) -> bool {
        self.stdout || self.stderr
    }

    /// The outputs that the agent is asked for: one at least.
    fn asked(&self) -> impl Iterator<Item = (u8, LogStream)> + use<> {
        let out = self.stdout || !self.stderr;
        let out = out.then_some((STDOUT, LogStream::Stdout));
        let err = self.stderr.then_some((STDERR, LogStream::Stderr));
        out.into_iter().chain(err)
    }
}

/// The way of the input to the agent. The input has ended when `chunks` is dropped.
struct Input {
    chunks: mpsc::Sender<StdinRequest>,
    passed: Passed,
}

/// What became of the input. Dropped, it leaves the container some time to take what it was sent.
struct Passed {
    task: JoinHandle<Result<(), Status>>,
    _attached: DropGuard,
}

impl Input {
    fn start(mut agent: Agent, target: StdinTarget, held: Held) -> Self {
        let (chunks, queue) = mpsc::channel(WAITING);
        let call = target.call;
        let first = StdinRequest {
            target: Some(target),
            data: Bytes::new(),
        };
        let requests = futures::stream::iter([first]).chain(received(queue));
        let attached = CancellationToken::new();
        let gone = attached.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            // Given back only when nothing of the call is left.
            let _held = held;
            let mut own = agent.clone();
            let mut answer = pin!(own.client.stdin(requests));
            let late = async {
                gone.await;
                tokio::time::sleep(GRACE).await;
            };
            let answer = tokio::select! {
                answer = &mut answer => answer,
                () = late => {
                    agent.break_off(call).await.map_err(|e| agent.refusal(&e))?;
                    answer.await
                }
            };
            answer.map(drop).map_err(|e| agent.refusal(&e))
        });
        let passed = Passed {
            task,
            _attached: attached.drop_guard(),
        };
        Self { chunks, passed }
    }
}

fn received<T: Send + 'static>(mut queue: mpsc::Receiver<T>) -> impl Stream<Item = T> {
    futures::stream::poll_fn(move |cx| queue.poll_recv(cx))
}

/// Carries everything until the container has ended, or the client is gone.
async fn serve(socket: Socket, mut outputs: Outputs, input: Option<Input>) {
    let (mut to, mut from) = socket.split();
    let (chunks, mut passed) = input.map(|i| (i.chunks, i.passed)).unzip();
    // A guest that does not read must not hold back what it prints: each direction goes on alone.
    let receiving = receive(&mut from, chunks);
    let sending = async {
        let ended = loop {
            tokio::select! {
                Some((channel, chunk)) = outputs.next() => match chunk {
                    Ok(chunk) => {
                        let message = message(channel, &chunk.data);
                        if to.send(message).await.is_err() {
                            return;
                        }
                    }
                    Err(status) => break Err(Status::internal(status.message())),
                },
                result = until(&mut passed), if passed.is_some() => {
                    passed = None;
                    if result.is_err() || outputs.is_empty() {
                        break result;
                    }
                }
                else => break Ok(()),
            }
        };
        let status = match ended {
            Ok(()) => json!({"metadata": {}, "status": "Success"}),
            Err(status) => status.to_value(),
        };
        let last = message(STATUS, status.to_string().as_bytes());
        // A client that is gone needs no farewell.
        if to.send(last).await.is_ok() {
            let _ = to.send(close(CloseCode::Normal)).await;
        }
    };
    let broken = tokio::select! {
        broken = receiving => broken,
        () = sending => None,
    };
    let farewell = async {
        if let Some(code) = broken {
            let _ = to.send(close(code)).await;
        }
        // A client that closes waits for the same from here.
        let _ = to.close().await;
        if let Ok(mut socket) = to.reunite(from) {
            let _ = socket.get_mut().shutdown().await;
        }
    };
    // Who does not read is not waited for.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// What became of the input; never, where there is none.
async fn until(passed: &mut Option<Passed>) -> Result<(), Status> {
    match passed {
        Some(passed) => (&mut passed.task)
            .await
            .unwrap_or_else(|e| Err(Status::internal(e.to_string()))),
        None => std::future::pending().await,
    }
}

/// Passes on what the client sends, until it closes the connection, or breaks the protocol: then it is told how.
async fn receive(
    from: &mut SplitStream<Socket>,
    mut chunks: Option<mpsc::Sender<StdinRequest>>,
) -> Option<CloseCode> {
    while let Some(message) = from.next().await {
        let data = match message {
            Ok(Message::Binary(data)) => data,
            Ok(Message::Close(_)) => return None,
            Ok(_) => continue,
            Err(error) => return breach(&error),
        };
        match data.split_first() {
            Some((&STDIN, _)) => {
                if let Some(open) = &chunks {
                    let request = StdinRequest {
                        target: None,
                        data: data.slice(1..),
                    };
                    if open.send(request).await.is_err() {
                        chunks = None;
                    }
                }
            }
            Some((&CLOSE, [STDIN])) => chunks = None,
            // Sizes of terminals, which there are none of.
            _ => {}
        }
    }
    None
}

fn message(channel: u8, data: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(1 + data.len());
    bytes.put_u8(channel);
    bytes.put_slice(data);
    Message::Binary(Bytes::from(bytes))
}
