//! SPDY that nobody should send: whatever the bytes are, they are frames or a fault, a connection that gets them ends
//! in order, and they cost little.

use std::time::Duration;

use apiserver::spdy::frame::{Decoder, Encoder, Frame, LONGEST_CONTROL};
use apiserver::spdy::{Broken, Connection, Headers, Stream};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Builder;
use tokio::time::timeout;
use tokio_util::codec::{Decoder as _, Encoder as _};

use crate::harness::{Random, prove};
use crate::memory;
use crate::mutate::damage;

/// What reading any frames may hold: a control frame, its headers twice over, and the unpacking's own window.
const MOST_BYTES: usize = (LONGEST_CONTROL + (16 << 10)) * 4;

/// What a connection may hold: what waits in all of its streams, and what its frames hold, in both directions.
const MOST_OF_CONNECTION: usize = 8 << 20;
/// How long a connection may last whose client has said all: less than after which it asks whether somebody is there.
const PATIENCE: Duration = Duration::from_secs(50);

const NAMES: &[&str] = &["port", "requestid", "streamtype", "x", ""];
const VALUES: &[&str] = &["80", "error", "data", "stdin", "stdout", "0", "a\0b", ""];

pub(crate) fn frame(random: &mut Random) -> Frame {
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

/// Up to so many frames, as often damaged as `damaged` of a hundred say.
fn frames(random: &mut Random, most: usize, damaged: u32) -> Vec<u8> {
    let (mut encoder, mut bytes) = (Encoder::default(), BytesMut::new());
    for _ in 0..random.below(most) {
        encoder.encode(frame(random), &mut bytes).unwrap();
    }
    match random.percent(damaged) {
        true => damage(bytes.to_vec(), random),
        false => bytes.to_vec(),
    }
}

#[test]
fn any_spdy_frames_are_read_or_refused() {
    let make = |random: &mut Random| match random.percent(90) {
        true => frames(random, 8, 90),
        false => (0..random.below(100))
            .map(|_| random.bits() as u8)
            .collect(),
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

/// Takes a stream and sends back what comes on it.
async fn echo(mut stream: Stream) -> Result<(), Broken> {
    stream.reply().await?;
    while let Some(bytes) = stream.reader.read().await? {
        stream.writer.write(bytes).await?;
    }
    stream.writer.finish();
    Ok(())
}

/// All that a server answers to these bytes, whose sender reads all the time and then says no more.
async fn talk(sent: Vec<u8>) -> Result<Vec<u8>, String> {
    // So little at once that both directions wait for each other.
    let (ours, theirs) = tokio::io::duplex(64);
    let serving = async {
        let mut connection = Connection::start(theirs);
        while let Some(stream) = connection.accept().await {
            tokio::spawn(echo(stream));
        }
        connection.close().await;
    };
    let (mut from, mut to) = tokio::io::split(ours);
    let writing = async {
        // A server that ends the connection takes no more.
        let _ = to.write_all(&sent).await;
        let _ = to.shutdown().await;
    };
    let mut got = Vec::new();
    let reading = from.read_to_end(&mut got);
    let all = async { tokio::join!(serving, writing, reading) };
    match timeout(PATIENCE, all).await {
        Ok(((), (), Ok(_))) => Ok(got),
        Ok((.., Err(error))) => Err(error.to_string()),
        Err(_) => Err("the connection does not end".to_owned()),
    }
}

/// What was answered are whole frames, and of a stream no more comes back than was sent.
fn judge(sent: &[u8], got: &[u8]) -> Result<(), String> {
    let mut buffer = BytesMut::from(got);
    let (mut decoder, mut echoed) = (Decoder::default(), 0);
    while let Some(frame) = decoder.decode(&mut buffer).map_err(|e| e.to_string())? {
        match frame {
            Frame::Data { bytes, .. } => echoed += bytes.len(),
            Frame::SynStream { stream, .. } => return Err(format!("it opens stream {stream}")),
            _ => {}
        }
    }
    match (buffer.len(), echoed) {
        (0, echoed) if echoed <= sent.len() => Ok(()),
        (0, echoed) => Err(format!("{echoed} bytes come back of {}", sent.len())),
        (rest, _) => Err(format!("{rest} bytes are half a frame")),
    }
}

#[test]
fn any_spdy_connection_ends_in_order() {
    let make = |random: &mut Random| frames(random, 40, 50);
    prove(
        "any_spdy_connection_ends_in_order",
        make,
        |sent: &Vec<u8>| {
            let (got, most) = memory::most(|| {
                // Time passes where nothing else can happen: who waits for ever is found out at once.
                let mut paused = Builder::new_current_thread();
                let runtime = paused.enable_time().start_paused(true).build();
                let runtime = runtime.map_err(|e| e.to_string())?;
                runtime.block_on(talk(sent.clone()))
            });
            if most > MOST_OF_CONNECTION {
                return Err(format!("{most} bytes are held for {}", sent.len()));
            }
            judge(sent, &got?)
        },
    );
}
