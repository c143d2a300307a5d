//! Streams as those of a SPDY connection, each of which says by its header `streamType` what it is for.
//!
//! Since version 4 of the protocol the stream for errors ends with a `Status`, before with words where something is wrong.
//! Since version 3 there is one for the sizes of a terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{BoxStream, FuturesUnordered};
use tokio::io::{AsyncRead, AsyncWrite};

use super::size::Sizes;
use super::{Container, End, LINGER, Output, Stdin, Wanted};
use crate::spdy::{Broken, Connection, Reader, Writer};

/// The versions of the protocol that are spoken.
pub(super) const PROTOCOLS: [&str; 4] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];
/// How long a client may take to open its streams, as in Kubernetes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What of the protocol depends on its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// A `Status` says how it ends.
    status: bool,
    /// Terminals have sizes.
    sizes: bool,
}

impl Version {
    /// That of a protocol's name: who names none speaks the first one.
    pub(super) fn of(protocol: Option<&str>) -> Self {
        Self {
            status: protocol == Some("v4.channel.k8s.io"),
            sizes: matches!(protocol, Some("v4.channel.k8s.io" | "v3.channel.k8s.io")),
        }
    }
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    Error,
    Stdin,
    Stdout,
    Stderr,
    Resize,
}

impl Purpose {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "error" => Self::Error,
            "stdin" => Self::Stdin,
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            "resize" => Self::Resize,
            _ => return None,
        })
    }

    /// Whether a client has anything to say on it.
    fn is_read(self) -> bool {
        matches!(self, Self::Stdin | Self::Resize)
    }

    /// Those of the streams that a client has to open.
    fn expected(wanted: Wanted, version: Version) -> BTreeSet<Self> {
        let all = [
            (Self::Error, true),
            (Self::Stdin, wanted.stdin),
            (Self::Stdout, wanted.stdout),
            (Self::Stderr, wanted.stderr),
            (Self::Resize, wanted.tty && version.sizes),
        ];
        let expected = all.into_iter().filter(|(_, is)| *is);
        expected.map(|(purpose, _)| purpose).collect()
    }
}

/// Carries everything until the container has ended, or the client is gone.
pub(super) async fn serve(
    io: impl AsyncRead + AsyncWrite + Send + 'static,
    version: Version,
    wanted: Wanted,
    mut container: Container,
) {
    let mut connection = Connection::start(io);
    let opening = accept(&mut connection, Purpose::expected(wanted, version));
    // Whoever does not open its streams is not told more: there may be none to tell it by.
    if let Ok(Some((mut readers, mut writers))) = tokio::time::timeout(PATIENCE, opening).await {
        let (stdin, sizes) = container.start(wanted).await;
        let ended = tokio::select! {
            ended = send(&writers, version, &mut container.outputs) => ended,
            () = receive(&mut readers, stdin, sizes) => Err(Broken),
            () = any_reset(&writers) => Err(Broken),
            () = gone(&mut connection) => Err(Broken),
        };
        // Of the container nothing is needed any more, whatever the client does now, and nothing of what it says.
        drop((container, readers));
        if ended.is_ok() {
            writers.values_mut().for_each(Writer::finish);
            let _ = tokio::time::timeout(LINGER, gone(&mut connection)).await;
        }
    }
    connection.close().await;
}

/// The two directions of a client's streams.
type Streams = (BTreeMap<Purpose, Reader>, BTreeMap<Purpose, Writer>);

/// Waits for the streams. Any other is refused, one that comes twice too.
async fn accept(connection: &mut Connection, mut expected: BTreeSet<Purpose>) -> Option<Streams> {
    let (mut readers, mut writers) = (BTreeMap::new(), BTreeMap::new());
    while !expected.is_empty() {
        let mut stream = connection.accept().await?;
        let named = stream.headers.get("streamtype").and_then(Purpose::named);
        let Some(purpose) = named.filter(|purpose| expected.remove(purpose)) else {
            continue;
        };
        // Clients wait for this before they open the next.
        stream.reply().await.ok()?;
        // What is said on the others is dropped as it comes, by who drops their readers: it holds up nothing.
        if purpose.is_read() {
            readers.insert(purpose, stream.reader);
        }
        writers.insert(purpose, stream.writer);
    }
    Some((readers, writers))
}

