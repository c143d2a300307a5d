//! The v2 document in protobuf, as `client-go` asks for it: the messages of gnostic's
//! `OpenAPIv2.proto`. Tables say which JSON field is which field of which message; one function
//! follows them. Only what [`v2`](super::v2) writes is in the tables.

use serde_json::{Map, Value};

/// A message: its fields, and the number under which `x-` fields are listed (0: nowhere).
struct Message {
    fields: &'static [(&'static str, u32, Part)],
    extensions: u32,
}

/// What a field holds.
enum Part {
    Text,
    Flag,
    Texts,
    /// Any JSON value.
    Any,
    Anys,
    /// A message, inside messages with one field each of these numbers.
    Message(&'static [u32], &'static Message),
    /// A map: a message whose field of the first number repeats (name, value), the value inside
    /// messages as above.
    Map(u32, &'static [u32], &'static Message),
    /// A text inside a message, as its first field.
    Type,
    /// A list of parameters, each wrapped by the place that it stands in.
    Parameters,
}

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Part::Text),
        ("info", 2, Part::Message(&[], &INFO)),
        ("paths", 8, Part::Map(2, &[], &PATH)),
        ("definitions", 9, Part::Map(1, &[], &SCHEMA)),
    ],
    extensions: 0,
};

static INFO: Message = Message {
    fields: &[("title", 1, Part::Text), ("version", 2, Part::Text)],
    extensions: 0,
};

static PATH: Message = Message {
    fields: &[
        ("get", 2, Part::Message(&[], &OPERATION)),
        ("put", 3, Part::Message(&[], &OPERATION)),
        ("post", 4, Part::Message(&[], &OPERATION)),
        ("delete", 5, Part::Message(&[], &OPERATION)),
        ("patch", 8, Part::Message(&[], &OPERATION)),
        ("parameters", 9, Part::Parameters),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    fields: &[
        ("operationId", 5, Part::Text),
        ("produces", 6, Part::Texts),
        ("consumes", 7, Part::Texts),
        ("parameters", 8, Part::Parameters),
        ("responses", 9, Part::Map(1, &[1], &RESPONSE)),
    ],
    extensions: 13,
};

static RESPONSE: Message = Message {
    fields: &[
        ("description", 1, Part::Text),
        ("schema", 2, Part::Message(&[1], &SCHEMA)),
    ],
    extensions: 5,
};

static BODY: Message = Message {
    fields: &[
        ("description", 1, Part::Text),
        ("name", 2, Part::Text),
        ("in", 3, Part::Text),
        ("required", 4, Part::Flag),
        ("schema", 5, Part::Message(&[], &SCHEMA)),
    ],
    extensions: 6,
};

static QUERY: Message = Message {
    fields: &[
        ("required", 1, Part::Flag),
        ("in", 2, Part::Text),
        ("description", 3, Part::Text),
        ("name", 4, Part::Text),
        ("type", 6, Part::Text),
    ],
    extensions: 23,
};

static IN_PATH: Message = Message {
    fields: &[
        ("required", 1, Part::Flag),
        ("in", 2, Part::Text),
        ("description", 3, Part::Text),
        ("name", 4, Part::Text),
        ("type", 5, Part::Text),
    ],
    extensions: 22,
};

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Part::Text),
        ("format", 2, Part::Text),
        ("description", 4, Part::Text),
        ("default", 5, Part::Any),
        ("required", 19, Part::Texts),
        ("enum", 20, Part::Anys),
        ("additionalProperties", 21, Part::Message(&[1], &SCHEMA)),
        ("type", 22, Part::Type),
        ("items", 23, Part::Message(&[1], &SCHEMA)),
        ("properties", 25, Part::Map(1, &[], &SCHEMA)),
    ],
    extensions: 31,
};

/// The document in protobuf.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    message(document, &DOCUMENT)
}

fn message(value: &Value, kind: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(map) = value.as_object() else {
        return out;
    };
    for (name, number, part) in kind.fields {
        if let Some(value) = map.get(*name) {
            field(*number, part, value, &mut out);
        }
    }
    if kind.extensions != 0 {
        extensions(map, kind.extensions, &mut out);
    }
    out
}

