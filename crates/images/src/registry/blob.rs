//! Blobs: reading them, removing them, and the other servers' way to them.

use std::io::SeekFrom;

use futures::TryStreamExt;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::answer::{CONTENT_DIGEST, Fault, answer, empty, finish, head};
use super::session::receive;
use super::{Body, BoxError, Inner};
use crate::{Digest, MAX_BLOB, Stored};

impl Inner {
    pub(super) async fn get_blob(
        &self,
        digest: &Digest,
        ask: Ask,
    ) -> Result<Response<Body>, Fault> {
        let stored = self.fetch(digest).await?;
        self.send_blob(&stored, ask).await
    }

    /// A blob goes only when no manifest refers to it any more.
    pub(super) async fn delete_blob(&self, digest: &Digest) -> Result<Response<Body>, Fault> {
        let (wanted, lost) = self.wanted().await?;
        if wanted.contains(digest) {
            return Err(Fault::new(
                StatusCode::FORBIDDEN,
                "DENIED",
                format!("{digest} is still in use; delete the manifests that refer to it first"),
            ));
        }
        if let Some(error) = lost {
            // It might refer to this blob.
            return Err(error.into());
        }
        if self.fetch(digest).await.is_err() {
            return Err(Fault::blob_unknown(digest));
        }
        for peer in self.peers.names() {
            // One that is away keeps a blob that nothing asks for.
            if let Err(error) = self.peers.delete(&peer, digest).await {
                tracing::info!(peer, %digest, %error, "a copy of a deleted blob stays");
            }
        }
        self.blobs.delete(digest).await?;
        empty(answer(StatusCode::ACCEPTED))
    }

    pub(super) async fn peer_blob(
        &self,
        digest: &Digest,
        method: Method,
        request: Request<Body>,
    ) -> Result<Response<Body>, Fault> {
        match method {
            Method::GET | Method::HEAD => match self.blobs.size(digest) {
                Some(size) => {
                    self.send_blob(
                        &Stored {
                            digest: *digest,
                            size,
                        },
                        Ask::of(&request),
                    )
                    .await
                }
                None => Err(Fault::blob_unknown(digest)),
            },
            Method::PUT => {
                let mut writer = self.blobs.writer(MAX_BLOB)?;
                receive(request.into_body(), &mut writer).await?;
                writer.finish(Some(digest)).await?;
                empty(answer(StatusCode::CREATED))
            }
            Method::DELETE => {
                self.blobs.delete(digest).await?;
                empty(answer(StatusCode::ACCEPTED))
            }
            other => Err(Fault::unsupported(format!("{other} is not for a blob"))),
        }
    }

    async fn send_blob(&self, blob: &Stored, ask: Ask) -> Result<Response<Body>, Fault> {
        let Stored { digest, size } = *blob;
        let range = match &ask.range {
            Some(range) => part(range, size),
            None => Part::Whole,
        };
        let (status, start, length) = match range {
            Part::Whole => (StatusCode::OK, 0, size),
            Part::Of { start, length } => (StatusCode::PARTIAL_CONTENT, start, length),
            Part::Outside => {
                let message = format!("{digest} has {size} bytes");
                return Err(Fault::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    "BLOB_UPLOAD_INVALID",
                    message,
                ));
            }
        };
        let mut builder = answer(status)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(ACCEPT_RANGES, "bytes")
            .header(CONTENT_DIGEST, digest.to_string());
        if status == StatusCode::PARTIAL_CONTENT {
            builder = builder.header(
                CONTENT_RANGE,
                format!("bytes {start}-{}/{size}", start + length - 1),
            );
        }
        if ask.is_head {
            return head(builder, length);
        }
        let mut file = tokio::fs::File::open(self.blobs.path(&digest))
            .await
            .map_err(|_| Fault::blob_unknown(digest))?;
        file.seek(SeekFrom::Start(start))
            .await
            .map_err(|_| Fault::blob_unknown(digest))?;
        let stream = ReaderStream::with_capacity(file.take(length), 128 << 10);
        let frames = stream
            .map_ok(Frame::data)
            .map_err(|error| Box::new(error) as BoxError);
        finish(
            builder.header(http::header::CONTENT_LENGTH, length),
            StreamBody::new(frames).boxed_unsync(),
        )
    }
}

/// How a blob is asked for.
pub(super) struct Ask {
    is_head: bool,
    range: Option<String>,
}

impl Ask {
    pub(super) fn of(request: &Request<Body>) -> Ask {
        let range = request
            .headers()
            .get(RANGE)
            .and_then(|range| range.to_str().ok());
        Ask {
            is_head: request.method() == Method::HEAD,
            range: range.map(str::to_owned),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Of { start: u64, length: u64 },
    Outside,
}

/// What a `Range` header asks for. One that is not understood, or names several parts, is ignored, as HTTP
/// allows.
fn part(range: &str, size: u64) -> Part {
    let bounds = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'));
    let (start, end) = match bounds {
        Some(("", last)) => match last.parse::<u64>() {
            Ok(0) => return Part::Outside,
            Ok(last) => (size.saturating_sub(last), size),
            Err(_) => return Part::Whole,
        },
        Some((start, "")) => match start.parse() {
            Ok(start) => (start, size),
            Err(_) => return Part::Whole,
        },
        Some((start, end)) => match (start.parse::<u64>(), end.parse::<u64>()) {
            (Ok(start), Ok(end)) if start <= end => (start, end.saturating_add(1).min(size)),
            _ => return Part::Whole,
        },
        None => return Part::Whole,
    };
    if start >= end {
        return Part::Outside;
    }
    Part::Of {
        start,
        length: end - start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (range, want) in [
            (
                "bytes=0-9",
                Part::Of {
                    start: 0,
                    length: 10,
                },
            ),
            (
                "bytes=5-",
                Part::Of {
                    start: 5,
                    length: 95,
                },
            ),
            (
                "bytes=-10",
                Part::Of {
                    start: 90,
                    length: 10,
                },
            ),
            (
                "bytes=-1000",
                Part::Of {
                    start: 0,
                    length: 100,
                },
            ),
            (
                "bytes=90-18446744073709551615",
                Part::Of {
                    start: 90,
                    length: 10,
                },
            ),
            ("bytes=100-", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=9-5", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("lines=0-1", Part::Whole),
        ] {
            assert_eq!(part(range, 100), want, "{range}");
        }
        assert_eq!(part("bytes=0-0", 0), Part::Outside);
    }
}
