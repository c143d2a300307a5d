//! Reading and writing single keys of the store on behalf of requests.

use std::time::Duration;

use api::{Object, Status};
use bytes::Bytes;
use parking_lot::Mutex;
use store::{Command, Entry, Op, When, Written};
use tokio::time::Instant;
use tracing::{Instrument, debug, debug_span, field};

use crate::ApiServer;

/// How often a write that lost a race is judged anew before the client is told to try again.
const ATTEMPTS: usize = 24;
/// How long events are kept.
const EVENT_TTL: Duration = Duration::from_secs(3600);
/// How long one lease takes up new events: this many events more or less go at once.
const EVENT_LEASE_SPAN: Duration = Duration::from_secs(60);
/// After how many seconds to try again what was not taken.
const RETRY_AFTER: u32 = 1;
/// Where events lie.
const EVENTS: &[u8] = b"/registry/core/events/";

/// What a judged write does to its key.
pub(crate) enum Next {
    /// Store this.
    Put {
        value: Bytes,
        /// Other keys that change with it.
        also: Also,
    },
    /// Remove it.
    Delete {
        /// The object's last state, to be answered with.
        last: Bytes,
        /// Other keys that change with it.
        also: Also,
    },
    /// Nothing: the key is as it should be.
    Keep,
}

/// Other keys that a write changes under their own conditions, such as a claim on an address.
#[derive(Default)]
pub(crate) struct Also {
    pub(crate) when: Vec<When>,
    pub(crate) ops: Vec<Op>,
}

/// What came of a write.
pub(crate) struct Done {
    /// The object after the write; of a deletion, as it last was, at the deletion's revision.
    pub(crate) object: Object,
    /// What a dry run would have stored. It has no version of its own.
    pub(crate) pretended: Option<Bytes>,
    /// Whether the key is gone now.
    pub(crate) deleted: bool,
}

/// The lease that new events hang on. Shared by all events of a minute, as Kubernetes does.
#[derive(Default)]
pub(crate) struct EventLeases(Mutex<Option<(u64, Instant)>>);

impl EventLeases {
    /// The lease to use, and whether it must be granted first.
    fn current(&self) -> (u64, bool) {
        match *self.0.lock() {
            Some((id, since)) if since.elapsed() < EVENT_LEASE_SPAN => (id, false),
            _ => (rand::random(), true),
        }
    }

    fn granted(&self, id: u64) {
        *self.0.lock() = Some((id, Instant::now()));
    }

    fn forget(&self) {
        *self.0.lock() = None;
    }
}

impl ApiServer {
    /// Refuses to begin anything while no leader is known: nothing was taken, another server may.
    pub(crate) fn led(&self) -> Result<(), Status> {
        if self.inner.store.leadership().borrow().leader.is_some() {
            return Ok(());
        }
        Err(not_taken("this server knows no leader at the moment"))
    }

    /// Waits until local reads see every write acknowledged anywhere before this call.
    pub(crate) async fn fresh(&self) -> Result<u64, Status> {
        self.inner.store.barrier().await.map_err(unavailable)
    }

    /// A key's entry as this server knows it.
    pub(crate) fn local(&self, key: &[u8]) -> Option<Entry> {
        self.inner.store.state().get(key).cloned()
    }

    /// An object, read linearizably.
    pub(crate) async fn read(&self, key: &[u8]) -> Result<Option<Object>, Status> {
        self.fresh().await?;
        self.local(key).map(|e| decoded(&e)).transpose()
    }

