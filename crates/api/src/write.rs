//! The write path: from what a client sent to what is stored.
//!
//! Every write goes the same way: metadata → schema defaults → the kind's defaults → the record of
//! who set which field → the caller's admission → fields that the server sets → validation. Nothing
//! here reads a clock or draws a random number: the caller puts both into the [`Context`]. Whether the stored object changed meanwhile is judged by the
//! store; [`check_version`] compares what the client named.

mod binding;
mod default;
mod delete;
mod metadata;
mod scale;
mod select;
mod validate;
mod warnings;

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use binding::bind;
pub use delete::{DeleteOptions, Deletion, Propagation, delete, returns_deleted, should_delete};
pub use scale::{apply_scale, scale, update_scale};
pub use warnings::warnings;

use crate::apply::{self as record, Target};
use crate::codec::{self, Expected, FieldValidation};
use crate::kinds;
use crate::resource::Resource;
use crate::status::{FieldError, FieldPath, Status};
use crate::time;

/// Everything about a write that is not in its body.
#[derive(Clone, Debug)]
pub struct Context {
    /// The time of the write.
    pub now: Timestamp,
    /// The uid that a new object gets.
    pub uid: String,
    /// Five letters or digits drawn at random, for `generateName` and names that a kind makes up.
    pub suffix: String,
    /// Who writes.
    pub user: User,
    /// `fieldManager`, or the first part of the user agent.
    pub manager: String,
}

/// What a caller changes in, or refuses of, what is about to be written: given are the stored object,
/// none for a create, and the next one, with its defaults and before its validation.
///
/// It stands after the record of fields, as in Kubernetes: what it sets belongs to no manager.
pub type Admit<'a> = &'a dyn Fn(Option<&Value>, &mut Value) -> Result<(), Status>;

/// One write of an object, with the caller's admission.
#[derive(Clone, Copy)]
pub struct Write<'a> {
    /// What is written.
    pub resource: &'a Resource,
    /// By which of its subresources; [`Write::create`] knows none.
    pub subresource: Option<&'a str>,
    /// Everything about it that is not in its body.
    pub context: &'a Context,
    /// The caller's admission.
    pub admit: Admit<'a>,
}

/// Who sent a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// Uid, where the authenticator knows one.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// The largest object that is stored, in bytes of JSON.
pub const MAX_OBJECT_BYTES: usize = 1_572_864;

/// Characters of a name that `generateName` leaves room for.
const MAX_GENERATED_BASE: usize = 58;

/// Puts a body where the request's path says: fills in the namespace.
///
/// # Errors
///
/// 400 when the body names another namespace, or, with `name`, another name or none.
pub fn place(
    resource: &Resource,
    namespace: Option<&str>,
    name: Option<&str>,
    body: &mut Value,
) -> Result<(), Status> {
    let metadata = metadata_mut(body);
    let namespace = namespace
        .filter(|_| resource.namespaced)
        .unwrap_or_default();
    match text(metadata, "namespace") {
        _ if namespace.is_empty() => {
            metadata.remove("namespace");
        }
        "" => {
            metadata.insert("namespace".into(), namespace.into());
        }
        given if given == namespace => {}
        _ => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    let Some(name) = name else { return Ok(()) };
    match text(metadata, "name") {
        "" => Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        given if given == name => Ok(()),
        given => Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        ))),
    }
}

/// Names a body that came without a name.
pub fn give_name(body: &mut Value, name: &str) {
    metadata_mut(body).insert("name".into(), name.into());
}

/// [`Write::create`] where nothing else is to be said.
///
/// # Errors
///
/// As there.
pub fn create(resource: &Resource, body: Value, context: &Context) -> Result<Value, Status> {
    Write::plain(resource, None, context).create(body)
}

/// [`Write::update`] where nothing else is to be said.
///
/// # Errors
///
/// As there.
pub fn update(
    resource: &Resource,
    subresource: Option<&str>,
    old: &Value,
    new: Value,
    context: &Context,
) -> Result<Value, Status> {
    Write::plain(resource, subresource, context).update(old, new)
}

/// [`Write::apply`] where nothing else is to be said.
///
/// # Errors
///
/// As there.
pub fn apply(
    resource: &Resource,
    subresource: Option<&str>,
    old: Option<&Value>,
    wanted: Value,
    force: bool,
    context: &Context,
) -> Result<Value, Status> {
    Write::plain(resource, subresource, context).apply(old, wanted, force)
}

impl<'a> Write<'a> {
    /// A write that is admitted as it is.
    fn plain(resource: &'a Resource, subresource: Option<&'a str>, context: &'a Context) -> Self {
        Self {
            resource,
            subresource,
            context,
            admit: &|_, _| Ok(()),
        }
    }

