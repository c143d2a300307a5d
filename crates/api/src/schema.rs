//! The schema engine's tables: for every API type its fields, their shapes, defaults, list and
//! patch semantics, and protobuf numbers.
//!
//! The tables of the built-in kinds are Rust statics made by the build script from
//! `data/schema.json`. Custom resources build the same [`Type`]s at run time, counted instead of
//! static ([`Shared`]), so that decoding, patching and validating know one form only.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

/// Something that is either part of the program or counted.
#[derive(Debug)]
pub enum Shared<T: ?Sized + 'static> {
    /// Part of the program's image.
    Static(&'static T),
    /// Made at run time, freed with its last holder.
    Counted(Arc<T>),
}

impl<T: ?Sized> Clone for Shared<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Static(value) => Self::Static(value),
            Self::Counted(value) => Self::Counted(Arc::clone(value)),
        }
    }
}

impl<T: ?Sized> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Static(value) => value,
            Self::Counted(value) => value,
        }
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

/// What values a field may take.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Any text.
    String,
    /// `true` or `false`.
    Boolean,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// A floating point number.
    Double,
    /// Bytes, base64 in JSON.
    Bytes,
    /// A point in time, RFC 3339, whole seconds.
    Time,
    /// A point in time, RFC 3339, six decimals.
    MicroTime,
    /// A span of time in Go's syntax (`1h30m`).
    Duration,
    /// A [quantity](crate::quantity).
    Quantity,
    /// A 32-bit number or text (a port, a percentage).
    IntOrString,
    /// Any JSON object.
    Object,
    /// Any JSON value.
    Any,
    /// One of these texts.
    Enum(Shared<[&'static str]>),
    /// An object with known fields.
    Struct(Shared<Type>),
    /// A list of one shape.
    List(Shared<Shape>),
    /// An object with free keys and values of one shape.
    Map(Shared<Shape>),
}

/// How the items of a list are told apart, for server-side apply.
#[derive(Clone, Debug)]
pub enum ListType {
    /// One value, replaced as a whole.
    Atomic,
    /// Distinct scalars.
    Set,
    /// Objects told apart by the values of these fields.
    Map(Shared<[Shared<str>]>),
}

/// What a strategic merge patch does with a field that both sides have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchStrategy {
    /// None given: objects are merged, lists replaced.
    Unset,
    /// The patch's value takes the place of the old one, object or list.
    Replace,
    /// Items are merged: scalars as a set, objects by the merge key.
    Merge,
}

/// A default that needs no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Text.
    String(&'static str),
    /// A truth value.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
}

/// One field of a [`Type`].
#[derive(Clone, Debug)]
pub struct Field {
    /// Name in JSON.
    pub name: Shared<str>,
    /// What it may hold.
    pub shape: Shared<Shape>,
    /// Number in protobuf; 0 if it has none.
    pub proto: u32,
    /// Comes from an inlined type: its number counts in that type's message, not in this one's.
    pub inherited: bool,
    /// Must be there.
    pub required: bool,
    /// Value when absent.
    pub default: Option<Default>,
    /// For lists: what tells items apart.
    pub list: ListType,
    /// For maps: replaced as a whole by server-side apply.
    pub map_atomic: bool,
    /// For structs: merged field by field although the type is atomic.
    pub struct_granular: bool,
    /// What a strategic merge patch does.
    pub patch: PatchStrategy,
    /// Whether a strategic merge patch's `$retainKeys` is expected here.
    pub retain_keys: bool,
    /// For lists of objects that a strategic merge patch merges: the key.
    pub merge_key: Option<Shared<str>>,
}

impl Field {
    /// Whether a strategic merge patch merges this list's items.
    pub fn merges(&self) -> bool {
        self.patch == PatchStrategy::Merge
    }
}

/// A type whose fields stand in its parent's JSON, but in a message of its own in protobuf.
#[derive(Clone, Debug)]
pub struct Inline {
    /// Number of that message in the parent's.
    pub proto: u32,
    /// The type.
    pub ty: Shared<Type>,
}

