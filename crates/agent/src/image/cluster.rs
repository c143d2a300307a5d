//! The cluster's own registry.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use client::Client;
use futures::TryStreamExt as _;
use http_body_util::BodyExt as _;
use images::{Digest, Name, Reader, Source};

use super::MANIFESTS;

/// The cluster's own registry, through whatever way the client has into the cluster.
pub(super) struct ClusterRegistry {
    pub(super) client: Client,
}

impl ClusterRegistry {
    async fn get(&self, path: String) -> Result<client::Body, images::Error> {
        let request = http::Request::get(&path)
            .header(http::header::ACCEPT, MANIFESTS)
            .body(Bytes::new());
        let request = request.map_err(|e| images::Error::Unavailable(e.to_string()))?;
        match self.client.raw(request).await {
            Ok(response) => Ok(response.into_body()),
            Err(error) => Err(match error.code() {
                Some(404) => images::Error::NotFound(path.trim_start_matches("/v2/").to_owned()),
                Some(401 | 403) => images::Error::Denied(path),
                _ => images::Error::Unavailable(error.to_string()),
            }),
        }
    }
}

#[async_trait]
impl Source for ClusterRegistry {
    async fn manifest(&self, name: &Name) -> Result<Bytes, images::Error> {
        let body = self
            .get(format!(
                "/v2/{}/manifests/{}",
                name.repository,
                name.manifest_reference()
            ))
            .await;
        let body = body.map_err(|e| match e {
            images::Error::NotFound(_) => images::Error::NotFound(name.to_string()),
            other => other,
        })?;
        let limit = usize::try_from(images::MAX_MANIFEST).unwrap_or(usize::MAX);
        client::collect(body, limit)
            .await
            .map_err(|e| images::Error::Unavailable(e.to_string()))
    }

    async fn blob(&self, name: &Name, digest: &Digest) -> Result<Reader, images::Error> {
        let body = self
            .get(format!("/v2/{}/blobs/{digest}", name.repository))
            .await?;
        let stream = body.into_data_stream().map_err(io::Error::other);
        Ok(Box::pin(tokio_util::io::StreamReader::new(stream)))
    }
}
