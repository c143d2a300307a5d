//! Every kind, with every field that its schema has: all formats agree, and nothing panics on any
//! of it, whole or damaged.

use serde_json::{Map, Value, json};

use super::super::{Expected, FieldValidation, Format, decode, encode, encode_event};
use super::wire;
use crate::resource::{self, Resource};
use crate::schema::{Shape, Type};
use crate::write::{self, Context, DeleteOptions, User};
use crate::{patch, time};

/// An object with each field filled. Types that hold themselves are filled twice.
fn sample(ty: &Type, around: &mut Vec<String>) -> Value {
    let mut map = Map::new();
    for field in ty.fields.iter() {
        let given = match &*ty.name {
            "apiextensions.v1.JSONSchemaProps" => union(&field.name),
            _ => None,
        };
        if let Some(value) = given.or_else(|| value(&field.shape, around)) {
            map.insert(field.name.to_string(), value);
        }
    }
    Value::Object(map)
}

/// What a JSON schema holds where it may be a schema or something plainer.
fn union(field: &str) -> Option<Value> {
    Some(match field {
        "additionalItems" => false.into(),
        "additionalProperties" => json!({"type": "array", "items": {"additionalProperties": true}}),
        "dependencies" => {
            json!({"a": ["b", "c"], "d": {"required": ["e"], "additionalItems": {"type": "string"}}})
        }
        "items" => {
            json!([{"items": {"not": {"type": "string"}}}, {"dependencies": {"f": {"title": "g"}}}])
        }
        _ => return None,
    })
}

fn value(shape: &Shape, around: &mut Vec<String>) -> Option<Value> {
    Some(match shape {
        Shape::String => "text".into(),
        Shape::Boolean => true.into(),
        Shape::Int32 | Shape::IntOrString => 7.into(),
        Shape::Int64 => 5_000_000_000_i64.into(),
        Shape::Double => 0.5.into(),
        Shape::Bytes => "aGVsbG8=".into(),
        Shape::Time => "2026-11-21T10:00:00Z".into(),
        Shape::MicroTime => "2026-11-21T10:00:00.000001Z".into(),
        Shape::Duration => "1m0s".into(),
        Shape::Quantity => "1500m".into(),
        Shape::Object => json!({"a": [1, null, {"b": "c"}]}),
        Shape::Any => json!([1, {"x": null}]),
        Shape::Enum(values) => (*values.iter().max()?).into(),
        Shape::Struct(ty) => {
            if around.iter().filter(|name| **name == *ty.name).count() > 1 {
                return None;
            }
            around.push(ty.name.to_string());
            let made = sample(ty, around);
            around.pop();
            made
        }
        Shape::List(item) => Value::Array(vec![value(item, around)?; 2]),
        Shape::Map(item) => json!({"a": value(item, around)?, "b": value(item, around)?}),
    })
}

fn object(resource: &Resource) -> Value {
    let mut made = sample(resource.schema(), &mut Vec::new());
    made["apiVersion"] = resource.api_version.into();
    made["kind"] = resource.kind.into();
    made
}

fn context() -> Context {
    Context {
        now: time::parse("2026-11-21T10:00:00Z").expect("time"),
        uid: "00000000-0000-0000-0000-000000000000".into(),
        suffix: "abcde".into(),
        user: User::default(),
        manager: "test".into(),
    }
}

fn read(resource: &Resource, body: &[u8], format: Format) -> Value {
    match decode(
        body,
        Expected::from(resource),
        format,
        FieldValidation::Strict,
    ) {
        Ok(decoded) => decoded.value,
        Err(status) => panic!("{}: {}", resource.kind, status.message),
    }
}

#[test]
fn all_formats_say_the_same() {
    for resource in resource::all() {
        let made = object(resource);
        let json = read(resource, made.to_string().as_bytes(), Format::Json);
        assert_eq!(json, made, "{}", resource.kind);
        let yaml = encode(&made, Format::Yaml).expect("yaml");
        assert_eq!(
            read(resource, &yaml, Format::Yaml),
            made,
            "{}",
            resource.kind
        );
        let body = encode(&made, Format::Protobuf).expect("protobuf");
        assert_eq!(
            read(resource, &body, Format::Protobuf),
            made,
            "{}",
            resource.kind
        );
    }
}

#[test]
fn lists_have_a_form_in_protobuf() {
    for resource in resource::all().iter().filter(|r| r.has_verb("list")) {
        let item = object(resource);
        let list = json!({
            "apiVersion": resource.api_version(),
            "kind": resource.list_kind(),
            "metadata": {"resourceVersion": "7"},
            "items": [item, item],
        });
        let body = encode(&list, Format::Protobuf).expect(resource.kind);
        // The envelope and the items are read as what they are: each item is the object's own message.
        let message = |object: &Value| {
            let body = encode(object, Format::Protobuf).expect(resource.kind);
            wire::part(&body[4..], 2)
        };
        let version = wire::text(2, "7");
        let items = wire::bytes(2, &message(&item)).repeat(2);
        let parts = [wire::bytes(1, &version), items].concat();
        let whole = wire::envelope(resource.api_version(), &resource.list_kind(), &[parts]);
        assert_eq!(body, whole, "{}", resource.kind);
    }
}

