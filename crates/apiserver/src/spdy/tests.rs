//! Frames as other implementations write them, frames that nobody should write, and streams over a connection in memory.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::io::DuplexStream;
use tokio_util::codec::{Decoder as _, Encoder as _, Framed};

use super::dictionary::DICTIONARY;
use super::frame::{Decoder, Encoder, Fault, Frame, INITIAL_WINDOW_SIZE, LONGEST_DATA};
use super::{Broken, Connection, Headers, status};

/// Two SYN_STREAMs that zlib's own compressor has packed one after the other: the second says only what differs.
const OPENINGS: [&str; 2] = [
    "800300010000003d0000000100000000000078f9e3c6a7c202253a48f95b044eea16061606409ab308125f99a074cc68\
     004e892545a989b9d0c2863515141500000000ffff",
    "800300010000001600000003000000000000225333a8a44a04000000ffff",
];

fn headers(all: &[(&str, &str)]) -> Headers {
    all.iter().copied().collect()
}

fn opening(stream: u32, purpose: &str) -> Frame {
    Frame::SynStream {
        stream,
        fin: false,
        unidirectional: false,
        headers: headers(&[
            ("port", "8080"),
            ("requestid", "0"),
            ("streamtype", purpose),
        ]),
    }
}

fn all(bytes: &[u8]) -> Result<Vec<Frame>, Fault> {
    let (mut decoder, mut bytes) = (Decoder::default(), BytesMut::from(bytes));
    let mut frames = Vec::new();
    while let Some(frame) = decoder.decode(&mut bytes)? {
        frames.push(frame);
    }
    Ok(frames)
}

fn written(frames: impl IntoIterator<Item = Frame>) -> Vec<u8> {
    let (mut encoder, mut bytes) = (Encoder::default(), BytesMut::new());
    for frame in frames {
        encoder.encode(frame, &mut bytes).unwrap();
    }
    bytes.to_vec()
}

#[test]
fn the_dictionary_is_that_of_the_protocol() {
    // Its Adler-32 is in every SPDY/3 connection's first header.
    let (mut low, mut high) = (1u32, 0u32);
    for byte in DICTIONARY.iter() {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    assert_eq!((DICTIONARY.len(), high << 16 | low), (1423, 0xe3c6_a7c2));
}

#[test]
fn frames_of_others_are_read() {
    let bytes = hex::decode(OPENINGS.concat()).unwrap();
    let want = [opening(1, "error"), opening(3, "data")];
    assert_eq!(all(&bytes).unwrap(), want);
    // However they are cut.
    let (mut decoder, mut so_far) = (Decoder::default(), BytesMut::new());
    let mut frames = Vec::new();
    for byte in bytes {
        so_far.extend_from_slice(&[byte]);
        frames.extend(decoder.decode(&mut so_far).unwrap());
    }
    assert_eq!(frames, want);
}

#[test]
fn frames_are_these_bytes() {
    let data = |fin, bytes: &'static str| Frame::Data {
        stream: 3,
        fin,
        bytes: bytes.into(),
    };
    for (frame, want) in [
        (data(false, "abc"), "0000000300000003616263"),
        (data(true, ""), "0000000301000000"),
        (
            Frame::RstStream {
                stream: 1,
                status: 5,
            },
            "80030003000000080000000100000005",
        ),
        (
            Frame::Settings(vec![(7, 65_536)]),
            "800300040000000c000000010000000700010000",
        ),
        (Frame::Ping(2), "800300060000000400000002"),
        (
            Frame::GoAway { last: 9, status: 1 },
            "80030007000000080000000900000001",
        ),
        (
            Frame::WindowUpdate {
                stream: 1,
                delta: 9,
            },
            "80030009000000080000000100000009",
        ),
    ] {
        assert_eq!(hex::encode(written([frame.clone()])), want);
        assert_eq!(all(&hex::decode(want).unwrap()).unwrap(), [frame]);
    }
}

