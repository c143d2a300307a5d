//! Port-forward over SPDY: each connection is a pair of streams, one for its bytes and one for what went wrong.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use super::{CutOff, Door, both, port};
use crate::handlers::websocket::Socket;
use crate::spdy::{Connection, Headers, Stream};

/// How long the second stream of a pair may take to come after the first, as in Kubernetes.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest name of a pair: clients count them.
const LONGEST_REQUEST: usize = 128;

/// The bytes that a WebSocket's binary messages carry, wherever one ends.
pub(super) fn tunnelled(socket: Socket) -> impl AsyncRead + AsyncWrite + Send + 'static {
    let (to, from) = socket.split();
    let bytes = async |message| match message {
        Message::Binary(bytes) => Ok(Some(bytes)),
        _ => Ok(None),
    };
    let from = from.map_err(io::Error::other).try_filter_map(bytes);
    let to = to.sink_map_err(io::Error::other);
    let to = to.with(async |bytes: Bytes| Ok::<_, io::Error>(Message::Binary(bytes)));
    tokio::io::join(
        StreamReader::new(Box::pin(from)),
        SinkWriter::new(CopyToBytes::new(Box::pin(to))),
    )
}

/// Forwards every pair of streams that the client opens, until it closes the connection.
pub(super) async fn serve(io: impl AsyncRead + AsyncWrite + Send + 'static, door: Door) {
    let mut connection = Connection::start(io);
    let mut halves = Halves::default();
    let mut forwarded = JoinSet::new();
    loop {
        let overdue = halves.overdue();
        tokio::select! {
            opened = connection.accept() => match opened {
                Some(stream) => {
                    if let Some(pair) = halves.take(stream).await {
                        forwarded.spawn(forward(pair, door.clone()));
                    }
                }
                None => return,
            },
            () = tokio::time::sleep_until(overdue), if !halves.0.is_empty() => halves.expire(),
            Some(_) = forwarded.join_next() => {}
        }
    }
}

/// What a stream is for.
#[derive(Debug, PartialEq, Eq)]
struct Purpose {
    /// The same for both streams of a pair.
    request: String,
    port: u16,
    /// It is for what went wrong.
    error: bool,
}

impl Purpose {
    /// Reads a stream's headers; none where they are not those of a port-forward.
    fn read(headers: &Headers, stream: u32) -> Option<Self> {
        let error = match headers.get("streamtype")? {
            "error" => true,
            "data" => false,
            _ => return None,
        };
        let request = match headers.get("requestid") {
            Some(id) if id.len() > LONGEST_REQUEST => return None,
            Some(id) if !id.is_empty() => id.to_owned(),
            // Before there were such numbers the stream for errors was opened just before the other.
            _ if error => stream.to_string(),
            _ => stream.checked_sub(2)?.to_string(),
        };
        Some(Self {
            request,
            port: port(headers.get("port")?)?,
            error,
        })
    }
}

struct Pair {
    port: u16,
    data: Stream,
    error: Stream,
}

/// The first streams of pairs, which wait for the second.
#[derive(Default)]
struct Halves(BTreeMap<String, Half>);

struct Half {
    stream: Stream,
    error: bool,
    until: Instant,
}

impl Halves {
    /// Takes a stream; the pair that it completes. One that is nothing of a port-forward is refused.
    async fn take(&mut self, mut stream: Stream) -> Option<Pair> {
        // The headers say nothing more, however long the stream goes on.
        let headers = std::mem::take(&mut stream.headers);
        let purpose = Purpose::read(&headers, stream.id())?;
        let Purpose {
            request,
            port,
            error,
        } = purpose;
        if self.0.get(&request).is_some_and(|half| half.error == error) {
            return None;
        }
        // Clients wait for this before they open the second.
        stream.reply().await.ok()?;
        let Some(first) = self.0.remove(&request) else {
            let until = Instant::now() + PATIENCE;
            let half = Half {
                stream,
                error,
                until,
            };
            self.0.insert(request, half);
            return None;
        };
        let (data, error) = match error {
            true => (first.stream, stream),
            false => (stream, first.stream),
        };
        Some(Pair { port, data, error })
    }

    fn overdue(&self) -> Instant {
        let first = self.0.values().map(|half| half.until).min();
        first.unwrap_or_else(|| Instant::now() + PATIENCE)
    }

    /// Resets those that have waited long enough.
    fn expire(&mut self) {
        let now = Instant::now();
        self.0.retain(|_, half| half.until > now);
    }
}

/// Carries one connection. What went wrong before it was made is said in words, and afterwards by a reset.
async fn forward(pair: Pair, door: Door) {
    let Pair {
        port,
        data,
        mut error,
    } = pair;
    match door.open(port).await {
        Ok((mut from, mut to)) => {
            let (mut reader, mut writer) = (data.reader, data.writer);
            let inward = async {
                while let Some(bytes) = reader.read().await? {
                    to.send(bytes).await?;
                }
                Ok::<_, CutOff>(to.finish().await?)
            };
            let outward = async {
                while let Some(bytes) = from.next().await? {
                    writer.write(bytes).await?;
                }
                writer.finish();
                Ok::<_, CutOff>(from.over().await?)
            };
            // Either way the streams end here: in order, or by being dropped.
            let _ = both(inward, outward).await;
        }
        Err(why) => {
            // A client that is gone does not mind.
            let _ = error.writer.write(why.into()).await;
            let mut data = data;
            data.writer.finish();
        }
    }
    // Clients wait for its end, whatever became of the bytes.
    error.writer.finish();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_streams_are_for() {
        let read = |headers: &[(&str, &str)], stream| {
            Purpose::read(&headers.iter().copied().collect(), stream)
        };
        let of = |request: &str, port, error| {
            Some(Purpose {
                request: request.to_owned(),
                port,
                error,
            })
        };
        let (error, data) = (("streamtype", "error"), ("streamtype", "data"));
        let (port, id) = (("port", "80"), ("requestid", "7"));
        let long = "1".repeat(LONGEST_REQUEST + 1);
        for (headers, want) in [
            (&[error, port, id][..], of("7", 80, true)),
            (&[data, port, id], of("7", 80, false)),
            (&[error, port], of("5", 80, true)),
            (&[data, port], of("3", 80, false)),
            (&[data, port, ("requestid", "")], of("3", 80, false)),
            (&[data, port, ("requestid", &long)], None),
            (&[("streamtype", "stdin"), port, id], None),
            (&[port, id], None),
            (&[data, id], None),
            (&[data, id, ("port", "0")], None),
            (&[data, id, ("port", "65536")], None),
            (&[data, id, ("port", "http")], None),
        ] {
            assert_eq!(read(headers, 5), want, "{headers:?}");
        }
        assert_eq!(read(&[data, port], 1), None);
    }
}
