//! One walk for JSON, YAML and trees: a serde visitor that is led by the schema.

use std::fmt::{self, Write as _};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::ignored::Ignored;
use super::omitted::is_omitted;
use super::{scalar, shown};
use crate::schema::{Shape, Type};

/// Levels of lists and objects in what is kept. What is stored must be readable again, by readers
/// that give up at 128.
const MAX_DEPTH: usize = 100;
/// As many unknown or repeated fields as are reported, at most.
const MAX_FAULTS: usize = 100;
/// How much more than its own length a YAML body may become by its aliases, in the units of
/// [`Walk::spend`]. Without aliases a body never takes more units than it has bytes.
const ALIAS_ALLOWANCE: usize = 100_000;

/// Bytes of a text that count like a node.
pub(super) const TEXT_UNIT: usize = 16;

/// Where the walk is, and what it met.
pub(super) struct Walk<'t> {
    /// The source is YAML, where numbers may be octal.
    yaml: bool,
    /// `spec.containers[0].name`, as unknown fields are reported.
    path: String,
    /// `spec.containers.name`, as Go reports wrong types: without indices and map keys.
    go_path: String,
    /// Lists and objects around it.
    depth: usize,
    /// How much may still be read.
    budget: usize,
    /// Names of the structs on the way, innermost last.
    structs: Vec<&'t str>,
    /// Unknown and repeated fields.
    pub(super) faults: Vec<String>,
    /// Why the walk stopped, if a type was wrong.
    pub(super) failure: Option<String>,
}

impl<'t> Walk<'t> {
    /// For JSON and trees, which are as large as they look.
    pub(super) fn plain() -> Self {
        Self::new(false, usize::MAX)
    }

    /// For a YAML body of this many bytes.
    pub(super) fn yaml(length: usize) -> Self {
        Self::new(true, length.saturating_add(ALIAS_ALLOWANCE))
    }

    fn new(yaml: bool, budget: usize) -> Self {
        Self {
            yaml,
            budget,
            path: String::new(),
            go_path: String::new(),
            depth: 0,
            structs: Vec::new(),
            faults: Vec::new(),
            failure: None,
        }
    }

    /// Steps into a field; returns what [`leave`](Self::leave) needs.
    fn enter(&mut self, name: &str) -> (usize, usize) {
        let go = self.go_path.len();
        if go > 0 {
            self.go_path.push('.');
        }
        self.go_path.push_str(name);
        (self.enter_key(name), go)
    }

    /// Steps into a map's entry.
    fn enter_key(&mut self, name: &str) -> usize {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        length
    }

    fn leave(&mut self, (path, go): (usize, usize)) {
        self.path.truncate(path);
        self.go_path.truncate(go);
    }

    fn down<E: de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fail(format!("exceeded max depth of {MAX_DEPTH}")));
        }
        Ok(())
    }

    fn up(&mut self) {
        self.depth -= 1;
    }

    /// Accounts for a node.
    pub(super) fn spend<E: de::Error>(&mut self, units: usize) -> Result<(), E> {
        match self.budget.checked_sub(units) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => Err(self.fail("document contains excessive aliasing".to_owned())),
        }
    }

    /// Accounts for a key.
    pub(super) fn spend_key<E: de::Error>(&mut self, key: &str) -> Result<(), E> {
        self.spend(1 + key.len() / TEXT_UNIT)
    }

    fn fault(&mut self, what: &str, name: &str) {
        if self.faults.len() >= MAX_FAULTS {
            return;
        }
        let dot = if self.path.is_empty() { "" } else { "." };
        let (path, name) = (shown(&self.path), shown(name));
        self.faults
            .push(format!("{what} field \"{path}{dot}{name}\""));
    }

    fn fail<E: de::Error>(&mut self, why: String) -> E {
        let error = E::custom(&why);
        self.failure = Some(why);
        error
    }

    /// `json: cannot unmarshal number into Go struct field ConfigMap.data of type string`.
    fn mismatch<E: de::Error>(&mut self, found: &str, wanted: &str) -> E {
        let owner = self.structs.last().copied().unwrap_or_default();
        let place = if self.go_path.is_empty() {
            format!("Go value of type {wanted}")
        } else {
            format!("Go struct field {owner}.{} of type {wanted}", self.go_path)
        };
        self.fail(format!("json: cannot unmarshal {found} into {place}"))
    }
}

