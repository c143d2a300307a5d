//! Manifests, and the lists of what there is.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, LINK, LOCATION};
use http::{HeaderName, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::answer::{CONTENT_DIGEST, Fault, answer, empty, full, head};
use super::route::{Reference, parameter};
use super::{Body, Inner};
use crate::media::types;
use crate::{Descriptor, Digest, Error, MAX_MANIFEST, Manifest};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

impl Inner {
    pub(super) async fn get_manifest(
        &self,
        name: &str,
        reference: Reference<'_>,
        is_head: bool,
    ) -> Result<Response<Body>, Fault> {
        let text = reference.text();
        let digest = self
            .tags
            .get(name, &text)
            .await?
            .ok_or_else(|| Fault::manifest_unknown(name, &text))?;
        self.fetch(&digest).await?;
        let bytes = self.blobs.read(&digest, MAX_MANIFEST).await?;
        let builder = answer(StatusCode::OK)
            .header(CONTENT_TYPE, Manifest::parse(&bytes)?.content_type())
            .header(CONTENT_DIGEST, digest.to_string());
        match is_head {
            true => head(builder, bytes.len() as u64),
            false => full(builder, bytes),
        }
    }

    /// Takes a manifest once everything it names, and it itself, is on a majority of the servers.
    pub(super) async fn put_manifest(
        &self,
        name: &str,
        reference: Reference<'_>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Fault> {
        let announced = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned);
        let bytes = collect(request.into_body()).await?;
        let manifest = Manifest::parse(&bytes)?;
        if let (Some(announced), Some(own)) = (&announced, &manifest.media_type)
            && announced.split(';').next().map(str::trim) != Some(own)
        {
            return Err(invalid(format!(
                "it is sent as {announced} and says that it is {own}"
            )));
        }
        let digest = Digest::of(&bytes);
        if let Reference::Digest(expected) = reference
            && expected != digest
        {
            return Err(Error::Mismatch {
                expected,
                actual: digest,
            }
            .into());
        }
        for descriptor in manifest.references() {
            self.check_reference(descriptor).await?;
        }
        let stored = self.blobs.put_bytes(bytes).await?;
        self.replicate(&stored).await?;
        self.tags.put(name, &digest.to_string(), &digest).await?;
        if let Reference::Tag(tag) = reference {
            self.tags.put(name, tag, &digest).await?;
        }
        tracing::info!(image = name, reference = reference.text(), %digest, "image pushed");
        let mut builder = answer(StatusCode::CREATED)
            .header(LOCATION, format!("/v2/{name}/manifests/{digest}"))
            .header(CONTENT_DIGEST, digest.to_string());
        if let Some(subject) = &manifest.subject {
            builder = builder.header(SUBJECT, subject.digest.to_string());
        }
        empty(builder)
    }

    async fn check_reference(&self, descriptor: &Descriptor) -> Result<(), Fault> {
        let stored = self
            .fetch(&descriptor.digest)
            .await
            .map_err(|error| match error {
                Error::NotFound(_) => Fault::new(
                    StatusCode::BAD_REQUEST,
                    "MANIFEST_BLOB_UNKNOWN",
                    format!(
                        "the manifest names {}, which has not been pushed",
                        descriptor.digest
                    ),
                ),
                other => other.into(),
            })?;
        if stored.size != descriptor.size {
            return Err(Error::Size {
                digest: descriptor.digest,
                expected: descriptor.size,
                actual: stored.size,
            }
            .into());
        }
        Ok(self.replicate(&stored).await?)
    }

    /// By tag, the tag goes; by digest, the manifest and all tags that name it.
    pub(super) async fn delete_manifest(
        &self,
        name: &str,
        reference: Reference<'_>,
    ) -> Result<Response<Body>, Fault> {
        let text = reference.text();
        let unknown = || Fault::manifest_unknown(name, &text);
        match reference {
            Reference::Tag(tag) => {
                if !self.tags.delete(name, tag).await? {
                    return Err(unknown());
                }
            }
            Reference::Digest(digest) => {
                let mut tags = self.tags.list(name).await?;
                tags.retain(|(_, named)| *named == digest);
                if tags.is_empty() {
                    return Err(unknown());
                }
                for (tag, _) in tags {
                    self.tags.delete(name, &tag).await?;
                }
            }
        }
        empty(answer(StatusCode::ACCEPTED))
    }

    pub(super) async fn tags_list(&self, name: &str, uri: &Uri) -> Result<Response<Body>, Fault> {
        let entries = self.tags.list(name).await?;
        if entries.is_empty() {
            return Err(Fault::new(
                StatusCode::NOT_FOUND,
                "NAME_UNKNOWN",
                format!("no repository {name}"),
            ));
        }
        let tags = entries
            .into_iter()
            .map(|(tag, _)| tag)
            .filter(|tag| !tag.contains(':'))
            .collect();
        page(
            tags,
            uri,
            &format!("/v2/{name}/tags/list"),
            |tags| json!({"name": name, "tags": tags}),
        )
    }

    pub(super) async fn catalog(&self, uri: &Uri) -> Result<Response<Body>, Fault> {
        let repositories = self.tags.repositories().await?;
        page(
            repositories,
            uri,
            "/v2/_catalog",
            |repositories| json!({"repositories": repositories}),
        )
    }

    /// The manifests of this repository whose subject is `digest`.
    pub(super) async fn referrers(
        &self,
        name: &str,
        digest: &Digest,
        uri: &Uri,
    ) -> Result<Response<Body>, Fault> {
        let wanted = parameter(uri, "artifactType");
        let mut manifests = Vec::new();
        for (tag, referrer) in self.tags.list(name).await? {
            if !tag.contains(':') {
                continue; // the same manifest under a tag
            }
            self.fetch(&referrer).await?;
            let bytes = self.blobs.read(&referrer, MAX_MANIFEST).await?;
            let manifest = Manifest::parse(&bytes)?;
            if manifest
                .subject
                .as_ref()
                .is_none_or(|subject| subject.digest != *digest)
            {
                continue;
            }
            let mut descriptor = Descriptor::of(manifest.content_type(), &bytes);
            let by_config = manifest
                .config
                .as_ref()
                .map(|config| config.media_type.clone());
            descriptor.artifact_type = manifest.artifact_type.clone().or(by_config);
            descriptor.annotations = manifest.annotations.clone();
            if wanted.is_none() || wanted == descriptor.artifact_type {
                manifests.push(descriptor);
            }
        }
        let index = json!({"schemaVersion": 2, "mediaType": types::INDEX, "manifests": manifests});
        let mut builder = answer(StatusCode::OK).header(CONTENT_TYPE, types::INDEX);
        if wanted.is_some() {
            builder = builder.header(FILTERS, "artifactType");
        }
        full(builder, index.to_string())
    }
}

