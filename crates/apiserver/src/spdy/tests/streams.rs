//! Streams over a connection in memory.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::io::DuplexStream;
use tokio_util::codec::Framed;

use super::opening;
use crate::spdy::frame::{Decoder, Encoder, Fault, Frame, INITIAL_WINDOW_SIZE, LONGEST_DATA};
use crate::spdy::{Broken, Connection, Stream, status};

/// Both directions of frames, as a client has them.
struct Wire {
    framed: Framed<DuplexStream, Codec>,
}

#[derive(Default)]
struct Codec(Decoder, Encoder);

impl tokio_util::codec::Decoder for Codec {
    type Item = Frame;
    type Error = Fault;

    fn decode(&mut self, from: &mut BytesMut) -> Result<Option<Frame>, Fault> {
        self.0.decode(from)
    }
}

impl tokio_util::codec::Encoder<Frame> for Codec {
    type Error = Fault;

    fn encode(&mut self, frame: Frame, to: &mut BytesMut) -> Result<(), Fault> {
        self.1.encode(frame, to)
    }
}

impl Wire {
    fn new() -> (Self, Connection) {
        Self::within(Duration::from_secs(60))
    }

    /// With a server that waits so long before it asks.
    fn within(silence: Duration) -> (Self, Connection) {
        let (client, server) = tokio::io::duplex(64 << 10);
        let framed = Framed::new(client, Codec::default());
        (Self { framed }, Connection::begin(server, silence))
    }

    async fn send(&mut self, frame: Frame) {
        self.framed.send(frame).await.unwrap();
    }

    async fn data(&mut self, stream: u32, fin: bool, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.send(Frame::Data { stream, fin, bytes }).await;
    }

    async fn next(&mut self) -> Option<Frame> {
        self.framed.next().await.map(|frame| frame.unwrap())
    }

    /// Opens a stream, which the server takes.
    async fn open(&mut self, stream: u32, connection: &mut Connection) -> Stream {
        self.send(opening(stream, "data")).await;
        let mut opened = connection.accept().await.unwrap();
        opened.reply().await.unwrap();
        let reply = self.next().await.unwrap();
        assert!(matches!(reply, Frame::SynReply { stream: s, .. } if s == stream));
        opened
    }
}

fn reset(stream: u32, status: u32) -> Option<Frame> {
    Some(Frame::RstStream { stream, status })
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_ends_alone() {
    let (mut wire, mut connection) = Wire::new();
    let mut stream = wire.open(1, &mut connection).await;
    assert_eq!(stream.headers.get("RequestID"), Some("0"));
    wire.data(1, false, "in").await;
    assert_eq!(stream.reader.read().await, Ok(Some("in".into())));
    wire.data(1, true, "").await;
    assert_eq!(stream.reader.read().await, Ok(None));
    assert_eq!(stream.reader.read().await, Ok(None));
    stream.writer.write("out".into()).await.unwrap();
    stream.writer.finish();
    let data = |fin, bytes: &'static str| Frame::Data {
        stream: 1,
        fin,
        bytes: bytes.into(),
    };
    assert_eq!(wire.next().await.unwrap(), data(false, "out"));
    assert_eq!(wire.next().await.unwrap(), data(true, ""));
    drop(stream);
    wire.send(Frame::Ping(1)).await;
    assert_eq!(wire.next().await, Some(Frame::Ping(1)), "nothing was reset");
    drop(wire);
    assert!(connection.accept().await.is_none());
}

#[tokio::test]
async fn resets_are_told_and_heard() {
    let (mut wire, mut connection) = Wire::new();
    // One that is not taken.
    wire.send(opening(1, "data")).await;
    drop(connection.accept().await.unwrap());
    assert_eq!(wire.next().await, reset(1, status::REFUSED_STREAM));
    // One that is given up.
    drop(wire.open(3, &mut connection).await);
    assert_eq!(wire.next().await, reset(3, status::CANCEL));
    // Those that the client gives up.
    let mut stream = wire.open(5, &mut connection).await;
    wire.data(5, false, "before").await;
    wire.send(reset(5, status::CANCEL).unwrap()).await;
    assert_eq!(stream.reader.read().await, Ok(Some("before".into())));
    assert_eq!(stream.reader.read().await, Err(Broken));
    assert_eq!(stream.writer.write("x".into()).await, Err(Broken));
    drop(stream);
    // Numbers that come twice, or are the server's, and streams that never were.
    for (frame, id, why) in [
        (opening(5, "data"), 5, status::PROTOCOL_ERROR),
        (opening(6, "data"), 6, status::PROTOCOL_ERROR),
        (
            Frame::Data {
                stream: 9,
                fin: false,
                bytes: "x".into(),
            },
            9,
            status::INVALID_STREAM,
        ),
    ] {
        wire.send(frame).await;
        assert_eq!(wire.next().await, reset(id, why));
    }
    let mut stream = wire.open(7, &mut connection).await;
    drop(wire);
    assert_eq!(stream.reader.read().await, Err(Broken));
}

