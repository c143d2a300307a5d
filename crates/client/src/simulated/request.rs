//! What a request is about.

use api::status::Status;
use bytes::Bytes;
use http::{Request, Uri};
use serde_json::Value;

/// The objects that a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// `v1` or `apps/v1`.
    pub(super) api_version: String,
    pub(super) plural: String,
    /// Empty: all, or cluster-scoped.
    pub(super) namespace: String,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
}

impl Target {
    pub(super) fn parse(uri: &Uri) -> Option<Self> {
        let path: Vec<String> = uri
            .path()
            .split('/')
            .skip(1)
            .map(|part| {
                percent_encoding::percent_decode_str(part)
                    .decode_utf8_lossy()
                    .into()
            })
            .collect();
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        let (api_version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            // A namespace's own subresources look like kinds in it.
            rest @ ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (plural, None, None),
            [plural, name] => (plural, Some(name), None),
            [plural, name, subresource] => (plural, Some(name), Some(subresource)),
            _ => return None,
        };
        Some(Target {
            api_version,
            plural: (*plural).to_owned(),
            namespace: namespace.to_owned(),
            name: name.map(|name| (*name).to_owned()),
            subresource: subresource.map(|subresource| (*subresource).to_owned()),
        })
    }

    /// What every key of the kind begins with.
    pub(super) fn kind_prefix(&self) -> String {
        format!("{}/{}/", self.api_version, self.plural)
    }

    /// What the keys of all objects that it names begin with.
    pub(super) fn prefix(&self) -> String {
        if self.namespace.is_empty() {
            self.kind_prefix()
        } else {
            format!("{}{}/", self.kind_prefix(), self.namespace)
        }
    }

    pub(super) fn key(&self) -> String {
        let name = self.name.as_deref().unwrap_or_default();
        format!("{}{}/{name}", self.kind_prefix(), self.namespace)
    }
}

/// How a node asks for the objects that its pods refer to.
const OF_NODE: &str = "spec.nodeName=";

/// Whether the path is that of all objects of a kind that nodes follow by their pods.
fn is_followed(path: &str) -> bool {
    matches!(path, "/api/v1/configmaps" | "/api/v1/secrets")
}

/// Which of the objects, and in what manner.
#[derive(Debug, Clone, Default)]
pub(super) struct Selection {
    pub(super) watch: bool,
    pub(super) revision: u64,
    pub(super) limit: usize,
    pub(super) after: String,
    /// JSON pointers and the texts that they must (or must not) have.
    terms: Vec<(String, String, bool)>,
}

impl Selection {
    pub(super) fn parse(uri: &Uri) -> Result<Self, Status> {
        let mut selection = Selection::default();
        for pair in uri.query().unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
            match name {
                "watch" => selection.watch = value == "true" || value == "1",
                "resourceVersion" => selection.revision = value.parse().unwrap_or(0),
                "limit" => selection.limit = value.parse().unwrap_or(0),
                "continue" => selection.after = value.into_owned(),
                "labelSelector" => selection.add(&value, |label| {
                    format!("/metadata/labels/{}", label.replace('/', "~1"))
                })?,
                // What an agent follows: here it is shown more, and has to leave what none of its pods refer to.
                "fieldSelector" if is_followed(uri.path()) && value.starts_with(OF_NODE) => {}
                "fieldSelector" => {
                    selection.add(&value, |field| format!("/{}", field.replace('.', "/")))?
                }
                _ => {}
            }
        }
        Ok(selection)
    }

    fn add(&mut self, selector: &str, pointer: impl Fn(&str) -> String) -> Result<(), Status> {
        for term in selector.split(',').filter(|term| !term.is_empty()) {
            let (name, value, equal) = if let Some((name, value)) = term.split_once("!=") {
                (name, value, false)
            } else if let Some((name, value)) = term.split_once('=') {
                (name, value.trim_start_matches('='), true)
            } else {
                return Err(Status::bad_request(format!(
                    "the simulated server can't select by {term:?}"
                )));
            };
            self.terms.push((pointer(name), value.to_owned(), equal));
        }
        Ok(())
    }

    pub(super) fn takes(&self, object: &Value) -> bool {
        self.terms.iter().all(|(pointer, value, equal)| {
            let found = object.pointer(pointer).and_then(Value::as_str);
            (found.unwrap_or_default() == value) == *equal
        })
    }
}

/// The request's body: a JSON object whose `metadata`, if there is any, is one too.
pub(super) fn body(request: &Request<Bytes>) -> Result<Value, Status> {
    let body: Value = serde_json::from_slice(request.body())
        .map_err(|error| Status::bad_request(error.to_string()))?;
    let metadata = body.get("metadata");
    if !body.is_object() || metadata.is_some_and(|metadata| !metadata.is_object()) {
        return Err(Status::bad_request("not an object with metadata"));
    }
    Ok(body)
}
