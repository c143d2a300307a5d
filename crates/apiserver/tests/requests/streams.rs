//! SPDY frames that nobody should send: whatever they are, they are frames or a fault, and cost little.

use apiserver::spdy::Headers;
use apiserver::spdy::frame::{Decoder, Encoder, Frame, LONGEST_CONTROL};
use bytes::{Bytes, BytesMut};
use tokio_util::codec::{Decoder as _, Encoder as _};

use crate::harness::{Random, prove};
use crate::memory;
use crate::mutate::damage;

/// What reading any frames may hold: a control frame, its headers twice over, and the unpacking's own window.
const MOST_BYTES: usize = (LONGEST_CONTROL + (16 << 10)) * 4;

const NAMES: &[&str] = &["port", "requestid", "streamtype", "x", ""];
const VALUES: &[&str] = &["80", "error", "data", "0", "a\0b", ""];

fn frame(random: &mut Random) -> Frame {
    let stream = 1 + random.below(9) as u32;
    let fin = random.percent(30);
    let word = random.bits() as u32 >> random.below(32);
    let headers = (0..random.below(5)).map(|_| (random.pick(NAMES), random.pick(VALUES)));
    let headers: Headers = headers.collect();
    match random.below(9) {
        0 | 1 => Frame::SynStream {
            stream,
            fin,
            unidirectional: !fin,
            headers,
        },
        2 => Frame::SynReply {
            stream,
            fin,
            headers,
        },
        3 => Frame::Headers {
            stream,
            fin,
            headers,
        },
        4 => Frame::RstStream {
            stream,
            status: word,
        },
        5 => Frame::Settings((0..random.below(4)).map(|id| (id as u32, word)).collect()),
        6 => Frame::Ping(word),
        7 => Frame::WindowUpdate {
            stream,
            delta: word,
        },
        _ => Frame::Data {
            stream,
            fin,
            bytes: Bytes::from(vec![7; random.below(300)]),
        },
    }
}

/// Reads frames in parts of these sizes; how many there were.
fn read(bytes: &[u8], part: usize) -> usize {
    let (mut decoder, mut buffer, mut count) = (Decoder::default(), BytesMut::new(), 0);
    for part in bytes.chunks(part.max(1)) {
        buffer.extend_from_slice(part);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(_)) => count += 1,
                Ok(None) => break,
                Err(_) => return count,
            }
        }
    }
    count
}

#[test]
fn any_spdy_frames_are_read_or_refused() {
    let make = |random: &mut Random| {
        let (mut encoder, mut bytes) = (Encoder::default(), BytesMut::new());
        for _ in 0..random.below(8) {
            encoder.encode(frame(random), &mut bytes).unwrap();
        }
        match random.percent(80) {
            true => damage(bytes.to_vec(), random),
            false => (0..random.below(100))
                .map(|_| random.bits() as u8)
                .collect(),
        }
    };
    prove(
        "any_spdy_frames_are_read_or_refused",
        make,
        |sent: &Vec<u8>| {
            let (count, most) = memory::most(|| read(sent, 1 + sent.len() / 3));
            if count > sent.len() / 8 + 5 {
                return Err(format!("{count} frames of {} bytes", sent.len()));
            }
            if most > MOST_BYTES {
                return Err(format!("{most} bytes are held for {}", sent.len()));
            }
            Ok(())
        },
    );
}
