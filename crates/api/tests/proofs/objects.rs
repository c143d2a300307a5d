//! Draws objects by the schema: of the right types, and told apart where lists must be.

use api::Resource;
use api::codec::{self, Expected, FieldValidation};
use api::schema::{Field, ListType, Shape, Type};
use serde_json::{Map, Number, Value, json};

use crate::harness::Random;

/// Ordinary texts, and some that formats are prone to take for something else.
const TEXTS: &[&str] = &[
    "a",
    "web",
    "default",
    "b-2",
    "example.com",
    "example.com/part",
    "10.0.0.1",
    "10.1.0.0/16",
    "fd00::1",
    "/a",
    "/var/run",
    "1",
    "80",
    "true",
    "Always",
    "Never",
    "None",
    "TCP",
    "metadata.name",
    "",
    " ",
    "yes",
    "no",
    "null",
    "~",
    "0644",
    "0x1f",
    "1e3",
    ".5",
    "-",
    "- a",
    "a: b",
    "#c",
    "&x",
    "*x",
    "!t",
    "%",
    "@",
    "`",
    "{",
    "[a",
    "'",
    "\"",
    "\\",
    "|",
    ">",
    "=",
    "<<",
    "2026-11-21",
    "2026-11-21T10:00:00Z",
    "a\nb\n",
    "\n",
    " a ",
    "\t",
    "é",
    "日本",
    "🦀",
    "\u{0}",
    "\u{7f}",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "\r\n",
];
const KEYS: &[&str] = &[
    "a",
    "b",
    "app",
    "app.kubernetes.io/name",
    "example.com/x",
    "key.txt",
    "cpu",
    "memory",
    "x~1",
    "A_B",
];
/// Keys of free objects, where all is allowed.
const ODD_KEYS: &[&str] = &["a", "", "~", "a/b", "true", "1", "null", "é", "x y", "- a"];
const QUANTITIES: &[&str] = &[
    "0", "1", "500m", "1Gi", "64Mi", "1500m", "1e3", "0.1", "100n",
];
const TIMES: &[&str] = &[
    "2026-11-21T10:00:00Z",
    "1970-01-01T00:00:00Z",
    "1969-12-31T23:59:59Z",
    "2026-11-21T10:00:00.123456Z",
    "2026-11-21T12:00:00+02:00",
    "9999-12-30T00:00:00Z",
];
const DURATIONS: &[&str] = &["0s", "1s", "1h30m", "1ms", "-5s", "36h"];
const BYTES: &[&str] = &["", "aGVsbG8=", "AAEC/w==", "/+8="];
const INTS: &[i64] = &[0, 1, 2, -1, 7, 80, 443, 8080, 30000];

/// How an object is drawn.
#[derive(Clone, Copy)]
pub(crate) struct Taste {
    /// Chance in a hundred that a field is there.
    fields: u32,
    /// Structs inside of each other.
    depth: usize,
    /// Whether free values may hold nulls.
    nulls: bool,
}

impl Taste {
    /// A few fields, some of them deep.
    pub(crate) const SPARSE: Self = Self {
        fields: 22,
        depth: 12,
        nulls: true,
    };
    /// What one field may be given.
    pub(crate) const SMALL: Self = Self {
        fields: 30,
        depth: 3,
        nulls: false,
    };
}

/// An object of this resource, as it is after decoding.
pub(crate) fn draw(resource: &Resource, taste: Taste, random: &mut Random) -> Value {
    let mut made = Value::Object(fields(resource.schema(), taste, random));
    made["apiVersion"] = resource.api_version().into();
    made["kind"] = resource.kind.into();
    conformed(resource, made)
}

/// A tree as the codec holds it.
pub(crate) fn conformed(resource: &Resource, value: Value) -> Value {
    match codec::conform(value, Expected::from(resource), FieldValidation::Ignore) {
        Ok(decoded) => decoded.value,
        Err(status) => panic!("drawn by the schema and not taken: {}", status.message),
    }
}

fn fields(ty: &Type, taste: Taste, random: &mut Random) -> Map<String, Value> {
    let inside = Taste {
        depth: taste.depth.saturating_sub(1),
        ..taste
    };
    let mut map = Map::new();
    for field in ty.fields.iter() {
        let wanted = random.percent(if field.required { 90 } else { taste.fields });
        let mut drawn = || match union(ty, field, random) {
            Some(value) => Some(value),
            None => field_value(field, inside, random),
        };
        if wanted && let Some(value) = drawn() {
            map.insert(field.name.to_string(), value);
        }
    }
    map
}