/// Waits until the client has closed the connection. It has nothing more to open.
async fn gone(connection: &mut Connection) {
    while connection.accept().await.is_some() {}
}

/// Passes on what the container prints, and at last how it ends.
async fn send(
    writers: &BTreeMap<Purpose, Writer>,
    version: Version,
    outputs: &mut BoxStream<'static, Output>,
) -> Result<(), Broken> {
    while let Some(output) = outputs.next().await {
        let (purpose, bytes) = match output {
            Output::Stdout(bytes) => (Purpose::Stdout, bytes),
            Output::Stderr(bytes) => (Purpose::Stderr, bytes),
            Output::End(end) => (Purpose::Error, last(&end, version)),
        };
        if let Some(writer) = writers.get(&purpose) {
            writer.write(bytes).await?;
        }
    }
    Ok(())
}

/// What is said of the end.
fn last(end: &End, version: Version) -> Bytes {
    match version.status {
        true => end.to_value().to_string().into(),
        false => end.message().unwrap_or_default().into(),
    }
}

/// Waits until the client resets a stream, whichever it is, and whether or not it has ended it before: it wants nothing
/// more then.
async fn any_reset(writers: &BTreeMap<Purpose, Writer>) {
    let mut broken: FuturesUnordered<_> = writers.values().map(Writer::broken).collect();
    broken.next().await;
}

/// Passes on what the client sends. Ends only where the streams have broken off.
async fn receive(readers: &mut BTreeMap<Purpose, Reader>, mut stdin: Stdin, mut sizes: Sizes) {
    let (typed, resized) = (
        readers.remove(&Purpose::Stdin),
        readers.remove(&Purpose::Resize),
    );
    let typed = async {
        let Some(mut reader) = typed else {
            return pending().await;
        };
        while let Some(bytes) = reader.read().await? {
            stdin.send(bytes).await;
        }
        stdin.end().await;
        pending::<Result<(), Broken>>().await
    };
    let resized = async {
        let Some(mut reader) = resized else {
            return pending().await;
        };
        while let Some(bytes) = reader.read().await? {
            sizes.take(&bytes).await;
        }
        pending::<Result<(), Broken>>().await
    };
    tokio::select! {
        _ = typed => {}
        _ = resized => {}
    }
}

#[cfg(test)]
mod tests {
    use api::Status;

    use super::*;

    #[test]
    fn versions_differ() {
        let wanted = Wanted {
            stdin: true,
            stdout: true,
            stderr: false,
            tty: true,
        };
        let end = End::of_command(7);
        let words = "command terminated with non-zero exit code: exit status 7";
        for (protocol, status, sizes) in [
            (Some(PROTOCOLS[0]), true, true),
            (Some(PROTOCOLS[1]), false, true),
            (Some(PROTOCOLS[2]), false, false),
            (Some(PROTOCOLS[3]), false, false),
            (None, false, false),
        ] {
            let version = Version::of(protocol);
            let expected = Purpose::expected(wanted, version);
            assert_eq!(expected.contains(&Purpose::Resize), sizes, "{protocol:?}");
            assert!(!expected.contains(&Purpose::Stderr), "{protocol:?}");
            let said = last(&end, version);
            assert_eq!(said.starts_with(b"{"), status, "{protocol:?}");
            assert_eq!(said == words, !status, "{protocol:?}");
            let success = last(&End::Success, version);
            assert_eq!(success.is_empty(), !status, "{protocol:?}");
        }
        let failed = End::Failed(Status::bad_request("why"));
        assert_eq!(last(&failed, Version::of(None)), "why");
    }
}
