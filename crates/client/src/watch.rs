//! A stream of changes, one JSON object a line.

use std::{collections::VecDeque, fmt, marker::PhantomData};

use api::status::Status;
use bytes::BytesMut;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Body, Error, Object, access::describe};

/// The longest line that is taken: more than any object may have.
const MAX_LINE: usize = 16 << 20;

/// One change, as the server tells it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<T> {
    /// The object has come into being, or into the selection.
    Added(T),
    /// The object has changed.
    Modified(T),
    /// The object is gone, or has left the selection; this was its last state, and its
    /// `resourceVersion` is that of the deletion.
    Deleted(T),
    /// Nothing has changed up to this revision.
    Bookmark(u64),
}

impl<T: Object> Event<T> {
    /// The store's revision that this event brings the watcher to.
    pub fn revision(&self) -> u64 {
        match self {
            Event::Added(object) | Event::Modified(object) | Event::Deleted(object) => {
                object.revision()
            }
            Event::Bookmark(revision) => *revision,
        }
    }
}

/// A running watch. Dropping it ends it.
pub struct Watch<T> {
    body: Body,
    lines: Lines,
    ready: VecDeque<Result<Event<T>, Error>>,
    ended: bool,
    form: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl<T: Object> Watch<T> {
    /// Reads the answer to a request for a watch. What is sent in another form than the objects' own, such as tables,
    /// comes as [`Untyped`](crate::Untyped).
    #[must_use]
    pub fn new(body: Body) -> Self {
        Watch {
            body,
            lines: Lines::new(MAX_LINE),
            ready: VecDeque::new(),
            ended: false,
            form: PhantomData,
        }
    }

    /// The next event; `None` when the server has ended the watch. May be cancelled without loss.
    ///
    /// After [`Error::Decode`] of a single object the watch goes on; after any other error it is
    /// over.
    pub async fn next(&mut self) -> Option<Result<Event<T>, Error>> {
        if self.ready.is_empty() {
            self.fill().await;
        }
        self.ready.pop_front()
    }

    /// All events that are there, waiting for the first of them; empty when the server has ended
    /// the watch. May be cancelled without loss.
    pub(crate) async fn next_batch(&mut self) -> Vec<Result<Event<T>, Error>> {
        if self.ready.is_empty() {
            self.fill().await;
        }
        self.ready.drain(..).collect()
    }

    /// Reads until at least one event is ready or the stream is over.
    async fn fill(&mut self) {
        while self.ready.is_empty() && !self.ended {
            match self.body.frame().await {
                None => self.ended = true,
                Some(Err(error)) => self.fail(error),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.take(&data);
                    }
                }
            }
        }
    }

    fn take(&mut self, data: &[u8]) {
        if let Err(error) = self.lines.push(data) {
            return self.fail(error);
        }
        while let Some(line) = self.lines.next() {
            match parse(&line) {
                Ok(Some(event)) => self.ready.push_back(Ok(event)),
                Ok(None) => {}
                Err(error @ Error::Decode { .. }) => self.ready.push_back(Err(error)),
                Err(error) => return self.fail(error),
            }
        }
    }

    fn fail(&mut self, error: Error) {
        self.ended = true;
        self.ready.push_back(Err(error));
    }
}

/// Cuts a stream of bytes into lines of a bounded length.
struct Lines {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
    limit: usize,
}

impl Lines {
    fn new(limit: usize) -> Self {
        Lines {
            buffer: BytesMut::new(),
            searched: 0,
            limit,
        }
    }

