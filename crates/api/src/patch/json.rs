//! JSON patch, RFC 6902.

use serde_json::Value;

use crate::status::Status;

/// As many operations as Kubernetes takes.
const MAX_OPERATIONS: usize = 10_000;
/// What `copy` may add in all, in nodes: it could otherwise double an object again and again.
const MAX_COPIED: usize = 200_000;
/// As many unknown members as are reported.
const MAX_REPORTED: usize = 100;
/// Levels below which nothing is put: operations together could otherwise dig without end.
const MAX_DEPTH: usize = 128;

/// Applies a patch, an array of operations.
///
/// # Errors
///
/// 400 when the patch is none, 413 when it is too large, 422 when it cannot be applied (a test
/// fails, a path is not there).
pub fn json(mut old: Value, patch: &Value) -> Result<Value, Status> {
    let operations = patch
        .as_array()
        .ok_or_else(|| Status::bad_request("error decoding patch: a JSON patch is an array"))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(Status::request_entity_too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut copied = 0;
    for operation in operations {
        apply(&mut old, operation, &mut copied)?;
    }
    Ok(old)
}

/// The members of operations that mean nothing, as strict validation reports them.
pub fn unknown_members(patch: &Value) -> Vec<String> {
    let operations = patch.as_array().into_iter().flatten().take(MAX_OPERATIONS);
    let members = operations.enumerate().flat_map(|(at, operation)| {
        let members = operation.as_object().into_iter().flatten();
        members.map(move |(name, _)| (at, name))
    });
    members
        .filter(|(_, name)| !matches!(name.as_str(), "op" | "path" | "from" | "value"))
        .map(|(at, name)| format!("unknown field \"[{at}].{name}\""))
        .take(MAX_REPORTED)
        .collect()
}

fn apply(document: &mut Value, operation: &Value, copied: &mut usize) -> Result<(), Status> {
    let text = |key: &str| operation.get(key).and_then(Value::as_str);
    if !operation.is_object() {
        return Err(Status::bad_request(
            "error decoding patch: an operation is an object",
        ));
    }
    let name = text("op").ok_or_else(Status::unprocessable)?;
    let path = text("path").ok_or_else(Status::unprocessable)?;
    let path = pointer(path).ok_or_else(Status::unprocessable)?;
    let value = || {
        let value = operation.get("value").cloned();
        value.ok_or_else(Status::unprocessable)
    };
    let from = || {
        text("from")
            .and_then(pointer)
            .ok_or_else(Status::unprocessable)
    };
    let done = match name {
        "add" => add(document, &path, value()?),
        "remove" => remove(document, &path).map(drop),
        "replace" => {
            let value = value()?;
            let fits = path.len() <= MAX_DEPTH && fits(&value, MAX_DEPTH - path.len());
            find(document, &path)
                .filter(|_| fits)
                .map(|place| *place = value)
        }
        "move" => {
            let from = from()?;
            // A place cannot move into itself.
            if path.starts_with(&from) && path != from {
                return Err(Status::unprocessable());
            }
            remove(document, &from).and_then(|value| add(document, &path, value))
        }
        "copy" => {
            let value = find(document, &from()?).cloned();
            *copied += value.as_ref().map_or(0, nodes);
            if *copied > MAX_COPIED {
                return Err(Status::request_entity_too_large(
                    "the copy operations of the JSON patch add too much",
                ));
            }
            value.and_then(|value| add(document, &path, value))
        }
        "test" => {
            let wanted = operation.get("value").unwrap_or(&Value::Null);
            match find(document, &path) {
                Some(found) => (found == wanted).then_some(()),
                None => wanted.is_null().then_some(()),
            }
        }
        _ => return Err(Status::unprocessable()),
    };
    done.ok_or_else(Status::unprocessable)
}

/// How much memory a value takes, in units of about a node; long texts and keys count for more.
fn nodes(value: &Value) -> usize {
    let text = |text: &str| 1 + text.len() / 16;
    match value {
        Value::Array(items) => 1 + items.iter().map(nodes).sum::<usize>(),
        Value::Object(map) => {
            1 + map
                .iter()
                .map(|(key, value)| text(key) + nodes(value))
                .sum::<usize>()
        }
        Value::String(value) => text(value),
        _ => 1,
    }
}

/// Whether a value has at most so many levels.
fn fits(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else {
        return !value.is_array() && !value.is_object();
    };
    match value {
        Value::Array(items) => items.iter().all(|item| fits(item, below)),
        Value::Object(map) => map.values().all(|item| fits(item, below)),
        _ => true,
    }
}

/// The parts of a JSON pointer, unescaped.
fn pointer(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let parts = text.strip_prefix('/')?.split('/');
    Some(
        parts
            .map(|part| part.replace("~1", "/").replace("~0", "~"))
            .collect(),
    )
}

/// A place in a list. Negative ones count from its end, as in the library that Kubernetes uses.
fn index(part: &str, length: usize) -> Option<usize> {
    let digits = part.strip_prefix('-').unwrap_or(part);
    let plain = digits == "0" || !digits.starts_with(['0', '+', '-']);
    let index: usize = digits.parse().ok().filter(|_| plain)?;
    if part.len() > digits.len() {
        return length.checked_sub(index).filter(|at| *at < length);
    }
    (index < length).then_some(index)
}

fn find<'a>(document: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    let mut place = document;
    for part in path {
        place = match place {
            Value::Object(map) => map.get_mut(part)?,
            Value::Array(items) => {
                let at = index(part, items.len())?;
                items.get_mut(at)?
            }
            _ => return None,
        };
    }
    Some(place)
}

