//! Field selectors: `spec.nodeName=n1,status.phase!=Failed`.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::object::Object;
use crate::resource::Resource;
use crate::status::Status;

/// All requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    field: &'static Field,
    equal: bool,
    value: String,
}

/// A field that may be selected by.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    /// What the query says.
    label: &'static str,
    /// Where the object has it; the first place that holds something counts.
    paths: &'static [&'static [&'static str]],
    /// Its value where the object has none.
    absent: &'static str,
}

const fn field(label: &'static str, paths: &'static [&'static [&'static str]]) -> Field {
    Field {
        label,
        paths,
        absent: "",
    }
}

const fn field_or(
    label: &'static str,
    paths: &'static [&'static [&'static str]],
    absent: &'static str,
) -> Field {
    Field {
        label,
        paths,
        absent,
    }
}

static EVERY: [Field; 2] = [
    field("metadata.name", &[&["metadata", "name"]]),
    field("metadata.namespace", &[&["metadata", "namespace"]]),
];

static PODS: [Field; 8] = [
    field("spec.nodeName", &[&["spec", "nodeName"]]),
    field("spec.restartPolicy", &[&["spec", "restartPolicy"]]),
    field("spec.schedulerName", &[&["spec", "schedulerName"]]),
    field(
        "spec.serviceAccountName",
        &[&["spec", "serviceAccountName"]],
    ),
    field_or("spec.hostNetwork", &[&["spec", "hostNetwork"]], "false"),
    field("status.phase", &[&["status", "phase"]]),
    field("status.podIP", &[&["status", "podIP"]]),
    field(
        "status.nominatedNodeName",
        &[&["status", "nominatedNodeName"]],
    ),
];

static EVENTS: [Field; 11] = [
    field("involvedObject.kind", &[&["involvedObject", "kind"]]),
    field(
        "involvedObject.namespace",
        &[&["involvedObject", "namespace"]],
    ),
    field("involvedObject.name", &[&["involvedObject", "name"]]),
    field("involvedObject.uid", &[&["involvedObject", "uid"]]),
    field(
        "involvedObject.apiVersion",
        &[&["involvedObject", "apiVersion"]],
    ),
    field(
        "involvedObject.resourceVersion",
        &[&["involvedObject", "resourceVersion"]],
    ),
    field(
        "involvedObject.fieldPath",
        &[&["involvedObject", "fieldPath"]],
    ),
    field("reason", &[&["reason"]]),
    field("reportingComponent", &[&["reportingComponent"]]),
    field(
        "source",
        &[&["source", "component"], &["reportingComponent"]],
    ),
    field("type", &[&["type"]]),
];

/// `events.k8s.io` shows the same objects, and calls some fields otherwise; either form is stored.
static NEW_EVENTS: [Field; 11] = [
    field(
        "regarding.kind",
        &[&["regarding", "kind"], &["involvedObject", "kind"]],
    ),
    field(
        "regarding.namespace",
        &[
            &["regarding", "namespace"],
            &["involvedObject", "namespace"],
        ],
    ),
    field(
        "regarding.name",
        &[&["regarding", "name"], &["involvedObject", "name"]],
    ),
    field(
        "regarding.uid",
        &[&["regarding", "uid"], &["involvedObject", "uid"]],
    ),
    field(
        "regarding.apiVersion",
        &[
            &["regarding", "apiVersion"],
            &["involvedObject", "apiVersion"],
        ],
    ),
    field(
        "regarding.resourceVersion",
        &[
            &["regarding", "resourceVersion"],
            &["involvedObject", "resourceVersion"],
        ],
    ),
    field(
        "regarding.fieldPath",
        &[
            &["regarding", "fieldPath"],
            &["involvedObject", "fieldPath"],
        ],
    ),
    field("reason", &[&["reason"]]),
    field(
        "reportingController",
        &[&["reportingController"], &["reportingComponent"]],
    ),
    field(
        "source",
        &[&["source", "component"], &["deprecatedSource", "component"]],
    ),
    field("type", &[&["type"]]),
];

static NODES: [Field; 1] = [field_or(
    "spec.unschedulable",
    &[&["spec", "unschedulable"]],
    "false",
)];
static SLICES: [Field; 2] = [
    field("spec.nodeName", &[&["spec", "nodeName"]]),
    field("spec.driver", &[&["spec", "driver"]]),
];
static SECRETS: [Field; 1] = [field("type", &[&["type"]])];
static NAMESPACES: [Field; 2] = [
    field("status.phase", &[&["status", "phase"]]),
    field("name", &[&["metadata", "name"]]),
];
static JOBS: [Field; 1] = [field_or(
    "status.successful",
    &[&["status", "succeeded"]],
    "0",
)];
static REPLICAS: [Field; 1] = [field_or("status.replicas", &[&["status", "replicas"]], "0")];
static REQUESTS: [Field; 1] = [field("spec.signerName", &[&["spec", "signerName"]])];
static SERVICES: [Field; 2] = [
    field("spec.clusterIP", &[&["spec", "clusterIP"]]),
    field("spec.type", &[&["spec", "type"]]),
];

fn fields_of(resource: &Resource) -> &'static [Field] {
    match (resource.group, resource.plural) {
        ("", "pods") => &PODS,
        ("", "events") => &EVENTS,
        ("events.k8s.io", "events") => &NEW_EVENTS,
        ("", "nodes") => &NODES,
        ("", "secrets") => &SECRETS,
        ("", "namespaces") => &NAMESPACES,
        ("", "services") => &SERVICES,
        ("", "replicationcontrollers") | ("apps", "replicasets") => &REPLICAS,
        ("batch", "jobs") => &JOBS,
        ("certificates.k8s.io", "certificatesigningrequests") => &REQUESTS,
        ("resource.k8s.io", "resourceslices") => &SLICES,
        _ => &[],
    }
}

