//! Objects to Kubernetes' protobuf: the way back of the reader, led by the same field numbers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{MAGIC, union};
use crate::schema::{self, Field, Shape, Type};
use crate::time;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;

/// An object in its envelope; nothing for what has no form in protobuf: tables, and kinds without a schema.
pub(in crate::codec) fn encode(object: &Value) -> Option<Vec<u8>> {
    let api_version = object.get("apiVersion")?.as_str()?;
    let kind = object.get("kind")?.as_str()?;
    if kind == "Table" {
        return None;
    }
    let map = object.as_object()?;
    let message = match schema::of_kind(api_version, kind) {
        Some(ty) => message(map, ty),
        None => list(
            map,
            schema::of_kind(api_version, kind.strip_suffix("List")?)?,
        ),
    };
    let mut type_meta = Vec::new();
    bytes(&mut type_meta, 1, api_version.as_bytes());
    bytes(&mut type_meta, 2, kind.as_bytes());
    let mut out = MAGIC.to_vec();
    bytes(&mut out, 1, &type_meta);
    bytes(&mut out, 2, &message);
    bytes(&mut out, 3, b"");
    bytes(&mut out, 4, b"");
    Some(out)
}

/// An event of a watch, with the object of [`encode`]. Events have no envelope of their own; each stands behind its
/// length in four bytes, the highest first.
pub(in crate::codec) fn watch_event(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    bytes(&mut raw, 1, object);
    let mut event = vec![0; 4];
    bytes(&mut event, 1, kind.as_bytes());
    bytes(&mut event, 2, &raw);
    // A stored object is bounded far below 4 GiB.
    let length = u32::try_from(event.len() - 4).unwrap_or(u32::MAX);
    event[..4].copy_from_slice(&length.to_be_bytes());
    event
}

/// All lists have one form: their metadata in field 1, the items in field 2.
fn list(map: &Map<String, Value>, item: &Type) -> Vec<u8> {
    let mut out = Vec::new();
    if let (Some(Value::Object(metadata)), Some(ty)) =
        (map.get("metadata"), schema::lookup("meta.v1.ListMeta"))
    {
        bytes(&mut out, 1, &message(metadata, ty));
    }
    let items = map.get("items").and_then(Value::as_array);
    for object in items.into_iter().flatten().filter_map(Value::as_object) {
        bytes(&mut out, 2, &message(object, item));
    }
    out
}

pub(super) fn message(map: &Map<String, Value>, ty: &Type) -> Vec<u8> {
    let mut out = Vec::new();
    for field in ty.fields.iter().filter(|field| !field.inherited) {
        if let Some(value) = map.get(&*field.name) {
            match union::of(ty, field) {
                Some(union) => union.write(&mut out, field, value),
                None => put(&mut out, field, value),
            }
        }
    }
    for inline in ty.inlines.iter() {
        bytes(&mut out, inline.proto, &message(map, &inline.ty));
    }
    out
}

fn put(out: &mut Vec<u8>, field: &Field, value: &Value) {
    // `apiVersion` and `kind` have no number: they stand in the envelope.
    if field.proto == 0 {
        return;
    }
    match (&*field.shape, value) {
        (Shape::List(item), Value::Array(items)) => {
            for value in items {
                one(out, field.proto, item, value);
            }
        }
        (Shape::Map(item), Value::Object(map)) => {
            for (key, value) in map {
                let mut entry = Vec::new();
                bytes(&mut entry, 1, key.as_bytes());
                one(&mut entry, 2, item, value);
                bytes(out, field.proto, &entry);
            }
        }
        (shape, value) => one(out, field.proto, shape, value),
    }
}

/// One value. What does not have its shape is left out: stored objects have passed the schema.
fn one(out: &mut Vec<u8>, number: u32, shape: &Shape, value: &Value) {
    match (shape, value) {
        (_, Value::Null) => {}
        (Shape::Struct(ty), Value::Object(map)) => bytes(out, number, &message(map, ty)),
        // A list inside a map is a message with the list in field 1.
        (Shape::List(item), Value::Array(items)) => {
            let mut list = Vec::new();
            for value in items {
                one(&mut list, 1, item, value);
            }
            bytes(out, number, &list);
        }
        (Shape::Object | Shape::Any, value) => {
            let mut raw = Vec::new();
            bytes(&mut raw, 1, value.to_string().as_bytes());
            bytes(out, number, &raw);
        }
        (Shape::Boolean, Value::Bool(value)) => varint_field(out, number, i64::from(*value)),
        (shape, Value::Number(value)) => numeric(out, number, shape, value),
        (shape, Value::String(text)) => textual(out, number, shape, text),
        _ => {}
    }
}

fn numeric(out: &mut Vec<u8>, number: u32, shape: &Shape, value: &serde_json::Number) {
    match shape {
        Shape::Int32 | Shape::Int64 => {
            let Some(value) = value.as_i64() else { return };
            varint_field(out, number, value);
        }
        Shape::IntOrString => {
            let Some(value) = value.as_i64() else { return };
            let mut inner = Vec::new();
            varint_field(&mut inner, 1, 0);
            varint_field(&mut inner, 2, value);
            bytes(&mut inner, 3, b"");
            bytes(out, number, &inner);
        }
        Shape::Double => {
            tag(out, number, FIXED64);
            out.extend(value.as_f64().unwrap_or_default().to_le_bytes());
        }
        _ => {}
    }
}

fn textual(out: &mut Vec<u8>, number: u32, shape: &Shape, text: &str) {
    match shape {
        Shape::String | Shape::Enum(_) => bytes(out, number, text.as_bytes()),
        Shape::Bytes => bytes(out, number, &STANDARD.decode(text).unwrap_or_default()),
        Shape::Time | Shape::MicroTime => {
            let Some(at) = time::parse(text) else { return };
            let mut inner = Vec::new();
            varint_field(&mut inner, 1, at.as_second());
            varint_field(&mut inner, 2, i64::from(at.subsec_nanosecond()));
            bytes(out, number, &inner);
        }
        Shape::Duration => {
            let Some(nanos) = time::parse_duration(text) else {
                return;
            };
            let mut inner = Vec::new();
            varint_field(&mut inner, 1, nanos);
            bytes(out, number, &inner);
        }
        Shape::Quantity => {
            let mut inner = Vec::new();
            bytes(&mut inner, 1, text.as_bytes());
            bytes(out, number, &inner);
        }
        Shape::IntOrString => {
            let mut inner = Vec::new();
            varint_field(&mut inner, 1, 1);
            varint_field(&mut inner, 2, 0);
            bytes(&mut inner, 3, text.as_bytes());
            bytes(out, number, &inner);
        }
        _ => {}
    }
}

pub(super) fn varint_field(out: &mut Vec<u8>, number: u32, value: i64) {
    tag(out, number, VARINT);
    varint(out, u64::from_ne_bytes(value.to_ne_bytes()));
}

pub(super) fn bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    tag(out, number, BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn tag(out: &mut Vec<u8>, number: u32, wire: u32) {
    varint(out, u64::from(number << 3 | wire));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
