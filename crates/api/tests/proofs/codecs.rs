//! One object has one form, whatever it was sent as.

use api::Resource;
use api::codec::{self, Expected, FieldValidation, Format};
use api::resource;
use api::schema::{Shape, Type};
use serde_json::Value;

use crate::harness::{Random, prove};
use crate::objects::{self, Taste};

/// The kinds that all formats can carry.
fn drawn(random: &mut Random) -> Value {
    let all = resource::all();
    let resource = &all[random.below(all.len())];
    objects::draw(resource, Taste::SPARSE, random)
}

pub(crate) fn resource_of(object: &Value) -> Option<&'static Resource> {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    resource::by_kind(text("apiVersion"), text("kind"))
}

/// What is stored of an object that was sent in this format.
fn sent(resource: &Resource, object: &Value, format: Format) -> Result<Value, String> {
    let body = codec::encode(object, format).map_err(|status| status.message)?;
    let expected = Expected::from(resource);
    match codec::decode(&body, expected, format, FieldValidation::Strict) {
        Ok(decoded) => Ok(decoded.value),
        Err(status) => Err(format!("{format:?}: {}", status.message)),
    }
}

fn same(left: &Value, right: &Value, what: &str) -> Result<(), String> {
    match difference(left, right, String::new()) {
        None => Ok(()),
        Some(found) => Err(format!("{what}: {found}")),
    }
}

/// Where two trees differ first.
pub(crate) fn difference(left: &Value, right: &Value, path: String) -> Option<String> {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let keys = left
                .keys()
                .chain(right.keys().filter(|k| !left.contains_key(*k)));
            for key in keys {
                let inner = format!("{path}.{key}");
                match (left.get(key), right.get(key)) {
                    (Some(left), Some(right)) => {
                        if let Some(found) = difference(left, right, inner) {
                            return Some(found);
                        }
                    }
                    (left, right) => return Some(format!("{inner}: {left:?} and {right:?}")),
                }
            }
            None
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let mut pairs = left.iter().zip(right).enumerate();
            pairs.find_map(|(at, (left, right))| difference(left, right, format!("{path}[{at}]")))
        }
        _ => (left != right).then(|| format!("{path}: {left} and {right}")),
    }
}

/// Takes out the lists and maps that must be there and are empty: protobuf has no form for them, and they mean
/// the same as their absence. All others are never kept.
fn forget_empty(ty: &Type, object: &mut Value) {
    let Value::Object(map) = object else { return };
    map.retain(|name, value| {
        let Some(field) = ty.field(name) else {
            return true;
        };
        forget_inside(&field.shape, value);
        let empty = value.as_array().is_some_and(Vec::is_empty);
        let empty_map = matches!(&*field.shape, Shape::Map(_))
            && value.as_object().is_some_and(|map| map.is_empty());
        !field.required || !(empty || empty_map)
    });
}

fn forget_inside(shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Struct(ty), value) => forget_empty(ty, value),
        (Shape::List(item), Value::Array(items)) => {
            items
                .iter_mut()
                .for_each(|value| forget_inside(item, value));
        }
        (Shape::Map(item), Value::Object(map)) => {
            map.values_mut()
                .for_each(|value| forget_inside(item, value));
        }
        _ => {}
    }
}

#[test]
fn a_decoded_object_is_decoded_to_itself() {
    prove("a_decoded_object_is_decoded_to_itself", drawn, |object| {
        // What became smaller may be of no kind any more.
        let Some(resource) = resource_of(object) else {
            return Ok(());
        };
        let object = objects::conformed(resource, object.clone());
        for format in [Format::Json, Format::Yaml] {
            let again = sent(resource, &object, format)?;
            same(&object, &again, &format!("{format:?}"))?;
        }
        Ok(())
    });
}

#[test]
fn protobuf_and_json_are_stored_alike() {
    prove("protobuf_and_json_are_stored_alike", drawn, |object| {
        // What became smaller may be of no kind any more.
        let Some(resource) = resource_of(object) else {
            return Ok(());
        };
        let object = objects::conformed(resource, object.clone());
        let mut again = sent(resource, &object, Format::Protobuf)?;
        let mut object = object;
        forget_empty(resource.schema(), &mut object);
        forget_empty(resource.schema(), &mut again);
        same(&object, &again, "JSON's and protobuf's")
    });
}