impl FieldSelector {
    /// Matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Reads a query parameter for objects of one resource.
    ///
    /// # Errors
    ///
    /// 400 when it cannot be read or names a field that the resource does not serve.
    pub fn parse(resource: &Resource, text: &str) -> Result<Self, Status> {
        let mut requirements = Vec::new();
        for term in split(text) {
            if term.is_empty() {
                continue;
            }
            let (label, equal, value) = operands(term).ok_or_else(|| {
                Status::bad_request(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                ))
            })?;
            let known = EVERY
                .iter()
                .chain(fields_of(resource))
                .find(|f| f.label == label);
            let field = known.ok_or_else(|| {
                Status::bad_request(format!("field label not supported: {label}"))
            })?;
            let value = unescape(value).ok_or_else(|| {
                Status::bad_request(format!(
                    "invalid selector: '{text}'; bad escape in '{term}'"
                ))
            })?;
            requirements.push(Requirement {
                field,
                equal,
                value,
            });
        }
        Ok(Self { requirements })
    }

    /// The same, for the object of this name only.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.requirements.push(Requirement {
            field: &EVERY[0],
            equal: true,
            value: name.to_owned(),
        });
        self
    }

    /// Whether it matches whatever there is.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that a field must have, if the selector fixes it: `metadata.name=x` gives `x`.
    pub fn exact(&self, label: &str) -> Option<&str> {
        let mut found = self
            .requirements
            .iter()
            .filter(|r| r.equal && r.field.label == label);
        found.next().map(|r| r.value.as_str())
    }

    /// Judges an object. Costs a scan of its bytes unless only names are asked for.
    pub fn matches(&self, object: &Object) -> bool {
        self.requirements.iter().all(|r| {
            let equal = match r.field.label {
                "metadata.name" => object.name() == r.value,
                "metadata.namespace" => object.namespace() == r.value,
                _ => r.field.value(object.bytes()) == r.value,
            };
            equal == r.equal
        })
    }
}

impl Field {
    fn value(&self, json: &[u8]) -> String {
        for path in self.paths {
            let mut reader = serde_json::Deserializer::from_slice(json);
            match (Path { rest: path }).deserialize(&mut reader) {
                Ok(Some(text)) if !text.is_empty() => return text,
                _ => {}
            }
        }
        self.absent.to_owned()
    }
}

