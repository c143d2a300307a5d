//! Requests with bodies, as they are drawn.

use api::codec::{self, Format};
use api::{Resource, resource};
use bytes::Bytes;
use http::{HeaderValue, Request, Uri};
use serde_json::{Value, json};

use crate::harness::{Input, Random};
use crate::mutate::{bend, damage};
use crate::objects::{self, Taste};
use crate::special::special;

/// Types of bodies and of patches, and what is none.
const TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
    "application/cbor",
    "application/json; charset=utf-16",
    "application/x-www-form-urlencoded",
    "text/plain",
    "APPLICATION/JSON",
    "*/*",
    ";",
    "",
];
const ACCEPT: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf, application/json",
    "application/vnd.kubernetes.protobuf",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "text/html",
];
const QUERIES: &[&str] = &[
    "dryRun=All",
    "dryRun=All&dryRun=Some",
    "fieldManager=m",
    "fieldManager=m&force=true",
    "force=true",
    "fieldValidation=Strict",
    "fieldValidation=Ignore",
    "gracePeriodSeconds=-1",
    "propagationPolicy=Sideways",
    "orphanDependents=true&propagationPolicy=Orphan",
];
const PATCHES: &[&str] = &[
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
];
/// Names in paths: something is there under the first.
const NAMES: &[&str] = &[
    "a",
    "a",
    "a",
    "b",
    "x%2fy",
    "%00",
    "A",
    "..",
    "%F0%9F%A6%80",
];

/// What bodies are made of.
pub(crate) struct Corpus {
    /// Objects as clients sent them, and one of each kind that was drawn.
    objects: Vec<Value>,
    special: Vec<(&'static str, &'static str, Value)>,
}

impl Corpus {
    pub(crate) fn new() -> Self {
        let recorded = include_str!("../../../api/data/defaults.json");
        let recorded: Vec<Value> = serde_json::from_str(recorded).expect("pairs");
        let mut objects: Vec<Value> = recorded
            .into_iter()
            .map(|mut pair| pair["given"].take())
            .collect();
        let random = &mut Random::new(0);
        let all = resource::all().iter();
        objects.extend(all.map(|resource| objects::draw(resource, Taste::SPARSE, random)));
        Self {
            objects,
            special: special(),
        }
    }

    /// An object of a kind that is served, and the kind.
    fn object(&self, random: &mut Random) -> (&'static Resource, Value) {
        let all = resource::all();
        let resource = &all[random.below(all.len())];
        let of_kind = |object: &&Value| {
            object["kind"] == resource.kind && object["apiVersion"] == resource.api_version()
        };
        let known: Vec<&Value> = self.objects.iter().filter(of_kind).collect();
        let mut object = match known.len() {
            0 => objects::draw(resource, Taste::SPARSE, random),
            some => known[random.below(some)].clone(),
        };
        if random.percent(80) {
            object["metadata"] = json!({"name": random.pick(&["a", "b", "c"])});
        }
        (resource, object)
    }
}

/// Where objects of a resource are.
pub(crate) fn collection(resource: &Resource, namespace: &str) -> String {
    let group = match resource.group {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    };
    match resource.namespaced {
        true => format!("{group}/namespaces/{namespace}/{}", resource.plural),
        false => format!("{group}/{}", resource.plural),
    }
}

/// A request with a body.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    query: &'static str,
    content_type: &'static str,
    accept: &'static str,
    body: Vec<u8>,
}

