//! Structural schemas: every field of a custom resource has its type outside of the alternatives
//! (`anyOf` and the like), which only narrow what is said there. Different from a stock API server:
//! expressions in `x-kubernetes-validations` are not compiled.

use crate::kinds::field::{flag, items, map, present, same, text};
use crate::status::{FieldError, FieldPath};
use serde_json::{Value, json};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Field,
    Item,
}

/// Judges the schema of a version.
pub(super) fn validate(schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut found = Vec::new();
    invariants(schema, Level::Root, path, &mut found);
    found.sort_by_key(ToString::to_string);
    errors.extend(found);
}

/// The field `field` of a schema where it is true.
fn is(schema: &Value, field: &str) -> bool {
    flag(schema, &format!("/{field}"))
}

/// The schema in `items` or `additionalProperties`, which may hold something else.
fn schema_in<'a>(schema: &'a Value, field: &str) -> Option<&'a Value> {
    schema.get(field).filter(|held| held.is_object())
}

fn invariants(schema: &Value, level: Level, path: &FieldPath, errors: &mut Vec<FieldError>) {
    unsupported(schema, path, errors);
    let kind = text(schema, "/type");
    let of_items = path.child("items");
    match schema_in(schema, "items") {
        Some(item) => invariants(item, Level::Item, &of_items, errors),
        None if kind == "array" && present(schema, "/items").is_none() => {
            errors.push(FieldError::required(&of_items, "must be specified"));
        }
        None => {}
    }
    for (name, field) in map(schema, "/properties").into_iter().flatten() {
        let path = path.child("properties").key(name);
        invariants(field, Level::Field, &path, errors);
    }
    if present(schema, "/additionalProperties").is_some() {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&path, "must not be used at the root"));
        }
        if is(schema, EMBEDDED) {
            let why = format!("must not be used if {EMBEDDED} is set");
            errors.push(FieldError::forbidden(&path, &why));
        }
        if let Some(value) = schema_in(schema, "additionalProperties") {
            invariants(value, Level::Field, &path, errors);
        }
    }
    for field in [PRESERVE, EMBEDDED] {
        if is(schema, INT_OR_STRING) && is(schema, field) {
            let why = format!("must be false if {INT_OR_STRING} is true");
            errors.push(FieldError::invalid(&path.child(field), true, &why));
        }
    }
    kind_of(schema, level, path, errors);
    metadata(schema, level, path, errors);
    let any = is_int_or_string(schema);
    let first = items(schema, "/allOf")
        .first()
        .is_some_and(is_int_or_string);
    for (held, at, typed) in alternatives(schema, path, any, first) {
        nested(held, Some((schema, path)), typed, &at, errors);
    }
}

/// Judges what OpenAPI knows and Kubernetes does not.
fn unsupported(schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for field in [
        "$ref",
        "additionalItems",
        "definitions",
        "dependencies",
        "id",
        "patternProperties",
    ] {
        let held = schema.get(field);
        if !same(held, None) {
            let why = format!("{field} is not supported");
            errors.push(FieldError::forbidden(&path.child(field), &why));
        }
    }
    if is(schema, "uniqueItems") {
        errors.push(FieldError::forbidden(
            &path.child("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ));
    }
    if schema.get("items").is_some_and(Value::is_array) {
        let path = path.child("items");
        let why = "items must be a schema object and not an array";
        errors.push(FieldError::forbidden(&path, why));
    }
    let properties = map(schema, "/properties").is_some_and(|held| !held.is_empty());
    let others = present(schema, "/additionalProperties").filter(|held| **held != true);
    if properties && others.is_some() {
        let path = path.child("additionalProperties");
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(FieldError::forbidden(&path, why));
    }
}

fn kind_of(schema: &Value, level: Level, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "/type");
    let path = path.child("type");
    if is(schema, EMBEDDED) && kind != "object" {
        let why = format!("must be object if {EMBEDDED} is true");
        errors.push(if kind.is_empty() {
            FieldError::required(&path, &why)
        } else {
            FieldError::invalid(&path, kind, &why)
        });
    } else if kind.is_empty() && !is(schema, INT_OR_STRING) && !is(schema, PRESERVE) {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&path, why));
    }
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&path, why));
    } else if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(&path, kind, &TYPES));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(
            &path,
            kind,
            "must be object at the root",
        ));
    }
}

