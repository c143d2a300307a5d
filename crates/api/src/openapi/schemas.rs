//! Schemas of types, made from the tables as paths come to need them.

use super::{Dialect, describe, gvk};
use crate::resource::{self, Resource};
use crate::schema::{self, Default, Field, ListType, PatchStrategy, Shape, Type};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The types that a document names.
pub(super) struct Collector {
    dialect: Dialect,
    /// Types to write down, by the name in the tables.
    wanted: BTreeMap<&'static str, &'static Type>,
    /// Shapes that are schemas of their own without being types of the tables.
    scalars: BTreeSet<&'static str>,
    /// Lists, which the tables leave out because all are alike, by the type of their items.
    lists: BTreeMap<&'static str, &'static Resource>,
}

const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const DURATION: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Duration";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const LIST_META: &str = "meta.v1.ListMeta";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

impl Collector {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            wanted: BTreeMap::new(),
            scalars: BTreeSet::new(),
            lists: BTreeMap::new(),
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// A reference to the type of this name; an open object if the tables do not have it.
    pub(super) fn reference(&mut self, name: &str) -> Value {
        match schema::lookup(name) {
            Some(ty) => self.struct_reference(ty),
            None => json!({"type": "object"}),
        }
    }

    /// A reference to the list of a resource.
    pub(super) fn list(&mut self, resource: &'static Resource) -> Value {
        self.reference(resource.type_name);
        self.reference(LIST_META);
        self.lists.insert(resource.type_name, resource);
        let name = public_name(&format!("{}List", resource.type_name));
        json!({"$ref": format!("{}{name}", self.dialect.schemas())})
    }

    /// A reference to what a patch's body may be.
    pub(super) fn patch(&mut self) -> Value {
        self.scalar(PATCH)
    }

    fn scalar(&mut self, name: &'static str) -> Value {
        self.scalars.insert(name);
        json!({"$ref": format!("{}{name}", self.dialect.schemas())})
    }

    fn struct_reference(&mut self, ty: &Type) -> Value {
        // Only built-in types are referred to, and those the tables own.
        if let Some(ty) = schema::lookup(&ty.name)
            && let schema::Shared::Static(name) = ty.name
            && self.wanted.insert(name, ty).is_none()
        {
            // Visit its fields for the types behind them; what they are written as comes later.
            for field in ty.fields.iter() {
                self.shape(&field.shape);
            }
        }
        json!({"$ref": format!("{}{}", self.dialect.schemas(), public_name(&ty.name))})
    }

