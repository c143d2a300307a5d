//! DELETE of one object or of a collection.

use api::codec::{self, Expected, FieldValidation, Format};
use api::write::{self as engine, DeleteOptions, Deletion};
use api::{Object, Status};
use futures::StreamExt;
use http::StatusCode;
use serde_json::{Map, Value};

use super::shape::Shaper;
use super::{list, write};
use crate::body::Response;
use crate::dispatch::{Call, record_uid};
use crate::options::{self, ListOptions, WriteOptions};
use crate::registry::{Done, Next};
use crate::{admission, negotiate, respond};

/// How many objects of a collection are deleted at a time.
const AT_ONCE: usize = 16;

/// Reads the body; the query where there is none, as in Kubernetes. A dry run may be asked for in either.
fn options(call: &Call) -> Result<DeleteOptions, Status> {
    let value = if call.body.is_empty() {
        from_query(call)?
    } else {
        let format = Format::of_content_type(negotiate::content_type(&call.headers))?;
        let expected = Expected::delete_options();
        codec::decode(&call.body, expected, format, FieldValidation::Ignore)?.value
    };
    let mut options = from_value(&value)?;
    options.dry_run |= options::dry_run("DeleteOptions", call.query.all("dryRun"))?;
    Ok(options)
}

fn from_query(call: &Call) -> Result<Value, Status> {
    let mut value = Value::Object(Map::new());
    let grace = call.query.integer("gracePeriodSeconds");
    if let Some(seconds) = grace.map_err(Status::bad_request)? {
        value["gracePeriodSeconds"] = seconds.into();
    }
    if let Some(policy) = call.query.text("propagationPolicy") {
        value["propagationPolicy"] = policy.into();
    }
    if call.query.get("orphanDependents").is_some() {
        value["orphanDependents"] = call.query.flag("orphanDependents").into();
    }
    Ok(value)
}

/// Reads `metav1.DeleteOptions`; null gives the defaults.
pub(super) fn from_value(value: &Value) -> Result<DeleteOptions, Status> {
    let dry = value["dryRun"].as_array().into_iter().flatten();
    options::dry_run("DeleteOptions", dry.filter_map(Value::as_str))?;
    DeleteOptions::from_value(value)
}

/// Answers the deletion of one object.
pub(crate) async fn delete(call: &Call) -> Result<Response, Status> {
    let options = options(call)?;
    let done = remove(call, call.name(), &options).await?;
    record_uid(done.object.uid());
    let response = if done.deleted && !engine::returns_deleted(call.resource) {
        let value = Status::deleted(call.resource, call.name(), done.object.uid());
        respond::value(StatusCode::OK, call.form.media, &value)?
    } else {
        Shaper::new(call).object(StatusCode::OK, &done.object)?
    };
    Ok(respond::warn(response, &warnings(call, &options)))
}

/// What Kubernetes says to those who delete Jobs as if their pods went with them.
fn warnings(call: &Call, options: &DeleteOptions) -> Vec<String> {
    let surprising = call.resource.kind == "Job" && options.propagation.is_none();
    let told = surprising.then(|| {
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning"
            .to_owned()
    });
    told.into_iter().collect()
}

/// Deletes one object, or marks it for deletion.
pub(super) async fn remove(
    call: &Call,
    name: &str,
    options: &DeleteOptions,
) -> Result<Done, Status> {
    admission::deletion(call, name)?;
    let write_options = WriteOptions::read("DeleteOptions", &call.query, &call.headers)?;
    let context = write::context(call, &write_options);
    let key = call.resource.key(call.namespace(), name);
    call.server
        .write(&key, options.dry_run, |old| {
            let old = old.ok_or_else(|| Status::not_found(call.resource, name))?;
            judge(call, old, options, &context)
        })
        .await
}

fn judge(
    call: &Call,
    old: &Object,
    options: &DeleteOptions,
    context: &engine::Context,
) -> Result<Next, Status> {
    let before = write::tree(call.resource, old)?;
    admission::node_pod(call, &before)?;
    match engine::delete(call.resource, &before, old.revision(), options, context)? {
        Deletion::Now(last) => Ok(Next::Delete {
            last: write::encode(call, last)?,
            also: write::claims(call, Some(&before), None)?,
        }),
        Deletion::Mark(new) => write::store(call, old, &before, new),
    }
}

/// Answers the deletion of all objects that a list would show; of as many as `limit` says.
pub(crate) async fn delete_collection(call: &Call) -> Result<Response, Status> {
    let options = options(call)?;
    let limit = ListOptions::read(&call.query, false)?.limit;
    let selection = list::selection(call)?;
    list::catch_up(&call.server).await?;
    let cache = &call.server.inner.cache;
    let shelf = cache
        .shelf(call.resource)
        .ok_or_else(Status::method_not_allowed)?;
    let (snapshot, _) = cache.snapshot(shelf);
    let names: Vec<String> = selection
        .of(&snapshot)
        .take(limit.unwrap_or(usize::MAX))
        .map(|o| o.name().to_owned())
        .collect();
    let options = &options;
    let removed: Vec<Result<Done, Status>> = futures::stream::iter(names)
        .map(|name| async move { Box::pin(remove(call, &name, options)).await })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut objects = Vec::new();
    for done in removed {
        match done {
            Ok(done) => objects.push(done.object),
            // Somebody else was faster.
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status),
        }
    }
    let revision = snapshot.revision.to_string();
    let metadata = Map::from_iter([("resourceVersion".to_owned(), revision.into())]);
    let response = Shaper::new(call).list(StatusCode::OK, &metadata, &objects)?;
    Ok(respond::warn(response, &warnings(call, options)))
}
