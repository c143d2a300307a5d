//! Frames, read from bytes and written to them. What is read may come from anybody: nothing is kept that is longer than
//! the bounds here, and nothing that is malformed is more than a [`Fault`].

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec;

use super::header::{Headers, Packer, Unpacker};

/// The most bytes of one piece of data that is read or written, whatever its frame's length is.
pub const LONGEST_DATA: usize = 16 << 10;
/// The most bytes of a control frame: of data there may be more, for it is not kept until its frame is whole.
pub const LONGEST_CONTROL: usize = 32 << 10;
/// The setting that says what a stream's window is at first.
pub const INITIAL_WINDOW_SIZE: u32 = 7;

const HEAD: usize = 8;
const VERSION: u16 = 3;
const CONTROL: u32 = 1 << 31;
const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;
/// The bits of a number that a stream, a window or a length of 31 bits has.
const BITS_31: u32 = CONTROL - 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// One frame, or a piece of one that carries data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// Its number: odd ones are the client's.
        stream: u32,
        /// Its opener sends nothing.
        fin: bool,
        /// The other end sends nothing.
        unidirectional: bool,
        /// What it is about.
        headers: Headers,
    },
    /// Takes a stream.
    SynReply {
        /// The stream's number.
        stream: u32,
        /// The taker sends nothing.
        fin: bool,
        /// What the taker says.
        headers: Headers,
    },
    /// Ends a stream at once, in both directions.
    RstStream {
        /// The stream's number.
        stream: u32,
        /// Why: see [`status`](super::status).
        status: u32,
    },
    /// Settings: their numbers and values.
    Settings(Vec<(u32, u32)>),
    /// Is to be sent back as it is, by whom its number is not of.
    Ping(u32),
    /// The sender takes no more streams.
    GoAway {
        /// The last stream that it has taken.
        last: u32,
        /// 0: in order.
        status: u32,
    },
    /// More headers of a stream.
    Headers {
        /// The stream's number.
        stream: u32,
        /// The sender sends nothing more.
        fin: bool,
        /// The headers.
        headers: Headers,
    },
    /// Lets the other end send more.
    WindowUpdate {
        /// The stream's number; 0 means all streams together.
        stream: u32,
        /// So many bytes.
        delta: u32,
    },
    /// Bytes of a stream, at most [`LONGEST_DATA`].
    Data {
        /// The stream's number.
        stream: u32,
        /// The sender sends nothing more.
        fin: bool,
        /// The bytes.
        bytes: Bytes,
    },
}

/// Why what came is not SPDY/3.1, or not of a size that is taken.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A control frame of another version.
    #[error("version {0} of SPDY")]
    Version(u16),
    /// A control frame, or what it unpacks to, is longer than its bound.
    #[error("a frame is too long")]
    TooLong,
    /// A frame whose contents do not go with its length or its kind.
    #[error("a malformed frame of type {0}")]
    Malformed(u16),
    /// A block of headers cannot be unpacked.
    #[error("headers cannot be unpacked")]
    Compression,
    /// A block of headers is malformed.
    #[error("malformed headers")]
    Headers,
    /// Data of stream 0.
    #[error("data of no stream")]
    NoStream,
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Data of a frame that has begun.
#[derive(Debug)]
struct Rest {
    stream: u32,
    fin: bool,
    left: usize,
}

/// Reads the frames of one direction.
#[derive(Debug)]
pub struct Decoder {
    unpacker: Unpacker,
    rest: Option<Rest>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            unpacker: Unpacker::new(),
            rest: None,
        }
    }
}

impl codec::Decoder for Decoder {
    type Item = Frame;
    type Error = Fault;

    /// Takes the next frame from the bytes; none where more bytes are needed first.
    fn decode(&mut self, from: &mut BytesMut) -> Result<Option<Frame>, Fault> {
        loop {
            if let Some(rest) = self.rest.take() {
                return Ok(self.data(rest, from));
            }
            let Some((mut head, _)) = from.split_at_checked(HEAD) else {
                return Ok(None);
            };
            let (word, sizes) = (head.get_u32(), head.get_u32());
            let (flags, length) = ((sizes >> 24) as u8, (sizes & 0x00ff_ffff) as usize);
            if word & CONTROL == 0 {
                if word == 0 {
                    return Err(Fault::NoStream);
                }
                from.advance(HEAD);
                self.rest = Some(Rest {
                    stream: word,
                    fin: flags & FIN != 0,
                    left: length,
                });
                continue;
            }
            let version = ((word & BITS_31) >> 16) as u16;
            if version != VERSION {
                return Err(Fault::Version(version));
            }
            if length > LONGEST_CONTROL {
                return Err(Fault::TooLong);
            }
            if from.len() < HEAD + length {
                from.reserve(HEAD + length - from.len());
                return Ok(None);
            }
            let frame = from.split_to(HEAD + length);
            let kind = (word & 0xffff) as u16;
            let contents = frame.get(HEAD..).unwrap_or_default();
            if let Some(frame) = self.control(kind, flags, contents)? {
                return Ok(Some(frame));
            }
        }
    }
}

impl Decoder {
    /// The next piece of a frame's data, as far as it is there.
    fn data(&mut self, mut rest: Rest, from: &mut BytesMut) -> Option<Frame> {
        let taken = rest.left.min(from.len()).min(LONGEST_DATA);
        if taken == 0 && rest.left > 0 {
            self.rest = Some(rest);
            return None;
        }
        rest.left -= taken;
        let (stream, last) = (rest.stream, rest.left == 0);
        let fin = rest.fin && last;
        if !last {
            self.rest = Some(rest);
        }
        let bytes = from.split_to(taken).freeze();
        Some(Frame::Data { stream, fin, bytes })
    }

