//! Reading: an instance's log as `kubectl logs` shows it, from any point, right across rotations.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use super::write::Progress;
use super::{Line, Log, Stream, file, numbers};

/// How much is read at a time. The longest line is a quarter of it.
const PIECE: usize = 64 << 10;

/// Which part of a log is wanted, and how.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Go on until the instance has ended.
    pub(crate) follow: bool,
    /// Only so many lines from the end.
    pub(crate) tail: Option<usize>,
    /// Only what was written after the log had come so far; `tail` means nothing then.
    pub(crate) after: Option<Progress>,
    /// Only what was printed at or after this time.
    pub(crate) since: Option<Timestamp>,
    /// Only what was printed there. `tail` counts the lines of both.
    pub(crate) stream: Option<Stream>,
    /// Begin each line with its time.
    pub(crate) timestamps: bool,
    /// Stop after so many bytes.
    pub(crate) limit: Option<u64>,
}

/// A walk through an instance's files.
pub(crate) struct Reading {
    dir: PathBuf,
    attempt: u32,
    options: Options,
    /// While the instance runs and is followed: how far its log is.
    live: Option<watch::Receiver<Progress>>,
    at: Position,
    /// The last piece of a line was not its end.
    inside: bool,
    left: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    number: u64,
    offset: u64,
}

impl Reading {
    /// Begins at the point that `options` name. `live` is the instance's open log, if it runs.
    ///
    /// # Errors
    /// When the file system says no.
    pub(crate) async fn start(
        dir: PathBuf,
        attempt: u32,
        live: Option<Arc<Log>>,
        options: Options,
    ) -> io::Result<Self> {
        let live = live.filter(|_| options.follow).map(|log| log.progress());
        let (at_dir, tail) = (dir.clone(), options.tail);
        let at = match options.after {
            Some(Progress { number, length, .. }) => Position {
                number,
                offset: length,
            },
            None => blocking(move || start(&at_dir, attempt, tail)).await?,
        };
        let left = options.limit.unwrap_or(u64::MAX);
        Ok(Self {
            dir,
            attempt,
            options,
            live,
            at,
            inside: false,
            left,
        })
    }

    /// The next bytes; `None` at the end. May be cancelled without loss.
    ///
    /// # Errors
    /// When the file system says no.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            // What is looked at after this is at least as new as this.
            let progress = self.live.as_mut().map(|l| *l.borrow_and_update());
            let (dir, attempt, at) = (self.dir.clone(), self.attempt, self.at);
            let (next, bytes) = blocking(move || read(&dir, attempt, at)).await?;
            let consumed = bytes
                .iter()
                .rposition(|b| *b == b'\n')
                .map_or(0, |end| end + 1);
            if consumed > 0 {
                self.at.offset += consumed as u64;
                let out = self.show(&bytes[..consumed]);
                if !out.is_empty() {
                    return Ok(Some(out));
                }
            } else if bytes.len() == PIECE {
                // No line of ours is so long: the file was damaged.
                self.at.offset += PIECE as u64;
            } else if let Some(number) = next {
                self.at = Position { number, offset: 0 };
            } else {
                match (&mut self.live, progress) {
                    (Some(live), Some(p)) if !p.ended => {
                        if live.changed().await.is_err() {
                            self.live = None;
                        }
                    }
                    _ => return Ok(None),
                }
            }
        }
    }

    fn show(&mut self, lines: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(lines.len());
        for line in lines.split_inclusive(|b| *b == b'\n') {
            let Some(line) = Line::parse(line.strip_suffix(b"\n").unwrap_or(line)) else {
                continue;
            };
            if self.options.stream.is_some_and(|only| only != line.stream) {
                continue;
            }
            let old = |since| line.timestamp().is_some_and(|at| at < since);
            if !self.inside && self.options.since.is_some_and(old) {
                continue;
            }
            if self.options.timestamps && !self.inside {
                out.extend_from_slice(line.time.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line.text);
            if line.full {
                out.push(b'\n');
            }
            self.inside = !line.full;
        }
        out.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= out.len() as u64;
        out.into()
    }
}