    fn shape(&mut self, shape: &Shape) -> Value {
        match shape {
            Shape::String => json!({"type": "string"}),
            Shape::Boolean => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Double => json!({"type": "number", "format": "double"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Time => self.scalar(TIME),
            Shape::MicroTime => self.scalar(MICRO_TIME),
            Shape::Duration => self.scalar(DURATION),
            Shape::Quantity => self.scalar(QUANTITY),
            Shape::IntOrString => self.scalar(INT_OR_STRING),
            Shape::Object => json!({"type": "object"}),
            // Not empty: kubectl explain takes an empty schema for a missing one.
            Shape::Any => json!({"description": "Any JSON value."}),
            Shape::Enum(values) => json!({"type": "string", "enum": &**values}),
            Shape::Struct(ty) => self.struct_reference(ty),
            Shape::List(item) => {
                let item = self.shape(item);
                json!({"type": "array", "items": self.held(item)})
            }
            Shape::Map(value) => {
                let value = self.shape(value);
                json!({"type": "object", "additionalProperties": self.held(value)})
            }
        }
    }

    /// A schema where others may stand beside it: v3 wants a reference wrapped.
    fn held(&self, schema: Value) -> Value {
        if self.dialect == Dialect::V3 && schema.get("$ref").is_some() {
            json!({"allOf": [schema]})
        } else {
            schema
        }
    }

    /// All schemas that were asked for, and those behind them, by their public names.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        let mut written = Map::new();
        // Everything reachable is wanted already, so writing adds nothing new.
        for ty in self.wanted.clone().into_values() {
            written.insert(public_name(&ty.name), self.write(ty));
        }
        for (item, resource) in std::mem::take(&mut self.lists) {
            let name = public_name(&format!("{item}List"));
            written.insert(name, self.write_list(resource));
        }
        for name in std::mem::take(&mut self.scalars) {
            written.insert(name.to_owned(), scalar_schema(name, self.dialect));
        }
        written
    }

    fn write(&mut self, ty: &Type) -> Value {
        let identity = identity(ty);
        let mut properties = if identity.is_empty() {
            Map::new()
        } else {
            type_meta()
        };
        let mut required = Vec::new();
        for field in ty.fields.iter() {
            if field.required {
                required.push(field.name.to_string());
            }
            properties.insert(field.name.to_string(), self.property(ty, field));
        }
        let mut schema = json!({
            "type": "object",
            "description": describe::kind(ty.short_name()),
            "properties": properties,
        });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if ty.atomic {
            schema["x-kubernetes-map-type"] = "atomic".into();
        }
        if !identity.is_empty() {
            schema["x-kubernetes-group-version-kind"] = identity.into();
        }
        schema
    }

    fn write_list(&mut self, resource: &Resource) -> Value {
        let item = self.reference(resource.type_name);
        let metadata = self.reference(LIST_META);
        let mut properties = type_meta();
        let items =
            json!({"type": "array", "items": self.held(item), "description": "The objects."});
        properties.insert("items".to_owned(), items);
        properties.insert("metadata".to_owned(), self.held(metadata));
        let kind = gvk(resource.group, resource.version, &resource.list_kind());
        json!({
            "type": "object",
            "description": format!("Objects of the kind {}.", resource.kind),
            "properties": properties,
            "required": ["items"],
            "x-kubernetes-group-version-kind": [kind],
        })
    }

    fn property(&mut self, ty: &Type, field: &Field) -> Value {
        let schema = self.shape(&field.shape);
        let mut schema = self.held(schema);
        let description = describe::field(ty.short_name(), &field.name);
        if !description.is_empty() {
            schema["description"] = description.into();
        }
        match field.default {
            Some(Default::String(text)) => schema["default"] = text.into(),
            Some(Default::Boolean(flag)) => schema["default"] = flag.into(),
            Some(Default::Integer(number)) => schema["default"] = number.into(),
            None => {}
        }
        merging(&mut schema, field);
        schema
    }
}

/// The two fields that every object has beside its own.
fn type_meta() -> Map<String, Value> {
    let field = |description: &str| json!({"type": "string", "description": description});
    Map::from_iter([
        (
            "apiVersion".to_owned(),
            field("Group and version of the kind, as `apps/v1`; `v1` in the core group."),
        ),
        ("kind".to_owned(), field("The kind of the object.")),
    ])
}

/// Adds how the field is merged, by server-side apply and by strategic merge patch.
fn merging(schema: &mut Value, field: &Field) {
    if matches!(&*field.shape, Shape::List(_)) {
        let kind = match &field.list {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map(keys) => {
                let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
                schema["x-kubernetes-list-map-keys"] = json!(keys);
                "map"
            }
        };
        schema["x-kubernetes-list-type"] = kind.into();
    }
    if field.map_atomic {
        schema["x-kubernetes-map-type"] = "atomic".into();
    } else if field.struct_granular {
        schema["x-kubernetes-map-type"] = "granular".into();
    }
    let merge = field.patch == PatchStrategy::Merge;
    let strategy = match (merge, field.retain_keys) {
        (true, true) => "merge,retainKeys",
        (true, false) => "merge",
        (false, true) => "retainKeys",
        (false, false) => return,
    };
    schema["x-kubernetes-patch-strategy"] = strategy.into();
    if let Some(key) = &field.merge_key {
        schema["x-kubernetes-patch-merge-key"] = key.to_string().into();
    }
}

fn scalar_schema(name: &str, dialect: Dialect) -> Value {
    let either = |a: &str, b: &str| match dialect {
        // v2 has no choice of types.
        Dialect::V2 => json!({"type": "string"}),
        Dialect::V3 => json!({"oneOf": [{"type": a}, {"type": b}]}),
    };
    match name {
        TIME | MICRO_TIME => json!({"type": "string", "format": "date-time",
            "description": "A point in time, as RFC 3339 writes it."}),
        DURATION => json!({"type": "string",
            "description": "A span of time: numbers with units, as in `1h30m`."}),
        QUANTITY => {
            let mut schema = either("string", "number");
            schema["description"] = "A number with a unit: `500m`, `1.5`, `64Mi`, `1G`.".into();
            schema
        }
        INT_OR_STRING => {
            let mut schema = either("integer", "string");
            schema["format"] = "int-or-string".into();
            schema["description"] = "A number, or a text such as a port's name or `25%`.".into();
            schema
        }
        _ => json!({"type": "object",
            "description": "A change of an object, in the form that the media type names."}),
    }
}

/// The kinds that a type is the schema of. Most types are none: they are parts of one.
fn identity(ty: &Type) -> Vec<Value> {
    let kinds: Vec<Value> = resource::all()
        .iter()
        .filter(|resource| resource.type_name == &*ty.name)
        .map(super::gvk_of)
        .collect();
    if !kinds.is_empty() {
        return kinds;
    }
    // What subresources speak, and the options and errors of every group.
    match &*ty.name {
        "autoscaling.v1.Scale" => vec![gvk("autoscaling", "v1", "Scale")],
        "policy.v1.Eviction" => vec![gvk("policy", "v1", "Eviction")],
        "authentication.v1.TokenRequest" => {
            vec![gvk("authentication.k8s.io", "v1", "TokenRequest")]
        }
        "meta.v1.Status" => vec![gvk("", "v1", "Status")],
        "meta.v1.DeleteOptions" => super::group_versions()
            .map(|(group, version)| gvk(group, version, "DeleteOptions"))
            .collect(),
        _ => kinds,
    }
}

/// The name under which Kubernetes publishes a type: `io.k8s.api.core.v1.Pod`.
pub(super) fn public_name(name: &str) -> String {
    let package = match name.split_once('.').map_or(name, |(package, _)| package) {
        "meta" => "io.k8s.apimachinery.pkg.apis",
        "apiextensions" => "io.k8s.apiextensions-apiserver.pkg.apis",
        "runtime" | "resource" if !name.starts_with("resource.v1.") => "io.k8s.apimachinery.pkg",
        "metrics" => "io.k8s.metrics.pkg.apis",
        _ => "io.k8s.api",
    };
    format!("{package}.{name}")
}
