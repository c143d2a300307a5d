//! How the schema divides an object into parts that managers own.

use serde_json::{Map, Value};

use super::set::Step;
use crate::schema::{Default, Field, ListType, Shape, Shared, Type};

/// What a value is for those who own parts of it.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    /// One part.
    Leaf,
    /// An object with known fields.
    Struct(&'a Type),
    /// An object with free keys.
    Map(&'a Shape),
    /// A list of distinct scalars.
    Set,
    /// A list of objects told apart by keys.
    Items(&'a Shape, &'a [Shared<str>]),
}

impl<'a> Kind<'a> {
    fn of_shape(shape: &'a Shape) -> Self {
        match shape {
            Shape::Struct(ty) if !ty.atomic => Self::Struct(ty),
            Shape::Map(item) => Self::Map(item),
            _ => Self::Leaf,
        }
    }

    fn of_field(field: &'a Field) -> Self {
        match (&*field.shape, &field.list) {
            (Shape::Struct(ty), _) if field.struct_granular => Self::Struct(ty),
            (Shape::Map(_), _) if field.map_atomic => Self::Leaf,
            (Shape::List(_), ListType::Set) => Self::Set,
            (Shape::List(item), ListType::Map(keys)) => Self::Items(item, keys),
            (Shape::List(_), ListType::Atomic) => Self::Leaf,
            (shape, _) => Self::of_shape(shape),
        }
    }

    /// The kind of a field or a map's value.
    pub(super) fn inside(self, name: &str) -> Self {
        match self {
            Self::Struct(ty) => ty.field(name).map_or(Self::Leaf, Self::of_field),
            Self::Map(item) => Self::of_shape(item),
            _ => Self::Leaf,
        }
    }

    /// The kind of a list's items.
    pub(super) fn item(self) -> Self {
        match self {
            Self::Items(item, _) => Self::of_shape(item),
            _ => Self::Leaf,
        }
    }

    pub(super) fn is_list(self) -> bool {
        matches!(self, Self::Set | Self::Items(..))
    }

    /// How an item of this list is told from the others.
    pub(super) fn step(self, item: &Value) -> Step {
        let Self::Items(shape, keys) = self else {
            return Step::Value(item.to_string());
        };
        let ty = match shape {
            Shape::Struct(ty) => Some(ty),
            _ => None,
        };
        let mut told = Map::new();
        for key in keys {
            let value = item.get(&**key).cloned().or_else(|| {
                let default = ty?.field(key)?.default?;
                Some(match default {
                    Default::String(text) => text.into(),
                    Default::Integer(number) => number.into(),
                    Default::Boolean(flag) => flag.into(),
                })
            });
            if let Some(value) = value {
                told.insert(key.to_string(), value);
            }
        }
        Step::Key(Value::Object(told).to_string())
    }

    /// What Go always has in this field, so that nobody ever adds the field itself: it is a struct
    /// or a list and no pointer. The schema does not tell; these are known to be.
    pub(super) fn always_there(self, name: &str) -> Option<Value> {
        let Self::Struct(ty) = self else { return None };
        let field = ty.field(name)?;
        match &*field.shape {
            Shape::Struct(_) => {
                let known = field.required
                    || matches!(
                        name,
                        "daemonEndpoints"
                            | "involvedObject"
                            | "kubeletEndpoint"
                            | "lastState"
                            | "loadBalancer"
                            | "metadata"
                            | "nodeInfo"
                            | "resources"
                            | "source"
                            | "spec"
                            | "state"
                            | "status"
                            | "strategy"
                            | "template"
                            | "updateStrategy"
                    );
                known.then(|| Value::Object(Map::new()))
            }
            Shape::List(_) => field.required.then_some(Value::Null),
            _ => None,
        }
    }
}
