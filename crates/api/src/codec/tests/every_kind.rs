//! Every kind, with every field that its schema has: all formats agree, and nothing panics on any
//! of it, whole or damaged.

use serde_json::{Map, Value, json};

use super::super::{Expected, FieldValidation, Format, decode, encode};
use super::wire;
use crate::resource::{self, Resource};
use crate::schema::{Shape, Type};
use crate::write::{self, Context, DeleteOptions, User};
use crate::{patch, time};

/// An object with each field filled. Types that hold themselves are filled twice.
fn sample(ty: &Type, around: &mut Vec<String>) -> Value {
    let mut map = Map::new();
    for field in ty.fields.iter() {
        if let Some(value) = value(&field.shape, around) {
            map.insert(field.name.to_string(), value);
        }
    }
    Value::Object(map)
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

/// The schema-led inverse of the decoder.
fn message(ty: &Type, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for field in ty.fields.iter().filter(|field| !field.inherited) {
        if let Some(value) = value.get(&*field.name) {
            out.extend(fields(field.proto, &field.shape, value));
        }
    }
    for inline in ty.inlines.iter() {
        out.extend(wire::bytes(inline.proto, &message(&inline.ty, value)));
    }
    out
}

fn fields(number: u32, shape: &Shape, value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_default();
    match shape {
        Shape::String | Shape::Enum(_) => wire::text(number, text),
        Shape::Boolean => wire::number(number, i64::from(value == true)),
        Shape::Int32 | Shape::Int64 => wire::number(number, value.as_i64().unwrap_or_default()),
        Shape::Double => {
            let bits = value.as_f64().unwrap_or_default().to_le_bytes();
            [wire::varint(u64::from(number << 3 | 1)), bits.to_vec()].concat()
        }
        Shape::Bytes => wire::text(number, "hello"),
        Shape::Time | Shape::MicroTime => {
            let at = time::parse(text).expect("time");
            let nanos = i64::from(at.subsec_nanosecond());
            let parts = [wire::number(1, at.as_second()), wire::number(2, nanos)];
            wire::message(number, &parts)
        }
        Shape::Duration => {
            let nanos = time::parse_duration(text).expect("duration");
            wire::message(number, &[wire::number(1, nanos)])
        }
        Shape::Quantity => wire::message(number, &[wire::text(1, text)]),
        Shape::IntOrString => {
            let int = value.as_i64().unwrap_or_default();
            wire::message(
                number,
                &[wire::number(1, 0), wire::number(2, int), wire::text(3, "")],
            )
        }
        Shape::Object | Shape::Any => wire::message(number, &[wire::text(1, &value.to_string())]),
        Shape::Struct(ty) => wire::bytes(number, &message(ty, value)),
        Shape::List(item) => {
            let items = value.as_array().into_iter().flatten();
            items
                .flat_map(|value| fields(number, item, value))
                .collect()
        }
        Shape::Map(item) => {
            let entries = value.as_object().into_iter().flatten();
            let entry = |(key, value): (&String, &Value)| {
                let value = match &**item {
                    // A list in a map is a message of its own.
                    Shape::List(_) => wire::bytes(2, &fields(1, item, value)),
                    item => fields(2, item, value),
                };
                wire::message(number, &[wire::text(1, key), value])
            };
            entries.flat_map(entry).collect()
        }
    }
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
    for resource in resource::all().iter().filter(|r| r.kind != "APIService") {
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
        let body = message(resource.schema(), &made);
        let body = wire::envelope(resource.api_version, resource.kind, &[body]);
        assert_eq!(
            read(resource, &body, Format::Protobuf),
            made,
            "{}",
            resource.kind
        );
    }
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
