//! `grep`: lines that match.

mod pattern;
#[cfg(test)]
mod tests;

use std::io::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;

use regex::bytes::RegexSet;
use rustix::fs::FileType;
use tokio::io::AsyncReadExt as _;

use super::ls::join;
use super::options::{Options, Spec};
use super::streams::{CHUNK, Input};
use super::{Answer, Call, Stop, failed, misused, shown, words};
use crate::blocking::blocking;
use pattern::{Syntax, compile};

const SPEC: Spec = Spec {
    flags: "cEFilnqrv",
    values: "e",
    long: &[
        ("count", 'c'),
        ("extended-regexp", 'E'),
        ("files-with-matches", 'l'),
        ("fixed-strings", 'F'),
        ("ignore-case", 'i'),
        ("invert-match", 'v'),
        ("line-number", 'n'),
        ("quiet", 'q'),
        ("recursive", 'r'),
        ("regexp", 'e'),
        ("silent", 'q'),
    ],
    leading: false,
};

/// The longest line, in bytes: all of it is looked at at once.
const LONGEST: usize = 1 << 20;

/// Files that `-r` has seen and not read yet, and bytes of their paths: a guest may have made any number.
const MOST_PENDING: usize = 100_000;
const MOST_PATHS: usize = 8 << 20;

/// What is looked for.
struct Wanted {
    patterns: RegexSet,
    /// Whether it is the other lines.
    others: bool,
    /// Whether one line says enough.
    one: bool,
}

/// What is shown of it.
struct Style {
    count: bool,
    files: bool,
    numbers: bool,
    quiet: bool,
    /// Whether lines have their file's name before them.
    named: bool,
}

pub(super) async fn grep(call: &mut Call) -> Answer {
    // 1 is for what was looked for and is not there.
    search(call).await.map_err(misused)
}

async fn search(call: &mut Call) -> Answer {
    let mut options = Options::of(&call.args, SPEC)?;
    let wanted = Arc::new(wanted(&mut options)?);
    let trees = options.has('r');
    let style = Style {
        count: options.has('c'),
        files: options.has('l'),
        numbers: options.has('n'),
        quiet: options.has('q'),
        named: trees || options.operands.len() > 1,
    };
    if options.operands.is_empty() {
        let usual = if trees { "." } else { "-" };
        options.operands.push(usual.to_owned());
    }
    let (mut found, mut code) = (false, 1);
    for operand in &options.operands {
        let mut pending = Pending::default();
        pending.add(vec![operand.clone()])?;
        while let Some(name) = pending.next() {
            let first = name == *operand;
            let matched = match beneath(call, &name, first, trees && name != "-").await {
                Ok(What::Directory(names)) => {
                    pending.add(names)?;
                    continue;
                }
                Ok(What::Nothing) => continue,
                Ok(What::File(source)) => lines(call, source, &name, &style, &wanted).await?,
                Err(error) => Err(error),
            };
            match matched {
                Ok(true) if style.quiet => return Ok(0),
                Ok(matched) => found |= matched,
                Err(error) => {
                    call.complain(&format!("{name}: {}", words(&error))).await;
                    code = 2;
                }
            }
        }
    }
    Ok(match (code, found) {
        (1, true) => 0,
        (code, _) => code,
    })
}

fn wanted(options: &mut Options) -> Result<Wanted, Stop> {
    let mut patterns: Vec<String> = options.values('e').map(str::to_owned).collect();
    if patterns.is_empty() {
        options.some_operands()?;
        patterns.push(options.operands.remove(0));
    }
    let syntax = match options.last_of("EF") {
        Some('E') => Syntax::Extended,
        Some(_) => Syntax::Fixed,
        None => Syntax::Basic,
    };
    Ok(Wanted {
        patterns: compile(&patterns, syntax, options.has('i'))?,
        others: options.has('v'),
        one: options.has('q') || options.has('l'),
    })
}

/// Paths that are yet to be looked at, the next one last.
#[derive(Default)]
struct Pending {
    paths: Vec<String>,
    bytes: usize,
}

impl Pending {
    fn next(&mut self) -> Option<String> {
        let path = self.paths.pop()?;
        self.bytes -= path.len();
        Some(path)
    }

    /// Adds paths, to be looked at before all others.
    fn add(&mut self, paths: Vec<String>) -> Result<(), Stop> {
        self.bytes += paths.iter().map(String::len).sum::<usize>();
        self.paths.extend(paths.into_iter().rev());
        match self.paths.len() > MOST_PENDING || self.bytes > MOST_PATHS {
            true => Err(failed("there are too many files")),
            false => Ok(()),
        }
    }
}

