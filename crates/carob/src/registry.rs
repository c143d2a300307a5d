//! Pushing into the cluster's registry through its API.

use std::io::Read;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use client::Client;
use http::{Method, Request, StatusCode, header};
use images::{Blob, Name, Upload, media_types};

/// How much of a blob is sent at a time. A piece is held in memory.
const PIECE: usize = 8 << 20;

/// Pushes `upload` as `name`: what the registry lacks of its blobs, then the manifest. `progress`
/// is told of the bytes that have been sent or need not be.
pub(crate) async fn push(
    client: &Client,
    name: &Name,
    upload: &Upload,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let repository = name.repository.as_str();
    for blob in &upload.blobs {
        push_blob(client, repository, blob, progress)
            .await
            .with_context(|| format!("cannot push {} to {repository}", blob.descriptor.digest))?;
    }
    let reference = name.manifest_reference();
    let manifest = Request::put(format!("/v2/{repository}/manifests/{reference}"))
        .header(header::CONTENT_TYPE, media_types::MANIFEST)
        .body(upload.manifest.clone())?;
    client
        .raw(manifest)
        .await
        .with_context(|| format!("cannot push the manifest of {repository}"))?;
    Ok(())
}

async fn push_blob(
    client: &Client,
    repository: &str,
    blob: &Blob,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let digest = &blob.descriptor.digest;
    let there = Request::builder()
        .method(Method::HEAD)
        .uri(format!("/v2/{repository}/blobs/{digest}"))
        .body(Bytes::new())?;
    match client.raw(there).await {
        Ok(_) => {
            progress(blob.descriptor.size);
            return Ok(());
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let begun = client
        .raw(Request::post(format!("/v2/{repository}/blobs/uploads/")).body(Bytes::new())?)
        .await?;
    let mut location = location(&begun)?;
    let mut content = blob.content.open();
    let mut sent: u64 = 0;
    loop {
        let piece = tokio::task::block_in_place(|| read_piece(&mut content))?;
        if piece.is_empty() {
            break;
        }
        let length = piece.len() as u64;
        let patch = Request::patch(&location)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(
                header::CONTENT_RANGE,
                format!("{sent}-{}", sent + length - 1),
            )
            .body(piece)?;
        let answer = client.raw(patch).await?;
        location = self::location(&answer)?;
        sent += length;
        progress(length);
    }
    let separator = if location.contains('?') { '&' } else { '?' };
    let finish = Request::put(format!("{location}{separator}digest={digest}")).body(Bytes::new())?;
    let answer = client.raw(finish).await?;
    if answer.status() != StatusCode::CREATED {
        bail!("the registry answers {}", answer.status());
    }
    Ok(())
}

fn read_piece(content: &mut impl Read) -> std::io::Result<Bytes> {
    let mut piece = Vec::new();
    content.take(PIECE as u64).read_to_end(&mut piece)?;
    Ok(piece.into())
}

/// The path that the registry wants next, without its own idea of scheme and host.
fn location<B>(answer: &http::Response<B>) -> Result<String> {
    let value = answer
        .headers()
        .get(header::LOCATION)
        .context("the registry names no upload session")?;
    let uri: http::Uri = value.to_str()?.parse()?;
    Ok(uri
        .path_and_query()
        .map(ToString::to_string)
        .unwrap_or_default())
}