fn add(document: &mut Value, path: &[String], value: Value) -> Option<()> {
    if !fits(&value, MAX_DEPTH.checked_sub(path.len())?) {
        return None;
    }
    let Some((last, parents)) = path.split_last() else {
        *document = value;
        return Some(());
    };
    match find(document, parents)? {
        Value::Object(map) => {
            map.insert(last.clone(), value);
        }
        Value::Array(items) => {
            let at = match last.as_str() {
                "-" => items.len(),
                last => index(last, items.len() + 1)?,
            };
            items.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(document: &mut Value, path: &[String]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    match find(document, parents)? {
        Value::Object(map) => map.remove(last),
        Value::Array(items) => {
            let at = index(last, items.len())?;
            Some(items.remove(at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json as tree;

    use super::*;

    #[test]
    fn operations() {
        let table = [
            (
                tree!([{"op": "add", "path": "/a/-", "value": 3}]),
                tree!({"a": [1, 2, 3], "m~/": 1}),
            ),
            (
                tree!([{"op": "add", "path": "/a/0", "value": 0}]),
                tree!({"a": [0, 1, 2], "m~/": 1}),
            ),
            (
                tree!([{"op": "remove", "path": "/a/0"}]),
                tree!({"a": [2], "m~/": 1}),
            ),
            (
                tree!([{"op": "replace", "path": "/m~0~1", "value": {}}]),
                tree!({"a": [1, 2], "m~/": {}}),
            ),
            (
                tree!([{"op": "move", "from": "/a", "path": "/b"}]),
                tree!({"b": [1, 2], "m~/": 1}),
            ),
            (
                tree!([{"op": "copy", "from": "/a/1", "path": "/c"}]),
                tree!({"a": [1, 2], "c": 2, "m~/": 1}),
            ),
            (
                tree!([{"op": "test", "path": "/a", "value": [1, 2]}]),
                tree!({"a": [1, 2], "m~/": 1}),
            ),
            (
                tree!([{"op": "remove", "path": "/a/-2"}, {"op": "add", "path": "/a/-1", "value": 3}]),
                tree!({"a": [2, 3], "m~/": 1}),
            ),
            (
                tree!([{"op": "replace", "path": "", "value": {"x": 1}}]),
                tree!({"x": 1}),
            ),
        ];
        for (patch, expected) in table {
            let old = tree!({"a": [1, 2], "m~/": 1});
            assert_eq!(json(old, &patch).expect("applied"), expected, "{patch}");
        }
    }

    #[test]
    fn what_cannot_be_applied() {
        let table = [
            (tree!([{"op": "test", "path": "/a", "value": 9}]), 422),
            (tree!([{"op": "remove", "path": "/nope"}]), 422),
            (tree!([{"op": "remove", "path": ""}]), 422),
            (tree!([{"op": "add", "path": "/a/9", "value": 1}]), 422),
            (tree!([{"op": "add", "path": "/a/01", "value": 1}]), 422),
            (tree!([{"op": "add", "path": "a", "value": 1}]), 422),
            (tree!([{"op": "add", "path": "/x"}]), 422),
            (tree!([{"op": "move", "from": "/a", "path": "/a/b"}]), 422),
            (tree!([{"op": "replace", "path": "/nope", "value": 1}]), 422),
            (tree!([{"op": "copy", "path": "/x"}]), 422),
            (tree!([{"op": "dance", "path": "/a"}]), 422),
            (tree!([{"path": "/a"}]), 422),
            (tree!([{"op": "remove", "path": "/a/-3"}]), 422),
            (tree!([{"op": "remove", "path": "/a/-0"}]), 422),
            (tree!([1]), 400),
            (tree!({}), 400),
        ];
        for (patch, code) in table {
            let status = json(tree!({"a": [1, 2]}), &patch).expect_err("refused");
            assert_eq!(status.code, code, "{patch}");
        }
    }

    #[test]
    fn nothing_grows_without_bound() {
        let deeper = tree!({"op": "copy", "from": "", "path": "/a"});
        let patch = Value::Array(vec![deeper; 200]);
        assert_eq!(
            json(tree!({"a": [1, 2]}), &patch)
                .expect_err("refused")
                .code,
            422
        );
        let double = tree!({"op": "copy", "from": "/a", "path": "/a/-"});
        let patch = Value::Array(vec![double; 60]);
        assert_eq!(
            json(tree!({"a": [1, 2]}), &patch)
                .expect_err("refused")
                .code,
            413
        );
        let long_key = tree!({"a": {"k".repeat(1 << 20): 1}});
        let copies: Vec<Value> = (0..100)
            .map(|i| tree!({"op": "copy", "from": "/a", "path": format!("/c{i}")}))
            .collect();
        let refused = json(long_key, &Value::Array(copies)).expect_err("refused");
        assert_eq!(refused.code, 413);
        let many = Value::Array(vec![
            tree!({"op": "test", "path": "/x", "value": null});
            10_001
        ]);
        assert_eq!(json(tree!({}), &many).expect_err("refused").code, 413);
    }
}
