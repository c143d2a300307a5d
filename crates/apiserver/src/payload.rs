//! A request's body before it is read: first it is judged who sends it.

use std::time::Duration;

use api::Status;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::respond;

/// The largest body of a request, as in Kubernetes.
pub(crate) const BODY_LIMIT: usize = 3 * 1024 * 1024;
/// The largest body of who has no certificate yet.
pub(crate) const JOIN_LIMIT: usize = 64 * 1024;
/// How much of a body beyond its limit is read before the answer.
const OVERRUN: usize = 16 * 1024 * 1024;
/// How long a client has for sending its body.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many bytes all bodies that are being read may have together.
const TOGETHER: usize = 256 * 1024 * 1024;

/// A body that came from within this process, or that is still on the wire.
pub(crate) enum Payload {
    Whole(Bytes),
    Wire(Incoming),
}

/// Room for the bodies that are being read.
pub(crate) struct Room(Semaphore);

impl Default for Room {
    fn default() -> Room {
        Room(Semaphore::new(TOGETHER))
    }
}

impl Room {
    /// Room for a body of at most this many bytes.
    fn claim(&self, bytes: usize) -> Result<SemaphorePermit<'_>, Status> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.0.try_acquire_many(bytes).map_err(|_| {
            Status::too_many_requests("too many large requests at once, please try again", 1)
        })
    }
}

impl Payload {
    /// Reads it within its limits of size and time.
    pub(crate) async fn read(self, room: &Room, limit: usize) -> Result<Bytes, Status> {
        let incoming = match self {
            Payload::Whole(bytes) => return Ok(bytes),
            Payload::Wire(incoming) => incoming,
        };
        let announced = incoming.size_hint().upper();
        let announced = announced.and_then(|length| usize::try_from(length).ok());
        let _claimed = room.claim(announced.unwrap_or(limit).min(limit))?;
        match tokio::time::timeout(PATIENCE, collect(incoming, limit)).await {
            Ok(Ok(Some(body))) => Ok(body),
            Ok(Ok(None)) => Err(respond::too_large(limit)),
            Ok(Err(error)) => Err(Status::bad_request(format!(
                "the request's body could not be read: {error}"
            ))),
            Err(_) => Err(Status::timeout(
                "request body was not sent within the allotted timeout",
                0,
            )),
        }
    }
}

/// The whole body; `None` if it is longer than `limit`. Of one that is too long some more is read
/// and forgotten: a client that is still sending when the connection closes never sees the answer.
async fn collect(mut incoming: Incoming, limit: usize) -> Result<Option<Bytes>, hyper::Error> {
    let mut body = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        length += data.len();
        if length <= limit {
            body.extend_from_slice(&data);
        } else if length > limit + OVERRUN {
            break;
        } else {
            body = BytesMut::new();
        }
    }
    Ok((length <= limit).then(|| body.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_room_until_there_is_none() {
        let room = Room::default();
        let claims: Vec<_> = (0..TOGETHER / BODY_LIMIT)
            .map(|_| room.claim(BODY_LIMIT))
            .collect();
        assert!(claims.iter().all(Result::is_ok));
        assert_eq!(room.claim(BODY_LIMIT).unwrap_err().code, 429);
        drop(claims);
        assert!(room.claim(BODY_LIMIT).is_ok());
    }
}
