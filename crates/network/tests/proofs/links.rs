//! What another node sends on a link: requests for streams, and frames of datagrams.

use std::net::{Ipv4Addr, SocketAddrV4};

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use network::LARGEST;
use network::link::frame::{Frames, Malformed, encode};
use network::link::request::{self, Asked};
use network::link::{LONGEST_POD, Open, Packet};

use crate::harness::{Input, Random, prove};
use crate::memory;

/// What reading frames may hold: one frame that is not whole yet, the buffer that grows for it, and a datagram.
const MOST_BYTES: usize = 1 << 20;

fn address(random: &mut Random) -> SocketAddrV4 {
    let ip = Ipv4Addr::from_bits(random.bits() as u32);
    SocketAddrV4::new(ip, 1 + random.below(usize::from(u16::MAX)) as u16)
}

/// Datagrams, and where the stream of their frames is cut.
#[derive(Clone, Debug)]
struct Sent {
    packets: Vec<Packet>,
    cuts: Vec<usize>,
}

impl Input for Sent {
    fn smaller(&self) -> Vec<Self> {
        let without = |at: usize| {
            let mut less = self.clone();
            less.packets.remove(at);
            less
        };
        (0..self.packets.len()).map(without).collect()
    }

    fn show(&self) -> String {
        let sizes: Vec<usize> = self.packets.iter().map(|p| p.bytes.len()).collect();
        format!(
            "datagrams of {sizes:?} bytes, cut after each of {:?}",
            self.cuts
        )
    }
}

fn packets(random: &mut Random) -> Vec<Packet> {
    let packet = |random: &mut Random| {
        let most = if random.percent(5) { LARGEST } else { 300 };
        Packet {
            from: address(random),
            to: address(random),
            bytes: Bytes::from(vec![random.bits() as u8; random.below(most + 1)]),
        }
    };
    (0..random.below(10)).map(|_| packet(random)).collect()
}

fn framed(packets: &[Packet]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    packets.iter().for_each(|packet| encode(packet, &mut bytes));
    bytes.to_vec()
}

/// What comes out of bytes that come in such parts.
fn read(bytes: &[u8], cuts: &[usize]) -> (Vec<Packet>, Result<(), Malformed>) {
    let (mut frames, mut read, mut rest) = (Frames::default(), Vec::new(), bytes);
    let mut cuts = cuts.iter().copied().filter(|cut| *cut > 0).cycle();
    while !rest.is_empty() {
        let (part, more) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
        rest = more;
        frames.push(part);
        loop {
            match frames.decode() {
                Ok(Some(packet)) => read.push(packet),
                Ok(None) => break,
                Err(error) => return (read, Err(error)),
            }
        }
    }
    (read, Ok(()))
}

#[test]
fn datagrams_are_read_as_they_were_sent() {
    let make = |random: &mut Random| Sent {
        packets: packets(random),
        cuts: (0..random.below(5)).map(|_| random.below(400)).collect(),
    };
    prove("link_datagrams", make, |sent| {
        match read(&framed(&sent.packets), &sent.cuts) {
            (read, Ok(())) if read == sent.packets => Ok(()),
            (read, end) => Err(format!("{} came, {end:?}", read.len())),
        }
    });
}

#[test]
fn damaged_frames_are_datagrams_or_the_end() {
    let make = |random: &mut Random| {
        let mut bytes = match random.percent(20) {
            true => (0..random.below(2_000))
                .map(|_| random.bits() as u8)
                .collect(),
            false => framed(&packets(random)),
        };
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, random.bits() as u8),
                _ if at < bytes.len() => bytes[at] = random.bits() as u8,
                _ => {}
            }
        }
        bytes
    };
    prove("link_frames", make, |bytes: &Vec<u8>| {
        // However it is cut the same comes out.
        let whole = read(bytes, &[]);
        if read(bytes, &[1]) != whole || read(bytes, &[1_000, 3]) != whole {
            return Err("it depends on the parts".to_owned());
        }
        let (mut frames, mut given) = (Frames::default(), 0);
        let (taken, held) = memory::most(|| {
            for part in bytes.chunks(16 << 10) {
                frames.push(part);
                loop {
                    match frames.decode() {
                        Ok(Some(packet)) if packet.bytes.len() > LARGEST => {
                            return Err("too large");
                        }
                        Ok(Some(packet)) => given += packet.bytes.len(),
                        Ok(None) => break,
                        Err(Malformed) => return Ok(()),
                    }
                }
            }
            Ok(())
        });
        taken?;
        if held > MOST_BYTES || given > bytes.len() {
            return Err(format!("{held} bytes held, {given} given"));
        }
        Ok(())
    });
}

