//! Headers of streams, and their compression: one zlib stream for each direction of a connection.

use bytes::{Buf, BufMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::DICTIONARY;
use super::frame::Fault;

/// The most bytes that a block of headers may have once it is unpacked: those of port-forwards have some tens.
const LONGEST_BLOCK: usize = 8 << 10;
/// The most headers of one block.
const MOST_HEADERS: u32 = 32;
/// What our own headers are compressed within: the dictionary fits, and a connection costs little memory.
const WINDOW_BITS: u8 = 11;

/// Names and values, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// A header's first value. Names are compared without regard to case; several values are parted by NUL.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| value.split('\0').next())
    }

    fn parse(mut block: &[u8]) -> Result<Self, Fault> {
        let count = block.try_get_u32().map_err(|_| Fault::Headers)?;
        if count > MOST_HEADERS {
            return Err(Fault::TooLong);
        }
        let mut all = Vec::new();
        for _ in 0..count {
            let (name, value) = (text(&mut block)?, text(&mut block)?);
            if name.is_empty() || all.iter().any(|(n, _)| *n == name) {
                return Err(Fault::Headers);
            }
            all.push((name, value));
        }
        match block {
            [] => Ok(Self(all)),
            _ => Err(Fault::Headers),
        }
    }

    fn write(&self) -> Vec<u8> {
        let mut block = Vec::new();
        block.put_u32(self.0.len() as u32);
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            block.put_u32(text.len() as u32);
            block.put_slice(text.as_bytes());
        }
        block
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    /// Names must be in lower case.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(all: I) -> Self {
        Self(all.into_iter().map(|(n, v)| (n.into(), v.into())).collect())
    }
}

/// A text with its length before it. No more is taken than there is, whatever the length says.
fn text(block: &mut &[u8]) -> Result<String, Fault> {
    let length = block.try_get_u32().map_err(|_| Fault::Headers)?;
    let length = usize::try_from(length).map_err(|_| Fault::Headers)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Fault::Headers)?;
    *block = rest;
    String::from_utf8(text.to_vec()).map_err(|_| Fault::Headers)
}

/// The unpacking end of one direction.
#[derive(Debug)]
pub(super) struct Unpacker(Decompress);

impl Unpacker {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Unpacks one block. After a fault nothing that follows can be unpacked.
    pub(super) fn unpack(&mut self, mut packed: &[u8]) -> Result<Headers, Fault> {
        let mut block = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let status = self.0.decompress(packed, &mut piece, FlushDecompress::Sync);
            let read = (self.0.total_in() - before_in) as usize;
            let written = (self.0.total_out() - before_out) as usize;
            packed = packed.get(read..).unwrap_or_default();
            match status {
                Ok(Status::Ok | Status::BufError) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    let known = self.0.set_dictionary(&DICTIONARY);
                    known.map_err(|_| Fault::Compression)?;
                    continue;
                }
                Ok(Status::StreamEnd) | Err(_) => return Err(Fault::Compression),
            }
            block.extend_from_slice(piece.get(..written).unwrap_or_default());
            if block.len() > LONGEST_BLOCK {
                return Err(Fault::TooLong);
            }
            if written < piece.len() {
                break;
            }
        }
        match packed {
            [] => Headers::parse(&block),
            _ => Err(Fault::Compression),
        }
    }
}

/// The packing end of one direction.
#[derive(Debug)]
pub(super) struct Packer(Compress);

impl Packer {
    pub(super) fn new() -> Self {
        let mut compress = Compress::new_with_window_bits(Compression::fast(), true, WINDOW_BITS);
        // Without it the blocks would be longer, and as good.
        let _ = compress.set_dictionary(&DICTIONARY);
        Self(compress)
    }

    pub(super) fn pack(&mut self, headers: &Headers) -> Result<Vec<u8>, Fault> {
        let block = headers.write();
        let mut left = block.as_slice();
        let mut packed = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let status = self.0.compress(left, &mut piece, FlushCompress::Sync);
            status.map_err(|_| Fault::Compression)?;
            let read = (self.0.total_in() - before_in) as usize;
            let written = (self.0.total_out() - before_out) as usize;
            left = left.get(read..).unwrap_or_default();
            packed.extend_from_slice(piece.get(..written).unwrap_or_default());
            if written < piece.len() {
                return Ok(packed);
            }
        }
    }
}
