//! What all writes have in common: reading bodies, the context, answering.

use api::codec::{self, Decoded, Expected, Format};
use api::write::{self as engine, Context, User};
use api::{Object, Resource, Status};
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use rand::Rng;
use serde_json::Value;

use super::shape::Shaper;
use crate::body::Response;
use crate::dispatch::{Call, record_uid};
use crate::negotiate::{self, Shape};
use crate::options::WriteOptions;
use crate::registry::{Also, Done, Next};
use crate::request::Verb;
use crate::{admission, respond, service_claims, versions};

/// The letters of generated names, as Kubernetes draws them: nothing that spells words.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The end of a generated name.
pub(crate) fn letters() -> String {
    let mut rng = rand::rng();
    (0..5)
        .map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())]))
        .collect()
}

/// The time that objects carry: whole seconds.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Everything about a write that is not in its body.
pub(super) fn context(call: &Call, options: &WriteOptions) -> Context {
    Context {
        now: now(),
        uid: uuid::Uuid::new_v4().to_string(),
        suffix: letters(),
        user: User {
            name: call.identity.user.clone(),
            uid: call.identity.uid.clone(),
            groups: call.identity.groups.clone(),
        },
        manager: options.manager.clone(),
    }
}

/// The body as the type that is expected. `fieldValidation` is the query's.
pub(super) fn decode(call: &Call, expected: Expected<'_>) -> Result<Decoded, Status> {
    let format = Format::of_content_type(negotiate::content_type(&call.headers))?;
    let options = WriteOptions::read("CreateOptions", &call.query, &call.headers)?;
    let decoded = codec::decode(&call.body, expected, format, options.validation)?;
    call.unread.lock().clone_from(&decoded.warnings);
    Ok(decoded)
}

/// Answers with the object as it now is.
pub(super) fn answer(
    call: &Call,
    code: StatusCode,
    done: &Done,
    warnings: &[String],
) -> Result<Response, Status> {
    record_uid(done.object.uid());
    let response = match &done.pretended {
        Some(new)
            if call.form.shape == Shape::Whole && versions::stored_as_served(call.resource) =>
        {
            respond::document(code, call.form.media, new.clone())?
        }
        _ => Shaper::new(call).object(code, &done.object)?,
    };
    let created = code == StatusCode::CREATED;
    let unserved = created.then(|| admission::warning(call.resource, &done.object));
    let unserved = unserved.flatten();
    let warnings: Vec<_> = warnings.iter().cloned().chain(unserved).collect();
    Ok(respond::warn(response, &warnings))
}

/// A text field of an object's metadata.
pub(super) fn metadata<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// The stored object as a tree, in the version that the resource serves.
pub(super) fn tree(resource: &'static Resource, object: &Object) -> Result<Value, Status> {
    versions::served(resource, object)?
        .value()
        .map_err(|e| Status::internal(format!("a stored object cannot be read: {e}")))
}

/// The object's bytes for the store, in the version that is stored.
pub(super) fn encode(call: &Call, new: Value) -> Result<Bytes, Status> {
    engine::encode(versions::stored(call.resource, new)?).map(Bytes::from)
}

/// Checks name and namespace of a body against the path, and puts there what it leaves out.
pub(super) fn place(call: &Call, object: &mut Value) -> Result<(), Status> {
    let name = call.path.name.as_deref();
    // What is asked of an object by a subresource has no need of a name: the path has it.
    if let Some(name) =
        name.filter(|_| call.verb == Verb::Create && metadata(object, "name").is_empty())
    {
        engine::give_name(object, name);
    }
    engine::place(call.resource, call.namespace(), name, object)
}

/// Hands a write of what the call names to the engine, with this server's admission.
pub(super) fn with(
    call: &Call,
    context: &Context,
    write: impl FnOnce(engine::Write<'_>) -> Result<Value, Status>,
) -> Result<Value, Status> {
    write(engine::Write {
        resource: call.resource,
        subresource: call.path.subresource.as_deref(),
        context,
        admit: &|old, new| admission::admit(call, old, new),
    })
}

/// What stores `new` in place of `old`, as far as the call's subresource goes, and of what its writer
/// is warned. The body's uid is judged by the engine, its version here.
pub(super) fn replace(
    call: &Call,
    old: &Object,
    new: Value,
    context: &Context,
    warnings: &mut Vec<String>,
) -> Result<Next, Status> {
    engine::check_version(call.resource, &new, old.revision())?;
    let mut new = new;
    if call.identity.node().is_some()
        && let Some(metadata) = new["metadata"].as_object_mut()
    {
        metadata.remove("managedFields");
    }
    let before = tree(call.resource, old)?;
    admission::node_pod(call, &before)?;
    let new = with(call, context, |write| write.update(&before, new))?;
    admission::judge(call, Some(&before), &new)?;
    *warnings = engine::warnings(call.resource, Some(&before), &new);
    store(call, old, &before, new)
}

/// What stores the judged object `new` in place of `old`: nothing if they are equal, a removal if
/// nothing holds it any more.
pub(super) fn store(
    call: &Call,
    old: &Object,
    before: &Value,
    mut new: Value,
) -> Result<Next, Status> {
    if engine::should_delete(call.resource, &new) {
        return Ok(Next::Delete {
            last: encode(call, new)?,
            also: claims(call, Some(before), None)?,
        });
    }
    let also = claims(call, Some(before), Some(&mut new))?;
    let value = encode(call, new)?;
    let same = Object::from_stored(&value, old.revision()).is_ok_and(|n| n.bytes() == old.bytes());
    if same && also.ops.is_empty() {
        return Ok(Next::Keep);
    }
    Ok(Next::Put { value, also })
}

/// Whether objects of the call's resource hold keys beside their own.
pub(super) fn has_claims(call: &Call) -> bool {
    call.resource.plural == "services" && call.resource.group.is_empty()
}

/// The keys beside the object's own that its write changes: a Service's addresses and ports, which
/// are drawn here where they are missing.
pub(super) fn claims(
    call: &Call,
    old: Option<&Value>,
    mut new: Option<&mut Value>,
) -> Result<Also, Status> {
    if !has_claims(call) {
        return Ok(Also::default());
    }
    let shown = new.as_deref().or(old);
    let name = shown
        .map(|o| metadata(o, "name"))
        .unwrap_or_default()
        .to_owned();
    if let Some(new) = new.as_deref_mut() {
        let state = call.server.inner.store.state();
        service_claims::allocate(new, old, &state, |below| rand::random_range(0..below))
            .map_err(|errors| Status::invalid(call.resource, &name, errors))?;
    }
    let owner = format!("{}/{name}", call.namespace().unwrap_or_default());
    Ok(service_claims::changes(old, new.as_deref(), &owner))
}