/// The last text that an instance printed, for its termination message: at most `lines` lines and `bytes` bytes.
pub(crate) fn last(dir: &Path, attempt: u32, lines: usize, bytes: usize) -> io::Result<String> {
    let mut at = start(dir, attempt, Some(lines))?;
    let mut out = Vec::new();
    loop {
        let (next, piece) = read(dir, attempt, at)?;
        let end = piece.iter().rposition(|b| *b == b'\n').map_or(0, |e| e + 1);
        for line in piece[..end].split_inclusive(|b| *b == b'\n') {
            if let Some(line) = Line::parse(line.strip_suffix(b"\n").unwrap_or(line)) {
                out.extend_from_slice(line.text);
                out.extend(line.full.then_some(b'\n'));
            }
        }
        at.offset += end as u64;
        match next {
            _ if end > 0 => {}
            Some(number) => at = Position { number, offset: 0 },
            None => break,
        }
    }
    let from = out.len().saturating_sub(bytes);
    Ok(String::from_utf8_lossy(&out[from..]).into_owned())
}

/// A piece of a file, and the number of the file after it if there was one before the piece was read.
fn read(dir: &Path, attempt: u32, at: Position) -> io::Result<(Option<u64>, Vec<u8>)> {
    let next = numbers(dir, attempt)?.into_iter().find(|n| *n > at.number);
    let mut bytes = Vec::new();
    match File::open(file(dir, attempt, at.number)) {
        // Rotated away while it was read: what remains is newer.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
        Ok(mut f) => {
            f.seek(SeekFrom::Start(at.offset))?;
            f.take(PIECE as u64).read_to_end(&mut bytes)?;
        }
    }
    Ok((next, bytes))
}

/// Where the last `tail` lines begin; the very beginning without `tail`.
fn start(dir: &Path, attempt: u32, tail: Option<usize>) -> io::Result<Position> {
    let numbers = numbers(dir, attempt)?;
    let first = Position {
        number: numbers.first().copied().unwrap_or(0),
        offset: 0,
    };
    let Some(mut wanted) = tail else {
        return Ok(first);
    };
    for number in numbers.into_iter().rev() {
        let f = match File::open(file(dir, attempt, number)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            other => other?,
        };
        let (count, offset) = tail_of(f, wanted)?;
        if count >= wanted {
            return Ok(Position { number, offset });
        }
        wanted -= count;
    }
    Ok(first)
}