fn go_type(shape: &Shape) -> String {
    match shape {
        Shape::String | Shape::Enum(_) => "string".into(),
        Shape::Boolean => "bool".into(),
        Shape::Int32 | Shape::IntOrString => "int32".into(),
        Shape::Int64 => "int64".into(),
        Shape::Double => "float64".into(),
        Shape::Bytes => "[]uint8".into(),
        Shape::Time | Shape::MicroTime => "string".into(),
        Shape::Duration => "string".into(),
        Shape::Quantity => "resource.Quantity".into(),
        Shape::Object | Shape::Any => "map[string]interface {}".into(),
        Shape::Struct(ty) => {
            let mut parts = ty.name.rsplitn(3, '.');
            let (name, version) = (parts.next(), parts.next());
            format!("{}.{}", version.unwrap_or("v1"), name.unwrap_or("Object"))
        }
        Shape::List(item) => format!("[]{}", go_type(item)),
        Shape::Map(item) => format!("map[string]{}", go_type(item)),
    }
}

/// What Go has where a list item or a map entry is `null`; nothing where that is `nil`.
fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::String | Shape::Enum(_) | Shape::Bytes => "".into(),
        Shape::Boolean => false.into(),
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => 0.into(),
        Shape::Quantity => "0".into(),
        Shape::Duration => "0s".into(),
        Shape::Struct(_) => Value::Object(Map::new()),
        Shape::Time | Shape::MicroTime => Value::Null,
        Shape::Object | Shape::Any | Shape::List(_) | Shape::Map(_) => Value::Null,
    }
}

/// Reads a whole object.
pub(super) struct Root<'a, 't> {
    pub(super) ty: &'t Type,
    pub(super) walk: &'a mut Walk<'t>,
}

impl<'de> DeserializeSeed<'de> for Root<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(Struct {
            ty: self.ty,
            walk: self.walk,
            root: true,
        })
    }
}

/// Reads a value of a shape.
pub(super) struct Node<'a, 't> {
    pub(super) shape: &'t Shape,
    pub(super) walk: &'a mut Walk<'t>,
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.walk.spend(1)?;
        match self.shape {
            Shape::Struct(ty) => deserializer.deserialize_any(Struct {
                ty,
                walk: self.walk,
                root: false,
            }),
            _ => deserializer.deserialize_any(self),
        }
    }
}

