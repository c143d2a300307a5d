//! Bodies that nobody should send: they are refused or taken, at a cost that their length bounds, and nothing
//! panics.

use std::time::Duration;

use api::codec::{self, Expected, FieldValidation, Format};
use api::write::{self, DeleteOptions};
use api::{Object, Resource, Status, patch, resource};
use serde_json::{Value, json};

use crate::codecs::resource_of;
use crate::harness::{Random, now, prove};
use crate::mutate::{bend, damage};
use crate::objects::{self, Taste};
use crate::{kinds, memory};

/// What any body may cost, however short it is: all that YAML's aliases may add to it.
const FREE_BYTES: usize = 48 << 20;
/// What each byte of a body may cost. Two bytes of protobuf are a container, which has a dozen fields once its
/// defaults are there, and two faults.
const BYTES_PER_BYTE: usize = 800;
/// How long any of them may take. The longest have 100,000 bytes.
const LONGEST: Duration = Duration::from_secs(2);

/// Holds `work` to what an input of this length may cost.
pub(crate) fn bounded(length: usize, work: impl Fn()) -> Result<(), String> {
    let mut least = Duration::MAX;
    // A machine that does other things meanwhile is no fault of the body's.
    for _ in 0..3 {
        let begin = now();
        let ((), bytes) = memory::most(&work);
        least = least.min(begin.elapsed());
        if bytes > FREE_BYTES + length * BYTES_PER_BYTE {
            return Err(format!("{length} bytes made {bytes} of memory"));
        }
        if least < LONGEST {
            return Ok(());
        }
    }
    Err(format!("{length} bytes took {least:?}"))
}

/// Bodies as real clients sent them, of many kinds, and some that were drawn.
fn bodies() -> Vec<Value> {
    let mut out = kinds::all();
    let random = &mut Random::new(0);
    for resource in resource::all() {
        out.push(objects::draw(resource, Taste::SPARSE, random));
    }
    out
}

/// Where the corpus comes from for all cases of a test.
struct Corpus(Vec<Value>);

impl Corpus {
    fn new() -> Self {
        Self(bodies())
    }

    fn pick(&self, random: &mut Random) -> Value {
        self.0[random.below(self.0.len())].clone()
    }

    /// One that is bent a few times.
    fn bent(&self, random: &mut Random) -> Value {
        let mut value = self.pick(random);
        for _ in 0..random.below(6) {
            bend(&mut value, &self.0, random);
        }
        value
    }

    /// A body of this format: bent, damaged or both.
    fn body(&self, format: Format, random: &mut Random) -> Vec<u8> {
        let bytes = codec::encode(&self.bent(random), format).unwrap_or_default();
        damage(bytes, random)
    }
}

/// All that is done with a body before it may be stored.
fn receive(body: &[u8], format: Format) {
    // What it says it is, else a pod: most rules are about pods.
    let said = serde_json::from_slice::<Value>(body).ok();
    let resource = said.as_ref().and_then(resource_of).unwrap_or_else(pods);
    let Ok(decoded) = codec::decode(
        body,
        Expected::from(resource),
        format,
        FieldValidation::Warn,
    ) else {
        return;
    };
    let _ = codec::encode(&decoded.value, Format::Protobuf);
    let mut object = decoded.value;
    let _ = write::place(resource, Some("default"), None, &mut object);
    let by = kinds::by("fuzz");
    if let Ok(made) = write::create(resource, object.clone(), &by) {
        let stored = write::encode(made.clone()).ok();
        let read = stored.map(|bytes| Object::from_stored(&bytes, 1));
        assert!(
            read.is_none_or(|object| object.is_ok()),
            "stored, and not read again"
        );
        let _ = write::update(resource, None, &made, object, &by);
        let _ = write::delete(resource, &made, 1, &DeleteOptions::default(), &by);
    }
}

fn pods() -> &'static Resource {
    Resource::of::<k8s_openapi::api::core::v1::Pod>()
}

fn fuzz_bodies(name: &str, format: Format) {
    let corpus = Corpus::new();
    prove(
        name,
        |random| corpus.body(format, random),
        |body| bounded(body.len(), || receive(body, format)),
    );
}

#[test]
fn json_bodies() {
    fuzz_bodies("json_bodies", Format::Json);
}

#[test]
fn yaml_bodies() {
    fuzz_bodies("yaml_bodies", Format::Yaml);
}