fn field(number: u32, part: &Part, value: &Value, out: &mut Vec<u8>) {
    let list = || value.as_array().into_iter().flatten();
    match part {
        Part::Text => text(number, value.as_str().unwrap_or_default(), out),
        Part::Flag if value == true => {
            varint(u64::from(number) << 3, out);
            out.push(1);
        }
        Part::Flag => {}
        Part::Texts => list().for_each(|item| text(number, item.as_str().unwrap_or_default(), out)),
        Part::Any => bytes(number, &any(value), out),
        Part::Anys => list().for_each(|item| bytes(number, &any(item), out)),
        Part::Message(wraps, kind) => bytes(number, &wrapped(wraps, message(value, kind)), out),
        Part::Map(entries, wraps, kind) => {
            let mut held = Vec::new();
            for (name, value) in value.as_object().into_iter().flatten() {
                let mut entry = Vec::new();
                text(1, name, &mut entry);
                bytes(2, &wrapped(wraps, message(value, kind)), &mut entry);
                bytes(*entries, &entry, &mut held);
            }
            bytes(number, &held, out);
        }
        Part::Type => {
            let mut held = Vec::new();
            text(1, value.as_str().unwrap_or_default(), &mut held);
            bytes(number, &held, out);
        }
        Part::Parameters => list().for_each(|item| bytes(number, &parameter(item), out)),
    }
}

/// A parameter in the messages that tell where it stands: `ParametersItem { Parameter { … } }`.
fn parameter(value: &Value) -> Vec<u8> {
    let (wraps, kind): (&[u32], &Message) = match value["in"].as_str() {
        Some("body") => (&[1, 1], &BODY),
        Some("path") => (&[1, 2, 4], &IN_PATH),
        _ => (&[1, 2, 3], &QUERY),
    };
    wrapped(wraps, message(value, kind))
}

/// `x-` fields as (name, value) pairs.
fn extensions(map: &Map<String, Value>, number: u32, out: &mut Vec<u8>) {
    for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
        let mut entry = Vec::new();
        text(1, name, &mut entry);
        bytes(2, &any(value), &mut entry);
        bytes(number, &entry, out);
    }
}

/// A value of any type travels as YAML text; JSON is YAML.
fn any(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    text(2, &format!("{value}\n"), &mut out);
    out
}

/// The message inside messages of one field each, the outermost first.
fn wrapped(wraps: &[u32], inner: Vec<u8>) -> Vec<u8> {
    wraps.iter().rev().fold(inner, |held, number| {
        let mut out = Vec::with_capacity(held.len() + 6);
        bytes(*number, &held, &mut out);
        out
    })
}

fn text(number: u32, value: &str, out: &mut Vec<u8>) {
    // An empty text is proto3's default.
    if !value.is_empty() {
        bytes(number, value.as_bytes(), out);
    }
}

/// A field of wire type 2: its length, then its bytes.
fn bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_and_wrappings_are_gnostic_s() {
        let document = json!({"swagger": "2.0", "definitions": {"A": {
            "type": "object", "x-k": [1], "properties": {"b": {"$ref": "#/definitions/B"}}}}});
        let b = [
            &[0x0a, 1][..],
            b"b",
            &[0x12, 17, 0x0a, 15],
            b"#/definitions/B",
        ]
        .concat();
        let properties = [&[0x0a, b.len() as u8][..], &b].concat();
        let yaml = [&[0x0a, 3][..], b"x-k", &[0x12, 6, 0x12, 4], b"[1]\n"].concat();
        let schema = [
            &[0xb2, 0x01, 8, 0x0a, 6][..],
            b"object",
            &[0xca, 0x01, properties.len() as u8],
            &properties,
            &[0xfa, 0x01, yaml.len() as u8],
            &yaml,
        ]
        .concat();
        let named = [&[0x0a, 1][..], b"A", &[0x12, schema.len() as u8], &schema].concat();
        let definitions = [&[0x0a, named.len() as u8][..], &named].concat();
        let expected = [
            &[0x0a, 3][..],
            b"2.0",
            &[0x4a, definitions.len() as u8],
            &definitions,
        ]
        .concat();
        assert_eq!(encode(&document), expected);
        let parameter = parameter(&json!({"in": "path", "name": "n", "required": true}));
        let inner = [&[0x08, 1, 0x12, 4][..], b"path", &[0x22, 1], b"n"].concat();
        assert_eq!(
            parameter,
            [&[0x0a, 15, 0x12, 13, 0x22, 11][..], &inner].concat()
        );
    }
}