/// A scalar, a list, a map or an untyped value. `null` becomes [`Value::Null`].
impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&go_type(self.shape))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        match self.shape {
            Shape::Boolean | Shape::Any => Ok(value.into()),
            shape => Err(self.walk.mismatch("bool", &go_type(shape))),
        }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        match self.shape {
            Shape::Int32 | Shape::IntOrString if i32::try_from(value).is_err() => {
                Err(self.walk.mismatch(&format!("number {value}"), "int32"))
            }
            Shape::Int32 | Shape::IntOrString | Shape::Int64 | Shape::Any => Ok(value.into()),
            Shape::Double => Ok(Number::from_f64(value as f64).map_or(Value::Null, Value::Number)),
            Shape::Quantity => self.visit_string(value.to_string()),
            shape => Err(self.walk.mismatch("number", &go_type(shape))),
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        match (i64::try_from(value), self.shape) {
            (Ok(signed), _) => self.visit_i64(signed),
            (Err(_), Shape::Any) => Ok(value.into()),
            (Err(_), Shape::Double | Shape::Quantity) => self.visit_f64(value as f64),
            (Err(_), shape) => Err(self
                .walk
                .mismatch(&format!("number {value}"), &go_type(shape))),
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        match (Number::from_f64(value), self.shape) {
            (Some(number), Shape::Double | Shape::Any) => Ok(Value::Number(number)),
            (Some(number), Shape::Quantity) => self.visit_string(number.to_string()),
            (_, Shape::Int32 | Shape::Int64 | Shape::IntOrString) => {
                let wanted = go_type(self.shape);
                Err(self.walk.mismatch(&format!("number {value}"), &wanted))
            }
            (_, shape) => Err(self.walk.mismatch("number", &go_type(shape))),
        }
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        self.walk.spend(value.len() / TEXT_UNIT)?;
        match self.shape {
            Shape::String | Shape::Enum(_) | Shape::Any | Shape::IntOrString => Ok(value.into()),
            Shape::Time | Shape::MicroTime | Shape::Duration | Shape::Quantity | Shape::Bytes => {
                match scalar::canonical(self.shape, value) {
                    Ok(text) => Ok(text.into()),
                    Err(why) => Err(self.walk.fail(why)),
                }
            }
            // YAML 1.1 writes file modes as `0644`; YAML 1.2 reads that as text.
            Shape::Int32 | Shape::Int64 if self.walk.yaml && octal(&value).is_some() => {
                Ok(octal(&value).unwrap_or_default().into())
            }
            shape => Err(self.walk.mismatch("string", &go_type(shape))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let item = match self.shape {
            Shape::List(item) => item,
            Shape::Any => &Shape::Any,
            shape => return Err(self.walk.mismatch("array", &go_type(shape))),
        };
        let untyped = matches!(self.shape, Shape::Any);
        self.walk.down()?;
        let mut out = Vec::new();
        let length = self.walk.path.len();
        loop {
            // Only reported paths need it, but those are written from here.
            let _ = write!(self.walk.path, "[{}]", out.len());
            let next = items.next_element_seed(Node {
                shape: item,
                walk: self.walk,
            })?;
            self.walk.path.truncate(length);
            match next {
                None => {
                    self.walk.up();
                    return Ok(Value::Array(out));
                }
                Some(Value::Null) if !untyped => out.push(zero(item)),
                Some(value) => out.push(value),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (item, untyped) = match self.shape {
            Shape::Map(item) => (&**item, false),
            Shape::Any | Shape::Object => (&Shape::Any, true),
            shape => return Err(self.walk.mismatch("object", &go_type(shape))),
        };
        self.walk.down()?;
        let mut out = Map::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            self.walk.spend_key(&key)?;
            if out.contains_key(&key) {
                self.walk.fault("duplicate", &key);
            }
            let length = self.walk.enter_key(&key);
            let value = entries.next_value_seed(Node {
                shape: item,
                walk: self.walk,
            })?;
            self.walk.path.truncate(length);
            match value {
                Value::Null if !untyped => out.insert(key, zero(item)),
                value => out.insert(key, value),
            };
        }
        self.walk.up();
        Ok(Value::Object(out))
    }
}

fn octal(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('0')?;
    if digits.is_empty() {
        return None;
    }
    i64::from_str_radix(digits, 8).ok()
}

/// A map key. YAML allows scalars that are not text.
pub(super) struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<String, E> {
        Ok(value)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }
}

/// An object with known fields.
struct Struct<'a, 't> {
    ty: &'t Type,
    walk: &'a mut Walk<'t>,
    root: bool,
}

impl Struct<'_, '_> {
    fn mismatch<E: de::Error>(self, found: &str) -> E {
        let mut parts = self.ty.name.rsplitn(3, '.');
        let (name, version) = (parts.next(), parts.next());
        let wanted = format!("{}.{}", version.unwrap_or("v1"), name.unwrap_or("Object"));
        self.walk.mismatch(found, &wanted)
    }
}

impl<'de> Visitor<'de> for Struct<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        if self.root {
            return Ok(Value::Object(Map::new()));
        }
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Value, E> {
        Err(self.mismatch("bool"))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Value, E> {
        Err(self.mismatch("number"))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Value, E> {
        Err(self.mismatch("number"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
        Err(self.mismatch("number"))
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Value, E> {
        Err(self.mismatch("string"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(self.mismatch("array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let Self { ty, walk, .. } = self;
        let mut out = Map::new();
        let mut nulls: Vec<String> = Vec::new();
        walk.down()?;
        walk.structs.push(ty.short_name());
        while let Some(key) = entries.next_key_seed(Key)? {
            walk.spend_key(&key)?;
            let field = ty.field(&key);
            let typed = match field {
                Some(field) => Some(&*field.shape),
                None if ty.object && (key == "apiVersion" || key == "kind") => Some(&Shape::String),
                None if ty.preserve_unknown => Some(&Shape::Any),
                None => None,
            };
            let Some(shape) = typed else {
                walk.fault("unknown", &key);
                entries.next_value_seed(Ignored { walk })?;
                continue;
            };
            if out.contains_key(&key) || nulls.contains(&key) {
                walk.fault("duplicate", &key);
            }
            let before = walk.enter(&key);
            let value = entries.next_value_seed(Node { shape, walk })?;
            walk.leave(before);
            let kept = field.is_none() && ty.preserve_unknown;
            if (value.is_null() && !kept) || field.is_some_and(|f| is_omitted(ty, f, &value)) {
                out.remove(&key);
                nulls.push(key);
            } else {
                out.insert(key, value);
            }
        }
        walk.structs.pop();
        walk.up();
        Ok(Value::Object(out))
    }
}
