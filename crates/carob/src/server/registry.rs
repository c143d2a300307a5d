//! The cluster's image registry on this server: blobs in files, tags in the store, copies on the
//! other servers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use apiserver::MountHandler;
use async_trait::async_trait;
use bytes::Bytes;
use client::tls::Identity;
use futures::{FutureExt, TryStreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use images::registry::{Body, BoxError, PEER_PREFIX, Peers, Registry, Tags};
use images::{Blobs, Digest, Error, Reader};
use store::{Command, Op, Store, Written};
use tokio::sync::watch;
use tokio_util::io::{ReaderStream, StreamReader};
use tokio_util::sync::CancellationToken;

use super::{Node, becomes};
use crate::peer_http::PeerHttp;

/// Below it, the tags: `<repository>/<tag>` → digest.
const TAGS: &str = "/images/tags/";
/// How often a server looks for blobs that it should have. Pushes reach it at once; this is for
/// what it missed while it was away.
const FILL_EVERY: Duration = Duration::from_secs(60);

/// The registry, ready to be mounted.
#[derive(Clone)]
pub(super) struct Images(Registry);

/// Opens this server's part of the registry.
pub(super) fn open(node: &Node, store: &Store, identity: &Identity) -> Result<Images> {
    let blobs = Blobs::open(node.dir.join("blobs"))?;
    let others = Others {
        name: node.name.clone(),
        store: store.clone(),
        http: PeerHttp::new(identity.client_config()?),
    };
    let tags = StoredTags(store.clone());
    Ok(Images(Registry::new(
        node.name.clone(),
        blobs,
        Arc::new(tags),
        Arc::new(others),
    )))
}

impl Images {
    /// The handler of `/v2`.
    pub(super) fn handler(&self) -> MountHandler {
        let registry = self.0.clone();
        Arc::new(move |_identity, request| {
            let registry = registry.clone();
            async move {
                let answer = registry.handle(request).await;
                answer.map(|body| {
                    body.map_err(|e| client::Error::transport("the registry", e))
                        .boxed_unsync()
                })
            }
            .boxed()
        })
    }

    /// Fetches what this server lacks, now and then, until `ending`.
    pub(super) async fn keep_filled(
        self,
        mut ready: watch::Receiver<bool>,
        ending: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = ending.cancelled() => return,
                gone = becomes(&mut ready, true) => if gone { return },
            }
            match self.fill().await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "fetched blobs that were missing here"),
                Err(error) => tracing::warn!(%error, "some blobs are missing here"),
            }
            tokio::select! {
                () = ending.cancelled() => return,
                () = tokio::time::sleep(FILL_EVERY) => {}
            }
        }
    }

    async fn fill(&self) -> Result<usize, Error> {
        let wanted = self.0.wanted().await?;
        self.0.fill(&wanted).await
    }
}

/// Tags in the replicated store.
struct StoredTags(Store);

impl StoredTags {
    fn key(repository: &str, tag: &str) -> Bytes {
        format!("{TAGS}{repository}/{tag}").into()
    }

    async fn fresh(&self) -> Result<Arc<store::State>, Error> {
        self.0.barrier().await.map_err(unavailable)?;
        Ok(self.0.state())
    }

    async fn write(&self, op: Op) -> Result<Written, Error> {
        self.0
            .write(Command::always(vec![op]))
            .await
            .map_err(unavailable)
    }
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(error.to_string())
}

/// The repository and the tag of a key below [`TAGS`], and the digest of its value.
fn read_tag(key: &[u8], value: &[u8]) -> Option<(String, String, Digest)> {
    let path = std::str::from_utf8(key).ok()?.strip_prefix(TAGS)?;
    let (repository, tag) = path.rsplit_once('/')?;
    let digest = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some((repository.to_owned(), tag.to_owned(), digest))
}

#[async_trait]
impl Tags for StoredTags {
    async fn get(&self, repository: &str, tag: &str) -> Result<Option<Digest>, Error> {
        let state = self.fresh().await?;
        let key = StoredTags::key(repository, tag);
        Ok(state
            .get(&key)
            .and_then(|entry| read_tag(&key, &entry.value))
            .map(|(_, _, digest)| digest))
    }

    async fn put(&self, repository: &str, tag: &str, digest: &Digest) -> Result<(), Error> {
        let key = StoredTags::key(repository, tag);
        self.write(Op::Put {
            key,
            value: digest.to_string().into(),
            lease: None,
        })
        .await
        .map(drop)
    }

    async fn delete(&self, repository: &str, tag: &str) -> Result<bool, Error> {
        let key = StoredTags::key(repository, tag);
        let there = self.fresh().await?.get(&key).is_some();
        self.write(Op::Delete { key }).await?;
        Ok(there)
    }

