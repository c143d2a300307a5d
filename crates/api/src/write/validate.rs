//! What the schema and the kind say about an object.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::kinds;
use crate::resource::Resource;
use crate::schema::{Shape, Type};
use crate::status::{FieldError, FieldPath};

/// Adds the object's faults: those that the kind finds, then those that only the schema knows.
pub(super) fn object(
    resource: &Resource,
    subresource: Option<&str>,
    object: &Value,
    old: Option<&Value>,
    errors: &mut Vec<FieldError>,
) {
    match (kinds::part(resource, subresource), old) {
        (Some(judge), Some(old)) => judge(object, old, errors),
        _ => (kinds::hooks(resource).validate)(object, old, errors),
    }
    if let Some(old) = old {
        kinds::statuses::validate(resource, object, old, errors);
    }
    let Some(map) = object.as_object() else {
        return;
    };
    let mut faults = Faults::default();
    for field in resource.schema().fields.iter() {
        // Metadata has rules of its own; a status is written by those who know.
        if matches!(&*field.name, "metadata" | "status") {
            continue;
        }
        faults.path.push(Step::Field(&field.name));
        faults.judge(&field.shape, map.get(&*field.name), field.required);
        faults.path.pop();
    }
    if faults.found.is_empty() {
        return;
    }
    // A body may have as many faults as fields.
    let told: BTreeSet<String> = errors.iter().map(|e| e.field.as_str().to_owned()).collect();
    let untold = |fault: &FieldError| !is_told(&told, &fault.field);
    errors.extend(faults.found.into_iter().filter(untold));
}

/// Whether the kind has found a fault at this place already, or at what it lies in.
fn is_told(told: &BTreeSet<String>, path: &FieldPath) -> bool {
    let path = path.as_str();
    let mut around = path.match_indices(['.', '[']).map(|(end, _)| &path[..end]);
    told.contains(path) || around.any(|known| told.contains(known))
}

/// Faults that are looked for: a body may have as many as fields.
const MOST: usize = 1_000;

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

/// What only the schema knows: required fields that are missing, values that are not allowed.
#[derive(Default)]
struct Faults<'a> {
    /// Where the walk is; written out only where something is wrong.
    path: Vec<Step<'a>>,
    found: Vec<FieldError>,
}

impl<'a> Faults<'a> {
    fn judge(&mut self, shape: &'a Shape, value: Option<&'a Value>, required: bool) {
        if self.found.len() >= MOST {
            return;
        }
        match (shape, value) {
            (Shape::Struct(ty), Some(Value::Object(map))) => self.fields(ty, Some(map)),
            // Go makes an empty one; what is required inside it is then missing.
            (Shape::Struct(ty), None) if required => self.fields(ty, None),
            (Shape::List(item), Some(Value::Array(items))) => {
                for (index, value) in items.iter().enumerate() {
                    self.path.push(Step::Index(index));
                    self.judge(item, Some(value), false);
                    self.path.pop();
                }
            }
            (Shape::Map(item), Some(Value::Object(map))) => {
                for (key, value) in map {
                    self.path.push(Step::Key(key));
                    self.judge(item, Some(value), false);
                    self.path.pop();
                }
            }
            (Shape::Enum(values), Some(Value::String(text)))
                if !text.is_empty() && !values.contains(&text.as_str()) =>
            {
                let fault = FieldError::not_supported(&self.place(), text.as_str(), values);
                self.found.push(fault);
            }
            // Which lists may be empty only the kinds know.
            (Shape::List(_) | Shape::Map(_) | Shape::Boolean, None) => {}
            (_, None) if required => {
                self.found.push(FieldError::required(&self.place(), ""));
            }
            _ => {}
        }
    }

    fn fields(&mut self, ty: &'a Type, map: Option<&'a Map<String, Value>>) {
        for field in ty.fields.iter() {
            let value = map.and_then(|map| map.get(&*field.name));
            if value.is_some() || field.required {
                self.path.push(Step::Field(&field.name));
                self.judge(&field.shape, value, field.required);
                self.path.pop();
            }
        }
    }

    fn place(&self) -> FieldPath {
        self.path
            .iter()
            .fold(FieldPath::root(), |path, step| match step {
                Step::Field(name) => path.child(name),
                Step::Index(index) => path.index(*index),
                Step::Key(key) => path.key(key),
            })
    }
}