/// At commas that no backslash hides.
fn split(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn operands(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.find(['=', '!'])?;
    let (label, rest) = term.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((label, false, value));
    }
    let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?;
    Some((label, true, value))
}

fn unescape(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                c @ ('\\' | ',' | '=') => out.push(c),
                _ => return None,
            },
            // These must be escaped in a value.
            ',' | '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

/// Follows a path through JSON and skips all else.
struct Path<'a> {
    rest: &'a [&'static str],
}

impl<'de> DeserializeSeed<'de> for Path<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Path<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(self.rest.is_empty().then(|| value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(self.rest.is_empty().then(|| value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(self.rest.is_empty().then(|| value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(self.rest.is_empty().then(|| value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(self.rest.is_empty().then(|| value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<de::IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = entries.next_key::<std::borrow::Cow<'de, str>>()? {
            match self.rest.split_first() {
                Some((first, rest)) if *first == key => {
                    found = entries.next_value_seed(Path { rest })?;
                }
                _ => {
                    entries.next_value::<de::IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod};
    use k8s_openapi::api::resource::v1::ResourceSlice;
    use serde_json::{Value, json};

    use super::*;

    fn object(value: &Value) -> Object {
        Object::from_stored(value.to_string().as_bytes(), 1).expect("object")
    }

    #[test]
    fn selects_by_the_fields_of_a_kind() {
        let pod = object(&json!({
            "metadata": {"name": "p", "namespace": "demo"},
            "spec": {"nodeName": "n1", "containers": [{"nodeName": "no"}]},
            "status": {"phase": "Running", "conditions": []},
        }));
        let pods = Resource::of::<Pod>();
        let table = [
            ("", true),
            ("metadata.name=p", true),
            ("metadata.name=p,metadata.namespace!=demo", false),
            ("spec.nodeName=n1", true),
            ("spec.nodeName==n2", false),
            ("spec.nodeName!=", true),
            ("spec.hostNetwork=false", true),
            ("status.phase!=Succeeded,status.phase!=Failed", true),
            ("status.podIP=", true),
        ];
        for (text, expected) in table {
            let selector = FieldSelector::parse(pods, text).expect(text);
            assert_eq!(selector.matches(&pod), expected, "{text}");
        }
        let node = object(&json!({"metadata": {"name": "n"}, "spec": {"unschedulable": true}}));
        let selector = FieldSelector::parse(Resource::of::<Node>(), "spec.unschedulable=true");
        assert!(selector.expect("selector").matches(&node));
        let slice = object(&json!({"metadata": {}, "spec": {"nodeName": "n", "driver": "d"}}));
        let slices = Resource::of::<ResourceSlice>();
        let selector = FieldSelector::parse(slices, "spec.nodeName=n,spec.driver!=e");
        assert!(selector.expect("selector").matches(&slice));
        let event = object(
            &json!({"metadata": {}, "involvedObject": {"name": "p"}, "source": {}, "reportingComponent": "kubelet"}),
        );
        let selector = FieldSelector::parse(
            Resource::of::<Event>(),
            "involvedObject.name=p,source=kubelet",
        );
        assert!(selector.expect("selector").matches(&event));
    }

    #[test]
    fn refuses_what_is_not_served() {
        let maps = Resource::of::<ConfigMap>();
        let status = FieldSelector::parse(maps, "spec.image=x").expect_err("refused");
        assert_eq!(status.message, "field label not supported: spec.image");
        for bad in [
            "metadata.name",
            "metadata.name!x",
            "metadata.name=a=b",
            "metadata.name=\\x",
            "=",
            "metadata.name=\\",
        ] {
            assert_eq!(FieldSelector::parse(maps, bad).expect_err(bad).code, 400);
        }
        let escaped = FieldSelector::parse(maps, "metadata.name=a\\,b\\=c\\\\").expect("escaped");
        assert_eq!(escaped.exact("metadata.name"), Some("a,b=c\\"));
    }
}
