//! Server-side apply: a patch that says what one manager wants of an object, whether it is there or not.

use api::codec::{self, Decoded, FieldValidation, Format};
use api::status::{FieldError, FieldPath};
use api::{Object, Status, write as engine};
use http::StatusCode;
use serde_json::Value;

use super::write;
use crate::admission;
use crate::body::Response;
use crate::dispatch::Call;
use crate::options::{self, WriteOptions};
use crate::registry::{Done, Next};
use crate::request::Verb;

/// Answers a patch of the type `application/apply-patch+yaml`.
pub(super) async fn apply(call: &Call, options: &WriteOptions) -> Result<Response, Status> {
    let Decoded {
        value: wanted,
        mut warnings,
    } = wanted(call, options, call.resource.api_version())?;
    let may_create = may_create(call, &wanted).await?;
    let mut told = Vec::new();
    let merged = merge(call, options, &wanted, may_create, &mut told);
    let (result, was_there) = merged.await;
    let code = if was_there {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    warnings.append(&mut told);
    write::answer(call, code, &result?, &warnings)
}

/// Whether the manager may make what is not there; and waits for what that asks for. That it may
/// change what is there has been judged.
async fn may_create(call: &Call, wanted: &Value) -> Result<Result<(), Status>, Status> {
    let by = (&call.identity, &call.path, &call.query);
    let (server, resource) = (&call.server, Some(call.resource));
    let may = server
        .authorize(by.0, Verb::Create, by.1, by.2, resource)
        .await;
    if may.is_ok() && server.local(call.key().as_bytes()).is_none() {
        admission::settle(call, wanted).await?;
    }
    Ok(may)
}

/// What the manager wants, which must be of this version; and of what to warn.
pub(super) fn wanted(
    call: &Call,
    options: &WriteOptions,
    expected: &str,
) -> Result<Decoded, Status> {
    if !options.manager_given {
        let path = FieldPath::new("fieldManager");
        let error = FieldError::required(&path, "is required for apply patch");
        return Err(options::invalid("PatchOptions", error));
    }
    let Decoded {
        value: mut wanted,
        mut warnings,
    } = codec::decode_untyped(&call.body, Format::Yaml)?;
    match options.validation {
        FieldValidation::Strict if !warnings.is_empty() => {
            let why = format!("error strict decoding YAML: {}", warnings.join(", "));
            return Err(Status::bad_request(why));
        }
        FieldValidation::Ignore => warnings.clear(),
        _ => {}
    }
    call.unread.lock().clone_from(&warnings);
    // An apply says what is to be there under the path's name, whether it repeats it or not.
    if write::metadata(&wanted, "name").is_empty() {
        engine::give_name(&mut wanted, call.name());
    }
    write::place(call, &mut wanted)?;
    let version = wanted["apiVersion"].as_str().unwrap_or_default();
    if version != expected {
        return Err(Status::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {expected}"
        )));
    }
    Ok(Decoded {
        value: wanted,
        warnings,
    })
}

/// Refuses `force` beside a patch that cannot conflict.
pub(super) fn refuse_force(call: &Call) -> Result<(), Status> {
    if call.query.get("force").is_none() {
        return Ok(());
    }
    let path = FieldPath::new("force");
    let error = FieldError::forbidden(&path, "may not be specified for non-apply patch");
    Err(options::invalid("PatchOptions", error))
}

/// Applies to the stored object, or makes one. A part of an object cannot be made. Also says whether
/// there was one.
async fn merge(
    call: &Call,
    options: &WriteOptions,
    wanted: &Value,
    may_create: Result<(), Status>,
    warnings: &mut Vec<String>,
) -> (Result<Done, Status>, bool) {
    let context = write::context(call, options);
    let force = call.query.flag("force");
    let part = call.path.subresource.as_deref();
    let mut was_there = true;
    let judge = |old: Option<&Object>| {
        let Some(old) = old else {
            if part.is_some() {
                return Err(call.not_found());
            }
            was_there = false;
            may_create.clone()?;
            let uid = write::metadata(wanted, "uid");
            if !uid.is_empty() {
                let why = format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                );
                return Err(Status::conflict(call.resource, call.name(), &why));
            }
            admission::namespace(call, call.name())?;
            let wanted = wanted.clone();
            let mut new = write::with(call, &context, |write| write.apply(None, wanted, force))?;
            admission::judge(call, None, &new)?;
            *warnings = engine::warnings(call.resource, None, &new);
            let mut also = write::claims(call, None, Some(&mut new))?;
            also.when.extend(admission::namespace(call, call.name())?);
            let value = write::encode(call, new)?;
            return Ok(Next::Put { value, also });
        };
        was_there = true;
        engine::check_version(call.resource, wanted, old.revision())?;
        let before = write::tree(call.resource, old)?;
        admission::node_pod(call, &before)?;
        let wanted = wanted.clone();
        let new = write::with(call, &context, |write| {
            write.apply(Some(&before), wanted, force)
        })?;
        admission::judge(call, Some(&before), &new)?;
        *warnings = engine::warnings(call.resource, Some(&before), &new);
        write::store(call, old, &before, new)
    };
    let result = call.server.write(&call.key(), options.dry_run, judge).await;
    (result, was_there)
}