/// An API type.
#[derive(Clone, Debug)]
pub struct Type {
    /// Name, `core.v1.PodSpec`.
    pub name: Shared<str>,
    /// Fields in Go's order, those of inlined types among them.
    pub fields: Shared<[Field]>,
    /// Inlined types, needed for protobuf only.
    pub inlines: Shared<[Inline]>,
    /// Replaced as a whole by server-side apply.
    pub atomic: bool,
    /// Carries `apiVersion` and `kind`.
    pub object: bool,
    /// Keeps fields that it does not know (custom resources).
    pub preserve_unknown: bool,
}

impl Type {
    /// The field of this JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| *field.name == *name)
    }

    /// The type without its Go package: `PodSpec`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

/// The built-in type of this name (`core.v1.Pod`, `meta.v1.LabelSelector`).
pub fn lookup(name: &str) -> Option<&'static Type> {
    let at = TYPES
        .binary_search_by(|(known, _)| (*known).cmp(name))
        .ok()?;
    Some(TYPES[at].1)
}

/// The type of a built-in kind or of one that every group has (`Status`, `PartialObjectMetadata`).
pub fn of_kind(api_version: &str, kind: &str) -> Option<&'static Type> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let package = group
        .split('.')
        .next()
        .filter(|package| !package.is_empty());
    lookup(&format!("{}.{version}.{kind}", package.unwrap_or("core")))
        .or_else(|| lookup(&format!("meta.v1.{kind}")))
}

/// All built-in types, sorted by name.
pub fn all() -> impl Iterator<Item = &'static Type> {
    TYPES.iter().map(|(_, ty)| *ty)
}

/// `meta.v1.ObjectMeta`, which every kind has.
pub fn object_meta() -> &'static Type {
    lookup("meta.v1.ObjectMeta").unwrap_or_else(open)
}

/// A type that takes any fields.
pub fn open() -> &'static Type {
    static OPEN: Type = Type {
        name: Shared::Static("open"),
        fields: Shared::Static(&[]),
        inlines: Shared::Static(&[]),
        atomic: false,
        object: true,
        preserve_unknown: true,
    };
    &OPEN
}

/// The type of objects of which only the metadata is known.
pub fn open_object() -> &'static Type {
    static OPEN: LazyLock<Type> = LazyLock::new(|| {
        let metadata = lookup("meta.v1.ObjectMeta").unwrap_or_else(open);
        let metadata = Field {
            name: Shared::Static("metadata"),
            shape: Shared::Counted(Arc::new(Shape::Struct(Shared::Static(metadata)))),
            proto: 0,
            inherited: false,
            required: false,
            default: None,
            list: ListType::Atomic,
            map_atomic: false,
            struct_granular: false,
            patch: PatchStrategy::Unset,
            retain_keys: false,
            merge_key: None,
        };
        Type {
            fields: Shared::Counted(Arc::new([metadata])),
            ..open().clone()
        }
    });
    &OPEN
}

include!(concat!(env!("OUT_DIR"), "/schema.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_fields_of_inlined_types_in_their_parent() {
        let volume = lookup("core.v1.Volume").expect("volume");
        let empty_dir = volume.field("emptyDir").expect("emptyDir");
        assert!(empty_dir.inherited);
        assert_eq!(volume.inlines.len(), 1);
        assert_eq!(volume.inlines[0].proto, 2);
        assert!(volume.inlines[0].ty.field("emptyDir").is_some());
    }

    #[test]
    fn every_type_is_found_by_its_name() {
        assert!(all().count() > 500);
        for ty in all() {
            assert!(std::ptr::eq(lookup(&ty.name).expect("known"), ty));
        }
        assert!(lookup("core.v1.Nothing").is_none());
    }

    #[test]
    fn knows_merge_keys_and_defaults() {
        let spec = lookup("core.v1.PodSpec").expect("spec");
        let containers = spec.field("containers").expect("containers");
        assert!(containers.merges());
        assert_eq!(containers.merge_key.as_deref(), Some("name"));
        let port = lookup("core.v1.ServicePort").expect("port");
        assert_eq!(
            port.field("protocol").expect("protocol").default,
            Some(Default::String("TCP"))
        );
    }
}