#[tokio::test]
async fn a_window_counts_once_the_client_has_one() {
    let (mut wire, mut connection) = Wire::new();
    let free = wire.open(1, &mut connection).await;
    let sent = tokio::spawn(async move {
        free.writer.write(vec![1; 200_000].into()).await.unwrap();
        free
    });
    let mut got = 0;
    while got < 200_000 {
        match wire.next().await.unwrap() {
            Frame::Data { bytes, .. } => got += bytes.len(),
            other => panic!("{other:?}"),
        }
    }
    let free = sent.await.unwrap();
    wire.send(Frame::Settings(vec![(INITIAL_WINDOW_SIZE, 10)]))
        .await;
    let stream = wire.open(3, &mut connection).await;
    let mut blocked = tokio::spawn(async move {
        stream.writer.write(vec![2; 25].into()).await.unwrap();
        stream
    });
    // All streams together have used up theirs.
    wire.send(Frame::WindowUpdate {
        stream: 0,
        delta: 200_000,
    })
    .await;
    let length = |frame| match frame {
        Some(Frame::Data {
            stream: 3, bytes, ..
        }) => bytes.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(length(wire.next().await), 10);
    wire.send(Frame::WindowUpdate {
        stream: 3,
        delta: 14,
    })
    .await;
    assert_eq!(length(wire.next().await), 14);
    wire.send(Frame::Ping(1)).await;
    assert_eq!(wire.next().await, Some(Frame::Ping(1)));
    assert!(futures::poll!(&mut blocked).is_pending());
    wire.send(Frame::WindowUpdate {
        stream: 3,
        delta: 1,
    })
    .await;
    assert_eq!(length(wire.next().await), 1);
    let _stream = blocked.await.unwrap();
    wire.send(Frame::WindowUpdate {
        stream: 1,
        delta: u32::MAX >> 1,
    })
    .await;
    wire.send(Frame::WindowUpdate {
        stream: 1,
        delta: u32::MAX >> 1,
    })
    .await;
    assert_eq!(wire.next().await, reset(1, status::FLOW_CONTROL_ERROR));
    drop(free);
}

#[tokio::test]
async fn who_is_read_may_send_more() {
    let (mut wire, mut connection) = Wire::new();
    let mut stream = wire.open(1, &mut connection).await;
    for _ in 0..2 {
        wire.data(1, false, vec![1; LONGEST_DATA]).await;
    }
    for _ in 0..2 {
        assert_eq!(
            stream.reader.read().await.unwrap().unwrap().len(),
            LONGEST_DATA
        );
    }
    let mut told = [wire.next().await.unwrap(), wire.next().await.unwrap()];
    told.sort_by_key(|frame| matches!(frame, Frame::WindowUpdate { stream: 1, .. }));
    let delta = 2 * LONGEST_DATA as u32;
    let update = |stream| Frame::WindowUpdate { stream, delta };
    assert_eq!(told, [update(0), update(1)]);
}

/// What a client sends at most that keeps the window which it has at first.
const WINDOW: usize = 64 << 10;

#[tokio::test(start_paused = true)]
async fn who_keeps_its_window_is_never_held_back() {
    let (mut wire, mut connection) = Wire::new();
    let mut stream = wire.open(1, &mut connection).await;
    // However short its pieces are, and though nobody reads them.
    let all = async {
        for _ in 0..WINDOW {
            wire.data(1, false, "x").await;
        }
        wire.send(Frame::Ping(1)).await;
        loop {
            match wire.next().await.unwrap() {
                Frame::Ping(1) => break,
                Frame::WindowUpdate { stream: 0, .. } => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let sent = tokio::time::timeout(Duration::from_secs(1), all).await;
    sent.expect("all is taken");
    let (mut got, mut pieces) = (0, 0);
    while got < WINDOW {
        got += stream.reader.read().await.unwrap().unwrap().len();
        pieces += 1;
    }
    assert_eq!((got, pieces), (WINDOW, 16));
}

#[tokio::test(start_paused = true)]
async fn a_window_grows_behind_data_that_waits_for_it() {
    let (mut wire, mut connection) = Wire::new();
    let settings = vec![(INITIAL_WINDOW_SIZE, 1)];
    wire.send(Frame::Settings(settings)).await;
    let Stream {
        mut reader, writer, ..
    } = wire.open(1, &mut connection).await;
    let echo = tokio::spawn(async move {
        while let Some(bytes) = reader.read().await.unwrap() {
            writer.write(bytes).await.unwrap();
        }
    });
    for _ in 0..100 {
        wire.data(1, false, "x").await;
        // Each is read by itself.
        tokio::task::yield_now().await;
    }
    let (stream, delta) = (1, 100);
    wire.send(Frame::WindowUpdate { stream, delta }).await;
    wire.data(1, true, "").await;
    let mut got = 0;
    let all = async {
        while got < 100 {
            match wire.next().await.unwrap() {
                Frame::Data { bytes, .. } => got += bytes.len(),
                other => panic!("{other:?}"),
            }
        }
    };
    let echoed = tokio::time::timeout(Duration::from_secs(1), all).await;
    echoed.expect("all is echoed");
    echo.await.unwrap();
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_back_its_connection() {
    let (mut wire, mut connection) = Wire::new();
    let mut stream = wire.open(1, &mut connection).await;
    let sent = tokio::spawn(async move {
        for _ in 0..1024 {
            wire.data(1, false, vec![1; LONGEST_DATA]).await;
        }
        wire.data(1, true, "").await;
        wire
    });
    // Far more turns than it takes to send all, were it taken.
    for _ in 0..100_000 {
        tokio::task::yield_now().await;
    }
    assert!(!sent.is_finished());
    let mut got = 0;
    while let Some(bytes) = stream.reader.read().await.unwrap() {
        got += bytes.len();
    }
    assert_eq!(got, 1024 * LONGEST_DATA);
}

#[tokio::test]
async fn what_is_malformed_ends_the_connection() {
    let (mut wire, mut connection) = Wire::new();
    let mut stream = wire.open(1, &mut connection).await;
    let raw = wire.framed.get_mut();
    tokio::io::AsyncWriteExt::write_all(raw, &[0x80, 2, 0, 6, 0, 0, 0, 4])
        .await
        .unwrap();
    assert_eq!(
        wire.next().await,
        Some(Frame::GoAway { last: 1, status: 1 })
    );
    assert_eq!(wire.next().await, None);
    assert_eq!(stream.reader.read().await, Err(Broken));
    assert!(connection.accept().await.is_none());
}

#[tokio::test]
async fn closing_writes_what_is_queued() {
    let (mut wire, mut connection) = Wire::new();
    let mut stream = wire.open(1, &mut connection).await;
    stream.writer.write("last".into()).await.unwrap();
    stream.writer.finish();
    connection.close().await;
    let mut ends = Vec::new();
    while let Some(frame) = wire.next().await {
        ends.push(frame);
    }
    assert_eq!(ends.last(), Some(&Frame::GoAway { last: 1, status: 0 }));
    assert_eq!(ends.len(), 3);
}

#[tokio::test]
async fn who_is_silent_is_asked_and_then_given_up() {
    let (mut wire, mut connection) = Wire::within(Duration::from_millis(50));
    let mut stream = wire.open(1, &mut connection).await;
    assert_eq!(wire.next().await, Some(Frame::Ping(2)));
    wire.send(Frame::Ping(2)).await;
    assert_eq!(wire.next().await, Some(Frame::Ping(2)));
    assert!(connection.accept().await.is_none());
    assert_eq!(stream.reader.read().await, Err(Broken));
}

/// More than the streams that are open and those whose ends wait, with what is on its way besides.
const FLOOD: u32 = 20_000;

#[tokio::test(start_paused = true)]
async fn who_does_not_read_opens_no_streams_without_end() {
    let (wire, mut connection) = Wire::new();
    let (mut to, mut from) = wire.framed.split();
    let opening = |n| opening(2 * n + 1, "data");
    let sending = tokio::spawn(async move {
        for n in 0..FLOOD {
            to.send(opening(n)).await.unwrap();
        }
        to
    });
    let mut taken = 0;
    // The clock stands still while anything is to be done: this long is until nothing more is.
    let while_unread = async {
        while let Some(stream) = connection.accept().await {
            taken += 1;
            // Each is refused, and the refusal waits to be read.
            drop(stream);
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(1), while_unread).await;
    assert!(ended.is_err() && !sending.is_finished());
    assert!(taken < FLOOD / 2, "{taken} refusals are kept");
    // Once they are read all goes on.
    let accepting = tokio::spawn(async move { while connection.accept().await.is_some() {} });
    for n in 0..FLOOD {
        let refused = from.next().await.unwrap().unwrap();
        assert_eq!(Some(refused), reset(2 * n + 1, status::REFUSED_STREAM));
    }
    drop((sending.await.unwrap(), from));
    accepting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn streams_that_the_client_resets_are_not_kept_without_end() {
    let (mut wire, mut connection) = Wire::new();
    let sending = tokio::spawn(async move {
        for n in 0..FLOOD {
            wire.send(opening(2 * n + 1, "data")).await;
            wire.send(reset(2 * n + 1, status::CANCEL).unwrap()).await;
        }
        wire
    });
    let mut kept = Vec::new();
    let all = async {
        while let Some(stream) = connection.accept().await {
            kept.push(stream);
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(1), all).await;
    assert!(ended.is_err() && !sending.is_finished());
    assert!(kept.len() < FLOOD as usize / 2, "{} are kept", kept.len());
    kept.clear();
    let accepting = tokio::spawn(async move { while connection.accept().await.is_some() {} });
    drop(sending.await.unwrap());
    accepting.await.unwrap();
}