impl Sent {
    pub(crate) fn draw(corpus: &Corpus, random: &mut Random) -> Self {
        let (method, path, mut body) = if random.percent(30) {
            let at = random.below(corpus.special.len());
            let (method, path, body) = &corpus.special[at];
            (*method, (*path).to_owned(), body.clone())
        } else {
            let (resource, object) = corpus.object(random);
            let collection = collection(resource, "default");
            let method = random.pick(&["POST", "POST", "PUT", "PATCH", "PATCH", "DELETE"]);
            let path = match method {
                "POST" => collection,
                _ => format!("{collection}/{}", random.pick(NAMES)),
            };
            (method, path, object)
        };
        for _ in 0..random.below(4) {
            bend(&mut body, &corpus.objects, random);
        }
        let mut content_type = match method {
            "PATCH" => random.pick(PATCHES),
            _ => random.pick(&TYPES[..3]),
        };
        let body = encoded(body, content_type, corpus, random);
        if random.percent(15) {
            content_type = random.pick(TYPES);
        }
        Self {
            method,
            path,
            query: match random.percent(30) {
                true => random.pick(QUERIES),
                false => "",
            },
            content_type,
            accept: match random.percent(30) {
                true => random.pick(ACCEPT),
                false => "",
            },
            body: match random.percent(40) {
                true => damage(body, random),
                false => body,
            },
        }
    }

    /// None: no HTTP server reads such a request.
    pub(crate) fn request(&self) -> Option<Request<Bytes>> {
        let uri = Uri::try_from(format!("{}?{}", self.path, self.query)).ok()?;
        let mut request = Request::builder().method(self.method).uri(uri);
        for (name, value) in [("content-type", self.content_type), ("accept", self.accept)] {
            if !value.is_empty() {
                request = request.header(name, HeaderValue::from_static(value));
            }
        }
        request.body(Bytes::from(self.body.clone())).ok()
    }
}

/// The bytes of a body of this type. Of a JSON patch the body is a value in it.
fn encoded(
    body: Value,
    content_type: &'static str,
    corpus: &Corpus,
    random: &mut Random,
) -> Vec<u8> {
    let format = match content_type {
        "application/yaml" | "application/apply-patch+yaml" => Format::Yaml,
        "application/vnd.kubernetes.protobuf" => Format::Protobuf,
        "application/json-patch+json" => {
            let patch = operations(body, corpus, random);
            return patch.to_string().into_bytes();
        }
        _ => Format::Json,
    };
    let text = || body.to_string().into_bytes();
    codec::encode(&body, format).unwrap_or_else(|_| text())
}

/// Operations that put a body's parts to places of any object.
fn operations(body: Value, corpus: &Corpus, random: &mut Random) -> Value {
    const PLACES: &[&str] = &[
        "",
        "/metadata",
        "/metadata/labels",
        "/metadata/name",
        "/metadata/managedFields",
        "/metadata/finalizers/-",
        "/spec",
        "/spec/template/spec/containers/0",
        "/spec/containers/-",
        "/spec/replicas",
        "/status",
        "/data/k",
        "/data/~1",
        "/-1",
        "~2",
    ];
    let parts: Vec<Value> = match body {
        Value::Object(map) => map.into_iter().map(|(_, value)| value).collect(),
        other => vec![other],
    };
    let mut list: Value = (0..random.below(10))
        .map(|_| {
            let op = random.pick(&["add", "remove", "replace", "move", "copy", "test"]);
            let value = parts.get(random.below(parts.len())).cloned();
            json!({"op": op, "path": random.pick(PLACES), "from": random.pick(PLACES), "value": value})
        })
        .collect();
    if random.percent(30) {
        bend(&mut list, &corpus.objects, random);
    }
    list
}

impl Input for Sent {
    fn smaller(&self) -> Vec<Self> {
        let mut out = Vec::new();
        for (query, accept) in [("", self.accept), (self.query, "")] {
            if (query, accept) != (self.query, self.accept) {
                out.push(Self {
                    query,
                    accept,
                    ..self.clone()
                });
            }
        }
        // A tree stays one where that is possible: what is told is mostly about what stands in it.
        let tree: Option<Value> = serde_json::from_slice(&self.body).ok();
        let trees = tree.iter().flat_map(Input::smaller);
        let trees = trees.map(|tree| tree.to_string().into_bytes());
        out.extend(trees.chain(self.body.smaller()).map(|body| Self {
            body,
            ..self.clone()
        }));
        out
    }

    fn show(&self) -> String {
        format!(
            "{} {}?{}\ncontent-type: {}\naccept: {}\n{}",
            self.method,
            self.path,
            self.query,
            self.content_type,
            self.accept,
            self.body.show()
        )
    }
}
