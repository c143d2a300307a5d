//! WATCH: a stream of lines, each an event.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use api::{Resource, Status};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::list;
use super::shape::Shaper;
use crate::ApiServer;
use crate::body::{self, Response};
use crate::cache::{Cursor, EventType, Selection, Shelf, Snapshot, TooOld};
use crate::dispatch::Call;
use crate::negotiate::Media;
use crate::options::ListOptions;

/// How often a watcher that asked for bookmarks gets one.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// How long a watch lasts that names no time: 30 to 60 minutes, drawn, so that not all end at once.
const LENGTH: std::ops::Range<u64> = 1800..3600;
/// Changes taken up at once; a slow client holds no more than this many lines.
const BATCH: usize = 512;

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
    let begin = begin(call, &options, &shelf).await?;
    let length = options
        .timeout_seconds
        .unwrap_or_else(|| rand::random_range(LENGTH));
    let media = match call.form.media {
        Media::Json => Media::Json,
        Media::Yaml => {
            return Err(Status::not_acceptable("application/json;stream=watch"));
        }
    };
    let watcher = Watcher {
        changed: shelf.subscribe(),
        progress: call.server.inner.cache.progress(),
        shelf,
        selection,
        shaper: Shaper::new(call),
        resource: call.resource,
        cursor: begin.cursor,
        sent: begin.revision,
        initial: begin.initial,
        bookmarks: options.bookmarks,
        end_of_initial: options.initial_events == Some(true),
        next_bookmark: Instant::now() + BOOKMARKS,
        end: Instant::now() + Duration::from_secs(length),
        shutdown: call.connection.shutdown.clone(),
        over: false,
        open: Open::new(&call.server),
    };
    let lines = futures::stream::unfold(watcher, |mut watcher| async move {
        let lines = watcher.next().await?;
        Some((Ok(lines), watcher))
    });
    Ok(body::answer(
        StatusCode::OK,
        media.content_type(),
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
    initial: Option<Snapshot>,
    bookmarks: bool,
    /// Whether the end of the initial events is to be marked.
    end_of_initial: bool,
    next_bookmark: Instant,
    end: Instant,
    shutdown: CancellationToken,
    over: bool,
    #[expect(dead_code, reason = "counts the watch until it is dropped")]
    open: Open,
}

impl Watcher {
    /// The next lines, as many as are there. None: the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if let Some(snapshot) = self.initial.take() {
            let lines = self.initial_lines(&snapshot);
            if !lines.is_empty() {
                return Some(lines);
            }
        }
        loop {
            // Marked as seen before reading: what comes after is noticed.
            self.changed.borrow_and_update();
            // Complete up to here before the changes are read, so a bookmark may say so after them.
            let complete = *self.progress.borrow_and_update();
            match self.shelf.after(self.cursor, BATCH) {
                Err(old) => {
                    self.over = true;
                    return Some(error(&too_old(self.sent, &old)));
                }
                Ok((changes, cursor)) => {
                    self.cursor = cursor;
                    if let Some(last) = changes.last() {
                        self.sent = self.sent.max(last.revision);
                    } else {
                        self.sent = self.sent.max(complete);
                    }
                    let full = changes.len() == BATCH;
                    let mut lines = BytesMut::new();
                    let mut single = None;
                    for change in &changes {
                        let Some(kind) = change.seen_by(&self.selection) else {
                            continue;
                        };
                        let line = match self.shaper.change(change, kind) {
                            Ok(Some(line)) => line,
                            Ok(None) => continue,
                            Err(status) => {
                                self.over = true;
                                return Some(error(&status));
                            }
                        };
                        // A lone event goes out as the bytes that all watchers share.
                        match (single.take(), lines.is_empty()) {
                            (None, true) => single = Some(line),
                            (Some(first), _) => {
                                let first: Bytes = first;
                                lines.extend_from_slice(&first);
                                lines.extend_from_slice(&line);
                            }
                            (None, false) => lines.extend_from_slice(&line),
                        }
                    }
                    if let Some(line) = single {
                        return Some(line);
                    }
                    if !lines.is_empty() {
                        return Some(lines.freeze());
                    }
                    if full {
                        continue;
                    }
                }
            }
            tokio::select! {
                changed = self.changed.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                }
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark = Instant::now() + BOOKMARKS;
                    let complete = *self.progress.borrow_and_update();
                    // Only if nothing came in between, else the changes go first.
                    if !self.changed.has_changed().unwrap_or(true) {
                        self.sent = self.sent.max(complete);
                        return Some(self.bookmark(false));
                    }
                }
                () = tokio::time::sleep_until(self.end) => return None,
                () = self.shutdown.cancelled() => return None,
            }
        }
    }

    /// The objects that are there, as ADDED, and the mark behind them.
    fn initial_lines(&mut self, snapshot: &Snapshot) -> Bytes {
        let mut lines = BytesMut::new();
        for object in self.selection.of(snapshot) {
            match self.shaper.event(EventType::Added, object) {
                Ok(line) => lines.extend_from_slice(&line),
                Err(status) => {
                    self.over = true;
                    lines.extend_from_slice(&error(&status));
                    return lines.freeze();
                }
            }
        }
        if self.end_of_initial && self.bookmarks {
            lines.extend_from_slice(&self.bookmark(true));
        }
        lines.freeze()
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

fn error(status: &Status) -> Bytes {
    let event = json!({"type": "ERROR", "object": status.to_value()});
    format!("{event}\n").into()
}
