//! A command's streams as messages of the node protocol.

use std::future::{pending, poll_fn};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use client::node::exec_request::What as Asked;
use client::node::exec_response::What as Said;
use client::node::{ExecRequest, ExecResponse, ExecTarget};
use futures::FutureExt as _;
use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use network::pipe::{Reader, Writer, pipe};
use runtime::output::{Closed, Discard};
use runtime::{Output, Sink};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::calls::Call;
use crate::exec::tty::{self, Discipline};
use crate::exec::{Streams, Terminal};

/// What waits on its way to a command or from it, in bytes.
const WAITING: usize = 64 << 10;
/// The most bytes of one message.
const CHUNK: usize = 64 << 10;
/// How much of what was typed is taken in at once.
const KEYS: usize = 4 << 10;
/// What is shown where a key is dropped.
const BELL: Bytes = Bytes::from_static(b"\x07");
/// How long a command at a terminal waits, once its caller is there, to be told the terminal's size, which clients say
/// first of all, and how long what is typed there waits for a command that does not read.
const PATIENCE: Duration = Duration::from_millis(250);
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
/// so does who breaks the call off.
pub(super) fn carry<C>(
    command: impl FnOnce(Streams) -> C + Send + 'static,
    held: Held,
    requests: impl Stream<Item = Result<ExecRequest, Status>> + Send + Unpin + 'static,
    call: Call,
) -> Responses
where
    C: Future<Output = i32> + Send + 'static,
{
    let (stdout, out) = output(held.stdout);
    let (stderr, err) = output(held.stderr && !held.tty);
    let session = async move {
        let ended = session(command, held, requests, stdout, stderr);
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
    mut requests: impl Stream<Item = Result<ExecRequest, Status>> + Unpin,
    stdout: Sink,
    stderr: Sink,
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
        keyboard: (held.tty && held.stdin).then(|| (Discipline::default(), stdout.clone())),
        stuck: false,
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
struct Input {
    /// Until the input has ended.
    pipe: Option<Writer>,
    /// What it is typed at, and where its echo is shown.
    keyboard: Option<(Discipline, Sink)>,
    /// The command did not take in time what was typed at it.
    stuck: bool,
}

impl Input {
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
                // A guest is told at its start, and has no signal by which it could be told again.
                Some(Asked::Size(_)) => {}
                Some(Asked::Target(_) | Asked::Start(_)) | None => {
                    return Err(Status::invalid_argument("a request that asks for nothing"));
                }
            }
        }
        Err(broken_off())
    }

    /// Takes in some bytes; whether they interrupt the command.
    async fn take(&mut self, bytes: Bytes) -> Result<bool, Status> {
        let Some((discipline, display)) = &mut self.keyboard else {
            let pipe = self.pipe.as_ref();
            let pipe = pipe.ok_or_else(|| Status::invalid_argument("input after its end"))?;
            // A command that has closed its input does not mind what is not read.
            let _ = pipe.send(bytes).await;
            return Ok(false);
        };
        for keys in bytes.chunks(KEYS) {
            let typed = discipline.take(keys);
            let echo = show(display, typed.echo.into());
            if typed.interrupt {
                // Nothing is waited for: neither that the command reads, nor that somebody looks.
                let _ = echo.now_or_never();
                return Ok(true);
            }
            // Nor is it for long otherwise: ^C may be what is typed next.
            let _ = timeout(PATIENCE, echo).await;
            if let Some(pipe) = &self.pipe {
                for piece in typed.input {
                    self.stuck = !hand_over(pipe, piece.into(), self.stuck).await;
                    if self.stuck {
                        let _ = show(display, BELL).now_or_never();
                    }
                }
            }
        }
        Ok(false)
    }
}

/// Has the command read what was typed; whether it was in time. Where it was not before there is no waiting.
async fn hand_over(pipe: &Writer, piece: Bytes, stuck: bool) -> bool {
    if stuck && pipe.room() == Ok(0) {
        return false;
    }
    // A command that has closed its input does not mind what is not read.
    let sent = async {
        if piece.is_empty() {
            let _ = poll_fn(|cx| pipe.poll_room(cx)).await;
            let _ = pipe.end_read();
        } else {
            let _ = pipe.send(piece).await;
        }
    };
    timeout(PATIENCE, sent).await.is_ok()
}

/// Shows bytes as they are, once there is room.
async fn show(display: &Sink, bytes: Bytes) {
    if !bytes.is_empty() && poll_fn(|cx| display.poll_ready(cx)).await.is_ok() {
        // Where nobody looks any more there is nothing to be shown.
        let _ = display.write(bytes);
    }
}

/// What is printed, as a terminal shows it.
struct Display(Sink);

impl Output for Display {
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.0.poll_ready(cx)
    }

    fn write(&self, chunk: Bytes) -> Result<(), Closed> {
        self.0.write(tty::shown(&chunk).into())
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