    /// Makes a new object of a decoded body that was [placed](place).
    ///
    /// # Errors
    ///
    /// 422 when fields are not valid, 500 (as Kubernetes) when the body has a resourceVersion, and
    /// what admission refuses.
    pub fn create(self, body: Value) -> Result<Value, Status> {
        self.make(body, Record::Update)
    }

    /// Makes the next state of an object: `new` is a decoded body that was [placed](place), or what
    /// a patch made of `old`.
    ///
    /// Without a subresource everything but the status is taken from `new`; with `status`, the
    /// status (and metadata). What else may be given: `finalize`, `approval`, `ephemeralcontainers`,
    /// `resize`.
    ///
    /// # Errors
    ///
    /// 404 for a subresource that is not written like that, 409 when the uid is another, 422 when
    /// fields are not valid, and what admission refuses.
    pub fn update(self, old: &Value, new: Value) -> Result<Value, Status> {
        self.advance(old, new, Record::Update)
    }

    /// Makes the next state of an object, or a new one, from what `context.manager` wants of it
    /// ([`apply`](mod@crate::apply)); `wanted` was [placed](place), but not decoded by a type.
    ///
    /// # Errors
    ///
    /// 400 when `wanted` is not of the kind or has unknown fields, 409 when it would take other
    /// managers' fields and `force` is not set, else those of [`Write::create`] and [`Write::update`].
    pub fn apply(self, old: Option<&Value>, wanted: Value, force: bool) -> Result<Value, Status> {
        let target = Target::new(self.resource, self.subresource);
        let expected = Expected::from(self.resource);
        let merged = merge(target, expected, old, wanted, force, self.context)?;
        match old {
            None => self.make(merged, Record::Apply),
            Some(old) => self.advance(old, merged, Record::Apply),
        }
    }

