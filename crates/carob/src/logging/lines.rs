//! A log file whose lines are written in groups: under load a system call a line would cost as much as what it tells of.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for others. Warnings and errors don't: they may be the last thing that a process says.
const GATHER: Duration = Duration::from_millis(50);
/// As many bytes are written at once.
const FULL: usize = 64 << 10;

/// Lines on their way to a file. They are there within [`GATHER`], and when the last of this is dropped.
pub(super) struct Lines<W: Write>(Arc<Shared<W>>);

struct Shared<W: Write> {
    pending: Mutex<Pending<W>>,
    /// Says that there is something to write, or that nothing more will come.
    woken: Condvar,
}

struct Pending<W: Write> {
    bytes: Vec<u8>,
    file: W,
    over: bool,
}

impl<W: Write> Pending<W> {
    fn flush(&mut self) {
        // Nobody could be told that the log cannot be written.
        let _ = self.file.write_all(&self.bytes);
        let _ = self.file.flush();
        self.bytes.clear();
    }
}

impl<W: Write + Send + 'static> Lines<W> {
    /// Starts a thread that writes what has gathered, and sleeps while nothing has.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn new(file: W) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            pending: Mutex::new(Pending {
                bytes: Vec::with_capacity(FULL),
                file,
                over: false,
            }),
            woken: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self(shared))
    }

    /// What the subscriber writes through.
    pub(super) fn writer(&self) -> Writer<W> {
        Writer(Arc::clone(&self.0))
    }
}

impl<W: Write> Lines<W> {
    /// Writes what is left. What comes later is written at once.
    pub(super) fn close(&self) {
        let mut pending = self.0.pending.lock();
        pending.flush();
        pending.over = true;
        self.0.woken.notify_one();
    }
}

impl<W: Write> Drop for Lines<W> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<W: Write> Shared<W> {
    fn run(&self) {
        let mut pending = self.pending.lock();
        while !pending.over {
            if pending.bytes.is_empty() {
                self.woken.wait(&mut pending);
                continue;
            }
            // Woken early it writes early.
            self.woken.wait_for(&mut pending, GATHER);
            pending.flush();
        }
    }
}

/// Takes lines from any thread.
pub(super) struct Writer<W: Write>(Arc<Shared<W>>);

/// One line on its way.
pub(super) struct Line<'a, W: Write> {
    pending: MutexGuard<'a, Pending<W>>,
    woken: &'a Condvar,
    urgent: bool,
}

impl<'a, W: Write + 'static> MakeWriter<'a> for Writer<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Line<'a, W> {
        Line {
            pending: self.0.pending.lock(),
            woken: &self.0.woken,
            urgent: false,
        }
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Line<'a, W> {
        Line {
            urgent: *of.level() <= Level::WARN,
            ..self.make_writer()
        }
    }
}

impl<W: Write> Write for Line<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let first = self.pending.bytes.is_empty();
        self.pending.bytes.extend_from_slice(bytes);
        // After the last has gone there is no thread that would write it.
        if self.urgent || self.pending.over || self.pending.bytes.len() >= FULL {
            self.pending.flush();
        } else if first {
            self.woken.notify_one();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pending.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry::Registry;

    use super::*;

    #[derive(Clone, Default)]
    struct File(Arc<Mutex<Vec<String>>>);

    impl Write for File {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .push(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logging_to<W: Write + Send + 'static>(
        lines: &Lines<W>,
    ) -> tracing::subscriber::DefaultGuard {
        let layer = tracing_subscriber::fmt::layer()
            .without_time()
            .with_ansi(false)
            .with_writer(lines.writer());
        tracing::subscriber::set_default(Registry::default().with(layer))
    }

    /// A file that says what is written into it.
    struct Told(std::sync::mpsc::Sender<usize>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
            self.0.send(lines).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_arrive_together_and_by_themselves() {
        let (told, written) = std::sync::mpsc::channel();
        let lines = Lines::new(Told(told)).expect("a thread");
        let _default = logging_to(&lines);
        for round in 1..=2 {
            for _ in 0..1_000 {
                tracing::info!("x");
            }
            let (mut arrived, mut writes) = (0, 0);
            while arrived < 1_000 {
                arrived += written.recv_timeout(Duration::from_secs(20)).expect("more");
                writes += 1;
            }
            assert!(writes < 100, "round {round}: {writes}");
        }
    }

    #[test]
    fn warnings_and_the_last_lines_do_not_wait() {
        let file = File::default();
        let lines = Lines::new(file.clone()).expect("a thread");
        let _default = logging_to(&lines);
        tracing::info!("one");
        tracing::warn!("two");
        let first = file.0.lock().concat();
        assert!(first.contains("one") && first.ends_with("two\n"), "{first}");
        tracing::info!("three");
        drop(lines);
        assert!(file.0.lock().concat().ends_with("three\n"));
        tracing::info!("four");
        assert!(file.0.lock().concat().ends_with("four\n"));
    }
}