    /// Takes bytes; fails when they go on a line that is too long already.
    fn push(&mut self, data: &[u8]) -> Result<(), Error> {
        self.buffer.extend_from_slice(data);
        let open = match data.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => data.len() - end - 1,
            None => self.buffer.len(),
        };
        if open > self.limit {
            return Err(Error::TooLarge { limit: self.limit });
        }
        Ok(())
    }

    fn next(&mut self) -> Option<BytesMut> {
        let end = self.buffer[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n');
        match end {
            Some(end) => {
                let line = self.buffer.split_to(self.searched + end + 1);
                self.searched = 0;
                Some(line)
            }
            None => {
                self.searched = self.buffer.len();
                None
            }
        }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

fn parse<T: Object>(line: &[u8]) -> Result<Option<Event<T>>, Error> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let line: Line<'_> = serde_json::from_slice(line)
        .map_err(|error| Error::transport("malformed line of a watch", error))?;
    let json = line.object.get();
    let event = match line.kind.as_str() {
        "ADDED" => Event::Added(object(json)?),
        "MODIFIED" => Event::Modified(object(json)?),
        "DELETED" => Event::Deleted(object(json)?),
        "BOOKMARK" => Event::Bookmark(object::<crate::PartialObject>(json)?.revision()),
        "ERROR" => {
            let value: serde_json::Value = serde_json::from_str(json)
                .map_err(|error| Error::transport("malformed error of a watch", error))?;
            let status = Status::from_value(&value)
                .unwrap_or_else(|| Status::internal(format!("error event of a watch: {json}")));
            return Err(Error::Status(Box::new(status)));
        }
        other => {
            tracing::debug!(kind = other, "a watch event of an unknown type is skipped");
            return Ok(None);
        }
    };
    Ok(Some(event))
}

fn object<T: Object>(json: &str) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|error| Error::decode(describe(json), error))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::full;

    fn watch(text: &str) -> Watch<ConfigMap> {
        Watch::new(full(text.to_owned()))
    }

    #[tokio::test]
    async fn events_in_order() {
        let mut watch = watch(concat!(
            r#"{"type":"ADDED","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","resourceVersion":"3"}}}"#,
            "\n\n",
            r#"{"type":"BOOKMARK","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"9"}}}"#,
            "\n",
            r#"{"type":"DELETED","object":{"metadata":{"name":"a","resourceVersion":"12"}}}"#,
            "\n",
        ));
        let first = watch.next().await.unwrap().unwrap();
        assert!(matches!(&first, Event::Added(map) if map.name() == "a"));
        assert_eq!(first.revision(), 3);
        assert_eq!(watch.next().await.unwrap().unwrap(), Event::Bookmark(9));
        assert_eq!(watch.next().await.unwrap().unwrap().revision(), 12);
        assert!(watch.next().await.is_none());
    }

    #[tokio::test]
    async fn one_bad_object_does_not_end_the_watch() {
        let mut watch = watch(concat!(
            r#"{"type":"ADDED","object":{"metadata":{"name":"a"},"data":7}}"#,
            "\n",
            r#"{"type":"ADDED","object":{"metadata":{"name":"b"}}}"#,
            "\n",
        ));
        let error = watch.next().await.unwrap().unwrap_err();
        assert!(error.to_string().starts_with("object a"), "{error}");
        assert!(matches!(watch.next().await, Some(Ok(Event::Added(_)))));
    }

    #[tokio::test]
    async fn an_error_event_ends_the_watch() {
        let mut watch = watch(concat!(
            r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","message":"too old resource version: 1 (5)","reason":"Expired","code":410}}"#,
            "\n",
            r#"{"type":"ADDED","object":{"metadata":{"name":"b"}}}"#,
            "\n",
        ));
        assert!(watch.next().await.unwrap().unwrap_err().is_expired());
        assert!(watch.next().await.is_none());
    }

    #[test]
    fn lines_are_bounded() {
        let mut lines = Lines::new(8);
        lines.push(b"12345678").unwrap();
        assert!(lines.next().is_none());
        assert!(matches!(
            lines.push(b"9"),
            Err(Error::TooLarge { limit: 8 })
        ));
        let mut lines = Lines::new(8);
        lines.push(b"a\nbb\nccc").unwrap();
        assert_eq!(lines.next().unwrap(), "a\n");
        assert_eq!(lines.next().unwrap(), "bb\n");
        assert!(lines.next().is_none());
        lines.push(b"c\n").unwrap();
        assert_eq!(lines.next().unwrap(), "cccc\n");
    }
}