    fn make(self, body: Value, record: Record) -> Result<Value, Status> {
        let (resource, context) = (self.resource, self.context);
        let mut object = body;
        let metadata = metadata_mut(&mut object);
        if !matches!(text(metadata, "resourceVersion"), "" | "0") {
            return Err(Status::plain_error(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        for field in ["resourceVersion", "selfLink", "generation"] {
            metadata.remove(field);
        }
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
            metadata.remove(field);
        }
        metadata.insert("uid".into(), context.uid.as_str().into());
        metadata.insert("creationTimestamp".into(), time::format(context.now).into());
        if has_generation(resource) {
            metadata.insert("generation".into(), 1.into());
        }
        // Nodes are created by their agents, which know their status.
        if resource.subresource("status").is_some() && resource.plural != "nodes" {
            remove(&mut object, "status");
        }
        complete(resource, &mut object);
        if record == Record::Update {
            record::track(Target::new(resource, None), None, &mut object, context);
        }
        (self.admit)(None, &mut object)?;
        generate_name(&mut object, context);
        (kinds::hooks(resource).prepare)(&mut object, None, context);
        let mut errors = metadata::validate(resource, &object);
        validate::object(resource, None, &object, None, &mut errors);
        accept(resource, object, errors)
    }

    fn advance(self, old: &Value, new: Value, record: Record) -> Result<Value, Status> {
        let (resource, subresource, context) = (self.resource, self.subresource, self.context);
        let mut object = select::select(resource, subresource, old, new)?;
        let mut errors = metadata::carry_over(resource, old, &mut object)?;
        complete(resource, &mut object);
        // Before the server changes anything by itself: that is nobody's.
        if record == Record::Update {
            let target = Target::new(resource, subresource);
            record::track(target, Some(old), &mut object, context);
        }
        (self.admit)(Some(old), &mut object)?;
        // The kinds' rules know updates of the whole; who finalizes takes what they keep.
        if subresource != Some("finalize") {
            (kinds::hooks(resource).prepare)(&mut object, Some(old), context);
        }
        if has_generation(resource)
            && subresource != Some("status")
            && content_differs(old, &object)
        {
            bump_generation(&mut object);
        }
        record::ignore_times(old, &mut object);
        errors.extend(metadata::validate(resource, &object));
        validate::object(resource, subresource, &object, Some(old), &mut errors);
        accept(resource, object, errors)
    }
}

/// Draws the name that `generateName` asks for: after admission, which speaks of what was given.
fn generate_name(object: &mut Value, context: &Context) {
    let metadata = metadata_mut(object);
    let base = text(metadata, "generateName");
    if text(metadata, "name").is_empty() && !base.is_empty() {
        let end = base.floor_char_boundary(MAX_GENERATED_BASE);
        let name = format!("{}{}", &base[..end], context.suffix);
        metadata.insert("name".into(), name.into());
    }
}

/// What an apply makes of an object, in the schema's types.
fn merge(
    target: Target<'_>,
    expected: Expected<'_>,
    old: Option<&Value>,
    wanted: Value,
    force: bool,
    context: &Context,
) -> Result<Value, Status> {
    codec::conform_applied(wanted.clone(), expected)?;
    let merged = record::apply(target, old, wanted, force, context)?;
    Ok(codec::conform(merged, expected, FieldValidation::Ignore)?.value)
}

/// Who keeps `managedFields` right.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Record {
    /// The write path.
    Update,
    /// An apply, or a write of a scale, which has done it.
    Apply,
}

/// Compares the resourceVersion in a body with the stored object's; none given fits any.
///
/// # Errors
///
/// 409 when it is another.
pub fn check_version(resource: &Resource, body: &Value, revision: u64) -> Result<(), Status> {
    let metadata = &body["metadata"];
    let version = metadata["resourceVersion"].as_str().unwrap_or_default();
    // No object has version 0: it stands for none.
    if matches!(version, "" | "0") || version.parse() == Ok(revision) {
        return Ok(());
    }
    Err(Status::modified(
        resource,
        metadata["name"].as_str().unwrap_or_default(),
    ))
}

/// Encodes an object for the store. One that is too large is stored without its managed fields, if
/// that is enough.
///
/// # Errors
///
/// 413 when it is larger than [`MAX_OBJECT_BYTES`].
pub fn encode(object: Value) -> Result<Vec<u8>, Status> {
    let mut bytes = crate::object::to_stored(object);
    if bytes.len() > MAX_OBJECT_BYTES
        && let Ok(mut object) = serde_json::from_slice::<Value>(&bytes)
        && metadata_mut(&mut object).remove("managedFields").is_some()
    {
        bytes = crate::object::to_stored(object);
    }
    if bytes.len() > MAX_OBJECT_BYTES {
        return Err(Status::request_entity_too_large(format!(
            "limit is {MAX_OBJECT_BYTES}"
        )));
    }
    Ok(bytes)
}

/// Fills in the schema's defaults, then the kind's.
fn complete(resource: &Resource, object: &mut Value) {
    default::fill(resource.schema(), object);
    (kinds::hooks(resource).default)(object);
}

fn accept(resource: &Resource, object: Value, errors: Vec<FieldError>) -> Result<Value, Status> {
    if errors.is_empty() {
        return Ok(object);
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(Status::invalid(resource, name, errors))
}

/// Whether the kind counts changes of its spec in `metadata.generation`.
pub fn has_generation(resource: &Resource) -> bool {
    match resource.group {
        "apps" => resource.plural != "controllerrevisions",
        "batch"
        | "policy"
        | "admissionregistration.k8s.io"
        | "apiextensions.k8s.io"
        | "flowcontrol.apiserver.k8s.io"
        | "scheduling.k8s.io"
        | "discovery.k8s.io" => true,
        "networking.k8s.io" => {
            matches!(
                resource.plural,
                "ingresses" | "networkpolicies" | "ingressclasses"
            )
        }
        "" => matches!(
            resource.plural,
            "pods" | "replicationcontrollers" | "podtemplates"
        ),
        "resource.k8s.io" => matches!(resource.plural, "resourceslices" | "deviceclasses"),
        _ => false,
    }
}

/// Whether the update of an object that is not there makes it, as Kubernetes' registry of the kind says.
pub fn creates_on_update(resource: &Resource) -> bool {
    match resource.group {
        "" => matches!(
            resource.plural,
            "endpoints" | "events" | "limitranges" | "services"
        ),
        "coordination.k8s.io" => resource.plural == "leases",
        "events.k8s.io" => true,
        "rbac.authorization.k8s.io" => true,
        _ => false,
    }
}

/// Whether anything but metadata and status is another.
fn content_differs(old: &Value, new: &Value) -> bool {
    fn content(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
        let rest = |(key, _): &(&String, &Value)| {
            !matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status")
        };
        value.as_object().into_iter().flatten().filter(rest)
    }
    !content(old).eq(content(new))
}

fn bump_generation(object: &mut Value) {
    let metadata = metadata_mut(object);
    let generation = metadata
        .get("generation")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    metadata.insert("generation".into(), generation.saturating_add(1).into());
}

fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    child_mut(object, "metadata")
}

/// The object in this field, made where there is none.
fn child_mut<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let place = &mut object[field];
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    match place {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

fn remove(object: &mut Value, field: &str) {
    if let Value::Object(map) = object {
        map.remove(field);
    }
}

fn text<'a>(map: &'a Map<String, Value>, field: &str) -> &'a str {
    map.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn metadata_path() -> FieldPath {
    FieldPath::new("metadata")
}

#[cfg(test)]
mod tests;
