//! WATCH: a stream of lines, each an event.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::{Resource, Status};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::list;
use super::shape::Shaper;
use crate::ApiServer;
use crate::body::{self, Response};
use crate::cache::{Change, Cursor, EventType, Selection, Shelf, Snapshot, TooOld};
use crate::dispatch::Call;
use crate::negotiate::Media;
use crate::options::ListOptions;

/// How often a watcher that asked for bookmarks gets one.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// How long before its end a watcher that asked for bookmarks gets one, so that it goes on from there.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);
/// How long a watch lasts that names no time: 30 to 60 minutes, drawn, so that not all end at once.
const LENGTH: std::ops::Range<u64> = 1800..3600;
/// How long a watch lasts at most.
const LONGEST: u64 = 24 * 3600;
/// Changes taken up at once; a slow client holds no more than this many lines …
const BATCH: usize = 512;
/// … and about this many bytes of them.
const BATCH_BYTES: usize = 1 << 20;
/// How long a watcher rests after a send, for each that watches the same resource: with a thousand watchers under steady
/// changes each sends forty times a second, several events at a time, and sending takes a share of the machine
/// that is bounded whatever the rate. A few watchers don't rest, and who has rested sends at once.
const REST: Duration = Duration::from_micros(25);
/// Longer rests would be seen by whoever waits for the next event.
const LONGEST_REST: Duration = Duration::from_millis(25);
/// Shorter rests are none: timers are no finer.
const SHORTEST_REST: Duration = Duration::from_millis(1);
/// How much of the state that is there already is written at once.
const CHUNK: usize = 128 << 10;

/// Answers a watch.
pub(crate) async fn watch(call: &Call) -> Result<Response, Status> {
    let options = ListOptions::read(&call.query, true)?;
    let selection = list::selection(call)?;
    let shelf = Arc::clone(
        call.server
            .inner
            .cache
            .shelf(call.resource)
            .ok_or_else(Status::method_not_allowed)?,
    );
    let content_type = match call.form.media {
        Media::Json => Media::Json.content_type(),
        Media::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Media::Yaml => {
            return Err(Status::not_acceptable(
                "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
            ));
        }
    };
    let shaper = Shaper::new(call);
    let begin = match begin(call, &options, &shelf).await {
        Ok(begin) => begin,
        // A watch that was understood fails by an event, as one that falls behind later does.
        Err(status) if status.code == StatusCode::GONE.as_u16() => {
            let event = client::full(shaper.error(&status));
            return Ok(body::answer(StatusCode::OK, content_type, event));
        }
        Err(status) => return Err(status),
    };
    let length = options
        .timeout_seconds
        .unwrap_or_else(|| rand::random_range(LENGTH))
        .min(LONGEST);
    let watcher = Watcher {
        changed: shelf.subscribe(),
        progress: call.server.inner.cache.progress(),
        shelf,
        selection,
        shaper,
        resource: call.resource,
        cursor: begin.cursor,
        sent: begin.revision,
        initial: begin.initial.map(|snapshot| Initial {
            snapshot,
            sent: None,
        }),
        end_of_initial: options.initial_events == Some(true) && options.bookmarks,
        times: Times::new(Duration::from_secs(length), options.bookmarks),
        rested: Instant::now(),
        shutdown: call.connection.shutdown.clone(),
        closing: Box::pin(call.connection.shutdown.clone().cancelled_owned()),
        over: false,
        open: Open::new(&call.server),
    };
    let lines = futures::stream::unfold(watcher, |mut watcher| async move {
        let lines = watcher.next().await?;
        Some((Ok(lines), watcher))
    });
    Ok(body::answer(
        StatusCode::OK,
        content_type,
        body::stream(lines),
    ))
}

/// Where a watch begins.
struct Begin {
    initial: Option<Snapshot>,
    cursor: Cursor,
    revision: u64,
}

