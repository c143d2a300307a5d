//! Kubernetes' protobuf, led by the field numbers in the schema.
//!
//! On the wire: the bytes `k8s\0`, then a message {1: {1: apiVersion, 2: kind}, 2: the object's
//! own message, 3: content encoding, 4: content type}. What comes out is a tree like the one that
//! JSON gives; the schema walk then checks it in the same way.

mod union;
mod write;

pub(super) use write::{encode, watch_event};

use serde_json::{Map, Number, Value};

use super::{Expected, scalar};
use crate::schema::{Field, Shape, Type};
use crate::status::Status;
use crate::time;

const MAGIC: &[u8] = b"k8s\0";
/// The same bound that the JSON reader has.
const MAX_DEPTH: usize = 128;

type Result<T> = std::result::Result<T, String>;

/// Reads a body.
pub(super) fn decode(body: &[u8], expected: Expected<'_>) -> std::result::Result<Value, Status> {
    let message = body
        .strip_prefix(MAGIC)
        .ok_or_else(|| expected.unrecognized("the body is not Kubernetes protobuf", b""))?;
    envelope(message, expected.ty)
        .map_err(|why| expected.unrecognized(&format!("protobuf: {why}"), b""))
}

fn envelope(message: &[u8], ty: &Type) -> Result<Value> {
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader(message);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(type_meta)) => {
                let mut inner = Reader(type_meta);
                while let Some(field) = inner.next()? {
                    match field {
                        (1, Wire::Bytes(text)) => api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            (3, Wire::Bytes(encoding)) if !encoding.is_empty() => {
                return Err("encoded content is not read".into());
            }
            _ => {}
        }
    }
    let mut out = Map::new();
    struct_into(raw, ty, &mut out, 0)?;
    if !api_version.is_empty() {
        out.insert("apiVersion".into(), api_version.into());
    }
    if !kind.is_empty() {
        out.insert("kind".into(), kind.into());
    }
    Ok(Value::Object(out))
}

/// Reads a message's fields into `out`, where inlined messages put theirs, too.
fn struct_into(
    message: &[u8],
    ty: &Type,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err("too deep".into());
    }
    let mut reader = Reader(message);
    while let Some((number, wire)) = reader.next()? {
        let own = |field: &&Field| field.proto == number && !field.inherited;
        if let Some(field) = ty.fields.iter().find(own) {
            match union::of(ty, field) {
                Some(union) => union.read(field, wire, out, depth)?,
                None => put(field, wire, out, depth)?,
            }
        } else if let Some(inline) = ty.inlines.iter().find(|i| i.proto == number) {
            struct_into(wire.bytes()?, &inline.ty, out, depth + 1)?;
        }
    }
    Ok(())
}

fn put(field: &Field, wire: Wire<'_>, out: &mut Map<String, Value>, depth: usize) -> Result<()> {
    let name = &*field.name;
    match &*field.shape {
        Shape::List(item) => {
            let Value::Array(items) = out.entry(name).or_insert_with(|| Value::Array(Vec::new()))
            else {
                return Err(format!("{name} is given twice"));
            };
            list_item(item, wire, items, depth)
        }
        Shape::Map(item) => {
            let Value::Object(map) = out.entry(name).or_insert_with(|| Value::Object(Map::new()))
            else {
                return Err(format!("{name} is given twice"));
            };
            let (key, value) = entry(item, wire, depth)?;
            map.insert(key, value);
            Ok(())
        }
        Shape::Struct(ty) => {
            let Value::Object(map) = out.entry(name).or_insert_with(|| Value::Object(Map::new()))
            else {
                return Err(format!("{name} is given twice"));
            };
            struct_into(wire.bytes()?, ty, map, depth + 1)
        }
        shape => {
            let value = scalar_value(shape, wire)?;
            // Go writes every text that is no pointer, empty ones too: the walk takes them out.
            if !value.is_null() {
                out.insert(name.to_owned(), value);
            }
            Ok(())
        }
    }
}

fn list_item(shape: &Shape, wire: Wire<'_>, items: &mut Vec<Value>, depth: usize) -> Result<()> {
    match (shape, wire) {
        // Packed numbers.
        (Shape::Int32 | Shape::Int64 | Shape::Boolean, Wire::Bytes(packed)) => {
            let mut reader = Reader(packed);
            while !reader.0.is_empty() {
                let number = Wire::Varint(reader.varint()?);
                items.push(scalar_value(shape, number)?);
            }
        }
        (_, wire) => items.push(any_value(shape, wire, depth)?),
    }
    Ok(())
}

fn entry(shape: &Shape, wire: Wire<'_>, depth: usize) -> Result<(String, Value)> {
    let mut reader = Reader(wire.bytes()?);
    let (mut key, mut value) = (String::new(), None);
    while let Some(field) = reader.next()? {
        match field {
            (1, Wire::Bytes(text)) => key = utf8(text)?,
            (2, wire) => value = Some(any_value(shape, wire, depth)?),
            _ => {}
        }
    }
    let value = match value {
        Some(value) => value,
        None => any_value(shape, Wire::nothing(shape), depth)?,
    };
    Ok((key, value))
}

