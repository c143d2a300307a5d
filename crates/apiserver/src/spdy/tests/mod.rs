//! Frames as other implementations write them, and frames that nobody should write.

mod streams;

use bytes::{Bytes, BytesMut};
use tokio_util::codec::{Decoder as _, Encoder as _};

use super::Headers;
use super::dictionary::DICTIONARY;
use super::frame::{Decoder, Encoder, Fault, Frame, LONGEST_DATA};

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
    let long = "x".repeat(8_000);
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

/// A block of so many headers, whose names are numbers.
fn numbered(count: u32) -> Vec<u8> {
    let header = |n: u32| [&4u32.to_be_bytes()[..], &n.to_be_bytes(), &[0; 4]].concat();
    let all = (0..count).map(|n| header(0x3030_3030 + n));
    [count.to_be_bytes().to_vec()]
        .into_iter()
        .chain(all)
        .collect::<Vec<_>>()
        .concat()
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
        (
            "headers that are longer than all that mean anything",
            packed(
                &[
                    &[0, 0, 0, 1, 0, 0, 0, 1, b'a', 0, 0, 0x20, 0][..],
                    &[0; 0x2000],
                ]
                .concat(),
            ),
        ),
        ("more headers than mean anything", packed(&numbered(33))),
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
    assert_eq!(all(&packed(&numbered(32))).unwrap().len(), 1);
    // What is not known is to be left alone.
    let unknown = [
        hex::decode("80030020010000020000").unwrap(),
        written([Frame::Ping(1)]),
    ];
    assert_eq!(all(&unknown.concat()).unwrap(), [Frame::Ping(1)]);
}
