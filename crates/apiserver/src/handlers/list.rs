//! LIST: the stored bytes, one after the other.

use std::time::Duration;

use api::codec;
use api::status::{FieldError, FieldPath};
use api::{Object, Status};
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use base64::{DecodeError, Engine};
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::shape::Shaper;
use super::watch::too_old;
use crate::ApiServer;
use crate::body::Response;
use crate::cache::{Selection, Snapshot};
use crate::dispatch::Call;
use crate::negotiate::Form;
use crate::node_index::Referent;
use crate::options::{ListOptions, VersionMatch};
use crate::request::Verb;

/// How long a list waits for a version that is yet to come, as in Kubernetes.
const PATIENCE: Duration = Duration::from_secs(3);

/// From how many objects on a list that parses each of them leaves the thread that others wait for.
const PARSED_AT_ONCE: usize = 256;

/// Where a continued list goes on.
#[derive(Serialize, Deserialize)]
struct Continue {
    v: String,
    rv: u64,
    start: String,
}

const CONTINUE_VERSION: &str = "meta.k8s.io/v1";

/// Answers a list.
pub(crate) async fn list(call: &Call) -> Result<Response, Status> {
    let options = ListOptions::read(&call.query, false)?;
    let selection = selection(call)?;
    let (snapshot, after) = snapshot(call, &options).await?;
    let page = page(&selection, &snapshot, after.as_deref(), options.limit);
    let mut metadata = serde_json::Map::new();
    metadata.insert(
        "resourceVersion".into(),
        snapshot.revision.to_string().into(),
    );
    if let Some(last) = page.last_key {
        let token = Continue {
            v: CONTINUE_VERSION.to_owned(),
            rv: snapshot.revision,
            start: String::from_utf8_lossy(&last).into_owned(),
        };
        let json = serde_json::to_vec(&token).map_err(|e| Status::internal(e.to_string()))?;
        metadata.insert(
            "continue".into(),
            BASE64_URL_SAFE_NO_PAD.encode(json).into(),
        );
        if let Some(left) = page.left {
            metadata.insert("remainingItemCount".into(), left.into());
        }
    }
    let shaper = Shaper::new(call);
    let objects = page.objects;
    if call.form == Form::JSON || objects.len() < PARSED_AT_ONCE {
        return shaper.list(StatusCode::OK, &metadata, &objects);
    }
    tokio::task::spawn_blocking(move || shaper.list(StatusCode::OK, &metadata, &objects))
        .await
        .map_err(|e| Status::internal(format!("making the list: {e}")))?
}

/// The selection that a call's path and query make.
pub(super) fn selection(call: &Call) -> Result<Selection, Status> {
    if let Some(selection) = followed(call)? {
        return Ok(selection);
    }
    Selection::read(
        call.resource,
        call.namespace(),
        call.path.name.as_deref(),
        &call.query,
    )
}

/// What a node's pods refer to, where that node asks for it.
fn followed(call: &Call) -> Result<Option<Selection>, Status> {
    let everywhere = call.path.namespace.is_none() && call.path.name.is_none();
    if !everywhere || !matches!(call.verb, Verb::List | Verb::Watch) {
        return Ok(None);
    }
    let text = call.query.text("fieldSelector").unwrap_or_default();
    let resource = call.resource;
    match Referent::followed(resource.group, resource.plural, text) {
        Some((kind, node)) if call.identity.node() == Some(node) => {
            let cache = &call.server.inner.cache;
            Selection::followed(resource, &call.query, cache, kind, node).map(Some)
        }
        _ => Ok(None),
    }
}