/// A request as text: what is asked of whom, and the headers.
#[derive(Clone, Debug)]
struct Line {
    method: Method,
    uri: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Line {
    fn of(open: &Open) -> Self {
        let request = request::stream(open).expect("a name that can be sent");
        let headers = request.headers().iter();
        Self {
            method: request.method().clone(),
            uri: request.uri().to_string().into_bytes(),
            headers: headers
                .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                .collect(),
        }
    }

    /// None where HTTP itself has no such request.
    fn parts(&self) -> Option<Parts> {
        let uri = Uri::try_from(&self.uri[..]).ok()?;
        let mut request = Request::builder().method(self.method.clone()).uri(uri);
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name).ok()?;
            request = request.header(name, HeaderValue::from_bytes(value).ok()?);
        }
        Some(request.body(()).ok()?.into_parts().0)
    }
}

impl Input for Line {
    fn smaller(&self) -> Vec<Self> {
        let uri = self.uri.smaller().into_iter().map(|uri| Self {
            uri,
            ..self.clone()
        });
        let less = (0..self.headers.len()).map(|at| {
            let mut less = self.clone();
            less.headers.remove(at);
            less
        });
        uri.chain(less).collect()
    }

    fn show(&self) -> String {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| format!("\n{name}: {}", value.show()));
        let headers: String = headers.collect();
        format!("{} {}{headers}", self.method, self.uri.show())
    }
}

fn open(random: &mut Random) -> Open {
    let length = 1 + random.below(LONGEST_POD);
    let pod = (0..length)
        .map(|_| char::from(b'!' + random.below(94) as u8))
        .collect();
    Open {
        from: address(random),
        to: address(random),
        pod,
    }
}

#[test]
fn requests_are_read_as_they_were_written() {
    let make = |random: &mut Random| Line::of(&open(random));
    prove("link_requests", make, |line| {
        let parts = line.parts().ok_or("no request")?;
        match request::decode(&parts) {
            Ok(Asked::Stream(open)) if Line::of(&open).show() == line.show() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn damaged_requests_are_refused_or_mean_what_they_say() {
    let make = |random: &mut Random| {
        let mut line = Line::of(&open(random));
        for _ in 0..random.below(4) {
            match random.below(5) {
                0 => spoil(&mut line.uri, random),
                1 => {
                    line.method =
                        [Method::GET, Method::POST, Method::CONNECT][random.below(3)].clone()
                }
                2 => {
                    let at = random.below(line.headers.len());
                    let again = line.headers.get(at).cloned();
                    line.headers.extend(again);
                }
                3 => {
                    let at = random.below(line.headers.len());
                    drop(line.headers.drain(at..(at + 1).min(line.headers.len())));
                }
                _ => {
                    let at = random.below(line.headers.len());
                    if let Some((_, value)) = line.headers.get_mut(at) {
                        spoil(value, random);
                    }
                }
            }
        }
        line
    };
    prove("link_lines", make, |line| {
        let Some(parts) = line.parts() else {
            return Ok(());
        };
        match request::decode(&parts) {
            Err(
                StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED,
            ) => Ok(()),
            // What was read can be said again, and is the same then.
            Ok(Asked::Stream(open)) => {
                let again = Line::of(&open).parts().ok_or("it cannot be said")?;
                match request::decode(&again) {
                    Ok(Asked::Stream(same)) if same == open && open.pod.len() <= LONGEST_POD => {
                        Ok(())
                    }
                    other => Err(format!("{open:?} is {other:?} then")),
                }
            }
            other => Err(format!("{other:?}")),
        }
    });
}

const PIECES: &[&[u8]] = &[
    b"/datagrams",
    b"https://link",
    b":",
    b"0",
    b"[::1]",
    b"@",
    b"%00",
    b"99999",
    b".",
    b"-1",
    b"\xff",
];

fn spoil(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = at + random.below((bytes.len() - at).min(20) + 1);
    let piece = PIECES[random.below(PIECES.len())];
    match random.below(4) {
        0 => drop(bytes.drain(at..end)),
        1 => drop(bytes.splice(at..end, piece.iter().copied())),
        2 => drop(bytes.splice(at..at, piece.repeat(1 + random.below(60)))),
        _ => bytes
            .iter_mut()
            .skip(at)
            .take(1)
            .for_each(|b| *b ^= 1 << random.below(8)),
    }
}