    async fn list(&self, repository: &str) -> Result<Vec<(String, Digest)>, Error> {
        let state = self.fresh().await?;
        let prefix = format!("{TAGS}{repository}/");
        let all = state
            .range(prefix.as_bytes())
            .filter_map(|(key, entry)| read_tag(key, &entry.value));
        Ok(all
            .filter(|(of, _, _)| of == repository)
            .map(|(_, tag, digest)| (tag, digest))
            .collect())
    }

    async fn repositories(&self) -> Result<Vec<String>, Error> {
        let state = self.fresh().await?;
        let all = state
            .range(TAGS.as_bytes())
            .filter_map(|(key, entry)| read_tag(key, &entry.value));
        let names: std::collections::BTreeSet<String> =
            all.map(|(repository, _, _)| repository).collect();
        Ok(names.into_iter().collect())
    }
}

/// The other servers, reached over HTTPS under their own certificates.
struct Others {
    name: String,
    store: Store,
    http: PeerHttp,
}

impl Others {
    /// Where `peer`'s API is: each server writes its own URL into a ConfigMap that all have.
    fn url(&self, peer: &str) -> Result<String, Error> {
        let state = self.store.state();
        let map = state.get(b"/registry/core/configmaps/kube-system/carob-servers");
        let object: Option<serde_json::Value> =
            map.and_then(|entry| serde_json::from_slice(&entry.value).ok());
        let url = object.as_ref().and_then(|o| o["data"][peer].as_str());
        url.map(str::to_owned)
            .ok_or_else(|| Error::Unavailable(format!("nobody knows where server {peer} is")))
    }

    async fn send(&self, peer: &str, request: Request<Body>) -> Result<Response<Body>, Error> {
        let url = self.url(peer)?;
        self.http
            .send(&url, request)
            .await
            .map_err(|e| Error::Unavailable(format!("server {peer}: {e:#}")))
    }

    async fn ask(
        &self,
        peer: &str,
        method: Method,
        digest: &Digest,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{PEER_PREFIX}{digest}"))
            .body(body)
            .map_err(|e| Error::Unavailable(e.to_string()))?;
        self.send(peer, request).await
    }
}

fn nothing() -> Body {
    http_body_util::Empty::new()
        .map_err(|never: std::convert::Infallible| match never {})
        .boxed_unsync()
}

fn refused(peer: &str, status: StatusCode) -> Error {
    Error::Unavailable(format!("server {peer} answers {status}"))
}

#[async_trait]
impl Peers for Others {
    fn names(&self) -> Vec<String> {
        self.store
            .members()
            .into_iter()
            .filter(|m| m.voter && m.name != self.name)
            .map(|m| m.name)
            .collect()
    }

    async fn has(&self, peer: &str, digest: &Digest) -> Result<bool, Error> {
        match self
            .ask(peer, Method::HEAD, digest, nothing())
            .await?
            .status()
        {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            other => Err(refused(peer, other)),
        }
    }

    async fn put(&self, peer: &str, digest: &Digest, size: u64, path: &Path) -> Result<(), Error> {
        let file = tokio::fs::File::open(path).await.map_err(unavailable)?;
        let frames = ReaderStream::with_capacity(file, 256 * 1024).map_ok(http_body::Frame::data);
        let body =
            BodyExt::map_err(StreamBody::new(frames), |e| -> BoxError { e.into() }).boxed_unsync();
        let request = Request::put(format!("{PEER_PREFIX}{digest}"))
            .header(http::header::CONTENT_LENGTH, size)
            .body(body)
            .map_err(unavailable)?;
        match self.send(peer, request).await?.status() {
            status if status.is_success() => Ok(()),
            other => Err(refused(peer, other)),
        }
    }

    async fn get(&self, peer: &str, digest: &Digest) -> Result<Option<Reader>, Error> {
        let answer = self.ask(peer, Method::GET, digest, nothing()).await?;
        match answer.status() {
            StatusCode::OK => {
                let data = answer
                    .into_body()
                    .into_data_stream()
                    .map_err(std::io::Error::other);
                Ok(Some(Box::pin(StreamReader::new(data))))
            }
            StatusCode::NOT_FOUND => Ok(None),
            other => Err(refused(peer, other)),
        }
    }

    async fn delete(&self, peer: &str, digest: &Digest) -> Result<(), Error> {
        match self
            .ask(peer, Method::DELETE, digest, nothing())
            .await?
            .status()
        {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            other => Err(refused(peer, other)),
        }
    }

    async fn forward(&self, peer: &str, request: Request<Body>) -> Result<Response<Body>, Error> {
        self.send(peer, request).await
    }
}
