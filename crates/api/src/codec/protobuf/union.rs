//! Fields that hold a JSON schema or something plainer. JSON shows one or the other; in protobuf they are messages with
//! a number for each.

use serde_json::{Map, Value};

use super::super::omitted::is_omitted;
use super::write::{bytes, message, varint_field};
use super::{Reader, Result, Wire, struct_into, utf8};
use crate::schema::{self, Field, Shape, Type};

/// The type whose fields they are, and what they may hold.
const SCHEMA: &str = "apiextensions.v1.JSONSchemaProps";
/// By the fields' names.
const UNIONS: [(&str, Union); 4] = [
    ("additionalItems", Union::Bool),
    ("additionalProperties", Union::Bool),
    ("dependencies", Union::Texts),
    ("items", Union::Schemas),
];

/// What such a field holds where it is no schema.
#[derive(Clone, Copy)]
pub(super) enum Union {
    /// {1: whether anything is allowed, 2: the schema}.
    Bool,
    /// {1: the schema, 2: a list of schemas}.
    Schemas,
    /// {1: the schema, 2: a list of names}.
    Texts,
}

/// The union that a field of a type is, or that its map's values are.
pub(super) fn of(ty: &Type, field: &Field) -> Option<Union> {
    let (_, union) = UNIONS.iter().find(|(name, _)| *name == &*field.name)?;
    (*ty.name == *SCHEMA).then_some(*union)
}

fn schema() -> &'static Type {
    schema::lookup(SCHEMA).unwrap_or_else(schema::open)
}

impl Union {
    fn numbers(self) -> (u32, u32) {
        match self {
            Self::Bool => (2, 1),
            Self::Schemas | Self::Texts => (1, 2),
        }
    }

    /// Reads the field into `out`.
    pub(super) fn read(
        self,
        field: &Field,
        wire: Wire<'_>,
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<()> {
        let name = &*field.name;
        if !matches!(&*field.shape, Shape::Map(_)) {
            out.insert(name.to_owned(), self.value(wire, depth)?);
            return Ok(());
        }
        let (mut key, mut value) = (String::new(), Value::Null);
        let mut reader = Reader(wire.bytes()?);
        while let Some(part) = reader.next()? {
            match part {
                (1, Wire::Bytes(text)) => key = utf8(text)?,
                (2, wire) => value = self.value(wire, depth)?,
                _ => {}
            }
        }
        if let Value::Object(map) = out.entry(name).or_insert_with(|| Value::Object(Map::new())) {
            map.insert(key, value);
        }
        Ok(())
    }

    /// Where both are there, Go shows the schema of a [`Union::Bool`], and else the list.
    fn value(self, wire: Wire<'_>, depth: usize) -> Result<Value> {
        let (own, other) = self.numbers();
        let (mut whole, mut allowed, mut items) = (None, false, Vec::new());
        let mut reader = Reader(wire.bytes()?);
        while let Some((number, wire)) = reader.next()? {
            if number == own {
                whole = Some(nested(wire, depth)?);
            } else if number == other {
                match self {
                    Self::Bool => allowed = wire.varint()? != 0,
                    Self::Schemas => items.push(nested(wire, depth)?),
                    Self::Texts => items.push(utf8(wire.bytes()?)?.into()),
                }
            }
        }
        Ok(match (self, whole) {
            (Self::Bool, whole) => whole.unwrap_or(Value::Bool(allowed)),
            (_, Some(whole)) if items.is_empty() => whole,
            _ => Value::Array(items),
        })
    }

    /// Writes a field's value.
    pub(super) fn write(self, out: &mut Vec<u8>, field: &Field, value: &Value) {
        match (&*field.shape, value) {
            (Shape::Map(_), Value::Object(map)) => {
                for (key, value) in map {
                    let mut entry = Vec::new();
                    bytes(&mut entry, 1, key.as_bytes());
                    bytes(&mut entry, 2, &self.message(value));
                    bytes(out, field.proto, &entry);
                }
            }
            (_, value) => bytes(out, field.proto, &self.message(value)),
        }
    }

    fn message(self, value: &Value) -> Vec<u8> {
        let (own, other) = self.numbers();
        let mut out = Vec::new();
        match (self, value) {
            (_, Value::Object(whole)) => {
                if let Self::Bool = self {
                    varint_field(&mut out, other, 1);
                }
                bytes(&mut out, own, &message(whole, schema()));
            }
            (Self::Bool, Value::Bool(allowed)) => {
                varint_field(&mut out, other, i64::from(*allowed));
            }
            (Self::Schemas, Value::Array(items)) => {
                for item in items.iter().filter_map(Value::as_object) {
                    bytes(&mut out, other, &message(item, schema()));
                }
            }
            (Self::Texts, Value::Array(items)) => {
                for item in items.iter().filter_map(Value::as_str) {
                    bytes(&mut out, other, item.as_bytes());
                }
            }
            _ => {}
        }
        out
    }
}

fn nested(wire: Wire<'_>, depth: usize) -> Result<Value> {
    let mut map = Map::new();
    struct_into(wire.bytes()?, schema(), &mut map, depth + 1)?;
    prune(schema(), &mut map);
    Ok(Value::Object(map))
}

/// Takes out the zeros that Go writes. The walk does so where it knows the types, which it does not below a union.
fn prune(ty: &Type, map: &mut Map<String, Value>) {
    for (name, value) in map.iter_mut() {
        if let Some(field) = ty.field(name) {
            prune_value(&field.shape, value);
        }
    }
    map.retain(|name, value| {
        let field = ty.field(name);
        field.is_none_or(|field| !is_omitted(ty, field, value))
    });
}

fn prune_value(shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Struct(ty), Value::Object(map)) => prune(ty, map),
        (Shape::List(item), Value::Array(items)) => {
            items.iter_mut().for_each(|value| prune_value(item, value));
        }
        (Shape::Map(item), Value::Object(map)) => {
            map.values_mut().for_each(|value| prune_value(item, value));
        }
        _ => {}
    }
}