/// How many of the last `wanted` lines a file has, and where they begin.
fn tail_of(f: File, wanted: usize) -> io::Result<(usize, u64)> {
    let mut starts = VecDeque::new();
    let (mut offset, mut begun) = (0, None);
    let mut reader = BufReader::with_capacity(PIECE, f);
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = reader.read_until(b'\n', &mut line)? as u64;
        if n == 0 {
            break;
        }
        let full = Line::parse(&line).is_none_or(|l| l.full);
        let from = *begun.get_or_insert(offset);
        offset += n;
        if full {
            starts.push_back(from);
            begun = None;
            if starts.len() > wanted {
                starts.pop_front();
            }
        }
    }
    let at = if wanted == 0 {
        None
    } else {
        starts.front().copied()
    };
    Ok((
        starts.len(),
        at.or(begun.filter(|_| wanted == 0)).unwrap_or(offset),
    ))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use runtime::{Meter, Output as _};

    struct Bench {
        dir: tempfile::TempDir,
        log: Arc<Log>,
    }

    impl Bench {
        fn new(file_size: u64) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let clock = Clock::simulated("2026-11-21T10:00:00Z".parse().unwrap());
            let of = (clock, Arc::new(Meter::new(u64::MAX)));
            let log = Log::with_file_size(dir.path(), 0, of, file_size).unwrap();
            Self { dir, log }
        }

        async fn read(&self, options: Options) -> String {
            let log = Some(self.log.clone());
            let mut reading = Reading::start(self.dir.path().to_owned(), 0, log, options)
                .await
                .unwrap();
            let mut out = Vec::new();
            while let Some(bytes) = reading.next().await.unwrap() {
                out.extend_from_slice(&bytes);
            }
            String::from_utf8(out).unwrap()
        }
    }

    fn print(writer: &super::super::write::Writer, text: &str) {
        writer
            .write(Bytes::copy_from_slice(text.as_bytes()))
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn lines_come_out_as_they_were_printed() {
        let b = Bench::new(1 << 20);
        let (out, err) = b.log.writers();
        print(&out, "one\ntw");
        print(&err, "oops\n");
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        print(&out, "o\nthree");
        drop((out, err));
        assert_eq!(b.read(Options::default()).await, "one\noops\ntwo\nthree\n");
        assert_eq!(
            b.read(Options {
                tail: Some(2),
                ..Options::default()
            })
            .await,
            "two\nthree\n"
        );
        assert_eq!(
            b.read(Options {
                tail: Some(0),
                ..Options::default()
            })
            .await,
            ""
        );
        assert_eq!(
            b.read(Options {
                tail: Some(99),
                ..Options::default()
            })
            .await,
            "one\noops\ntwo\nthree\n"
        );
        assert_eq!(
            b.read(Options {
                limit: Some(5),
                ..Options::default()
            })
            .await,
            "one\no"
        );
        let since = Some("2026-11-21T10:00:05Z".parse().unwrap());
        assert_eq!(
            b.read(Options {
                since,
                ..Options::default()
            })
            .await,
            "two\nthree\n"
        );
        let stamped = b
            .read(Options {
                timestamps: true,
                tail: Some(1),
                ..Options::default()
            })
            .await;
        for (stream, want) in [
            (Stream::Stdout, "one\ntwo\nthree\n"),
            (Stream::Stderr, "oops\n"),
        ] {
            let only = Options {
                stream: Some(stream),
                ..Options::default()
            };
            assert_eq!(b.read(only).await, want);
        }
        assert_eq!(stamped, "2026-11-21T10:00:05.000000000Z three\n");
        assert_eq!(last(b.dir.path(), 0, 2, 7).unwrap(), "\nthree\n");
    }

    #[tokio::test]
    async fn what_comes_after_a_point_is_not_lost_however_late_it_is_read() {
        let b = Bench::new(400);
        let (out, err) = b.log.writers();
        print(&out, "before\n");
        let after = Some(*b.log.progress().borrow());
        // Far enough to begin another file.
        let later: String = (0..20).map(|i| format!("after {i}\n")).collect();
        print(&err, &later);
        drop((out, err));
        for follow in [false, true] {
            let options = Options {
                follow,
                after,
                tail: Some(0),
                ..Options::default()
            };
            assert_eq!(b.read(options).await, later, "{follow}");
        }
    }

    #[tokio::test]
    async fn a_long_line_is_one_line_again() {
        let b = Bench::new(1 << 20);
        let (out, err) = b.log.writers();
        let long = "x".repeat(100_000);
        print(&out, &format!("{long}\nshort\n"));
        drop((out, err));
        assert_eq!(b.read(Options::default()).await, format!("{long}\nshort\n"));
        assert_eq!(
            b.read(Options {
                tail: Some(2),
                ..Options::default()
            })
            .await,
            format!("{long}\nshort\n")
        );
        assert_eq!(
            b.read(Options {
                tail: Some(1),
                ..Options::default()
            })
            .await,
            "short\n"
        );
    }

    #[tokio::test]
    async fn old_files_go_and_tails_reach_across_them() {
        let b = Bench::new(400);
        let (out, err) = b.log.writers();
        for i in 0..100 {
            print(&out, &format!("line {i}\n"));
        }
        drop((out, err));
        assert_eq!(numbers(b.dir.path(), 0).unwrap().len(), super::super::FILES);
        let all = b.read(Options::default()).await;
        assert!(
            all.ends_with("line 98\nline 99\n") && !all.contains("line 3\n"),
            "{all}"
        );
        let tail = b
            .read(Options {
                tail: Some(20),
                ..Options::default()
            })
            .await;
        assert_eq!(tail.lines().count(), 20);
        assert!(all.ends_with(&tail));
    }

    #[tokio::test]
    async fn following_misses_nothing_while_files_rotate() {
        let b = Bench::new(4000);
        let (out, err) = b.log.writers();
        let log = b.log.clone();
        let options = Options {
            follow: true,
            ..Options::default()
        };
        let mut reading = Reading::start(b.dir.path().to_owned(), 0, Some(log), options)
            .await
            .unwrap();
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Some(bytes) = reading.next().await.unwrap() {
                all.extend_from_slice(&bytes);
            }
            String::from_utf8(all).unwrap()
        });
        for i in 0..1000 {
            print(&out, &format!("{i}\n"));
            if i % 50 == 0 {
                // Slower than a file's life would be lost to any reader.
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        }
        drop((out, err));
        let want: String = (0..1000).map(|i| format!("{i}\n")).collect();
        assert_eq!(reader.await.unwrap(), want);
    }
}
