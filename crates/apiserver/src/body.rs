//! Bodies of answers: lists joined lazily from stored bytes, streams, gzip.

use std::collections::VecDeque;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{Stream, StreamExt};
use http::HeaderValue;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, StreamBody};

/// A response's body, the same for in-process and HTTPS callers.
pub(crate) type Body = client::Body;
/// What every handler answers with.
pub type Response = http::Response<Body>;

/// In an answer's extensions: it comes from elsewhere, and is neither indented nor compressed here.
#[derive(Clone, Copy)]
pub(crate) struct AsItIs;

/// What a body is cut into: large enough for TLS and HTTP/2 to work well, small enough that many
/// lists at once do not fill memory.
const CHUNK: usize = 128 * 1024;
/// Bodies below this are not worth gzip's time; the same bound as Kubernetes'.
const GZIP_FROM: u64 = 128 * 1024;
/// Documents up to this are indented for those who ask.
const INDENT_UP_TO: u64 = 4 << 20;
/// And if they do not become longer than this.
const INDENTED_UP_TO: usize = 16 << 20;
const JSON: &str = "application/json";

/// Pieces that are joined while they are sent. The pieces are shared with the cache, so a list of
/// 10,000 objects costs 10,000 reference counts, not a copy of them all.
struct Joined {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl http_body::Body for Joined {
    type Data = Bytes;
    type Error = client::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, client::Error>>> {
        let Some(first) = self.pieces.pop_front() else {
            return Poll::Ready(None);
        };
        let next = self.pieces.front().map_or(0, Bytes::len);
        let chunk = if first.len() >= CHUNK / 2 || next == 0 {
            first
        } else {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            chunk.extend_from_slice(&first);
            while let Some(piece) = self.pieces.front()
                && chunk.len() + piece.len() <= CHUNK
            {
                chunk.extend_from_slice(piece);
                self.pieces.pop_front();
            }
            chunk.freeze()
        };
        self.left = self.left.saturating_sub(chunk.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A body of these pieces, one after the other.
pub(crate) fn joined(pieces: impl IntoIterator<Item = Bytes>) -> Body {
    let pieces: VecDeque<Bytes> = pieces.into_iter().filter(|p| !p.is_empty()).collect();
    let left = pieces.iter().map(|p| p.len() as u64).sum();
    Joined { pieces, left }.boxed_unsync()
}

/// A body that ends when the stream does; an error breaks the connection off.
pub(crate) fn stream(
    stream: impl Stream<Item = Result<Bytes, client::Error>> + Send + 'static,
) -> Body {
    StreamBody::new(stream.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// An answer of one status and content type.
pub(crate) fn answer(code: http::StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = http::Response::new(body);
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A plain text answer.
pub(crate) fn text(code: http::StatusCode, text: impl Into<Bytes>) -> Response {
    answer(code, "text/plain; charset=utf-8", client::full(text))
}

/// An answer to HEAD: the length of a body, and none. HTTP/2 takes a body there for a breach of protocol.
pub(crate) fn bodiless(response: Response) -> Response {
    let length = response.body().size_hint().exact();
    let mut response = response.map(|_| client::empty());
    // The length is that of the whole document, which is not known where it has not changed.
    if let Some(length) = length
        && response.status() != http::StatusCode::NOT_MODIFIED
        && response.extensions().get::<AsItIs>().is_none()
    {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response
}

/// An indented document on its way, of a bounded length: a deep one may become a hundred times as long.
struct Lines(Vec<u8>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > INDENTED_UP_TO {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A JSON document in lines, for people. Streams and what is too large to be read by them pass as they are.
pub(crate) async fn indented(response: Response) -> Response {
    let json = response.headers().get(CONTENT_TYPE) == Some(&HeaderValue::from_static(JSON));
    let length = response.body().size_hint().exact();
    if !json || length.is_none_or(|length| length > INDENT_UP_TO) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Ok(body) = body.collect().await.map(|body| body.to_bytes()) else {
        return http::Response::from_parts(head, client::empty());
    };
    let mut lines = Lines(Vec::with_capacity(body.len() * 2));
    let mut from = serde_json::Deserializer::from_slice(&body);
    let mut to = serde_json::Serializer::pretty(&mut lines);
    let body = match serde_transcode::transcode(&mut from, &mut to) {
        Ok(()) => lines.0.into(),
        Err(_) => body,
    };
    head.headers.remove(CONTENT_LENGTH);
    http::Response::from_parts(head, client::full(body))
}

/// Compresses a large body of known length; others (streams, small ones) pass as they are.
pub(crate) fn compress(response: Response) -> Response {
    let large = response.body().size_hint().exact() >= Some(GZIP_FROM);
    if !large || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    head.headers
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers
        .append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let encoder = GzEncoder::new(Vec::with_capacity(CHUNK), Compression::fast());
    let compressed = futures::stream::unfold(Some((body, encoder)), |state| async move {
        let (mut body, mut encoder) = state?;
        loop {
            match body.frame().await {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    if let Err(error) = encoder.write_all(&data) {
                        return Some((Err(client::Error::transport("gzip", error)), None));
                    }
                    if encoder.get_ref().len() >= CHUNK / 4 {
                        let ready =
                            std::mem::replace(encoder.get_mut(), Vec::with_capacity(CHUNK / 2));
                        return Some((Ok(Bytes::from(ready)), Some((body, encoder))));
                    }
                }
                Some(Err(error)) => return Some((Err(error), None)),
                None => {
                    let rest = encoder
                        .finish()
                        .map(Bytes::from)
                        .map_err(|e| client::Error::transport("gzip", e));
                    return Some((rest, None));
                }
            }
        }
    });
    http::Response::from_parts(head, stream(compressed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[tokio::test]
    async fn pieces_arrive_whole_and_in_order() {
        let pieces: Vec<Bytes> = (0..10_000u32)
            .map(|i| Bytes::from(format!("{i},").repeat(1 + (i % 97) as usize)))
            .collect();
        let want: Vec<u8> = pieces.concat();
        let body = joined(pieces);
        assert_eq!(body.size_hint().exact(), Some(want.len() as u64));
        let got = body.collect().await.unwrap().to_bytes();
        assert_eq!(got, want);
    }

    #[tokio::test]
    async fn large_bodies_are_compressed_and_small_ones_not() {
        let large = "wasm ".repeat(100_000);
        let response = compress(text(http::StatusCode::OK, large.clone()));
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        let got = response.into_body().collect().await.unwrap().to_bytes();
        let mut plain = String::new();
        flate2::read::GzDecoder::new(&got[..])
            .read_to_string(&mut plain)
            .unwrap();
        assert_eq!(plain, large);
        let small = compress(text(http::StatusCode::OK, "small"));
        assert!(!small.headers().contains_key(CONTENT_ENCODING));
    }
}
