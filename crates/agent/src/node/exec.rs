//! A command's streams as messages of the node protocol.

use std::future::pending;

use bytes::Bytes;
use client::node::exec_request::What as Asked;
use client::node::exec_response::What as Said;
use client::node::{ExecRequest, ExecResponse, ExecTarget, TerminalSize};
use futures::FutureExt as _;
use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use network::pipe::{Reader, Writer, pipe};
use runtime::Sink;
use runtime::output::Discard;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::calls::Call;
use crate::exec::keyboard::{Display, Keyboard, PATIENCE};
use crate::exec::{Streams, Terminal};

/// What waits on its way to a command or from it, in bytes.
const WAITING: usize = 64 << 10;
/// The most bytes of one message.
const CHUNK: usize = 64 << 10;
/// The exit code of a command that is interrupted at its terminal.
const INTERRUPTED: i32 = 130;

/// What a command prints, and how it ends.
pub(super) type Responses = BoxStream<'static, Result<ExecResponse, Status>>;

/// The streams that a caller has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Held {
    /// Those of one who is attached to a container's own terminal, which passes on what it shows and does with what is
    /// typed what has to be done.
    pub(super) fn of_viewer(target: &ExecTarget) -> Self {
        Self {
            stdin: target.stdin,
            stdout: target.stdout,
            stderr: false,
            tty: false,
        }
    }
}

impl From<&ExecTarget> for Held {
    fn from(target: &ExecTarget) -> Self {
        Self {
            stdin: target.stdin,
            stdout: target.stdout,
            stderr: target.stderr,
            tty: target.tty,
        }
    }
}

/// Runs a command for as long as the responses are asked for and the requests come. Who drops the responses ends it, and
/// so does who breaks the call off. The caller's standard output, where he has one, is there from the beginning: `accepted`
/// has it, and answers the command. Sizes that are said while it runs go to `sized`.
pub(super) fn carry<F, C>(
    accepted: impl FnOnce(Option<Sink>) -> F,
    held: Held,
    sized: impl Fn(TerminalSize) + Send + 'static,
    requests: impl Stream<Item = Result<ExecRequest, Status>> + Send + Unpin + 'static,
    call: Call,
) -> Responses
where
    F: FnOnce(Streams) -> C + Send + 'static,
    C: Future<Output = i32> + Send + 'static,
{
    let (stdout, out) = output(held.stdout);
    let command = accepted(held.stdout.then(|| stdout.clone()));
    let (stderr, err) = output(held.stderr && !held.tty);
    let session = async move {
        let ended = session(command, held, sized, requests, (stdout, stderr));
        tokio::select! {
            biased;
            () = call.broken_off() => Err(broken_off()),
            ended = ended => ended,
        }
    };
    let outward = Outward {
        stdout: out,
        stderr: err,
        session: AbortOnDropHandle::new(tokio::spawn(session)),
        ended: None,
        said: false,
    };
    stream::try_unfold(outward, Outward::next).boxed()
}

/// An output, and what is read of it where somebody has it.
fn output(held: bool) -> (Sink, Option<Reader>) {
    match held {
        true => {
            let (writer, reader) = pipe(WAITING);
            (Sink::new(writer), Some(reader))
        }
        false => (Sink::new(Discard), None),
    }
}

/// Runs a command until it ends or is to end, and answers its exit code.
async fn session<C: Future<Output = i32>>(
    command: impl FnOnce(Streams) -> C,
    held: Held,
    sized: impl Fn(TerminalSize),
    mut requests: impl Stream<Item = Result<ExecRequest, Status>> + Unpin,
    (stdout, stderr): (Sink, Sink),
) -> Result<i32, Status> {
    started(&mut requests).await?;
    let (terminal, early) = match held.tty {
        true => {
            let (size, early) = size(&mut requests).await?;
            (Some(Terminal { size }), early)
        }
        false => (None, None),
    };
    let (stdin, pipe) = match held.stdin {
        true => {
            let (writer, reader) = pipe(WAITING);
            (Some(reader), Some(writer))
        }
        false => (None, None),
    };
    let input = Input {
        pipe,
        keyboard: (held.tty && held.stdin).then(|| Keyboard::new(stdout.clone())),
        sized,
    };
    let streams = match terminal {
        Some(_) => {
            let display = Sink::new(Display(stdout));
            Streams {
                stdin,
                stdout: display.clone(),
                stderr: display,
                terminal,
            }
        }
        None => Streams {
            stdin,
            stdout,
            stderr,
            terminal,
        },
    };
    let requests = stream::iter(early).map(Ok).chain(requests);
    tokio::select! {
        // What has ended has its own exit code, whatever was asked for meanwhile.
        biased;
        code = command(streams) => Ok(code),
        ended = input.follow(requests) => ended,
    }
}