/// The objects to list from, and the key behind which to begin.
async fn snapshot(call: &Call, options: &ListOptions) -> Result<(Snapshot, Option<Bytes>), Status> {
    let cache = &call.server.inner.cache;
    let shelf = cache
        .shelf(call.resource)
        .ok_or_else(Status::method_not_allowed)?;
    if let Some(token) = &options.continued {
        let token = read_token(token, &call.resource.prefix(None))?;
        if options.version.unwrap_or(0) != 0 {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        reach(&call.server, token.rv).await?;
        let snapshot = cache.at(shelf, token.rv).map_err(|_| {
            Status::expired(
                "The provided continue parameter is too old to display a consistent list result. \
                 You can start a new list without the continue parameter.",
            )
        })?;
        return Ok((snapshot, Some(token.start.into())));
    }
    match (options.version, options.version_match) {
        (None, _) => catch_up(&call.server).await?,
        (Some(version), VersionMatch::Exact) => {
            reach(&call.server, version).await?;
            let snapshot = cache
                .at(shelf, version)
                .map_err(|old| too_old(version, &old))?;
            return Ok((snapshot, None));
        }
        (Some(version), _) => reach(&call.server, version).await?,
    }
    Ok((cache.snapshot(shelf).0, None))
}

fn read_token(token: &str, prefix: &str) -> Result<Continue, Status> {
    let invalid = |why: String| {
        Status::bad_request(format!(
            "invalid continue token: continue key is not valid: {why}"
        ))
    };
    let json = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|e| {
        // Where Go says that it is: the first letter that is none, or the one that nothing follows.
        let at = match e {
            DecodeError::InvalidByte(at, _) => at,
            _ => token.len().saturating_sub(1),
        };
        invalid(format!("illegal base64 data at input byte {at}"))
    })?;
    let token: Continue = serde_json::from_slice(&json)
        .map_err(|e| invalid(codec::json_fault(&json).unwrap_or_else(|| e.to_string())))?;
    if token.v != CONTINUE_VERSION || !token.start.starts_with(prefix) {
        return Err(invalid("it belongs to another list".to_owned()));
    }
    // No page was ever made of what was before the first write.
    if token.rv == 0 {
        let why = format!("incorrect encoded start resourceVersion (version {CONTINUE_VERSION})");
        return Err(invalid(why));
    }
    Ok(token)
}

/// One page of a list.
struct Page {
    objects: Vec<Object>,
    /// The last object's key, if more follow.
    last_key: Option<Bytes>,
    /// How many follow; only known when nothing is filtered.
    left: Option<usize>,
}

fn page(
    selection: &Selection,
    snapshot: &Snapshot,
    after: Option<&[u8]>,
    limit: Option<usize>,
) -> Page {
    let mut found = selection.after(snapshot, after);
    let limit = limit.unwrap_or(usize::MAX);
    let mut page = Page {
        objects: Vec::new(),
        last_key: None,
        left: None,
    };
    let mut last = None;
    for (key, object) in found.by_ref().take(limit) {
        page.objects.push(object.clone());
        last = Some(key);
    }
    if page.objects.len() == limit && found.next().is_some() {
        page.last_key = last.cloned();
        if selection.is_everything() {
            page.left = Some(found.count() + 1);
        }
    }
    page
}

/// Waits until the cache sees every write acknowledged anywhere before this call.
pub(crate) async fn catch_up(server: &ApiServer) -> Result<(), Status> {
    let revision = server.fresh().await?;
    reach(server, revision).await
}

/// Waits until the cache has come to a revision, for a short while only.
pub(super) async fn reach(server: &ApiServer, revision: u64) -> Result<(), Status> {
    let cache = &server.inner.cache;
    let loaded = cache.reach(1, PATIENCE).await;
    if loaded && cache.reach(revision, PATIENCE).await {
        return Ok(());
    }
    let mut status = Status::timeout(
        format!(
            "Too large resource version: {revision}, current: {}",
            cache.revision()
        ),
        1,
    );
    if let Some(details) = &mut status.details {
        let path = FieldPath::new("resourceVersion");
        let mut cause = FieldError::invalid(&path, revision, "Too large resource version").cause();
        cause.reason = "ResourceVersionTooLarge".to_owned();
        cause.message = "Too large resource version".to_owned();
        cause.field = String::new();
        details.causes = vec![cause];
    }
    Err(status)
}
