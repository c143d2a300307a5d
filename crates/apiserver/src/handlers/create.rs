//! POST of a new object.

use api::codec::Expected;
use api::{Object, Status, write as engine};
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
    if let Err(status) = admission::namespace(call, write::metadata(&object, "name")) {
        // Made a moment ago through another server, or not at all.
        call.server.fresh().await?;
        admission::namespace(call, write::metadata(&object, "name")).map_err(|_| status)?;
    }
    admission::node_restriction(call, &object)?;
    admission::judge(call, None, &object)?;
    let generated = write::metadata(&object, "name").is_empty()
        && !write::metadata(&object, "generateName").is_empty();
    let draws = if generated { DRAWS } else { 1 };
    let mut taken = None;
    for left in (0..draws).rev() {
        let context = write::context(call, options);
        let body = match left {
            0 => std::mem::take(&mut object),
            _ => object.clone(),
        };
        let mut new = engine::create(call.resource, body, &context)?;
        if admission::priority(call, &mut new).is_err() {
            call.server.fresh().await?;
            admission::priority(call, &mut new)?;
        }
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
    let taken = || Status::already_exists(call.resource, &name);
    if write::has_claims(call) {
        // Drawn anew each time: another write may have been faster with the address.
        let judge = |old: Option<&Object>| {
            if old.is_some() {
                return Err(taken());
            }
            let mut new = new.clone();
            let mut also = write::claims(call, None, Some(&mut new))?;
            also.when.extend(admission::namespace(call, &name)?);
            let value = write::encode(call, new, None)?;
            Ok(Next::Put { value, also })
        };
        return call.server.write(&key, options.dry_run, judge).await;
    }
    let value = write::encode(call, new, None)?;
    let judge = |old: Option<&Object>| match old {
        Some(_) => Err(taken()),
        None => Ok(Next::Put {
            value: value.clone(),
            also: Also {
                when: admission::namespace(call, &name)?.into_iter().collect(),
                ops: Vec::new(),
            },
        }),
    };
    call.server.write(&key, options.dry_run, judge).await
}
