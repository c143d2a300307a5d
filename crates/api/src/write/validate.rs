//! What the schema and the kind say about an object.

use serde_json::{Map, Value};

use crate::kinds;
use crate::resource::Resource;
use crate::schema::{Shape, Type};
use crate::status::{FieldError, FieldPath};

/// Adds the object's faults: those that the kind finds, then those that only the schema knows.
pub(super) fn object(
    resource: &Resource,
    object: &Value,
    old: Option<&Value>,
    errors: &mut Vec<FieldError>,
) {
    (kinds::hooks(resource).validate)(object, old, errors);
    let Some(map) = object.as_object() else {
        return;
    };
    let mut faults = Vec::new();
    for field in resource.schema().fields.iter() {
        // Metadata has rules of its own; a status is written by those who know.
        if matches!(&*field.name, "metadata" | "status") {
            continue;
        }
        let path = FieldPath::new(&field.name);
        present(
            &field.shape,
            map.get(&*field.name),
            field.required,
            &path,
            &mut faults,
        );
    }
    let told: Vec<FieldPath> = errors.iter().map(|e| e.field.clone()).collect();
    errors.extend(
        faults
            .into_iter()
            .filter(|fault| !is_told(&told, &fault.field)),
    );
}

/// Whether the kind has found a fault at this place already, or at what it lies in.
fn is_told(told: &[FieldPath], path: &FieldPath) -> bool {
    told.iter().any(|known| {
        path.as_str()
            .strip_prefix(known.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

fn present(
    shape: &Shape,
    value: Option<&Value>,
    required: bool,
    path: &FieldPath,
    faults: &mut Vec<FieldError>,
) {
    let empty = Map::new();
    match (shape, value) {
        (Shape::Struct(ty), Some(Value::Object(map))) => fields(ty, map, path, faults),
        // Go makes an empty one; what is required inside it is then missing.
        (Shape::Struct(ty), None) if required => fields(ty, &empty, path, faults),
        (Shape::List(item), Some(Value::Array(items))) => {
            for (index, value) in items.iter().enumerate() {
                present(item, Some(value), false, &path.index(index), faults);
            }
        }
        (Shape::Map(item), Some(Value::Object(map))) => {
            for (key, value) in map {
                present(item, Some(value), false, &path.key(key), faults);
            }
        }
        (Shape::Enum(values), Some(Value::String(text)))
            if !text.is_empty() && !values.contains(&text.as_str()) =>
        {
            faults.push(FieldError::not_supported(path, text.as_str(), values));
        }
        // Which lists may be empty only the kinds know.
        (Shape::List(_) | Shape::Map(_) | Shape::Boolean, None) => {}
        (_, None) if required => faults.push(FieldError::required(path, "")),
        _ => {}
    }
}

fn fields(ty: &Type, map: &Map<String, Value>, path: &FieldPath, faults: &mut Vec<FieldError>) {
    for field in ty.fields.iter() {
        let value = map.get(&*field.name);
        if value.is_some() || field.required {
            let path = path.child(&field.name);
            present(&field.shape, value, field.required, &path, faults);
        }
    }
}