#[test]
fn what_is_written_is_read_again() {
    let long = "x".repeat(20_000);
    let many = headers(&[("a", "1\x002"), ("long", &long), ("empty", "")]);
    let (stream, fin) = (1, true);
    let frames = vec![
        opening(1, "data"),
        Frame::SynReply {
            stream,
            fin,
            headers: Headers::default(),
        },
        Frame::Headers {
            stream,
            fin,
            headers: many.clone(),
        },
        Frame::SynStream {
            stream,
            fin,
            unidirectional: true,
            headers: many,
        },
    ];
    assert_eq!(all(&written(frames.clone())).unwrap(), frames);
}

#[test]
fn long_data_comes_in_pieces() {
    let bytes = Bytes::from(vec![7; 3 * LONGEST_DATA + 1]);
    let stream = 5;
    let frames = all(&written([Frame::Data {
        stream,
        fin: true,
        bytes,
    }]))
    .unwrap();
    let pieces: Vec<(usize, bool)> = frames
        .iter()
        .map(|frame| match frame {
            Frame::Data { fin, bytes, .. } => (bytes.len(), *fin),
            other => panic!("{other:?}"),
        })
        .collect();
    let whole = (LONGEST_DATA, false);
    assert_eq!(pieces, [whole, whole, whole, (1, true)]);
}

#[test]
fn what_nobody_should_send_is_a_fault() {
    let packed = |block: &[u8]| {
        let mut compress = flate2::Compress::new(flate2::Compression::best(), true);
        compress.set_dictionary(&DICTIONARY).unwrap();
        let mut out = Vec::with_capacity(block.len() + 1024);
        compress
            .compress_vec(block, &mut out, flate2::FlushCompress::Sync)
            .unwrap();
        let mut frame = b"\x80\x03\x00\x08".to_vec();
        frame.extend((out.len() as u32 + 4).to_be_bytes());
        frame.extend(1u32.to_be_bytes());
        [frame, out].concat()
    };
    let bomb = packed(
        &[
            &[0, 0, 0, 1, 0, 0, 0, 1, b'a', 0, 1, 0, 0][..],
            &[0; 1 << 17],
        ]
        .concat(),
    );
    assert!(bomb.len() < 4096, "it is small while it is packed");
    for (what, bytes) in [
        ("another version", hex::decode("8002000600000004").unwrap()),
        (
            "a control frame that is too long",
            hex::decode("80030001ffffffff").unwrap(),
        ),
        (
            "data of no stream",
            hex::decode("0000000000000001").unwrap(),
        ),
        (
            "a stream without a number",
            hex::decode("80030003000000080000000000000005").unwrap(),
        ),
        (
            "a short ping",
            hex::decode("8003000600000003000000").unwrap(),
        ),
        (
            "a long ping",
            hex::decode("80030006000000050000000200").unwrap(),
        ),
        ("an empty opening", hex::decode("8003000100000000").unwrap()),
        (
            "settings that are not there",
            hex::decode("8003000400000004ffffffff").unwrap(),
        ),
        (
            "headers that are not packed",
            hex::decode("800300080000000800000001ffffffff").unwrap(),
        ),
        ("headers that unpack without end", bomb),
        ("more names than there are", packed(b"\0\0\0\x09")),
        (
            "a name that is longer than all",
            packed(b"\0\0\0\x01\xff\xff\xff\xff"),
        ),
        ("no name", packed(b"\0\0\0\x01\0\0\0\0\0\0\0\0")),
        (
            "one name twice",
            packed(b"\0\0\0\x02\0\0\0\x01a\0\0\0\0\0\0\0\x01a\0\0\0\0"),
        ),
        (
            "a name that is no text",
            packed(b"\0\0\0\x01\0\0\0\x01\xff\0\0\0\0"),
        ),
        ("something behind the headers", packed(b"\0\0\0\0x")),
    ] {
        let read = all(&bytes);
        assert!(read.is_err(), "{what}: {read:?}");
    }
    // What is not known is to be left alone.
    let unknown = [
        hex::decode("80030020010000020000").unwrap(),
        written([Frame::Ping(1)]),
    ];
    assert_eq!(all(&unknown.concat()).unwrap(), [Frame::Ping(1)]);
}

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
    async fn open(&mut self, stream: u32, connection: &mut Connection) -> super::Stream {
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
