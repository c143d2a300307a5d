//! POST of a new object.

use api::codec::Expected;
use api::{Status, write as engine};
use http::StatusCode;
use serde_json::Value;

use super::write;
use crate::admission;
use crate::body::Response;
use crate::dispatch::Call;
use crate::options::WriteOptions;
use crate::registry::{Also, Done, Next};

/// How often a generated name that is taken is drawn anew.
const DRAWS: usize = 8;

/// Answers a create.
pub(crate) async fn create(call: &Call) -> Result<Response, Status> {
    let options = WriteOptions::read("CreateOptions", &call.query, &call.headers)?;
    let decoded = write::decode(call, Expected::from(call.resource))?;
    let done = insert(call, &options, decoded.value).await?;
    write::answer(call, StatusCode::CREATED, &done, &decoded.warnings)
}

/// Puts an object there that is not there yet.
pub(super) async fn insert(
    call: &Call,
    options: &WriteOptions,
    mut object: Value,
) -> Result<Done, Status> {
    write::place(call, &mut object)?;
    admission::namespace(&call.server, call, write::metadata(&object, "name")).await?;
    admission::node_restriction(call, &object)?;
    let generated = write::metadata(&object, "name").is_empty()
        && !write::metadata(&object, "generateName").is_empty();
    let draws = if generated { DRAWS } else { 1 };
    let mut taken = None;
    for _ in 0..draws {
        let context = write::context(call, options);
        let new = engine::create(call.resource, object.clone(), &context)?;
        match insert_prepared(call, options, new).await {
            Err(status) if status.is_already_exists() => taken = Some(status),
            other => return other,
        }
    }
    Err(taken.unwrap_or_else(|| Status::internal("no name was drawn")))
}

async fn insert_prepared(call: &Call, options: &WriteOptions, new: Value) -> Result<Done, Status> {
    let name = write::metadata(&new, "name").to_owned();
    let key = call.resource.key(call.namespace(), &name);
    // Only what draws addresses is encoded anew when another write was faster.
    let encoded = match write::has_claims(call) {
        true => None,
        false => Some(write::encode(call, new.clone(), None)?),
    };
    call.server
        .write(&key, options.dry_run, |old| {
            if old.is_some() {
                return Err(Status::already_exists(call.resource, &name));
            }
            if let Some(value) = encoded.clone() {
                let also = Also::default();
                return Ok(Next::Put { value, also });
            }
            let mut new = new.clone();
            let also = write::claims(call, None, Some(&mut new))?;
            Ok(Next::Put {
                value: write::encode(call, new, None)?,
                also,
            })
        })
        .await
}
