//! The strategic merge patch that makes one object of another, as kubectl would send it.

use api::schema::{Field, PatchStrategy, Shape, Type};
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// A patch for an object of this type. Neither object may hold nulls.
pub(crate) fn strategic(ty: &Type, old: &Value, new: &Value) -> Value {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            Value::Object(objects(&Shape::Any, Some(ty), old, new))
        }
        _ => new.clone(),
    }
}

fn objects(entries: &Shape, ty: Option<&Type>, old: &Object, new: &Object) -> Object {
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        let Some(before) = old.get(key) else {
            patch.insert(key.clone(), value.clone());
            continue;
        };
        if before == value {
            continue;
        }
        let field = ty.and_then(|ty| ty.field(key));
        let shape = field.map_or(entries, |field| &*field.shape);
        match (before, value) {
            (Value::Object(before), Value::Object(value)) => {
                let change = object(field, shape, before, value);
                patch.insert(key.clone(), Value::Object(change));
            }
            (Value::Array(before), Value::Array(value)) => {
                list(&mut patch, key, field, before, value);
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    patch
}

fn object(field: Option<&Field>, shape: &Shape, old: &Object, new: &Object) -> Object {
    if field.is_some_and(|field| field.patch == PatchStrategy::Replace) {
        return new.clone();
    }
    let (inside, entries) = match shape {
        Shape::Struct(ty) => (Some(&**ty), &Shape::Any),
        Shape::Map(item) => match &**item {
            Shape::Struct(_) => (None, &**item),
            _ => (None, &Shape::Any),
        },
        _ => (None, &Shape::Any),
    };
    let mut change = objects(entries, inside, old, new);
    if field.is_some_and(|field| field.retain_keys) {
        change.retain(|_, value| !value.is_null());
        change.insert("$retainKeys".into(), new.keys().cloned().collect());
    }
    change
}

fn list(patch: &mut Object, name: &str, field: Option<&Field>, old: &[Value], new: &[Value]) {
    let merged = field.filter(|field| field.merges());
    let Some(field) = merged else {
        patch.insert(name.to_owned(), new.into());
        return;
    };
    let Some(key) = field.merge_key.as_deref() else {
        scalars(patch, name, old, new);
        return;
    };
    if !told_apart(old, key) || !told_apart(new, key) {
        let whole = std::iter::once(json!({"$patch": "replace"}));
        let items = whole.chain(new.iter().cloned());
        patch.insert(name.to_owned(), items.collect());
        return;
    }
    let inside = match &*field.shape {
        Shape::List(item) => match &**item {
            Shape::Struct(ty) => Some(&**ty),
            _ => None,
        },
        _ => None,
    };
    let find = |list: &[Value], item: &Value| list.iter().find(|i| i[key] == item[key]).cloned();
    let mut changes: Vec<Value> = old
        .iter()
        .filter(|item| find(new, item).is_none())
        .map(|item| json!({"$patch": "delete", key: item[key]}))
        .collect();
    for item in new {
        match (find(old, item), item) {
            (Some(before), item) if before == *item => {}
            (Some(Value::Object(before)), Value::Object(item)) => {
                let mut change = objects(&Shape::Any, inside, &before, item);
                change.insert(key.to_owned(), item[key].clone());
                changes.push(Value::Object(change));
            }
            (_, item) => changes.push(item.clone()),
        }
    }
    let order: Value = new.iter().map(|item| json!({key: item[key]})).collect();
    patch.insert(format!("$setElementOrder/{name}"), order);
    patch.insert(name.to_owned(), changes.into());
}

fn scalars(patch: &mut Object, name: &str, old: &[Value], new: &[Value]) {
    let gone: Vec<Value> = old.iter().filter(|v| !new.contains(v)).cloned().collect();
    let come: Vec<Value> = new.iter().filter(|v| !old.contains(v)).cloned().collect();
    patch.insert(format!("$setElementOrder/{name}"), new.into());
    if !gone.is_empty() {
        patch.insert(format!("$deleteFromPrimitiveList/{name}"), gone.into());
    }
    if !come.is_empty() {
        patch.insert(name.to_owned(), come.into());
    }
}

/// Whether each item has the key, and each its own.
fn told_apart(items: &[Value], key: &str) -> bool {
    let mut seen = Vec::new();
    items.iter().all(|item| {
        let told = item.get(key);
        let new = told.is_some() && !seen.contains(&told);
        seen.push(told);
        new
    })
}