#[test]
fn events_stand_behind_their_length() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}});
    let framed = encode_event("ADDED", &pod).expect("event");
    let object = encode(&pod, Format::Protobuf).expect("pod");
    let raw = wire::message(2, &[wire::bytes(1, &object)]);
    let event = [wire::text(1, "ADDED"), raw].concat();
    let length = u32::try_from(event.len()).expect("short");
    assert_eq!(framed, [&length.to_be_bytes()[..], &event].concat());
}

/// Takes away, nulls, empties and swaps each part of an object in turn.
fn damaged(value: &Value) -> Vec<Value> {
    let mut out = vec![
        Value::Null,
        json!({}),
        json!([]),
        json!(""),
        json!(-1),
        json!([null, {}]),
    ];
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let with = |inner: Option<Value>| {
                    let mut copy = map.clone();
                    match inner {
                        Some(inner) => copy.insert(key.clone(), inner),
                        None => copy.remove(key),
                    };
                    Value::Object(copy)
                };
                out.push(with(None));
                out.extend(damaged(inner).into_iter().map(|inner| with(Some(inner))));
            }
        }
        Value::Array(items) => {
            let first = items.first().map(damaged).unwrap_or_default();
            out.extend(first.into_iter().map(|item| Value::Array(vec![item])));
        }
        _ => {}
    }
    out
}

/// A small pod template, which most hooks look into.
fn workloads() -> Vec<(&'static Resource, Value)> {
    let pod = json!({"metadata": {"labels": {"a": "b"}}, "spec": {
        "containers": [{"name": "c", "image": "i", "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": [{"containerPort": 1}], "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
            "volumeMounts": [{"name": "v", "mountPath": "/v"}], "livenessProbe": {"httpGet": {"port": 1}}}],
        "volumes": [{"name": "v", "configMap": {"name": "m"}}]}});
    let mut once = pod.clone();
    once["spec"]["restartPolicy"] = "Never".into();
    let selector = json!({"matchLabels": {"a": "b"}});
    let metadata = json!({"name": "x", "namespace": "demo"});
    let table = [
        ("v1", "Pod", json!({"spec": pod["spec"]})),
        (
            "v1",
            "Service",
            json!({"spec": {"ports": [{"port": 1, "targetPort": "x"}], "selector": {"a": "b"}}}),
        ),
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": 1, "selector": selector, "template": pod}}),
        ),
        (
            "apps/v1",
            "StatefulSet",
            json!({"spec": {"selector": selector, "template": pod}}),
        ),
        ("batch/v1", "Job", json!({"spec": {"template": once}})),
        (
            "batch/v1",
            "CronJob",
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": once}}}}),
        ),
    ];
    table
        .into_iter()
        .map(|(api_version, kind, mut body)| {
            body["metadata"] = metadata.clone();
            (resource::by_kind(api_version, kind).expect(kind), body)
        })
        .collect()
}

#[test]
fn no_damaged_object_makes_the_write_path_panic() {
    let context = context();
    for (resource, whole) in workloads() {
        let expected = Expected::from(resource);
        let stored = write::create(resource, whole.clone(), &context).expect(resource.kind);
        for body in damaged(&whole) {
            let text = body.to_string();
            let decoded = decode(
                text.as_bytes(),
                expected,
                Format::Json,
                FieldValidation::Warn,
            );
            let Ok(decoded) = decoded else { continue };
            let _ = write::create(resource, decoded.value.clone(), &context);
            let _ = write::update(resource, None, &stored, decoded.value.clone(), &context);
            let _ = write::update(resource, None, &decoded.value, stored.clone(), &context);
            let _ = write::delete(
                resource,
                &decoded.value,
                1,
                &DeleteOptions::default(),
                &context,
            );
            let _ = patch::strategic(resource.schema(), stored.clone(), decoded.value);
        }
        for body in damaged(&whole) {
            let _ = patch::strategic(resource.schema(), stored.clone(), body);
        }
    }
}

#[test]
fn no_full_object_makes_the_write_path_panic() {
    let context = context();
    for resource in resource::all() {
        let full = object(resource);
        let mut bare = json!({"metadata": {"name": "x"}});
        write::place(resource, Some("demo"), None, &mut bare).expect("placed");
        for body in [full.clone(), bare.clone()] {
            let mut new = body.clone();
            new["metadata"]["resourceVersion"] = Value::Null;
            let _ = write::create(resource, new, &context);
            for old in [&full, &bare] {
                let _ = write::update(resource, None, old, body.clone(), &context);
                for sub in resource.subresources {
                    let _ = write::update(resource, Some(sub.name), old, body.clone(), &context);
                }
            }
            let _ = write::scale(&body);
            let _ = write::delete(resource, &body, 1, &DeleteOptions::default(), &context);
        }
    }
}
