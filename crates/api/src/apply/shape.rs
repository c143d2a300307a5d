//! How the schema divides an object into parts that managers own.

use serde_json::{Map, Value};

use super::compare::NOTHING;
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

    /// How an item of this list is told from the others.
    pub(super) fn step(self, item: &Value) -> Step {
        let Self::Items(shape, keys) = self else {
            return Step::Value(item.to_string());
        };
        let ty = match shape {
            Shape::Struct(ty) => Some(&**ty),
            _ => None,
        };
        let mut told = Map::new();
        for key in keys {
            if let Some(value) = key_value(ty, key, item) {
                told.insert(key.to_string(), value);
            }
        }
        Step::Key(Value::Object(told).to_string())
    }

    /// A key of this list that an item has not, and that has no default.
    pub(super) fn missing_key(self, item: &Value) -> Option<&'a str> {
        let Self::Items(shape, keys) = self else {
            return None;
        };
        let ty = match shape {
            Shape::Struct(ty) => Some(&**ty),
            _ => None,
        };
        let missing = |key: &&Shared<str>| key_value(ty, key, item).is_none();
        keys.iter().find(missing).map(|key| &**key)
    }

    /// The kind of a field or a map's value, and what Go has in it where it is not set: nobody ever
    /// adds or removes the field itself then.
    pub(super) fn field(self, name: &str) -> (Self, Option<&'static Value>) {
        let Self::Struct(ty) = self else {
            return (self.inside(name), None);
        };
        match ty.field(name) {
            Some(field) => (Self::of_field(field), always_there(ty, field)),
            None => (Self::Leaf, None),
        }
    }

    /// Fields that Go writes as null where they are not set, and we leave out.
    pub(super) fn unwritten(self) -> &'static [&'static str] {
        match self {
            Self::Struct(ty) if ty.name.ends_with("Condition") => match &*ty.name {
                "core.v1.PodCondition"
                | "core.v1.PersistentVolumeClaimCondition"
                | "batch.v1.JobCondition" => &["lastProbeTime"],
                _ => &[],
            },
            _ => &[],
        }
    }
}

/// The value of a list's key in one of its items: its default where it is not set.
fn key_value(ty: Option<&Type>, key: &str, item: &Value) -> Option<Value> {
    item.get(key).cloned().or_else(|| {
        let default = ty?.field(key)?.default?;
        Some(match default {
            Default::String(text) => text.into(),
            Default::Integer(number) => number.into(),
            Default::Boolean(flag) => flag.into(),
        })
    })
}

/// What Go has in a field that is not set, where it is a struct or a list and no pointer. The schema
/// does not tell; these are known to be.
fn always_there(ty: &Type, field: &Field) -> Option<&'static Value> {
    match &*field.shape {
        Shape::Struct(_) => is_inline(ty, field).then_some(&*NOTHING),
        Shape::List(_) => field.required.then_some(&Value::Null),
        Shape::Time => Kind::Struct(ty)
            .unwritten()
            .contains(&&*field.name)
            .then_some(&Value::Null),
        _ => None,
    }
}

/// Whether a field that holds a struct is part of its parent in Go, and no pointer.
fn is_inline(ty: &Type, field: &Field) -> bool {
    match (&*ty.name, &*field.name) {
        // Like others by their names, but pointers.
        ("core.v1.PodSpec" | "core.v1.PodStatus" | "core.v1.ContainerStatus", "resources")
        | ("core.v1.ReplicationControllerSpec", "template") => false,
        ("networking.v1.NetworkPolicySpec", "podSelector")
        | ("networking.v1.IngressServiceBackend", "port")
        | ("authentication.v1.TokenReviewStatus", "user") => true,
        (_, name) => {
            field.required
                || matches!(
                    name,
                    "acceptedNames"
                        | "daemonEndpoints"
                        | "deprecatedSource"
                        | "devices"
                        | "involvedObject"
                        | "kubeletEndpoint"
                        | "lastState"
                        | "limitResponse"
                        | "loadBalancer"
                        | "metadata"
                        | "nodeInfo"
                        | "regarding"
                        | "resources"
                        | "source"
                        | "spec"
                        | "state"
                        | "status"
                        | "strategy"
                        | "template"
                        | "updateStrategy"
                        | "userInfo"
                )
        }
    }
}