async fn begin(call: &Call, options: &ListOptions, shelf: &Shelf) -> Result<Begin, Status> {
    let cache = &call.server.inner.cache;
    let wants_initial = match options.initial_events {
        Some(wanted) => wanted,
        // Without a version, or at 0, the state comes first.
        None => options.version.unwrap_or(0) == 0,
    };
    match (wants_initial, options.version) {
        (true, None) => list::catch_up(&call.server).await?,
        (true, Some(version)) => list::reach(&call.server, version).await?,
        (false, _) => {}
    }
    if wants_initial || options.version.unwrap_or(0) == 0 {
        let (snapshot, cursor) = cache.snapshot(shelf);
        return Ok(Begin {
            revision: snapshot.revision,
            initial: wants_initial.then_some(snapshot),
            cursor,
        });
    }
    let version = options.version.unwrap_or(0);
    if version > cache.revision() {
        // Another server gave it, or nobody: it must be reached before a watch can go on from it.
        list::reach(&call.server, version).await?;
    }
    let cursor = cache
        .cursor(shelf, version)
        .map_err(|old| too_old(version, &old))?;
    Ok(Begin {
        initial: None,
        cursor,
        revision: version,
    })
}

pub(super) fn too_old(version: u64, old: &TooOld) -> Status {
    Status::expired(format!(
        "too old resource version: {version} ({})",
        old.oldest
    ))
}

/// Counts an open watch.
struct Open(ApiServer);

