//! The defaults that the schema gives.

use serde_json::{Map, Value};

use crate::quantity::Quantity;
use crate::schema::{Default, Shape, Type};

/// Fills absent fields of an object, and of all objects inside it.
pub(super) fn fill(ty: &Type, object: &mut Value) {
    let Value::Object(map) = object else { return };
    for field in ty.fields.iter() {
        match map.get_mut(&*field.name) {
            Some(value) if !is_zero_text(value) => {
                if is_resource_list(ty, &field.shape) {
                    round_up(value);
                }
                inside(&field.shape, value);
            }
            _ => {
                if let Some(value) = field.default.and_then(|default| value(ty, default)) {
                    map.insert(field.name.to_string(), value);
                }
            }
        }
    }
}

/// Whether the field is a `ResourceList`. What devices offer is counted otherwise.
fn is_resource_list(ty: &Type, shape: &Shape) -> bool {
    let quantities = matches!(shape, Shape::Map(item) if matches!(**item, Shape::Quantity));
    quantities && !ty.name.starts_with("resource.")
}

/// No resource is counted in less than thousandths (`SetDefaults_ResourceList`).
fn round_up(list: &mut Value) {
    for value in list.as_object_mut().into_iter().flat_map(Map::values_mut) {
        let held = value.as_str().and_then(|text| Quantity::parse(text).ok());
        if let Some(rounded) = held.and_then(|held| held.rounded_up()) {
            *value = rounded.to_string().into();
        }
    }
}

fn is_zero_text(value: &Value) -> bool {
    value.as_str().is_some_and(str::is_empty)
}

fn inside(shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Struct(ty), value) => fill(ty, value),
        (Shape::List(item), Value::Array(items)) => {
            for value in items {
                inside(item, value);
            }
        }
        (Shape::Map(item), Value::Object(map)) => {
            for value in map.values_mut() {
                inside(item, value);
            }
        }
        _ => {}
    }
}

/// Go's zero values are not written, unless the field is a pointer: among those with a zero
/// default that are `GRPCAction.service` and the flags.
fn value(ty: &Type, default: Default) -> Option<Value> {
    match default {
        Default::String("") if &*ty.name != "core.v1.GRPCAction" => None,
        Default::Integer(0) => None,
        Default::String(text) => Some(text.into()),
        Default::Integer(number) => Some(number.into()),
        Default::Boolean(flag) => Some(flag.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema;

    #[test]
    fn fills_what_is_absent_at_any_depth() {
        let ty = schema::lookup("core.v1.Pod").expect("pod");
        let mut pod = json!({"spec": {
            "imagePullSecrets": [{}],
            "containers": [{"ports": [{"containerPort": 1}, {"containerPort": 2, "protocol": "UDP"}, {"containerPort": 3, "protocol": ""}],
                "livenessProbe": {"grpc": {"port": 1}}}]}});
        fill(ty, &mut pod);
        assert_eq!(
            pod,
            json!({"spec": {
                "imagePullSecrets": [{}],
                "containers": [{"ports": [{"containerPort": 1, "protocol": "TCP"}, {"containerPort": 2, "protocol": "UDP"}, {"containerPort": 3, "protocol": "TCP"}],
                    "livenessProbe": {"grpc": {"port": 1, "service": ""}}}]}})
        );
    }
}
