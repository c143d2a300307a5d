//! Commands that are written as if they had a process: with streams that block.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use tokio::io::{AsyncWriteExt as _, DuplexStream, copy, duplex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::io::SyncIoBridge;
use tokio_util::sync::CancellationToken;

use super::paying::Purse;
use super::streams::{CHUNK, Input, Output};
use super::{CANNOT_RUN, Call, Stop, failed, words};

/// Such commands on a node, each of which has a thread.
const MOST_OF_NODE: usize = 64;

/// Room for such commands. Clones are handles to the same one.
///
/// Their threads are their own, since a command waits for its client for as long as that likes: the runtime's, which
/// all else of the agent that waits for disks needs too, are for what ends by itself.
#[derive(Clone)]
pub(crate) struct Workers(Arc<Semaphore>);

impl Workers {
    /// All that a node has.
    pub(crate) fn of_node() -> Self {
        Self::new(MOST_OF_NODE)
    }

    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    /// Room for one, for as long as it is held.
    fn one(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

type End = SyncIoBridge<DuplexStream>;

/// The streams of such a command. Once nobody waits for it any more, input ends and outputs are closed.
pub(super) struct Streams {
    pub(super) stdin: BufReader<End>,
    pub(super) stdout: BufWriter<End>,
    pub(super) stderr: End,
    /// Cancelled by then.
    pub(super) left: CancellationToken,
}

/// Fails once nobody waits for a command any more, as its streams do.
///
/// # Errors
/// By then: `BrokenPipe`.
pub(super) fn waited_for(left: &CancellationToken) -> io::Result<()> {
    match left.is_cancelled() {
        true => Err(io::ErrorKind::BrokenPipe.into()),
        false => Ok(()),
    }
}

/// A file in a stream's place, which ends as they do.
pub(super) struct Held {
    pub(super) file: File,
    pub(super) purse: Purse,
}

impl Read for Held {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        waited_for(self.purse.left())?;
        self.file.read(into)
    }
}

impl Write for Held {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _paid = self.purse.pay(bytes.len() as u64)?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Held {
    /// What lies behind the file's end is missed here, as it would be by who reads up to there.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        waited_for(self.purse.left())?;
        let at = self.file.seek(to)?;
        match at <= self.file.metadata()?.len() {
            true => Ok(at),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Runs `work` on a thread of its own.
///
/// `reads` says whether the standard input is its own: of what it does not read, others may want the rest.
///
/// # Errors
/// When the standard output cannot be written, and when there is no room for it.
pub(super) async fn bridged(
    call: &Call,
    reads: bool,
    work: impl FnOnce(&mut Streams) -> i32 + Send + 'static,
) -> Result<i32, Stop> {
    let room = (call.bounds.workers.one(), call.view.workers.one());
    let (Some(of_caller), Some(of_node)) = room else {
        let why = "too many commands that need a thread run already";
        return Err(Stop::Failed(CANNOT_RUN, why.to_owned()));
    };
    let left = CancellationToken::new();
    let _ends = left.clone().drop_guard();
    let ((stdin, input), (stdout, output), (stderr, errors)) =
        (duplex(CHUNK), duplex(CHUNK), duplex(CHUNK));
    let mut streams = Streams {
        stdin: BufReader::with_capacity(CHUNK, SyncIoBridge::new(stdin)),
        stdout: BufWriter::with_capacity(CHUNK, SyncIoBridge::new(stdout)),
        stderr: SyncIoBridge::new(stderr),
        left,
    };
    let (tell, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("toolbox".to_owned());
    let started = thread.spawn(move || {
        let code = work(&mut streams);
        let code = match streams.stdout.flush() {
            // It is the other side that knows why.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(code),
        };
        drop((streams, of_caller, of_node));
        // Nobody may wait for it any more.
        let _ = tell.send(code);
    });
    started.map_err(|error| failed(words(&error)))?;
    let from = match reads {
        true => call.stdin.clone(),
        false => Input::empty(),
    };
    let shown = {
        let outputs = async {
            let (shown, _) = tokio::join!(
                drain(output, call.stdout.clone()),
                drain(errors, call.stderr.clone())
            );
            shown
        };
        let mut outputs = Box::pin(outputs);
        tokio::select! {
            shown = &mut outputs => shown,
            () = feed(from, input) => outputs.await,
        }
    };
    let ended = ended.await.map_err(io::Error::other).flatten();
    shown.map_err(Stop::Output)?;
    ended.map_err(|error| failed(words(&error)))
}

/// What cannot be read ends the input.
async fn feed(mut from: Input, mut into: DuplexStream) {
    if copy(&mut from, &mut into).await.is_ok() {
        let _ = into.shutdown().await;
    }
}

/// Takes what is written until its end; or, where nobody wants it, closes it.
async fn drain(mut from: DuplexStream, mut into: Output) -> io::Result<()> {
    copy(&mut from, &mut into).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Container, fails};
    use super::super::{Io, run};
    use super::*;

    const FULL: &str = "tar: too many commands that need a thread run already\n";

    /// A file that is longer than a test would wait for.
    const LONG: u64 = 4 << 30;

    fn io() -> Io {
        Io {
            stdin: Box::new(tokio::io::empty()),
            stdout: Box::new(tokio::io::sink()),
            stderr: Box::new(tokio::io::sink()),
            terminal: false,
        }
    }

    #[tokio::test]
    async fn what_is_dropped_ends_its_thread() {
        let mut container = Container::with(&[("sparse", "")]);
        let sparse = File::options()
            .write(true)
            .open(container.root().join("sparse"));
        sparse.unwrap().set_len(LONG).unwrap();
        let workers = Workers::new(1);
        container.view.workers = workers.clone();
        let words = ["tar", "cf", "out.tar", "sparse"].map(str::to_owned);
        let mut running = Box::pin(run(words.to_vec(), Arc::new(container.view.clone()), io()));
        assert!(futures::poll!(&mut running).is_pending());
        assert!(workers.one().is_none());
        drop(running);
        // Only the thread's end gives it back.
        let _one = workers.0.acquire().await.unwrap();
        // It may not even have begun.
        let written = std::fs::metadata(container.root().join("out.tar"));
        assert!(written.map_or(0, |written| written.len()) < LONG);
        assert_eq!(container.run(&["tar", "t"], "").await, fails(126, FULL));
    }

    #[tokio::test(start_paused = true)]
    async fn one_caller_has_few_threads() {
        let container = Container::with(&[]);
        let two = container
            .run(&["sh", "-c", "sleep 1 | tar t | tar t"], "")
            .await;
        assert_eq!(two, fails(0, ""));
        let three = ["sh", "-c", "sleep 1 | tar t | tar t | tar t"];
        assert_eq!(container.run(&three, "").await, fails(126, FULL));
    }

    #[test]
    fn a_file_ends_where_it_ends() {
        let left = CancellationToken::new();
        let mut held = Held {
            file: tempfile::tempfile().unwrap(),
            purse: Purse::new(&Container::with(&[]).view, &left),
        };
        held.write_all(b"abc").unwrap();
        assert_eq!(held.seek(SeekFrom::Start(3)).unwrap(), 3);
        let error = held.seek(SeekFrom::Current(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        held.rewind().unwrap();
        left.cancel();
        for error in [held.read(&mut [0]), held.write(b"x")] {
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
    }
}