    /// A control frame; none where its kind is not known, which is to be ignored.
    fn control(
        &mut self,
        kind: u16,
        flags: u8,
        mut contents: &[u8],
    ) -> Result<Option<Frame>, Fault> {
        let malformed = || Fault::Malformed(kind);
        let contents = &mut contents;
        let fin = flags & FIN != 0;
        let word = |contents: &mut &[u8]| contents.try_get_u32().map_err(|_| malformed());
        let number = |contents: &mut &[u8]| word(contents).map(|word| word & BITS_31);
        let opened = |number: u32| {
            if number == 0 {
                Err(malformed())
            } else {
                Ok(number)
            }
        };
        let frame = match kind {
            SYN_STREAM => {
                let stream = opened(number(contents)?)?;
                // What it belongs to, its priority and its slot, none of which means anything here.
                contents.advance(contents.len().min(6));
                Frame::SynStream {
                    stream,
                    fin,
                    unidirectional: flags & UNIDIRECTIONAL != 0,
                    headers: self.unpacker.unpack(std::mem::take(contents))?,
                }
            }
            SYN_REPLY => Frame::SynReply {
                stream: opened(number(contents)?)?,
                fin,
                headers: self.unpacker.unpack(std::mem::take(contents))?,
            },
            HEADERS => Frame::Headers {
                stream: opened(number(contents)?)?,
                fin,
                headers: self.unpacker.unpack(std::mem::take(contents))?,
            },
            RST_STREAM => Frame::RstStream {
                stream: opened(number(contents)?)?,
                status: word(contents)?,
            },
            SETTINGS => {
                // The count says nothing that the length does not.
                let count = word(contents)? as usize;
                if contents.len() / 8 != count {
                    return Err(malformed());
                }
                let setting = |_| Ok((word(contents)? & 0x00ff_ffff, word(contents)?));
                Frame::Settings((0..count).map(setting).collect::<Result<_, Fault>>()?)
            }
            PING => Frame::Ping(word(contents)?),
            GOAWAY => Frame::GoAway {
                last: number(contents)?,
                status: word(contents)?,
            },
            WINDOW_UPDATE => Frame::WindowUpdate {
                stream: number(contents)?,
                delta: number(contents)?,
            },
            _ => return Ok(None),
        };
        match contents.is_empty() {
            true => Ok(Some(frame)),
            false => Err(malformed()),
        }
    }
}

/// Writes the frames of one direction.
#[derive(Debug)]
pub struct Encoder {
    packer: Packer,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            packer: Packer::new(),
        }
    }
}

impl codec::Encoder<Frame> for Encoder {
    type Error = Fault;

    fn encode(&mut self, frame: Frame, to: &mut BytesMut) -> Result<(), Fault> {
        let flag = |fin: bool| if fin { FIN } else { 0 };
        match frame {
            Frame::Data { stream, fin, bytes } => {
                to.reserve(HEAD + bytes.len());
                to.put_u32(stream & BITS_31);
                to.put_u32(sizes(flag(fin), bytes.len())?);
                to.put_slice(&bytes);
            }
            Frame::SynStream {
                stream,
                fin,
                unidirectional,
                headers,
            } => {
                let flags = flag(fin) | if unidirectional { UNIDIRECTIONAL } else { 0 };
                let head = [&stream.to_be_bytes()[..], &[0; 6]].concat();
                self.headers(to, (SYN_STREAM, flags), &head, &headers)?;
            }
            Frame::SynReply {
                stream,
                fin,
                headers,
            } => self.headers(to, (SYN_REPLY, flag(fin)), &stream.to_be_bytes(), &headers)?,
            Frame::Headers {
                stream,
                fin,
                headers,
            } => self.headers(to, (HEADERS, flag(fin)), &stream.to_be_bytes(), &headers)?,
            Frame::RstStream { stream, status } => control(to, (RST_STREAM, 0), &[stream, status])?,
            Frame::Settings(all) => {
                let count = [all.len() as u32];
                let values = all.into_iter().flat_map(|(id, value)| [id, value]);
                let words: Vec<u32> = count.into_iter().chain(values).collect();
                control(to, (SETTINGS, 0), &words)?;
            }
            Frame::Ping(id) => control(to, (PING, 0), &[id])?,
            Frame::GoAway { last, status } => control(to, (GOAWAY, 0), &[last, status])?,
            Frame::WindowUpdate { stream, delta } => {
                control(to, (WINDOW_UPDATE, 0), &[stream, delta])?;
            }
        }
        Ok(())
    }
}

impl Encoder {
    fn headers(
        &mut self,
        to: &mut BytesMut,
        kind: (u16, u8),
        head: &[u8],
        headers: &Headers,
    ) -> Result<(), Fault> {
        let packed = self.packer.pack(headers)?;
        begin(to, kind, head.len() + packed.len())?;
        to.put_slice(head);
        to.put_slice(&packed);
        Ok(())
    }
}

fn control(to: &mut BytesMut, kind: (u16, u8), words: &[u32]) -> Result<(), Fault> {
    begin(to, kind, words.len() * 4)?;
    words.iter().for_each(|word| to.put_u32(*word));
    Ok(())
}

fn begin(to: &mut BytesMut, (kind, flags): (u16, u8), length: usize) -> Result<(), Fault> {
    let sizes = sizes(flags, length)?;
    to.put_u32(CONTROL | u32::from(VERSION) << 16 | u32::from(kind));
    to.put_u32(sizes);
    Ok(())
}

/// A frame's second word: its flags, and its length in 24 bits.
fn sizes(flags: u8, length: usize) -> Result<u32, Fault> {
    let length = u32::try_from(length).ok().filter(|n| *n < 1 << 24);
    let length = length.ok_or(Fault::TooLong)?;
    Ok(u32::from(flags) << 24 | length)
}
