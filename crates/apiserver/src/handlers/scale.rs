//! `scale`: a workload's number of replicas, as `autoscaling/v1 Scale`.

use api::codec::{Decoded, Expected};
use api::patch::PatchType;
use api::table::{self, Include};
use api::write::{self as engine, Context};
use api::{Object, Status};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;

use super::patch::Patch;
use super::{apply, write};
use crate::body::Response;
use crate::dispatch::{Call, record_uid};
use crate::negotiate::{self, Shape};
use crate::options::WriteOptions;
use crate::respond;

/// Answers a get of the scale.
pub(crate) async fn get(call: &Call) -> Result<Response, Status> {
    let object = call.server.read(call.key().as_bytes()).await?;
    let object = object.ok_or_else(|| call.not_found())?;
    record_uid(object.uid());
    show(call, scale(&object)?)
}

/// Answers with a scale in the form that is asked for.
fn show(call: &Call, scale: Value) -> Result<Response, Status> {
    let shown = match call.form.shape {
        Shape::Whole => scale,
        Shape::Metadata { .. } => table::partial_object_metadata(scale),
        Shape::Table => {
            let include = call.query.text("includeObject").and_then(Include::parse);
            table::scale(scale, Timestamp::now(), include.unwrap_or_default())
        }
    };
    respond::value(StatusCode::OK, call.form.media, &shown)
}

/// Answers an update of the scale.
pub(crate) async fn update(call: &Call) -> Result<Response, Status> {
    let options = WriteOptions::read("UpdateOptions", &call.query, &call.headers)?;
    let decoded = write::decode(call, expected(call)?)?;
    set(call, &options, updated(call, |_| Ok(decoded.clone()))).await
}

/// Answers a patch of the scale.
pub(crate) async fn patch(call: &Call) -> Result<Response, Status> {
    let kind = PatchType::of_content_type(negotiate::content_type(&call.headers))?;
    let options = WriteOptions::read("PatchOptions", &call.query, &call.headers)?;
    let expected = expected(call)?;
    if kind == PatchType::Apply {
        let Decoded {
            value: wanted,
            warnings,
        } = apply::wanted(call, &options, expected.api_version)?;
        let force = call.query.flag("force");
        return set(call, &options, |before, revision, context| {
            engine::check_version(call.resource, &wanted, revision)?;
            let wanted = wanted.clone();
            let new = engine::apply_scale(call.resource, before, wanted, force, context)?;
            Ok((new, warnings.clone()))
        })
        .await;
    }
    apply::refuse_force(call)?;
    let patch = Patch::read(call, kind)?;
    let patched = |before: &Value| patch.apply(|| Ok(engine::scale(before)), expected, &options);
    set(call, &options, updated(call, patched)).await
}

/// How a scale that is made of the stored workload is written.
fn updated(
    call: &Call,
    wanted: impl Fn(&Value) -> Result<Decoded, Status>,
) -> impl Fn(&Value, u64, &Context) -> Result<(Value, Vec<String>), Status> {
    move |before, revision, context| {
        let decoded = wanted(before)?;
        engine::check_version(call.resource, &decoded.value, revision)?;
        let new = engine::update_scale(call.resource, before, &decoded.value, context)?;
        Ok((new, decoded.warnings))
    }
}

fn expected(call: &Call) -> Result<Expected<'static>, Status> {
    let sub = call.resource.subresource("scale");
    sub.map(|sub| Expected::subresource(call.resource, sub))
        .ok_or_else(Status::no_such_resource)
}

/// Writes what `next` makes of the stored workload, which is at a revision; it also says of what to
/// warn.
async fn set(
    call: &Call,
    options: &WriteOptions,
    next: impl Fn(&Value, u64, &Context) -> Result<(Value, Vec<String>), Status>,
) -> Result<Response, Status> {
    let context = write::context(call, options);
    let mut warnings = Vec::new();
    let done = call
        .server
        .write(&call.key(), options.dry_run, |old| {
            let old = old.ok_or_else(|| call.not_found())?;
            let before = write::tree(call.resource, old)?;
            let (new, warned) = next(&before, old.revision(), &context)?;
            warnings = warned;
            write::store(call, old, &before, new)
        })
        .await?;
    record_uid(done.object.uid());
    let response = show(call, scale(&done.object)?)?;
    Ok(respond::warn(response, &warnings))
}

/// The scale of a stored workload.
fn scale(object: &Object) -> Result<Value, Status> {
    let tree = object.value();
    let tree =
        tree.map_err(|e| Status::internal(format!("a stored object cannot be read: {e}")))?;
    Ok(engine::scale(&tree))
}
