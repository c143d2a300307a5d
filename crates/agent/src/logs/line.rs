//! One line of a log file.

use jiff::Timestamp;

/// Where a guest printed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// As the CRI writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn of_name(name: &[u8]) -> Option<Self> {
        [Self::Stdout, Self::Stderr]
            .into_iter()
            .find(|stream| stream.name().as_bytes() == name)
    }
}

/// A line as it is kept: `TIME STREAM TAG TEXT`, with nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// When it was printed.
    pub(crate) time: &'a str,
    /// Where it was printed.
    pub(crate) stream: Stream,
    /// Whether the guest ended the line here; else the next piece of this stream continues it.
    pub(crate) full: bool,
    /// What was printed, without the line's end.
    pub(crate) text: &'a [u8],
}

impl<'a> Line<'a> {
    /// Takes a line (without its `\n`) apart; `None` if it is none of ours.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |b| *b == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let stream = Stream::of_name(parts.next()?)?;
        let full = parts.next()? == b"F";
        Some(Self {
            time,
            stream,
            full,
            text: parts.next()?,
        })
    }

    /// When it was printed, if that can be read.
    pub(crate) fn timestamp(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

/// Appends a line in the kept form.
pub(crate) fn encode(out: &mut Vec<u8>, at: Timestamp, stream: Stream, full: bool, text: &[u8]) {
    use std::io::Write as _;
    let tag = if full { 'F' } else { 'P' };
    // Writing to a vector cannot fail.
    let _ = write!(out, "{at:.9} {} {tag} ", stream.name());
    out.extend_from_slice(text);
    out.push(b'\n');
}