#[test]
fn protobuf_bodies() {
    let corpus = Corpus::new();
    let make = |random: &mut Random| corpus.body(Format::Protobuf, random);
    prove("protobuf_bodies", make, |body| {
        bounded(body.len(), || {
            // Its kind stands in the body; any other must do no harm either.
            for resource in resource::all() {
                let expected = Expected::from(resource);
                let _ = codec::decode(body, expected, Format::Protobuf, FieldValidation::Warn);
            }
            receive(body, Format::Protobuf);
        })
    });
}

/// A stored object, and a patch as it was sent: JSON, bent from a drawn one.
fn patched(corpus: &Corpus, random: &mut Random) -> (Value, Vec<u8>) {
    let all = kinds::all();
    let body = all[random.below(all.len())].clone();
    let live = kinds::created(body).unwrap_or_default();
    let mut patch = if random.percent(60) {
        live.clone()
    } else {
        corpus.pick(random)
    };
    for _ in 0..1 + random.below(6) {
        bend(&mut patch, &corpus.0, random);
    }
    let bytes = patch.to_string().into_bytes();
    let bytes = if random.percent(10) {
        damage(bytes, random)
    } else {
        bytes
    };
    (live, bytes)
}

type Patched = Result<Value, Status>;

/// Patches `live` by the bytes, and writes what comes out.
fn fuzz_patches(
    name: &str,
    make: impl Fn(&Corpus, &mut Random) -> (Value, Vec<u8>),
    apply: impl Fn(&'static Resource, Value, Value) -> Patched,
) {
    let corpus = Corpus::new();
    prove(
        name,
        |random| make(&corpus, random),
        |(live, bytes)| {
            let Some(resource) = resource_of(live) else {
                return Ok(());
            };
            let length = live.to_string().len() + bytes.len();
            bounded(length, || {
                let Ok(patch) = codec::decode_untyped(bytes, Format::Json) else {
                    return;
                };
                let Ok(new) = apply(resource, live.clone(), patch.value) else {
                    return;
                };
                let expected = Expected::from(resource);
                if let Ok(new) = codec::conform(new, expected, FieldValidation::Warn) {
                    let _ = write::update(resource, None, live, new.value, &kinds::by("fuzz"));
                }
            })
        },
    );
}

#[test]
fn merge_patches() {
    fuzz_patches("merge_patches", patched, |_, mut live, patch| {
        patch::merge(&mut live, patch);
        Ok(live)
    });
}

#[test]
fn strategic_merge_patches() {
    fuzz_patches(
        "strategic_merge_patches",
        patched,
        |resource, live, patch| patch::strategic(resource.schema(), live, patch),
    );
}

#[test]
fn json_patches() {
    let make = |corpus: &Corpus, random: &mut Random| {
        let (live, _) = patched(corpus, random);
        let operations = operations(&live, corpus, random);
        (live, operations.to_string().into_bytes())
    };
    fuzz_patches("json_patches", make, |_, live, patch| {
        patch::json(live, &patch)
    });
}

/// Operations on places that are there, or nearly.
fn operations(live: &Value, corpus: &Corpus, random: &mut Random) -> Value {
    let mut list: Value = (0..random.below(20))
        .map(|_| {
            let op = random.pick(&["add", "remove", "replace", "move", "copy", "test"]);
            let mut value = corpus.pick(random);
            bend(&mut value, &corpus.0, random);
            json!({"op": op, "path": place(live, random), "from": place(live, random), "value": value})
        })
        .collect();
    if random.percent(30) {
        bend(&mut list, &corpus.0, random);
    }
    list
}

/// A JSON pointer.
fn place(value: &Value, random: &mut Random) -> String {
    if random.percent(20) {
        return random
            .pick(&["", "/-", "/new", "/~", "/~2", "//", "/0/-1"])
            .to_owned();
    }
    let (key, inner) = match value {
        Value::Object(map) => match map.iter().nth(random.below(map.len())) {
            Some((key, inner)) => (key.replace('~', "~0").replace('/', "~1"), inner),
            None => return String::new(),
        },
        Value::Array(items) if !items.is_empty() => {
            let at = random.below(items.len());
            (at.to_string(), &items[at])
        }
        _ => return String::new(),
    };
    format!("/{key}{}", place(inner, random))
}

#[test]
fn applied_yaml() {
    let corpus = Corpus::new();
    let make = |random: &mut Random| {
        let (live, patch) = patched(&corpus, random);
        let patch: Value = serde_json::from_slice(&patch).unwrap_or_default();
        let yaml = codec::encode(&patch, Format::Yaml).unwrap_or_default();
        (
            live,
            if random.percent(30) {
                damage(yaml, random)
            } else {
                yaml
            },
        )
    };
    prove("applied_yaml", make, |(live, body)| {
        let Some(resource) = resource_of(live) else {
            return Ok(());
        };
        bounded(live.to_string().len() + body.len(), || {
            let Ok(decoded) = codec::decode_untyped(body, Format::Yaml) else {
                return;
            };
            let mut wanted = decoded.value;
            let _ = write::place(resource, Some("default"), None, &mut wanted);
            for old in [Some(live), None] {
                for force in [false, true] {
                    let by = kinds::by("fuzz");
                    let made = write::apply(resource, None, old, wanted.clone(), force, &by);
                    // Applied again, it finds what it wrote.
                    if let Ok(made) = made {
                        let _ =
                            write::apply(resource, None, Some(&made), wanted.clone(), force, &by);
                    }
                }
            }
        })
    });
}

/// What a body may do to memory by its form alone, at the size that is worth an attack.
#[test]
fn bombs() {
    let n = 100_000;
    let laughs = (1..10).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, level| {
        let below = level - 1;
        let refs = vec![format!("*a{below}"); 9].join(",");
        format!("{text}a{level}: &a{level} [{refs}]\n")
    });
    let json = [
        "[".repeat(n),
        "{\"a\":".repeat(n),
        format!("{{\"spec\":{}", "[{\"a\":".repeat(n)),
        format!(
            "{{\"metadata\":{{\"labels\":{{{}\"z\":\"\"}}}}}}",
            (0..n / 10)
                .map(|i| format!("\"{i}\":\"\","))
                .collect::<String>()
        ),
        format!("{{{}\"z\":1}}", "\"a\":1,".repeat(n / 6)),
        format!(
            "{{\"spec\":{{\"containers\":[{}{{}}]}}}}",
            "{},".repeat(n / 3)
        ),
        format!("{{\"data\":{}1}}", "-".repeat(n)),
        format!("[{}1]", "1,".repeat(n / 2)),
        "1".repeat(n),
    ];
    let yaml = [
        laughs.clone(),
        format!("{laughs}spec: *a9\n"),
        format!("{laughs}metadata: {{labels: *a9}}\n"),
        "- ".repeat(n / 10),
        "? ".repeat(n / 10),
        "{".repeat(n),
        "{a: [".repeat(n / 5),
        "? {".repeat(n / 3),
        "&a ".repeat(n / 3),
        "a: &a\n  <<: *a\n".to_owned(),
        format!(
            "a: &a [{}]\nb: [{}]\n",
            "x,".repeat(300),
            "*a,".repeat(n / 6)
        ),
        format!(
            "a: &a {}\nb: [{}]\n",
            "x".repeat(n / 2),
            "*a,".repeat(n / 6)
        ),
        "!!a ".repeat(n / 4),
        "a:\n ".repeat(n / 4),
    ];
    let message = |field: u8, bytes: &[u8]| {
        let mut out = vec![field << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        [out, bytes.to_vec()].concat()
    };
    let nested = (0..300).fold(Vec::new(), |inner, _| message(2, &inner));
    let envelope = |object: &[u8]| [b"k8s\0".as_slice(), &message(2, object)].concat();
    let protobuf = [
        envelope(&nested),
        envelope(&message(2, &[0x12, 0].repeat(n / 2))),
        envelope(&[0x12, 0].repeat(n / 2)),
        envelope(&message(1, &[0x5a, 0].repeat(n / 2))),
        envelope(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        [b"k8s\0".as_slice(), &[0x0a, 0].repeat(n / 2)].concat(),
    ];
    let check = |body: &[u8], format: Format| {
        let result = bounded(body.len(), || {
            let _ = codec::decode_untyped(body, format);
            receive(body, format);
        });
        if let Err(why) = result {
            let begin = body[..body.len().min(60)].escape_ascii();
            panic!("{format:?}: {begin}…: {why}");
        }
    };
    json.iter()
        .for_each(|body| check(body.as_bytes(), Format::Json));
    yaml.iter()
        .for_each(|body| check(body.as_bytes(), Format::Yaml));
    protobuf
        .iter()
        .for_each(|body| check(body, Format::Protobuf));
}
