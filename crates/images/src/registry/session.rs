//! Upload sessions: blobs that come in several requests.

use std::collections::HashMap;
use std::time::Duration;

use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use http::response::Builder;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::answer::{CONTENT_DIGEST, Fault, UPLOAD_ID, answer, empty};
use super::route::{digest_parameter, parameter};
use super::{Body, Inner};
use crate::{BlobWriter, Digest, MAX_BLOB};

/// More sessions than this at once are not served.
const MAX_SESSIONS: usize = 1000;
/// A session that nobody has touched for so long is given up.
const IDLE: Duration = Duration::from_secs(3600);

/// The sessions that no request is working on at the moment. One that is being written to is taken out, so
/// that two requests never write to the same.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Open>>);

struct Open {
    repository: String,
    writer: BlobWriter,
    touched: Instant,
}

impl Sessions {
    fn keep(&self, id: &str, open: Open) -> Result<(), Fault> {
        let mut sessions = self.0.lock();
        sessions.retain(|_, open| open.touched.elapsed() < IDLE);
        if sessions.len() >= MAX_SESSIONS {
            return Err(Fault::new(
                StatusCode::TOO_MANY_REQUESTS,
                "TOOMANYREQUESTS",
                "too many uploads are open",
            ));
        }
        sessions.insert(id.to_owned(), open);
        Ok(())
    }

    fn take(&self, repository: &str, id: &str) -> Result<Open, Fault> {
        let mut sessions = self.0.lock();
        match sessions.remove(id) {
            Some(open) if open.repository == repository => Ok(open),
            Some(open) => {
                sessions.insert(id.to_owned(), open);
                Err(Fault::session_unknown(id))
            }
            None => Err(Fault::session_unknown(id)),
        }
    }
}

impl Inner {
    /// `POST …/blobs/uploads/`: a whole blob, one that is there already, or a new session.
    pub(super) async fn start_upload(
        &self,
        name: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Fault> {
        let uri = request.uri().clone();
        if let Some(digest) = digest_parameter(&uri)? {
            let mut writer = self.blobs.writer(MAX_BLOB)?;
            receive(request.into_body(), &mut writer).await?;
            return self.finish_upload(name, writer, &digest).await;
        }
        // Blobs belong to all repositories; but "mounting" must not tell of what a majority does not have.
        if let Some(Ok(digest)) = parameter(&uri, "mount").map(|digest| digest.parse::<Digest>())
            && let Ok(stored) = self.fetch(&digest).await
        {
            self.replicate(&stored).await?;
            return created(name, &digest);
        }
        let id = format!("{}.{}", self.name, uuid::Uuid::new_v4().simple());
        let writer = self.blobs.writer(MAX_BLOB)?;
        let open = Open {
            repository: name.to_owned(),
            writer,
            touched: Instant::now(),
        };
        self.sessions.keep(&id, open)?;
        empty(progress(StatusCode::ACCEPTED, name, &id, 0))
    }

    /// Everything under `…/blobs/uploads/<session>`.
    pub(super) async fn session(
        &self,
        name: &str,
        id: &str,
        method: Method,
        request: Request<Body>,
    ) -> Result<Response<Body>, Fault> {
        // A session's name begins with that of the server that has it.
        let server = id.rsplit_once('.').map_or("", |(server, _)| server);
        if server != self.name {
            if !self.peers.names().iter().any(|peer| peer == server) {
                return Err(Fault::session_unknown(id));
            }
            return Ok(self.peers.forward(server, request).await?);
        }
        let mut open = self.sessions.take(name, id)?;
        open.touched = Instant::now();
        match method {
            Method::DELETE => empty(answer(StatusCode::NO_CONTENT)),
            Method::PUT => {
                let Some(digest) = digest_parameter(request.uri())? else {
                    self.sessions.keep(id, open)?;
                    let message = "the query has no digest";
                    return Err(Fault::new(
                        StatusCode::BAD_REQUEST,
                        "DIGEST_INVALID",
                        message,
                    ));
                };
                self.receive_chunk(id, &mut open, request).await?;
                self.finish_upload(name, open.writer, &digest).await
            }
            Method::GET | Method::PATCH => {
                let is_patch = method == Method::PATCH;
                if is_patch && let Err(fault) = self.receive_chunk(id, &mut open, request).await {
                    // What did arrive stays: the client asks how much that is, and goes on from there.
                    self.sessions.keep(id, open)?;
                    return Err(fault);
                }
                let status = if is_patch {
                    StatusCode::ACCEPTED
                } else {
                    StatusCode::NO_CONTENT
                };
                let size = open.writer.size();
                self.sessions.keep(id, open)?;
                empty(progress(status, name, id, size))
            }
            other => {
                self.sessions.keep(id, open)?;
                Err(Fault::unsupported(format!(
                    "{other} is not for an upload session"
                )))
            }
        }
    }

    async fn receive_chunk(
        &self,
        id: &str,
        open: &mut Open,
        request: Request<Body>,
    ) -> Result<(), Fault> {
        if let Some(range) = request.headers().get(CONTENT_RANGE) {
            let start = range
                .to_str()
                .ok()
                .map(|range| {
                    range
                        .trim_start_matches("bytes")
                        .trim_start_matches([' ', '='])
                })
                .and_then(|range| range.split_once('-'))
                .and_then(|(start, _)| start.parse::<u64>().ok());
            if start != Some(open.writer.size()) {
                return Err(Fault::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    "BLOB_UPLOAD_INVALID",
                    format!("the session {id} goes on at byte {}", open.writer.size()),
                ));
            }
        }
        receive(request.into_body(), &mut open.writer).await
    }

    async fn finish_upload(
        &self,
        name: &str,
        writer: BlobWriter,
        digest: &Digest,
    ) -> Result<Response<Body>, Fault> {
        let stored = writer.finish(Some(digest)).await?;
        self.replicate(&stored).await?;
        created(name, digest)
    }
}

/// Appends a body to a blob, piece by piece.
pub(super) async fn receive(mut body: Body, writer: &mut BlobWriter) -> Result<(), Fault> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Fault::new(
                StatusCode::BAD_REQUEST,
                "BLOB_UPLOAD_INVALID",
                format!("the body broke off: {error}"),
            )
        })?;
        if let Ok(piece) = frame.into_data() {
            writer.write(&piece).await?;
        }
    }
    Ok(())
}

fn progress(status: StatusCode, name: &str, id: &str, size: u64) -> Builder {
    answer(status)
        .header(LOCATION, format!("/v2/{name}/blobs/uploads/{id}"))
        .header(RANGE, format!("0-{}", size.saturating_sub(1)))
        .header(UPLOAD_ID, id)
}

fn created(name: &str, digest: &Digest) -> Result<Response<Body>, Fault> {
    let builder = answer(StatusCode::CREATED)
        .header(LOCATION, format!("/v2/{name}/blobs/{digest}"))
        .header(CONTENT_DIGEST, digest.to_string());
    empty(builder)
}
