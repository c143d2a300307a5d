//! Datagrams as bytes of a stream.
//!
//! A frame is two bytes of length, twice four bytes of address and two of port (from, to), and the
//! datagram; numbers are big-endian.

use std::net::{Ipv4Addr, SocketAddrV4};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, LengthDelimitedCodec};

use super::Packet;
use crate::LARGEST;

/// Both addresses.
const HEAD: usize = 12;
/// What a frame has beyond the datagram.
pub(super) const FRAMING: usize = 2 + HEAD;

/// Appends a datagram of at most [`LARGEST`] bytes.
pub fn encode(packet: &Packet, bytes: &mut BytesMut) {
    debug_assert!(packet.bytes.len() <= LARGEST, "checked when it was sent");
    bytes.reserve(FRAMING + packet.bytes.len());
    bytes.put_u16((HEAD + packet.bytes.len()) as u16);
    for address in [packet.from, packet.to] {
        bytes.put_slice(&address.ip().octets());
        bytes.put_u16(address.port());
    }
    bytes.put_slice(&packet.bytes);
}

/// A frame that is too long, or too short for two addresses. What follows it cannot be told from it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame")]
pub struct Malformed;

/// Reads frames that come in parts.
#[derive(Debug)]
pub struct Frames {
    codec: LengthDelimitedCodec,
    waiting: BytesMut,
}

impl Default for Frames {
    fn default() -> Self {
        let codec = LengthDelimitedCodec::builder()
            .length_field_length(2)
            .max_frame_length(HEAD + LARGEST)
            .new_codec();
        Self {
            codec,
            waiting: BytesMut::new(),
        }
    }
}

impl Frames {
    /// Takes what has come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next datagram: none until more has come.
    ///
    /// # Errors
    /// When a frame is malformed.
    pub fn decode(&mut self) -> Result<Option<Packet>, Malformed> {
        let frame = self
            .codec
            .decode(&mut self.waiting)
            .map_err(|_| Malformed)?;
        let packet = frame.map(|frame| packet(&frame).ok_or(Malformed));
        packet.transpose()
    }
}

/// The datagram, in memory of its own: it may wait long, and the buffer has others.
fn packet(mut frame: &[u8]) -> Option<Packet> {
    let mut address = || {
        let ip = Ipv4Addr::from_bits(frame.try_get_u32().ok()?);
        let port = frame.try_get_u16().ok()?;
        Some(SocketAddrV4::new(ip, port))
    };
    let (from, to) = (address()?, address()?);
    Some(Packet {
        from,
        to,
        bytes: Bytes::copy_from_slice(frame),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::datagrams::tests::datagram;

    #[test]
    fn frames_are_read_as_written() {
        let sizes = [0, 1, 500, LARGEST];
        let mut bytes = BytesMut::new();
        for size in sizes {
            encode(&datagram(size), &mut bytes);
        }
        let (mut frames, mut read) = (Frames::default(), Vec::new());
        for byte in bytes {
            frames.push(&[byte]);
            read.extend(frames.decode().unwrap());
        }
        assert_eq!(read, sizes.map(datagram));
    }

    #[test]
    fn malformed_frames_are_refused() {
        assert_eq!(packet(&[0; HEAD - 1]), None);
        assert!(packet(&[0; HEAD]).is_some());
        let mut long = Frames::default();
        long.push(&[0xff; 2]);
        long.push(&[0; 70_000]);
        assert_eq!(long.decode(), Err(Malformed));
    }
}
