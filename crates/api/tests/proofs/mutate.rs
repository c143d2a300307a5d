//! Makes hostile bodies of recorded ones: trees that are bent, and bytes that are damaged.

use serde_json::{Map, Value, json};

use crate::harness::Random;

/// Words that formats and patches give a meaning.
const WORDS: &[&str] = &[
    "$patch",
    "replace",
    "delete",
    "merge",
    "$retainKeys",
    "$setElementOrder/containers",
    "$setElementOrder/finalizers",
    "$deleteFromPrimitiveList/finalizers",
    "metadata",
    "name",
    "namespace",
    "labels",
    "finalizers",
    "managedFields",
    "fieldsV1",
    "f:metadata",
    "k:{\"name\":\"a\"}",
    "v:1",
    "i:0",
    ".",
    "ownerReferences",
    "containers",
    "spec",
    "status",
    "apiVersion",
    "kind",
    "v1",
    "Pod",
    "op",
    "path",
    "from",
    "value",
    "add",
    "copy",
    "move",
    "test",
    "/-",
    "/spec/containers/0",
    "/metadata/labels",
    "~0~1",
    "-1",
    "18446744073709551616",
    "9223372036854775808",
    "1e400",
    "99999999999999999999Gi",
    "0.0000000001n",
    "2026-13-45T99:99:99Z",
    "292277026596-12-04T15:30:08Z",
    "-2562047h47m16s",
    "9223372036854775808ns",
    "====",
    "",
    "\u{0}",
    "é",
    "\u{202e}",
    "🦀",
    "ﬀ",
];

fn scalar(random: &mut Random) -> Value {
    match random.below(9) {
        0 => Value::Null,
        1 => json!({}),
        2 => json!([]),
        3 => json!(i64::MIN),
        4 => json!(u64::MAX),
        5 => json!(1e300),
        6 => json!(random.percent(50)),
        7 => "x".repeat(random.below(3_000)).into(),
        _ => random.pick(WORDS).into(),
    }
}

/// Levels of lists or objects.
fn deep(random: &mut Random) -> Value {
    let list = random.percent(50);
    let mut value = scalar(random);
    for _ in 0..random.below(200) {
        value = if list {
            json!([value])
        } else {
            json!({random.pick(WORDS): value})
        };
    }
    value
}

/// Bends a tree at one place; `others` are trees of which parts are taken.
pub(crate) fn bend(value: &mut Value, others: &[Value], random: &mut Random) {
    let stop = random.percent(15);
    match value {
        Value::Object(map) if !stop && !map.is_empty() => {
            let key = map
                .keys()
                .nth(random.below(map.len()))
                .cloned()
                .unwrap_or_default();
            bend_entry(map, &key, others, random);
        }
        Value::Array(items) if !stop && !items.is_empty() => {
            let at = random.below(items.len());
            match random.below(8) {
                0 => {
                    items.remove(at);
                }
                1 => items.push(items[at].clone()),
                2 => items.swap(0, at),
                3 => items.extend(vec![items[at].clone(); random.below(50)]),
                _ => bend(&mut items[at], others, random),
            }
        }
        value => *value = part(others, random),
    }
}

fn bend_entry(map: &mut Map<String, Value>, key: &str, others: &[Value], random: &mut Random) {
    match random.below(8) {
        0 => {
            map.remove(key);
        }
        1 => {
            map.insert(random.pick(WORDS).to_owned(), part(others, random));
        }
        2 => {
            let value = map.remove(key).unwrap_or_default();
            map.insert(random.pick(WORDS).to_owned(), value);
        }
        _ => {
            if let Some(value) = map.get_mut(key) {
                bend(value, others, random);
            }
        }
    }
}

/// A value to put somewhere: a part of another tree, a scalar, something deep.
fn part(others: &[Value], random: &mut Random) -> Value {
    match random.below(10) {
        0 => deep(random),
        1..4 if !others.is_empty() => {
            let mut place = &others[random.below(others.len())];
            while random.percent(70) {
                let next = match place {
                    Value::Object(map) => map.values().nth(random.below(map.len())),
                    Value::Array(items) => items.get(random.below(items.len())),
                    _ => None,
                };
                match next {
                    Some(next) => place = next,
                    None => break,
                }
            }
            place.clone()
        }
        _ => scalar(random),
    }
}

/// Pieces that readers trip over: brackets, YAML's anchors and tags, lengths of protobuf.
const PIECES: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b":",
    b": ",
    b"\n",
    b"\n- ",
    b"\\u0000",
    b"\\ud800",
    b"1e999",
    b"-",
    b"---\n",
    b"...\n",
    b"&a ",
    b"*a",
    b"&a [*a,*a]",
    b"<<: *a",
    b"!!binary ",
    b"!!map ",
    b"? ",
    b"| \n",
    b">-\n",
    b"%YAML 1.1\n",
    b"\t",
    b"0o17",
    b"0x1f",
    b".inf",
    b".nan",
    b"\xff",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"\x00",
    b"k8s\0",
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x0a\xff\xff\xff\x7f",
    b"\x12\x80\x80\x80\x80\x08",
    b"\x0b",
    b"\x0c",
    b"\x0f",
    b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
];

/// Damages bytes: a few places, or none.
pub(crate) fn damage(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..random.below(5) {
        let at = random.below(bytes.len() + 1);
        let end = at + random.below((bytes.len() - at).min(40) + 1);
        let piece = PIECES[random.below(PIECES.len())];
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copy = bytes[at..end].to_vec();
                let times = 1 + random.below(40);
                drop(bytes.splice(at..at, copy.repeat(times)));
            }
            3 => drop(bytes.splice(at..end, piece.iter().copied())),
            4 => drop(bytes.splice(at..at, piece.repeat(1 + random.below(400)))),
            5 => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|b| *b ^= 1 << random.below(8)),
            _ => bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|b| *b = random.bits() as u8),
        }
    }
    bytes
}