/// What a JSON schema holds where it may be a schema or something plainer: free in the tables, but protobuf knows no
/// other values.
fn union(ty: &Type, field: &Field, random: &mut Random) -> Option<Value> {
    if *ty.name != *"apiextensions.v1.JSONSchemaProps" {
        return None;
    }
    let schemas = [
        json!({"type": "string", "maxLength": 5}),
        json!({"type": "array", "items": {"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": true}}}),
        json!({"not": {"enum": [1, "a"]}, "items": [{"type": "integer"}, {"default": {"a": ""}}]}),
    ];
    let schema = schemas[random.below(schemas.len())].clone();
    let plain = random.percent(50);
    Some(match &*field.name {
        "additionalItems" | "additionalProperties" if plain => random.percent(50).into(),
        "items" if plain => json!([schema, {"nullable": true}]),
        "dependencies" => json!({"a": schema, "b": ["c", "d"]}),
        "additionalItems" | "additionalProperties" | "items" => schema,
        _ => return None,
    })
}

/// A value for a field; a list's items are told apart as the field says.
pub(crate) fn field_value(field: &Field, taste: Taste, random: &mut Random) -> Option<Value> {
    let mut value = value(&field.shape, taste, random)?;
    if let Value::Array(items) = &mut value {
        distinguish(field, items);
    }
    Some(value)
}

fn distinguish(field: &Field, items: &mut Vec<Value>) {
    let keys: Vec<&str> = match &field.list {
        ListType::Map(keys) => keys.iter().map(|key| &**key).collect(),
        _ => field.merge_key.as_deref().into_iter().collect(),
    };
    let Shape::List(item) = &*field.shape else {
        return;
    };
    let Shape::Struct(ty) = &**item else {
        if matches!(field.list, ListType::Set) || field.merges() {
            let mut seen = Vec::new();
            items.retain(|item| {
                let new = !seen.contains(item);
                seen.push(item.clone());
                new
            });
        }
        return;
    };
    for (at, item) in items.iter_mut().enumerate() {
        for key in keys.iter().chain(field.merge_key.as_deref().iter()) {
            let Some(shape) = ty.field(key).map(|field| &field.shape) else {
                continue;
            };
            item[*key] = match &**shape {
                Shape::Int32 | Shape::Int64 | Shape::IntOrString => (8000 + at).into(),
                Shape::Enum(values) => values[at % values.len()].into(),
                _ => format!("{}{at}", item[*key].as_str().map_or("n", |_| "m")).into(),
            };
        }
    }
    // Fewer names than items.
    let mut seen = Vec::new();
    items.retain(|item| {
        let told: Vec<Value> = keys.iter().map(|key| item[*key].clone()).collect();
        let new = keys.is_empty() || !seen.contains(&told);
        seen.push(told);
        new
    });
}

pub(crate) fn value(shape: &Shape, taste: Taste, random: &mut Random) -> Option<Value> {
    Some(match shape {
        Shape::String => random.pick(TEXTS).into(),
        Shape::Boolean => random.percent(50).into(),
        Shape::Int32 => int(random, i64::from(i32::MAX)).into(),
        Shape::Int64 => int(random, i64::MAX).into(),
        Shape::Double => Number::from_f64([0.0, 0.5, -1.5, 1e300, 3.0][random.below(5)])?.into(),
        Shape::Bytes => random.pick(BYTES).into(),
        Shape::Time | Shape::MicroTime => random.pick(TIMES).into(),
        Shape::Duration => random.pick(DURATIONS).into(),
        Shape::Quantity => random.pick(QUANTITIES).into(),
        Shape::IntOrString if random.percent(50) => random.pick(&["50%", "http", "0", ""]).into(),
        Shape::IntOrString => int(random, i64::from(i32::MAX)).into(),
        Shape::Object => {
            let key = random.pick(ODD_KEYS);
            json!({key: free(taste, 3, random)})
        }
        Shape::Any => free(taste, 3, random),
        Shape::Enum(values) => random.pick(values).into(),
        Shape::Struct(_) if taste.depth == 0 => return None,
        Shape::Struct(ty) => Value::Object(fields(ty, taste, random)),
        Shape::List(item) => {
            let length = random.below(4);
            Value::Array(
                (0..length)
                    .filter_map(|_| value(item, taste, random))
                    .collect(),
            )
        }
        Shape::Map(item) => {
            let length = random.below(4);
            let entries = (0..length)
                .filter_map(|_| Some((random.pick(KEYS).to_owned(), value(item, taste, random)?)));
            Value::Object(entries.collect())
        }
    })
}

fn int(random: &mut Random, most: i64) -> i64 {
    match random.below(12) {
        0 => most,
        1 => -most - 1,
        _ => INTS[random.below(INTS.len())],
    }
}

/// Any JSON at all.
fn free(taste: Taste, depth: usize, random: &mut Random) -> Value {
    match random.below(if depth == 0 { 5 } else { 7 }) {
        0 if taste.nulls => Value::Null,
        0 | 1 => random.percent(50).into(),
        2 => int(random, i64::MAX).into(),
        3 => json!(-0.25),
        4 => random.pick(TEXTS).into(),
        5 => {
            let length = random.below(3);
            (0..length)
                .map(|_| free(taste, depth - 1, random))
                .collect()
        }
        _ => {
            let length = random.below(3);
            let entries = (0..length).map(|_| {
                (
                    random.pick(ODD_KEYS).to_owned(),
                    free(taste, depth - 1, random),
                )
            });
            Value::Object(entries.collect())
        }
    }
}
