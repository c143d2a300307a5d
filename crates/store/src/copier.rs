//! The thread that owns the durable copy and brings it up to date behind the log.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::Error;
use crate::copy::Checkpoint;
use crate::copy::Copy;

/// What the copying thread is asked.
enum Request {
    /// There is a newer checkpoint.
    Nudge,
    /// Hold at least what is latest now, durably.
    Flush(oneshot::Sender<Result<(), Error>>),
    Install(Box<Checkpoint>, oneshot::Sender<Result<(), Error>>),
}

/// How long changes are gathered before they are copied. The log has them meanwhile.
const GATHER: Duration = Duration::from_secs(3);

/// The thread that owns the copy.
#[derive(Clone)]
pub(crate) struct Copier {
    latest: Arc<Mutex<Latest>>,
    requests: mpsc::Sender<Request>,
}

#[derive(Default)]
struct Latest {
    checkpoint: Option<Checkpoint>,
    nudged: bool,
}

impl Copier {
    pub(crate) fn start(mut copy: Copy) -> Result<Self, Error> {
        let latest = Arc::new(Mutex::new(Latest::default()));
        let (requests, queue) = mpsc::channel();
        let copier = Self {
            latest: Arc::clone(&latest),
            requests,
        };
        let dir = copy.dir().to_owned();
        std::thread::Builder::new()
            .name("store-copy".to_owned())
            .spawn(move || run(&mut copy, &latest, &queue))
            .map_err(|error| Error::io(dir, error))?;
        Ok(copier)
    }

    /// Has `checkpoint` copied some time soon.
    pub(crate) fn offer(&self, checkpoint: Checkpoint) {
        let mut latest = self.latest.lock();
        latest.checkpoint = Some(checkpoint);
        if !latest.nudged {
            latest.nudged = true;
            // A copier that has stopped said why; the log goes on without it.
            let _ = self.requests.send(Request::Nudge);
        }
    }

    /// Returns when what was offered last is durable.
    pub(crate) async fn flush(&self) -> Result<(), Error> {
        let (done, wait) = oneshot::channel();
        self.ask(Request::Flush(done), wait).await
    }

    /// Replaces everything by `checkpoint`; durable on return.
    pub(crate) async fn install(&self, checkpoint: Checkpoint) -> Result<(), Error> {
        let (done, wait) = oneshot::channel();
        self.ask(Request::Install(Box::new(checkpoint), done), wait)
            .await
    }

    async fn ask(
        &self,
        request: Request,
        wait: oneshot::Receiver<Result<(), Error>>,
    ) -> Result<(), Error> {
        let stopped = || Error::Stopped("the copy of the state is not written any more".to_owned());
        self.requests.send(request).map_err(|_| stopped())?;
        wait.await.map_err(|_| stopped())?
    }
}

fn run(copy: &mut Copy, latest: &Mutex<Latest>, queue: &mpsc::Receiver<Request>) {
    // After a failure sled may hold what the disk does not: nothing more is written, nor called durable.
    let mut failed: Option<String> = None;
    while let Ok(request) = queue.recv() {
        let request = match request {
            // Whatever comes next may be more urgent, or the end.
            Request::Nudge => queue.recv_timeout(GATHER).ok(),
            other => Some(other),
        };
        let mut attempt = |write: &mut dyn FnMut() -> Result<(), Error>| {
            if failed.is_none()
                && let Err(error) = write()
            {
                tracing::error!(%error, "the copy of the state cannot be written");
                failed = Some(error.to_string());
            }
            failed.clone().map_or(Ok(()), |why| {
                Err(Error::Stopped(format!(
                    "the copy of the state is not written any more: {why}"
                )))
            })
        };
        let result = attempt(&mut || catch_up(copy, latest));
        match request {
            Some(Request::Flush(done)) => drop(done.send(result)),
            Some(Request::Install(checkpoint, done)) => {
                latest.lock().checkpoint = None;
                drop(done.send(attempt(&mut || copy.install(&checkpoint))));
            }
            Some(Request::Nudge) | None => {}
        }
    }
}

fn catch_up(copy: &mut Copy, latest: &Mutex<Latest>) -> Result<(), Error> {
    let checkpoint = {
        let mut latest = latest.lock();
        latest.nudged = false;
        latest.checkpoint.take()
    };
    checkpoint.map_or(Ok(()), |checkpoint| copy.advance(&checkpoint))
}