/// Waits until the caller's streams are there.
async fn started(
    requests: &mut (impl Stream<Item = Result<ExecRequest, Status>> + Unpin),
) -> Result<(), Status> {
    match requests.next().await {
        Some(Ok(request)) if matches!(request.what, Some(Asked::Start(_))) => Ok(()),
        Some(Ok(_)) => Err(Status::invalid_argument("a command has to be started")),
        Some(Err(_)) | None => Err(broken_off()),
    }
}

/// A terminal's size, if it is said in time, or what is said instead.
async fn size(
    requests: &mut (impl Stream<Item = Result<ExecRequest, Status>> + Unpin),
) -> Result<(Option<(u32, u32)>, Option<ExecRequest>), Status> {
    let Ok(first) = timeout(PATIENCE, requests.next()).await else {
        return Ok((None, None));
    };
    match first {
        Some(Ok(request)) => Ok(match request.what {
            Some(Asked::Size(size)) => {
                let known = size.width > 0 && size.height > 0;
                (known.then_some((size.width, size.height)), None)
            }
            _ => (None, Some(request)),
        }),
        Some(Err(_)) | None => Err(broken_off()),
    }
}

/// Where what comes in goes to.
struct Input<S> {
    /// Until the input has ended.
    pipe: Option<Writer>,
    /// What it is typed at.
    keyboard: Option<Keyboard>,
    sized: S,
}

impl<S: Fn(TerminalSize)> Input<S> {
    /// Passes on what comes in until the command is to end: with an exit code, or because nobody is there any more.
    async fn follow(
        mut self,
        requests: impl Stream<Item = Result<ExecRequest, Status>>,
    ) -> Result<i32, Status> {
        let mut requests = std::pin::pin!(requests);
        while let Some(Ok(request)) = requests.next().await {
            match request.what {
                Some(Asked::Stdin(bytes)) => {
                    if self.take(bytes).await? {
                        return Ok(INTERRUPTED);
                    }
                }
                Some(Asked::StdinEnd(_)) => (self.pipe, self.keyboard) = (None, None),
                Some(Asked::Size(size)) => (self.sized)(size),
                Some(Asked::Target(_) | Asked::Start(_)) | None => {
                    return Err(Status::invalid_argument("a request that asks for nothing"));
                }
            }
        }
        Err(broken_off())
    }

    /// Takes in some bytes; whether they interrupt the command.
    async fn take(&mut self, bytes: Bytes) -> Result<bool, Status> {
        let pipe = self.pipe.as_ref();
        if let Some(keyboard) = &mut self.keyboard {
            return Ok(keyboard.take(&bytes, pipe).await);
        }
        let pipe = pipe.ok_or_else(|| Status::invalid_argument("input after its end"))?;
        // A command that has closed its input does not mind what is not read.
        let _ = pipe.send(bytes).await;
        Ok(false)
    }
}

/// What a command prints, on its way to the caller.
struct Outward {
    stdout: Option<Reader>,
    stderr: Option<Reader>,
    session: AbortOnDropHandle<Result<i32, Status>>,
    ended: Option<i32>,
    /// The caller was told of the end.
    said: bool,
}

impl Outward {
    async fn next(mut self) -> Result<Option<(ExecResponse, Self)>, Status> {
        let said = loop {
            let Some(code) = self.ended else {
                tokio::select! {
                    bytes = read(&self.stdout) => break Said::Stdout(bytes),
                    bytes = read(&self.stderr) => break Said::Stderr(bytes),
                    ended = &mut self.session => {
                        let ended = ended.map_err(|e| Status::internal(e.to_string()))?;
                        self.ended = Some(ended?);
                    }
                }
                continue;
            };
            // All that was printed waits by now.
            if let Some(bytes) = read(&self.stdout).now_or_never() {
                break Said::Stdout(bytes);
            }
            if let Some(bytes) = read(&self.stderr).now_or_never() {
                break Said::Stderr(bytes);
            }
            if self.said {
                return Ok(None);
            }
            self.said = true;
            break Said::Exit(code);
        };
        Ok(Some((ExecResponse { what: Some(said) }, self)))
    }
}

/// Waits for what is printed. There is never anything where nobody wants it, or after the end.
async fn read(output: &Option<Reader>) -> Bytes {
    if let Some(reader) = output
        && let Ok(Some(bytes)) = reader.read(CHUNK).await
    {
        return bytes;
    }
    pending().await
}

fn broken_off() -> Status {
    Status::cancelled("nobody is there for the command any more")
}

#[cfg(test)]
mod tests;
