//! `pods/exec`: a command in a running container, as `kubectl exec` wants it. The node's agent runs it.

use api::Status;
use client::node::exec_request::What as Asked;
use client::node::exec_response::What as Said;
use client::node::{ExecRequest, ExecResponse, ExecStart, ExecStdinEnd, ExecTarget};
use futures::StreamExt;
use futures::stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::agents;
use super::container::{Agent, PodContainer, broken_off, may_create};
use super::open::Open;
use super::streams::{Container, End, Input, Opening, Output, WAITING, Wanted};
use crate::body::Response;
use crate::dispatch::Call;

/// Answers a request for `…/pods/NAME/exec`.
pub(super) async fn exec(call: &Call) -> Result<Response, Status> {
    may_create(call).await?;
    let pod = PodContainer::read(call).await?;
    let wanted = Wanted::read(&call.query)?;
    let command: Vec<String> = call.query.all("command").map(str::to_owned).collect();
    if command.is_empty() {
        return Err(Status::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    pod.may_run(call.name())?;
    // Nothing is run for a client that could not be told of it.
    let opening = Opening::read(call)?;
    let agent = pod.placed(call).await?;
    let target = ExecTarget {
        namespace: pod.namespace,
        pod: call.name().to_owned(),
        uid: pod.uid,
        container: pod.container,
        command,
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
        tty: wanted.tty,
        call: agents::call(),
        attach: false,
    };
    let container = start(agent, target).await?;
    opening.serve(call, wanted, container)
}

/// Has the agent keep a place for it, where it runs once the client is there. What is refused is known before the
/// protocol is changed.
pub(super) async fn start(mut agent: Agent, target: ExecTarget) -> Result<Container, Status> {
    let held = agent.hold()?;
    let call = target.call;
    let (inputs, mut queue) = mpsc::channel(WAITING);
    let first = ExecRequest {
        what: Some(Asked::Target(target)),
    };
    let rest = stream::poll_fn(move |cx| queue.poll_recv(cx)).map(request);
    let answered = agent.client.exec(stream::iter([first]).chain(rest)).await;
    let responses = answered.map_err(|e| agent.refusal(&e))?.into_inner();
    let running = Running {
        open: Some(Open::new(responses, agent, call, held)),
    };
    let outputs = stream::unfold(running, async |mut running| {
        let output = running.next().await?;
        Some((output, running))
    });
    Ok(Container {
        inputs: Some(inputs),
        outputs: outputs.boxed(),
    })
}

fn request(input: Input) -> ExecRequest {
    let what = match input {
        Input::Start => Asked::Start(ExecStart {}),
        Input::Stdin(bytes) => Asked::Stdin(bytes),
        Input::StdinEnd => Asked::StdinEnd(ExecStdinEnd {}),
        Input::Size(size) => Asked::Size(size),
    };
    ExecRequest { what: Some(what) }
}

/// A command that has its place. Dropped before it has ended, it is broken off: it may read nothing, so that the end of
/// its requests would not reach it.
struct Running {
    /// None once it has ended.
    open: Option<Open<ExecResponse>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // A server that ends breaks off everything.
        if let Some(open) = self.open.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(open.abandon(None));
        }
    }
}

impl Running {
    /// What it prints next, and at last how it has ended.
    async fn next(&mut self) -> Option<Output> {
        let open = self.open.as_mut()?;
        let end = loop {
            let said = match open.message().await {
                Ok(Some(response)) => response.what,
                Ok(None) => break failed("it ended without an exit code"),
                Err(status) => break failed(broken_off(&status)),
            };
            match said {
                Some(Said::Stdout(bytes)) if !bytes.is_empty() => {
                    return Some(Output::Stdout(bytes));
                }
                Some(Said::Stderr(bytes)) if !bytes.is_empty() => {
                    return Some(Output::Stderr(bytes));
                }
                Some(Said::Exit(code)) => break End::of_command(code),
                Some(Said::Stdout(_) | Said::Stderr(_)) | None => {}
            }
        };
        self.open = None;
        Some(Output::End(end))
    }
}

/// As the kubelet words it.
fn failed(why: &str) -> End {
    let why = format!("error executing command in container: {why}");
    End::Failed(Status::internal(why))
}