/// What a path is to be read as.
enum What {
    File(Input),
    /// The paths in it.
    Directory(Vec<String>),
    /// What `-r` passes by: links, and what is no file.
    Nothing,
}

/// What there is by this name, where a whole tree is asked for or not.
async fn beneath(call: &Call, name: &str, first: bool, trees: bool) -> io::Result<What> {
    if trees {
        let path = name.to_owned();
        let found = call.files(move |view| {
            let info = view.info(&path, first)?;
            Ok(match info.kind {
                FileType::Directory => {
                    let names = view.list(&path)?;
                    Some(names.iter().map(|name| join(&path, name)).collect())
                }
                FileType::RegularFile => None,
                _ if first => None,
                _ => Some(Vec::new()),
            })
        });
        match found.await? {
            Some(names) if names.is_empty() => return Ok(What::Nothing),
            Some(names) => return Ok(What::Directory(names)),
            None => {}
        }
    }
    call.source(name).await.map(What::File)
}

/// Shows what is found in one file, and answers whether anything is; what is inside is an error of reading.
///
/// # Errors
/// As [`Call::print`]'s.
async fn lines(
    call: &mut Call,
    mut from: Input,
    name: &str,
    style: &Style,
    wanted: &Arc<Wanted>,
) -> Result<io::Result<bool>, Stop> {
    let (mut chunk, mut text) = (vec![0; CHUNK], Vec::new());
    let (mut number, mut count) = (0, 0);
    let name = match name {
        "-" => "(standard input)".to_owned(),
        name if call.terminal => shown(name),
        name => name.to_owned(),
    };
    loop {
        let read = match from.read(&mut chunk).await {
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        };
        let before = text.len();
        text.extend_from_slice(&chunk[..read]);
        let end = match chunk[..read].iter().rposition(|b| *b == b'\n') {
            Some(end) => before + end + 1,
            None if read == 0 => text.len(),
            None if text.len() <= LONGEST => continue,
            None => {
                let why = format!("a line is longer than {} MiB", LONGEST >> 20);
                return Ok(Err(io::Error::other(why)));
            }
        };
        let rest = text.split_off(end);
        let (part, asked) = (std::mem::replace(&mut text, rest), Arc::clone(wanted));
        // Patterns take their time, which is nobody else's.
        let found = match blocking(move || Ok(Found::of(part, number, &asked))).await {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        number = found.number;
        count += found.lines.len();
        if count > 0 && wanted.one {
            break;
        }
        if !style.count {
            found.show(call, &name, style).await?;
        }
        if read == 0 {
            break;
        }
    }
    if style.quiet {
        return Ok(Ok(count > 0));
    }
    if style.files {
        if count > 0 {
            call.print(format!("{name}\n")).await?;
        }
    } else if style.count {
        let prefix = if style.named {
            format!("{name}:")
        } else {
            String::new()
        };
        call.print(format!("{prefix}{count}\n")).await?;
    }
    Ok(Ok(count > 0))
}

/// What is found in a part of a file that ends with a line.
struct Found {
    text: Vec<u8>,
    /// How many lines the file has so far.
    number: u64,
    /// The numbers of the lines that are wanted, and where they are, without their ends.
    lines: Vec<(u64, Range<usize>)>,
}

impl Found {
    fn of(text: Vec<u8>, mut number: u64, wanted: &Wanted) -> Self {
        let (mut lines, mut at) = (Vec::new(), 0);
        for line in text.split_inclusive(|b| *b == b'\n') {
            number += 1;
            let bare = line.strip_suffix(b"\n").unwrap_or(line);
            if wanted.patterns.is_match(bare) != wanted.others {
                lines.push((number, at..at + bare.len()));
                if wanted.one {
                    break;
                }
            }
            at += line.len();
        }
        Self {
            text,
            number,
            lines,
        }
    }

    async fn show(self, call: &mut Call, name: &str, style: &Style) -> Result<(), Stop> {
        let mut out = Vec::new();
        for (number, line) in self.lines {
            if style.named {
                out.extend_from_slice(name.as_bytes());
                out.push(b':');
            }
            if style.numbers {
                write!(out, "{number}:").map_err(Stop::Output)?;
            }
            out.extend_from_slice(&self.text[line]);
            out.push(b'\n');
            // Names may be longer than lines: not all is put together before it is shown.
            if out.len() >= CHUNK {
                call.print(&out).await?;
                out.clear();
            }
        }
        call.print(&out).await
    }
}