    /// Judges a key and writes what follows from it, by compare-and-set on the key's revision,
    /// again when another write came first. `judge` is told the stored object, or none.
    ///
    /// The first judgement is made on this server's own copy; an error is believed only once the
    /// copy is known to be fresh.
    pub(crate) async fn write(
        &self,
        key: &str,
        dry_run: bool,
        mut judge: impl FnMut(Option<&Object>) -> Result<Next, Status>,
    ) -> Result<Done, Status> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let mut fresh = false;
        for _ in 0..ATTEMPTS {
            let entry = self.local(&key);
            let before = entry.as_ref().map(decoded).transpose()?;
            let modified = entry.as_ref().map_or(0, |e| e.modified);
            let next = match judge(before.as_ref()) {
                Ok(Next::Keep) if fresh => return keep(before),
                Err(status) if fresh => return Err(status),
                Ok(Next::Keep) | Err(_) => {
                    self.fresh().await?;
                    fresh = true;
                    continue;
                }
                Ok(next) => next,
            };
            if dry_run {
                if !fresh {
                    self.fresh().await?;
                    fresh = true;
                    continue;
                }
                return pretend(next, before);
            }
            if let Some(done) = self.commit(&key, modified, next).await? {
                return Ok(done);
            }
            // Refused: this copy was behind, or another write came between.
            self.fresh().await?;
            fresh = true;
        }
        Err(Status::timeout(
            "too many writes to the same object at once, please try again",
            1,
        ))
    }

    /// Writes if the key is still at `modified`. None: it is not, or another condition failed.
    async fn commit(&self, key: &Bytes, modified: u64, next: Next) -> Result<Option<Done>, Status> {
        let mut command = Command {
            when: vec![When::Revision {
                key: key.clone(),
                is: modified,
            }],
            ops: Vec::new(),
        };
        let mut granted = None;
        let (value, deleted) = match next {
            Next::Keep => return Ok(None),
            Next::Put { value, also } => {
                let lease = if key.starts_with(EVENTS) {
                    let (id, new) = self.inner.event_leases.current();
                    if new {
                        let ttl_ms = (EVENT_TTL + EVENT_LEASE_SPAN).as_millis();
                        command.ops.push(Op::GrantLease {
                            id,
                            ttl_ms: u64::try_from(ttl_ms).unwrap_or(u64::MAX),
                        });
                        granted = Some(id);
                    }
                    Some(id)
                } else {
                    None
                };
                command.ops.push(Op::Put {
                    key: key.clone(),
                    value: value.clone(),
                    lease,
                });
                command.when.extend(also.when);
                command.ops.extend(also.ops);
                (value, false)
            }
            Next::Delete { last, also } => {
                command.ops.push(Op::Delete { key: key.clone() });
                command.when.extend(also.when);
                command.ops.extend(also.ops);
                (last, true)
            }
        };
        self.led()?;
        match self.propose(key, command).await {
            Ok(Written::Applied { revision }) => {
                if let Some(id) = granted {
                    self.inner.event_leases.granted(id);
                }
                Ok(Some(Done {
                    object: Object::from_stored(&value, revision).map_err(unreadable)?,
                    pretended: None,
                    deleted,
                }))
            }
            Ok(Written::Refused { .. }) => Ok(None),
            Err(store::Error::LeaseNotFound(_)) => {
                self.inner.event_leases.forget();
                Ok(None)
            }
            Err(error) => Err(write_failed(error)),
        }
    }

    /// The write itself, in a span below the request's, which carries the object's uid.
    async fn propose(&self, key: &Bytes, command: Command) -> Result<Written, store::Error> {
        let key = String::from_utf8_lossy(key);
        let span = debug_span!("raft_write", %key, revision = field::Empty);
        let written = self
            .inner
            .store
            .write(command)
            .instrument(span.clone())
            .await;
        if let Ok(Written::Applied { revision }) = &written {
            span.record("revision", revision);
            span.in_scope(|| debug!("applied"));
        }
        written
    }
}

fn decoded(entry: &Entry) -> Result<Object, Status> {
    Object::from_stored(&entry.value, entry.modified).map_err(unreadable)
}

fn unreadable(error: impl std::fmt::Display) -> Status {
    Status::internal(format!("a stored object cannot be read: {error}"))
}

fn keep(before: Option<Object>) -> Result<Done, Status> {
    let object = before.ok_or_else(|| Status::internal("keeping what is not there"))?;
    Ok(Done {
        object,
        pretended: None,
        deleted: false,
    })
}

/// What a dry run answers: the object as it would be; a new one has no version.
fn pretend(next: Next, before: Option<Object>) -> Result<Done, Status> {
    let revision = before.as_ref().map_or(0, Object::revision);
    let (value, deleted) = match next {
        Next::Put { value, .. } => (value, false),
        Next::Delete { last, .. } => (last, true),
        Next::Keep => return keep(before),
    };
    Ok(Done {
        object: Object::from_stored(&value, revision).map_err(unreadable)?,
        pretended: before.is_none().then_some(value),
        deleted,
    })
}

/// 503 with `Retry-After`: this server has not taken the request, so that it may be sent to another.
pub(crate) fn not_taken(why: impl Into<String>) -> Status {
    let mut status = Status::service_unavailable(why);
    let details = status.details.get_or_insert_default();
    details.retry_after_seconds = RETRY_AFTER;
    status
}

/// What the store could not do and may be asked again: a read, or a write that does no harm twice.
pub(crate) fn unavailable(error: store::Error) -> Status {
    not_taken(error.to_string())
}

/// A write that breaks the store's limits, or of which it is not known whether it took effect: 504
/// without `Retry-After`, lest a client's transport sends it a second time by itself.
fn write_failed(error: store::Error) -> Status {
    match error {
        store::Error::Invalid(why) => Status::request_entity_too_large(why),
        store::Error::Unavailable(why) => Status::timeout(why, 0),
        other => Status::timeout(other.to_string(), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_taken_may_be_sent_again() {
        let refused = crate::respond::status(&unavailable(store::Error::Unavailable("x".into())));
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.headers()["retry-after"], "1");
        for error in [
            store::Error::Unavailable("no majority answered".into()),
            store::Error::Stopped("shut down".into()),
        ] {
            let unknown = crate::respond::status(&write_failed(error));
            assert_eq!(unknown.status(), 504);
            assert!(!unknown.headers().contains_key("retry-after"));
        }
    }
}
