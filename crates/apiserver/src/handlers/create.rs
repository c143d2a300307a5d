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
    let mut warnings = decoded.warnings;
    let done = insert(call, &options, decoded.value, &mut warnings).await?;
    write::answer(call, StatusCode::CREATED, &done, &warnings)
}

/// Puts an object there that is not there yet, and says of what its writer is warned.
pub(super) async fn insert(
    call: &Call,
    options: &WriteOptions,
    mut object: Value,
    warnings: &mut Vec<String>,
) -> Result<Done, Status> {
    write::place(call, &mut object)?;
    admission::settle(call, &object).await?;
    admission::namespace(call, write::metadata(&object, "name"))?;
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
        let new = write::with(call, &context, |write| write.create(body))?;
        admission::judge(call, None, &new)?;
        if taken.is_none() {
            warnings.extend(engine::warnings(call.resource, None, &new));
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
            let value = write::encode(call, new)?;
            Ok(Next::Put { value, also })
        };
        return call.server.write(&key, options.dry_run, judge).await;
    }
    let value = write::encode(call, new)?;
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