/// Judges what a schema says of the fields that every object has.
fn metadata(schema: &Value, level: Level, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let list = path.child("properties");
    let whole = level == Level::Root || is(schema, EMBEDDED);
    for (name, kind) in [
        ("kind", "string"),
        ("apiVersion", "string"),
        ("metadata", "object"),
    ] {
        let held = map(schema, "/properties").and_then(|held| held.get(name));
        let Some(given) = held.filter(|_| whole).map(|held| text(held, "/type")) else {
            continue;
        };
        if given != kind {
            let path = list.key(name).child("type");
            let why = format!("must be {kind}");
            errors.push(FieldError::invalid(&path, given, &why));
        }
    }
    let properties = map(schema, "/properties");
    let none = properties.is_none_or(serde_json::Map::is_empty);
    if is(schema, EMBEDDED) && !is(schema, PRESERVE) && none {
        let why = format!("must not be empty if {EMBEDDED} is true without {PRESERVE}");
        errors.push(FieldError::required(&list, &why));
    }
    let implicit = |field: &String| matches!(field.as_str(), "type" | "properties" | "description");
    let named = |field: &String| matches!(field.as_str(), "name" | "generateName");
    let metadata = properties.and_then(|held| held.get("metadata")?.as_object());
    let more = metadata.is_some_and(|held| {
        let own = held.get("properties").and_then(Value::as_object);
        let structure = [
            "additionalProperties",
            "items",
            "nullable",
            PRESERVE,
            EMBEDDED,
            INT_OR_STRING,
        ];
        let other = |field: &String| !implicit(field) && structure.contains(&field.as_str());
        held.keys().any(other) || own.is_some_and(|own| !own.keys().all(named))
    });
    if level == Level::Root && more {
        errors.push(FieldError::forbidden(
            &list.key("metadata"),
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        ));
    }
}

/// Whether the schema's alternatives are the two types of a number or a text, where types may stand.
fn is_int_or_string(schema: &Value) -> bool {
    schema.get("anyOf") == Some(&json!([{"type": "integer"}, {"type": "string"}]))
}

/// The alternatives in a schema, and whether each may hold the two types of a number or a text.
/// With `typed`, the schema's own may and are left out.
fn alternatives<'a>(
    schema: &'a Value,
    path: &FieldPath,
    typed: bool,
    first: bool,
) -> Vec<(&'a Value, FieldPath, bool)> {
    let mut found = Vec::new();
    for list in ["anyOf", "allOf", "oneOf"] {
        if typed && list == "anyOf" {
            continue;
        }
        for (index, held) in items(schema, &format!("/{list}")).iter().enumerate() {
            let typed = first && list == "allOf" && index == 0;
            found.push((held, path.child(list).index(index), typed));
        }
    }
    let not = present(schema, "/not").map(|held| (held, path.child("not"), false));
    found.extend(not);
    found
}

/// A schema and where it stands.
type Place<'a> = (&'a Value, &'a FieldPath);

/// Judges an alternative against the schema that it narrows, if there is one.
fn nested(
    held: &Value,
    narrowed: Option<Place<'_>>,
    typed: bool,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    bare(held, path, errors);
    if let Some(item) = schema_in(held, "items") {
        let at = path.child("items");
        let own = narrowed.map(|(schema, path)| (schema_in(schema, "items"), path.child("items")));
        inner(item, own, &at, errors);
    }
    for (name, field) in map(held, "/properties").into_iter().flatten() {
        let at = path.child("properties").key(name);
        if name == "metadata" {
            let why = "must not be specified in a nested context";
            errors.push(FieldError::forbidden(&at, why));
        }
        let own = narrowed.map(|(schema, path)| {
            let place = path.child("properties").key(name);
            (property(schema, name), place)
        });
        inner(field, own, &at, errors);
    }
    for (alternative, at, typed) in alternatives(held, path, typed, false) {
        nested(alternative, narrowed, typed, &at, errors);
    }
}

/// Judges a part of an alternative; the same part of the narrowed schema must be there.
fn inner(
    held: &Value,
    own: Option<(Option<&Value>, FieldPath)>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    if let Some((None, place)) = &own {
        let why = format!("because it is defined in {path}");
        errors.push(FieldError::required(place, &why));
    }
    let narrowed = own.as_ref().and_then(|(own, place)| Some(((*own)?, place)));
    nested(held, narrowed, false, path, errors);
}

/// An alternative says nothing of what the value is.
fn bare(held: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for (field, why) in [
        ("type", "must be empty to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("default", "must be undefined to be structural"),
        ("nullable", "must be false to be structural"),
        (PRESERVE, "must be false to be structural"),
        (EMBEDDED, "must be false to be structural"),
        (INT_OR_STRING, "must be false to be structural"),
        (
            "x-kubernetes-list-map-keys",
            "must be empty to be structural",
        ),
        (
            "x-kubernetes-list-type",
            "must be undefined to be structural",
        ),
        (
            "x-kubernetes-map-type",
            "must be undefined to be structural",
        ),
    ] {
        let given = held.get(field).filter(|held| **held != false);
        let told = match field {
            "default" => given.is_some_and(|held| !held.is_null()),
            _ => !same(given, None),
        };
        if told {
            errors.push(FieldError::forbidden(&path.child(field), why));
        }
    }
}

fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let own = map(schema, "/properties").and_then(|held| held.get(name));
    own.or_else(|| schema_in(schema, "additionalProperties"))
}
