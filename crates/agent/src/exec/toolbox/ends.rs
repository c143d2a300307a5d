//! `head` and `tail`: one end of a file.

use std::collections::VecDeque;
use std::io;

use tokio::io::AsyncReadExt as _;

use super::options::{Options, Spec};
use super::streams::{CHUNK, Input};
use super::{Answer, Call, Stop, failed, words};

/// Lines that are shown where nothing else is asked for.
const USUAL: u64 = 10;

/// What `tail` keeps of a stream whose end it does not know, in bytes.
const MOST_KEPT: usize = 1 << 20;

const SPEC: Spec = Spec {
    flags: "qv",
    values: "cn",
    long: &[
        ("bytes", 'c'),
        ("lines", 'n'),
        ("quiet", 'q'),
        ("silent", 'q'),
        ("verbose", 'v'),
    ],
    leading: false,
};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Lines,
}

/// What is asked for: so many units, or with `from` all from that one on.
#[derive(Clone, Copy)]
struct Part {
    unit: Unit,
    count: u64,
    from: bool,
}

impl Part {
    fn of(options: &Options) -> Result<Self, Stop> {
        let (unit, word) = match options.last_of("cn") {
            Some('c') => (Unit::Bytes, options.value('c')),
            _ => (Unit::Lines, options.value('n')),
        };
        let Some(word) = word else {
            let count = USUAL;
            return Ok(Self {
                unit,
                count,
                from: false,
            });
        };
        let digits = word
            .strip_prefix('+')
            .or_else(|| word.strip_prefix('-'))
            .unwrap_or(word);
        let count = digits
            .parse()
            .ok()
            .filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
        let count = count.ok_or_else(|| failed(format!("invalid number '{word}'")))?;
        let from = word.starts_with('+');
        Ok(Self { unit, count, from })
    }
}

pub(super) async fn head(call: &mut Call) -> Answer {
    let options = Options::of(&spelled_out(&call.args), SPEC)?;
    let part = Part::of(&options)?;
    if ['c', 'n']
        .iter()
        .any(|o| options.value(*o).is_some_and(|v| v.starts_with(['-', '+'])))
    {
        return Err(failed("counting from the other end is not supported"));
    }
    each(call, options, part, Which::First).await
}

pub(super) async fn tail(call: &mut Call) -> Answer {
    let options = Options::of(&spelled_out(&call.args), SPEC)?;
    let part = Part::of(&options)?;
    each(call, options, part, Which::Last).await
}

/// `-3` as `-n3`.
fn spelled_out(args: &[String]) -> Vec<String> {
    let number = |arg: &String| {
        let digits = arg.strip_prefix('-').unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let mut args = args.to_vec();
    if let Some(first) = args.first_mut().filter(|first| number(first)) {
        first.insert(1, 'n');
    }
    args
}

#[derive(Clone, Copy)]
enum Which {
    First,
    Last,
}

async fn each(call: &mut Call, mut options: Options, part: Part, which: Which) -> Answer {
    if options.operands.is_empty() {
        options.operands.push("-".to_owned());
    }
    let headed = match options.last_of("qv") {
        Some('q') => false,
        Some(_) => true,
        None => options.operands.len() > 1,
    };
    let (mut code, mut first) = (0, true);
    for name in &options.operands {
        let done = match call.source(name).await {
            Ok(source) => {
                if headed {
                    let shown = if name == "-" { "standard input" } else { name };
                    let gap = if first { "" } else { "\n" };
                    call.print(format!("{gap}==> {shown} <==\n")).await?;
                    first = false;
                }
                match which {
                    Which::First => show_first(call, source, part).await?,
                    Which::Last if part.from => show_from(call, source, part).await?,
                    Which::Last => show_last(call, source, part).await?,
                }
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            call.complain(&format!("{name}: {}", words(&error))).await;
            code = 1;
        }
    }
    Ok(code)
}

/// How much of a chunk belongs to the first `left` units, which it counts down.
fn within(chunk: &[u8], unit: Unit, left: &mut u64) -> usize {
    if unit == Unit::Bytes {
        let taken = usize::try_from(*left)
            .unwrap_or(usize::MAX)
            .min(chunk.len());
        *left -= taken as u64;
        return taken;
    }
    let mut taken = 0;
    while *left > 0 && taken < chunk.len() {
        match chunk[taken..].iter().position(|b| *b == b'\n') {
            Some(end) => {
                taken += end + 1;
                *left -= 1;
            }
            None => taken = chunk.len(),
        }
    }
    taken
}

async fn show_first(call: &mut Call, mut from: Input, part: Part) -> Result<io::Result<()>, Stop> {
    let (mut chunk, mut left) = (vec![0; CHUNK], part.count);
    while left > 0 {
        match from.read(&mut chunk).await {
            Ok(0) => break,
            Ok(read) => {
                let taken = within(&chunk[..read], part.unit, &mut left);
                call.print(&chunk[..taken]).await?;
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
}

async fn show_from(call: &mut Call, mut from: Input, part: Part) -> Result<io::Result<()>, Stop> {
    let (mut chunk, mut left) = (vec![0; CHUNK], part.count.saturating_sub(1));
    while left > 0 {
        match from.read(&mut chunk).await {
            Ok(0) => return Ok(Ok(())),
            Ok(read) => {
                let passed = within(&chunk[..read], part.unit, &mut left);
                call.print(&chunk[passed..read]).await?;
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    call.copy(from).await
}

async fn show_last(call: &mut Call, mut from: Input, part: Part) -> Result<io::Result<()>, Stop> {
    let (mut chunk, mut kept) = (vec![0; CHUNK], Kept::default());
    loop {
        match from.read(&mut chunk).await {
            Ok(0) => break,
            Ok(read) => {
                kept.take(&chunk[..read], part);
                if kept.bytes.len() > MOST_KEPT {
                    let most = MOST_KEPT >> 20;
                    let why = format!("what is asked for is longer than {most} MiB");
                    return Ok(Err(io::Error::other(why)));
                }
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    let (front, back) = kept.bytes.as_slices();
    call.print(front).await?;
    call.print(back).await?;
    Ok(Ok(()))
}

/// The end of what was read so far.
#[derive(Default)]
struct Kept {
    bytes: VecDeque<u8>,
    /// The lengths of the whole lines in it; what follows them has not ended yet.
    lines: VecDeque<usize>,
    /// The length of what has not ended yet.
    open: usize,
}

impl Kept {
    fn take(&mut self, chunk: &[u8], part: Part) {
        let most = usize::try_from(part.count).unwrap_or(usize::MAX);
        match part.unit {
            Unit::Bytes => {
                let chunk = &chunk[chunk.len().saturating_sub(most)..];
                let over = (self.bytes.len() + chunk.len()).saturating_sub(most);
                self.bytes.drain(..over.min(self.bytes.len()));
                self.bytes.extend(chunk);
            }
            Unit::Lines => {
                for line in chunk.split_inclusive(|b| *b == b'\n') {
                    self.add(line, most);
                }
            }
        }
    }

    fn add(&mut self, line: &[u8], most: usize) {
        // A line that has begun is one of those that are asked for.
        if self.open == 0 && self.lines.len() == most {
            let oldest = self.lines.pop_front().unwrap_or(0);
            self.bytes.drain(..oldest);
        }
        if most == 0 {
            return;
        }
        self.bytes.extend(line);
        self.open += line.len();
        if line.ends_with(b"\n") {
            self.lines.push_back(self.open);
            self.open = 0;
        }
    }
}