fn any_value(shape: &Shape, wire: Wire<'_>, depth: usize) -> Result<Value> {
    match shape {
        Shape::Struct(ty) => {
            let mut map = Map::new();
            struct_into(wire.bytes()?, ty, &mut map, depth + 1)?;
            Ok(Value::Object(map))
        }
        // A list inside a map is a message with the list in field 1.
        Shape::List(item) => {
            if depth > MAX_DEPTH {
                return Err("too deep".into());
            }
            let mut items = Vec::new();
            let mut reader = Reader(wire.bytes()?);
            while let Some((number, wire)) = reader.next()? {
                if number == 1 {
                    list_item(item, wire, &mut items, depth + 1)?;
                }
            }
            Ok(Value::Array(items))
        }
        Shape::Map(_) => Err("a map of maps has no form in protobuf".into()),
        shape => scalar_value(shape, wire),
    }
}

fn scalar_value(shape: &Shape, wire: Wire<'_>) -> Result<Value> {
    Ok(match shape {
        Shape::String | Shape::Enum(_) => utf8(wire.bytes()?)?.into(),
        Shape::Bytes => scalar::encode_bytes(wire.bytes()?).into(),
        Shape::Boolean => (wire.varint()? != 0).into(),
        Shape::Int32 | Shape::Int64 => signed(wire.varint()?).into(),
        Shape::Double => {
            let number = f64::from_bits(wire.fixed64()?);
            Number::from_f64(number).map_or(Value::Null, Value::Number)
        }
        Shape::Time | Shape::MicroTime => timestamp(shape, wire.bytes()?)?,
        Shape::Duration => match first_varint(wire.bytes()?)? {
            Some(nanos) => time::format_duration(signed(nanos)).into(),
            None => "0s".into(),
        },
        Shape::Quantity => match first_bytes(wire.bytes()?)? {
            Some(text) if !text.is_empty() => utf8(text)?.into(),
            _ => "0".into(),
        },
        Shape::IntOrString => int_or_string(wire.bytes()?)?,
        Shape::Object | Shape::Any => match first_bytes(wire.bytes()?)? {
            Some(json) if !json.is_empty() => {
                serde_json::from_slice(json).map_err(|e| e.to_string())?
            }
            _ => Value::Null,
        },
        Shape::Struct(_) | Shape::List(_) | Shape::Map(_) => {
            return Err("not a scalar".into());
        }
    })
}

/// {1: seconds, 2: nanoseconds}; empty for the zero time.
fn timestamp(shape: &Shape, message: &[u8]) -> Result<Value> {
    if message.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader(message);
    while let Some(field) = reader.next()? {
        match field {
            (1, Wire::Varint(value)) => seconds = signed(value),
            (2, Wire::Varint(value)) => nanos = signed(value),
            _ => {}
        }
    }
    let nanos = i32::try_from(nanos).map_err(|_| "bad time")?;
    let at = jiff::Timestamp::new(seconds, nanos).map_err(|_| "bad time")?;
    Ok(match shape {
        Shape::MicroTime => time::format_micro(at).into(),
        _ => time::format(at).into(),
    })
}

/// {1: 0 for int or 1 for text, 2: int, 3: text}.
fn int_or_string(message: &[u8]) -> Result<Value> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    let mut reader = Reader(message);
    while let Some(field) = reader.next()? {
        match field {
            (1, Wire::Varint(value)) => is_text = value == 1,
            (2, Wire::Varint(value)) => number = signed(value),
            (3, Wire::Bytes(bytes)) => text = utf8(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

fn first_bytes(message: &[u8]) -> Result<Option<&[u8]>> {
    let mut found = None;
    let mut reader = Reader(message);
    while let Some(field) = reader.next()? {
        if let (1, Wire::Bytes(bytes)) = field {
            found = Some(bytes);
        }
    }
    Ok(found)
}

fn first_varint(message: &[u8]) -> Result<Option<u64>> {
    let mut found = None;
    let mut reader = Reader(message);
    while let Some(field) = reader.next()? {
        if let (1, Wire::Varint(value)) = field {
            found = Some(value);
        }
    }
    Ok(found)
}

fn utf8(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a text is not UTF-8".into())
}

fn signed(value: u64) -> i64 {
    i64::from_ne_bytes(value.to_ne_bytes())
}

/// One field's value on the wire.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Wire<'a> {
    /// What stands for a value that was left out.
    fn nothing(shape: &Shape) -> Wire<'static> {
        match shape {
            Shape::Boolean | Shape::Int32 | Shape::Int64 => Wire::Varint(0),
            Shape::Double => Wire::Fixed64(0),
            _ => Wire::Bytes(&[]),
        }
    }

    fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err("wrong wire type".into()),
        }
    }

    fn varint(self) -> Result<u64> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err("wrong wire type".into()),
        }
    }

    fn fixed64(self) -> Result<u64> {
        match self {
            Self::Fixed64(value) => Ok(value),
            _ => Err("wrong wire type".into()),
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next field; nothing at the message's end.
    fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| "bad field number")?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                Wire::Fixed64(
                    bytes
                        .iter()
                        .rev()
                        .fold(0, |sum, b| sum << 8 | u64::from(*b)),
                )
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| "bad length")?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err("bad wire type".into()),
        };
        Ok(Some((number, wire)))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("bad number".into())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length).ok_or("cut off")?;
        self.0 = tail;
        Ok(head)
    }
}