/// The whole of a body that is a manifest.
async fn collect(mut body: Body) -> Result<Bytes, Fault> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| invalid(format!("the body broke off: {error}")))?;
        if let Ok(piece) = frame.into_data() {
            bytes.extend_from_slice(&piece);
        }
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(Error::too_large_manifest("the manifest").into());
        }
    }
    Ok(bytes.freeze())
}

/// One page of a sorted list: at most `n` items after `last`, and a link to the rest.
fn page(
    mut items: Vec<String>,
    uri: &Uri,
    path: &str,
    document: impl FnOnce(&[String]) -> Value,
) -> Result<Response<Body>, Fault> {
    items.sort();
    if let Some(last) = parameter(uri, "last") {
        items.retain(|item| *item > last);
    }
    let mut builder = answer(StatusCode::OK).header(CONTENT_TYPE, "application/json");
    if let Some(n) = parameter(uri, "n") {
        let n: usize = n.parse().map_err(|_| {
            Fault::new(
                StatusCode::BAD_REQUEST,
                "PAGINATION_NUMBER_INVALID",
                format!("n={n} is not a number"),
            )
        })?;
        if n < items.len() {
            items.truncate(n);
            if let Some(last) = items.last() {
                let last: String = url::form_urlencoded::byte_serialize(last.as_bytes()).collect();
                builder = builder.header(LINK, format!("<{path}?n={n}&last={last}>; rel=\"next\""));
            }
        }
    }
    full(builder, document(&items).to_string())
}

fn invalid(message: String) -> Fault {
    Fault::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
}
