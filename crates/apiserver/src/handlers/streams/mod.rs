//! The streams of a container, or of a command in one, over a single connection of a client: what attach and exec have in
//! common.
//!
//! | how | who |
//! |---|---|
//! | a WebSocket with a channel for each stream (`v5.channel.k8s.io`) | kubectl, carob |
//! | the same where no channel ends before the WebSocket (`v4.channel.k8s.io`) | kube-rs, the Python client |
//! | SPDY after `Upgrade: SPDY/3.1`, with a stream for each (`v4.channel.k8s.io` and before) | older kubectl, and where WebSockets do not get through |
//!
//! However it is spoken, what is beneath is a [`Container`]: a queue of what the client says, and a stream of what it gets.
//! Both are bounded, so that a client that reads nothing holds up who prints, and a container that reads nothing the
//! client.

mod end;
mod size;
mod spdy;
mod websocket;

use std::time::Duration;

use api::Status;
use bytes::Bytes;
use client::node::TerminalSize;
use futures::stream::BoxStream;
use tokio::sync::mpsc;

use size::Sizes;

use super::upgrade::Way;
use crate::body::Response;
use crate::dispatch::Call;
use crate::request::Query;

pub(super) use end::End;

/// Pieces of what the client says that wait for the agent.
pub(super) const WAITING: usize = 4;
/// The most bytes of one piece.
const CHUNK: usize = 32 << 10;
/// How long a client may take to read what is on its way when all is over, as in Kubernetes: a connection that is closed
/// before would take with it what is not read yet.
const LINGER: Duration = Duration::from_secs(15 * 60);

/// The streams that a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Wanted {
    /// Reads what the query says. Of a terminal the errors are shown as its output: as Kubernetes, it has no others.
    ///
    /// # Errors
    /// 400 where nothing is wanted.
    pub(super) fn read(query: &Query) -> Result<Self, Status> {
        let tty = query.flag("tty");
        let wanted = Self {
            stdin: query.flag("stdin"),
            stdout: query.flag("stdout"),
            stderr: query.flag("stderr") && !tty,
            tty,
        };
        if wanted.stdin || wanted.stdout || wanted.stderr {
            return Ok(wanted);
        }
        Err(Status::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ))
    }
}

/// What a client says.
pub(super) enum Input {
    /// Its streams are open. Comes before all else.
    Start,
    Stdin(Bytes),
    StdinEnd,
    /// Only of a terminal.
    Size(TerminalSize),
}

/// What a client gets.
pub(super) enum Output {
    Stdout(Bytes),
    Stderr(Bytes),
    /// Nothing follows.
    End(End),
}

/// The container's side.
pub(super) struct Container {
    /// Dropped when the client is gone. None where nothing is taken.
    pub(super) inputs: Option<mpsc::Sender<Input>>,
    /// Ends with [`Output::End`].
    pub(super) outputs: BoxStream<'static, Output>,
}

impl Container {
    /// Says that the client's streams are there: a command begins with that. Where what the client says goes then.
    async fn start(&mut self, wanted: Wanted) -> (Stdin, Sizes) {
        let inputs = self.inputs.as_ref();
        if let Some(inputs) = inputs {
            // What has ended by now says so itself.
            let _ = inputs.send(Input::Start).await;
        }
        (Stdin::of(inputs, wanted), Sizes::of(inputs, wanted))
    }
}

/// The way of the input to a container.
struct Stdin(Option<mpsc::Sender<Input>>);

impl Stdin {
    /// None of it goes anywhere where it is not wanted.
    fn of(inputs: Option<&mpsc::Sender<Input>>, wanted: Wanted) -> Self {
        Self(inputs.filter(|_| wanted.stdin).cloned())
    }

    /// Sends bytes, as fast as they are taken: those that nobody will take are dropped.
    async fn send(&mut self, mut bytes: Bytes) {
        while let Some(open) = self.0.as_ref().filter(|_| !bytes.is_empty()) {
            let chunk = bytes.split_to(bytes.len().min(CHUNK));
            if open.send(Input::Stdin(chunk)).await.is_err() {
                self.0 = None;
            }
        }
    }

    /// Says that no more comes.
    async fn end(&mut self) {
        if let Some(open) = self.0.take() {
            // Who takes nothing any more does not wait for its end.
            let _ = open.send(Input::StdinEnd).await;
        }
    }
}

/// A change of protocol that is asked for, after which streams are served.
pub(super) enum Opening {
    WebSocket(super::websocket::Handshake),
    Spdy(super::spdy::Handshake),
}

impl Opening {
    /// Reads it.
    ///
    /// # Errors
    /// 400 where it is none, 400 or 403 where no protocol is offered that is spoken.
    pub(super) fn read(call: &Call) -> Result<Self, Status> {
        match Way::read(&call.headers)? {
            Way::WebSocket => websocket::read(call).map(Self::WebSocket),
            Way::Spdy => super::spdy::Handshake::read(call, &spdy::PROTOCOLS).map(Self::Spdy),
        }
    }

    /// Answers with the change of protocol, after which the client has the container's streams.
    pub(super) fn serve(
        self,
        call: &Call,
        wanted: Wanted,
        container: Container,
    ) -> Result<Response, Status> {
        match self {
            Self::WebSocket(handshake) => handshake.serve(call, move |socket| {
                websocket::serve(socket, wanted, container)
            }),
            Self::Spdy(handshake) => {
                let version = spdy::Version::of(handshake.protocol);
                handshake.serve(call, move |io| spdy::serve(io, version, wanted, container))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_query_wants() {
        let read = |query| {
            let wanted = Wanted::read(&Query::parse(Some(query)));
            wanted.map(|w| [w.stdin, w.stdout, w.stderr, w.tty])
        };
        for (query, want) in [
            ("stdin=true", [true, false, false, false]),
            ("stdout=1&stderr=true", [false, true, true, false]),
            ("stdin=0&stdout=true", [false, true, false, false]),
            // A terminal shows both.
            (
                "stdin=true&stdout=true&stderr=true&tty=true",
                [true, true, false, true],
            ),
        ] {
            assert_eq!(read(query), Ok(want), "{query}");
        }
        for query in ["", "stdin=false", "tty=true", "tty=true&stderr=true"] {
            let why = read(query).unwrap_err();
            assert_eq!(
                (why.code, why.message.as_str()),
                (400, "you must specify at least 1 of stdin, stdout, stderr"),
                "{query}"
            );
        }
    }
}
