//! PUT of an object or of a part of it.

use api::codec::Expected;
use api::write::{self as engine, Context};
use api::{Object, Status};
use http::StatusCode;
use serde_json::Value;

use super::{create, write};
use crate::body::Response;
use crate::dispatch::Call;
use crate::options::WriteOptions;
use crate::registry::Done;
use crate::request::Verb;

/// Answers an update.
pub(crate) async fn update(call: &Call) -> Result<Response, Status> {
    let options = WriteOptions::read("UpdateOptions", &call.query, &call.headers)?;
    let decoded = write::decode(call, Expected::from(call.resource))?;
    let mut object = decoded.value;
    write::place(call, &mut object)?;
    let context = write::context(call, &options);
    let (mut code, mut told) = (StatusCode::OK, Vec::new());
    let mut done = replace(call, &options, &object, &context, &mut told).await;
    if matches!(&done, Err(status) if status.is_not_found()) && makes(call, &object) {
        let by = (&call.identity, &call.path, &call.query);
        let (server, resource) = (&call.server, Some(call.resource));
        server
            .authorize(by.0, Verb::Create, by.1, by.2, resource)
            .await?;
        code = StatusCode::CREATED;
        done = create::insert(call, &options, object.clone(), &mut told).await;
        if matches!(&done, Err(status) if status.is_already_exists()) {
            // Somebody else was faster.
            code = StatusCode::OK;
            done = replace(call, &options, &object, &context, &mut told).await;
        }
    }
    let mut warnings = decoded.warnings;
    warnings.append(&mut told);
    write::answer(call, code, &done?, &warnings)
}

async fn replace(
    call: &Call,
    options: &WriteOptions,
    object: &Value,
    context: &Context,
    warnings: &mut Vec<String>,
) -> Result<Done, Status> {
    let judge = |old: Option<&Object>| {
        let old = old.ok_or_else(|| call.not_found())?;
        write::replace(call, old, object.clone(), context, warnings)
    };
    call.server.write(&call.key(), options.dry_run, judge).await
}

/// Whether the update of an object that is not there makes it. One that names what it would replace
/// means that, and nothing else.
fn makes(call: &Call, object: &Value) -> bool {
    let names = |field: &str| !write::metadata(object, field).is_empty();
    call.path.subresource.is_none()
        && engine::creates_on_update(call.resource)
        && !names("uid")
        && !names("resourceVersion")
}