impl Open {
    fn new(server: &ApiServer) -> Open {
        server.inner.metrics.watches.fetch_add(1, Ordering::Relaxed);
        Open(server.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.inner.metrics.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The objects that are there when a watch begins.
struct Initial {
    snapshot: Snapshot,
    /// The key up to which they have been sent.
    sent: Option<Bytes>,
}

/// When a watch ends, and when it is due to say how far it has come.
struct Times {
    end: Instant,
    bookmark: Option<Instant>,
    /// Ready at the earlier of the two.
    alarm: Pin<Box<Sleep>>,
}

impl Times {
    fn new(length: Duration, bookmarks: bool) -> Times {
        let now = Instant::now();
        let end = now + length;
        let bookmark = bookmarks.then(|| Self::next(now, end));
        Times {
            end,
            bookmark,
            alarm: Box::pin(sleep_until(bookmark.unwrap_or(end).min(end))),
        }
    }

    /// When a bookmark is due after one: in a while, or shortly before the end, as in Kubernetes.
    fn next(last: Instant, end: Instant) -> Instant {
        let final_one = end.checked_sub(LAST_BOOKMARK).filter(|due| *due > last);
        let next = last + BOOKMARKS;
        final_one.map_or(next, |due| due.min(next))
    }

    fn ended(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Whether a bookmark is due; the next one is, a while later.
    fn bookmark_due(&mut self) -> bool {
        let now = Instant::now();
        if self.bookmark.is_none_or(|due| now < due) {
            return false;
        }
        let next = Self::next(now, self.end);
        self.bookmark = Some(next);
        self.alarm.as_mut().reset(next.min(self.end));
        true
    }
}

/// One open watch.
struct Watcher {
    shelf: Arc<Shelf>,
    changed: watch::Receiver<u64>,
    progress: watch::Receiver<u64>,
    selection: Selection,
    shaper: Shaper,
    resource: &'static Resource,
    cursor: Cursor,
    /// Everything up to this revision has been sent.
    sent: u64,
    initial: Option<Initial>,
    /// Whether the end of the initial events is to be marked.
    end_of_initial: bool,
    times: Times,
    /// When the next lines may be sent.
    rested: Instant,
    shutdown: CancellationToken,
    /// Its end. Made once, as what waits for the times is: this is on the way of every event to every watcher.
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    over: bool,
    #[expect(dead_code, reason = "counts the watch until it is dropped")]
    open: Open,
}

impl Watcher {
    /// The next lines, as many as are there. None: the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over() {
            return None;
        }
        if let Some(lines) = self.initial_lines() {
            return Some(lines);
        }
        self.rest().await?;
        loop {
            // Looked at here too: changes may come without a pause.
            if self.is_over() {
                return None;
            }
            // Marked as seen before reading: what comes after is noticed.
            self.changed.borrow_and_update();
            // Complete up to here before the changes are read, so a bookmark may say so after them.
            let complete = *self.progress.borrow_and_update();
            let batch = match self.shelf.after(self.cursor, BATCH, BATCH_BYTES) {
                Ok(batch) => batch,
                Err(old) => return Some(self.fail(&too_old(self.sent, &old))),
            };
            self.cursor = batch.cursor;
            let last = batch.changes.last().map(|change| change.revision);
            self.sent = self.sent.max(last.unwrap_or(complete));
            let mut lines = match self.lines(&batch.changes) {
                Ok(lines) => lines,
                Err(status) => return Some(self.fail(&status)),
            };
            // Where a batch ends, its last revision may not.
            if !batch.more && self.times.bookmark_due() {
                lines = [lines, self.bookmark(false)].concat().into();
            }
            if !lines.is_empty() {
                if !batch.more {
                    self.rested = Instant::now() + (self.shelf.watchers() * REST).min(LONGEST_REST);
                }
                return Some(lines);
            }
            if batch.more {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                changed = self.changed.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                }
                () = self.times.alarm.as_mut() => {}
                () = self.closing.as_mut() => return None,
            }
        }
    }

    /// Lets events gather after a send. None: the watch is over.
    async fn rest(&mut self) -> Option<()> {
        if self.rested < Instant::now() + SHORTEST_REST {
            return Some(());
        }
        tokio::select! {
            () = sleep_until(self.rested) => Some(()),
            () = self.closing.as_mut() => None,
        }
    }

    fn is_over(&mut self) -> bool {
        self.over = self.over || self.times.ended() || self.shutdown.is_cancelled();
        self.over
    }

    /// The lines of the changes that the watcher sees.
    fn lines(&mut self, changes: &[Arc<Change>]) -> Result<Bytes, Status> {
        let mut lines = Vec::new();
        for change in changes {
            if let Some(kind) = change.seen_by(&self.selection) {
                lines.extend(self.shaper.change(change, kind)?);
            }
        }
        // A lone event goes out as the bytes that all watchers share.
        Ok(match lines.as_slice() {
            [line] => line.clone(),
            lines => lines.concat().into(),
        })
    }

    /// The line by which the watch ends.
    fn fail(&mut self, status: &Status) -> Bytes {
        self.over = true;
        self.shaper.error(status)
    }

    /// The next of the objects that are there, as ADDED, and the mark behind the last. None: all have
    /// been sent.
    fn initial_lines(&mut self) -> Option<Bytes> {
        let mut initial = self.initial.take()?;
        let mut lines = BytesMut::new();
        let after = initial.sent.take();
        for (key, object) in self.selection.after(&initial.snapshot, after.as_deref()) {
            match self.shaper.event(EventType::Added, object) {
                Ok(line) => lines.extend_from_slice(&line),
                Err(status) => {
                    self.over = true;
                    lines.extend_from_slice(&self.shaper.error(&status));
                    return Some(lines.freeze());
                }
            }
            if lines.len() >= CHUNK {
                initial.sent = Some(key.clone());
                break;
            }
        }
        if initial.sent.is_some() {
            self.initial = Some(initial);
            return Some(lines.freeze());
        }
        if self.end_of_initial {
            lines.extend_from_slice(&self.bookmark(true));
        }
        (!lines.is_empty()).then(|| lines.freeze())
    }

    fn bookmark(&mut self, end_of_initial: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": self.sent.to_string()});
        if end_of_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = json!({
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version(),
            "metadata": metadata,
        });
        self.shaper.bookmark(&object, self.sent)
    }
}
