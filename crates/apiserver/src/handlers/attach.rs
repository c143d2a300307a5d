//! `pods/attach`: a running container's streams, as `kubectl attach` wants them. Outputs are those of the log from now on:
//! the log is what every other reader sees too.

use std::pin::pin;
use std::task::{Poll, ready};
use std::time::Duration;

use api::Status;
use bytes::Bytes;
use client::node::{ExecTarget, LogStream, LogsChunk, LogsRequest, StdinRequest, StdinTarget};
use futures::stream::{self, BoxStream, SelectAll};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::agents::{self, Held};
use super::container::{Agent, PodContainer, broken_off, may_create};
use super::exec;
use super::streams::{Container, End, Input, Opening, Output, WAITING, Wanted};
use crate::body::Response;
use crate::dispatch::Call;

/// How long a container may take for the rest of its input after the client has gone.
const GRACE: Duration = Duration::from_secs(10);

type Outputs = SelectAll<BoxStream<'static, Result<Output, tonic::Status>>>;

/// Answers a request for `…/pods/NAME/attach`.
pub(super) async fn attach(call: &Call) -> Result<Response, Status> {
    may_create(call).await?;
    let pod = PodContainer::read(call).await?;
    let wanted = Wanted::read(&call.query)?;
    if wanted.tty && !pod.tty {
        return Err(Status::bad_request(format!(
            "container {} of pod {} has no terminal (tty) that could be attached to",
            pod.container,
            call.name()
        )));
    }
    pod.may_run(call.name())?;
    if pod.tty {
        return terminal(call, pod, wanted).await;
    }
    let mut agent = pod.placed(call).await?;
    // Before the protocol is changed: kubectl shows the log of a container that has ended, but only
    // where it is refused.
    let outputs = outputs(call, &pod, wanted, &mut agent).await?;
    let opening = Opening::read(call)?;
    let held = wanted.stdin.then(|| agent.hold()).transpose()?;
    let (inputs, passed) = held
        .map(|held| {
            let target = StdinTarget {
                namespace: pod.namespace,
                pod: call.name().to_owned(),
                uid: pod.uid,
                container: pod.container,
                call: agents::call(),
            };
            Passed::start(agent, target, held)
        })
        .unzip();
    let attached = Attached {
        outputs,
        passed,
        over: false,
    };
    let outputs = stream::unfold(attached, async |mut attached| {
        let output = attached.next().await?;
        Some((output, attached))
    });
    let outputs = outputs.boxed();
    opening.serve(call, wanted, Container { inputs, outputs })
}

/// Attaches to a container's own terminal, as a command is run there. Its output is no log's: what is shown before a line
/// ends is sent as well.
async fn terminal(call: &Call, pod: PodContainer, wanted: Wanted) -> Result<Response, Status> {
    let agent = pod.placed(call).await?;
    let opening = Opening::read(call)?;
    let target = ExecTarget {
        namespace: pod.namespace,
        pod: call.name().to_owned(),
        uid: pod.uid,
        container: pod.container,
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        tty: wanted.tty,
        call: agents::call(),
        attach: true,
        ..ExecTarget::default()
    };
    let container = exec::start(agent, target).await?;
    opening.serve(call, wanted, container)
}

/// What the container prints from now on. It is asked for although nobody may want it: by it the
/// agent says whether the container runs.
async fn outputs(
    call: &Call,
    pod: &PodContainer,
    wanted: Wanted,
    agent: &mut Agent,
) -> Result<Outputs, Status> {
    let mut outputs = Outputs::new();
    for log in asked(wanted) {
        let request = LogsRequest {
            namespace: pod.namespace.clone(),
            pod: call.name().to_owned(),
            uid: pod.uid.clone(),
            container: pod.container.clone(),
            follow: true,
            attach: true,
            stream: log.into(),
            ..LogsRequest::default()
        };
        let chunks = agent.logs(request).await?;
        let output = move |LogsChunk { data }| match log {
            LogStream::Stderr => Output::Stderr(data),
            _ => Output::Stdout(data),
        };
        if wanted.stdout || wanted.stderr {
            outputs.push(chunks.map(move |chunk| chunk.map(output)).boxed());
        }
    }
    Ok(outputs)
}

/// The outputs that the agent is asked for: one at least.
fn asked(wanted: Wanted) -> impl Iterator<Item = LogStream> {
    let out = wanted.stdout || !wanted.stderr;
    let out = out.then_some(LogStream::Stdout);
    out.into_iter()
        .chain(wanted.stderr.then_some(LogStream::Stderr))
}

/// A container that is attached to.
struct Attached {
    outputs: Outputs,
    passed: Option<Passed>,
    over: bool,
}

impl Attached {
    /// What it prints next, and at last how that came to its end.
    async fn next(&mut self) -> Option<Output> {
        if self.over {
            return None;
        }
        let end = loop {
            tokio::select! {
                Some(output) = self.outputs.next() => match output {
                    Ok(output) => return Some(output),
                    Err(status) => break End::Failed(Status::internal(broken_off(&status))),
                },
                result = until(&mut self.passed), if self.passed.is_some() => {
                    self.passed = None;
                    match result {
                        Err(status) => break End::Failed(status),
                        Ok(()) if self.outputs.is_empty() => break End::Success,
                        Ok(()) => {}
                    }
                }
                else => break End::Success,
            }
        };
        self.over = true;
        Some(Output::End(end))
    }
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

/// What becomes of the input. Dropped, it leaves the container some time to take what it was sent.
struct Passed {
    task: JoinHandle<Result<(), Status>>,
    _attached: DropGuard,
}

impl Passed {
    /// Opens the way of the input to the agent. It has ended when what it takes is dropped.
    fn start(mut agent: Agent, target: StdinTarget, held: Held) -> (mpsc::Sender<Input>, Self) {
        let (inputs, queue) = mpsc::channel(WAITING);
        let call = target.call;
        let first = StdinRequest {
            target: Some(target),
            data: Bytes::new(),
        };
        let requests = stream::iter([first]).chain(received(queue));
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
        let passed = Self {
            task,
            _attached: attached.drop_guard(),
        };
        (inputs, passed)
    }
}

/// The input as the agent takes it.
fn received(mut queue: mpsc::Receiver<Input>) -> impl Stream<Item = StdinRequest> {
    stream::poll_fn(move |cx| {
        loop {
            return Poll::Ready(match ready!(queue.poll_recv(cx)) {
                // It runs already.
                Some(Input::Start) => continue,
                Some(Input::Stdin(data)) => Some(StdinRequest { target: None, data }),
                // Sizes are those of terminals, which there are none of.
                Some(Input::StdinEnd | Input::Size(_)) | None => None,
            });
        }
    })
}
