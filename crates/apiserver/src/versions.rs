//! Resources whose objects are stored in another version's form, and what they are turned into and back.

use std::borrow::Cow;

use api::codec::{self, FieldValidation};
use api::kinds::versions::{convert, stored_as};
use api::{Object, Resource, Status};
use serde_json::Value;

/// Whether objects of the resource are stored as they are served.
pub(crate) fn stored_as_served(resource: &'static Resource) -> bool {
    std::ptr::eq(stored_as(resource), resource)
}

/// The object as the resource serves it.
pub(crate) fn served<'a>(
    resource: &'static Resource,
    object: &'a Object,
) -> Result<Cow<'a, Object>, Status> {
    if stored_as_served(resource) {
        return Ok(Cow::Borrowed(object));
    }
    let unreadable = |e: api::object::ObjectError| Status::internal(e.to_string());
    let tree = convert(object.value().map_err(unreadable)?, resource);
    let bytes = api::object::to_stored(tree);
    let object = Object::from_stored(&bytes, object.revision()).map_err(unreadable)?;
    Ok(Cow::Owned(object))
}

/// The object as it is stored.
///
/// # Errors
/// 400 where an annotation that stands for fields of the stored version holds what these cannot.
pub(crate) fn stored(resource: &'static Resource, object: Value) -> Result<Value, Status> {
    if stored_as_served(resource) {
        return Ok(object);
    }
    let to = stored_as(resource);
    let object = convert(object, to);
    Ok(codec::conform(object, to.into(), FieldValidation::Ignore)?.value)
}
