//! The paths of a resource: one operation for each of its verbs.

use super::schemas::Collector;
use super::{Dialect, gvk, gvk_of};
use crate::resource::{Resource, Subresource};
use serde_json::{Map, Value, json};

/// All paths of one resource.
pub(super) fn of(resource: &'static Resource, types: &mut Collector) -> Map<String, Value> {
    let mut paths = Map::new();
    let namespace = resource.namespaced.then_some("{namespace}");
    let collection = resource.path(namespace, None);
    let item = resource.path(namespace, Some("{name}"));
    let target = Target {
        resource,
        sub: None,
    };
    let operations = [
        ("list", "get"),
        ("create", "post"),
        ("deletecollection", "delete"),
    ];
    insert(&mut paths, collection, &target, &operations, types);
    if resource.namespaced && resource.has_verb("list") {
        let everywhere = resource.path(None, None);
        insert(&mut paths, everywhere, &target, &[("list", "get")], types);
    }
    let operations = [
        ("get", "get"),
        ("update", "put"),
        ("patch", "patch"),
        ("delete", "delete"),
    ];
    insert(&mut paths, item.clone(), &target, &operations, types);
    for sub in resource.subresources {
        let target = Target {
            resource,
            sub: Some(sub),
        };
        let operations = [
            ("get", "get"),
            ("create", "post"),
            ("update", "put"),
            ("patch", "patch"),
            ("delete", "delete"),
        ];
        let path = format!("{item}/{}", sub.name);
        insert(&mut paths, path, &target, &operations, types);
    }
    paths
}

/// What an operation acts on.
struct Target {
    resource: &'static Resource,
    sub: Option<&'static Subresource>,
}

impl Target {
    fn has(&self, verb: &str) -> bool {
        match self.sub {
            Some(sub) => sub.verbs.contains(&verb),
            None => self.resource.has_verb(verb),
        }
    }

    fn gvk(&self) -> Value {
        match self.sub {
            Some(sub) => gvk(sub.group, sub.version, sub.kind),
            None => gvk_of(self.resource),
        }
    }

    /// The type that bodies and answers have.
    fn type_name(&self) -> String {
        match self.sub {
            None => self.resource.type_name.to_owned(),
            Some(sub) if sub.kind == self.resource.kind => self.resource.type_name.to_owned(),
            Some(sub) => {
                let group = match sub.group.split('.').next() {
                    None | Some("") => "core",
                    Some(group) => group,
                };
                format!("{group}.{}.{}", sub.version, sub.kind)
            }
        }
    }
}

/// Adds a path with those of the operations (verb, method) that the target has.
fn insert(
    paths: &mut Map<String, Value>,
    path: String,
    target: &Target,
    operations: &[(&str, &str)],
    types: &mut Collector,
) {
    let mut entry = Map::new();
    for (verb, method) in operations.iter().filter(|(verb, _)| target.has(verb)) {
        let operation = operation(verb, method, &path, target, types);
        entry.insert((*method).to_owned(), operation);
    }
    if entry.is_empty() {
        return;
    }
    let mut parameters = Vec::new();
    for (name, what) in [
        ("name", "The object's name."),
        ("namespace", "The namespace that the object lives in."),
    ] {
        if path.contains(&format!("{{{name}}}")) {
            parameters.push(parameter(types.dialect(), "path", name, "string", what));
        }
    }
    if !parameters.is_empty() {
        entry.insert("parameters".to_owned(), parameters.into());
    }
    paths.insert(path, Value::Object(entry));
}

fn operation(
    verb: &str,
    method: &str,
    path: &str,
    target: &Target,
    types: &mut Collector,
) -> Value {
    let dialect = types.dialect();
    let answer = match verb {
        "list" => types.list(target.resource),
        "delete" | "deletecollection" => types.reference("meta.v1.Status"),
        _ => types.reference(&target.type_name()),
    };
    let body = match verb {
        "create" | "update" => Some(types.reference(&target.type_name())),
        "patch" => Some(types.patch()),
        "delete" | "deletecollection" => Some(types.reference("meta.v1.DeleteOptions")),
        _ => None,
    };
    let mut parameters: Vec<Value> = query(verb)
        .iter()
        .map(|(name, kind, what)| parameter(dialect, "query", name, kind, what))
        .collect();
    let media: &[&str] = match verb {
        "patch" => &[
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        ],
        _ => &["*/*"],
    };
    let action = if verb == "create" {
        "post"
    } else if verb == "update" {
        "put"
    } else {
        verb
    };
    let mut operation = json!({
        "operationId": operation_id(verb, path, target),
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": target.gvk(),
    });
    let code = if verb == "create" { "201" } else { "200" };
    match (dialect, body) {
        (Dialect::V3, body) => {
            let answer =
                json!({"description": "Done", "content": {"application/json": {"schema": answer}}});
            operation["responses"] = json!({code: answer});
            if let Some(body) = body {
                let content: Map<String, Value> = media
                    .iter()
                    .map(|media| ((*media).to_owned(), json!({"schema": body})))
                    .collect();
                let required = matches!(method, "post" | "put" | "patch");
                operation["requestBody"] = json!({"content": content, "required": required});
            }
        }
        (Dialect::V2, body) => {
            operation["responses"] = json!({code: {"description": "Done", "schema": answer}});
            operation["consumes"] = json!(media);
            operation["produces"] = json!(["application/json", "application/yaml"]);
            if let Some(body) = body {
                let required = matches!(method, "post" | "put" | "patch");
                parameters.push(
                    json!({"in": "body", "name": "body", "required": required, "schema": body}),
                );
            }
        }
    }
    operation["parameters"] = parameters.into();
    operation
}

/// Unique in the document: the verb and the path's words.
fn operation_id(verb: &str, path: &str, target: &Target) -> String {
    let words: String = path
        .split(['/', '-', '.'])
        .filter(|word| !word.is_empty() && !word.starts_with('{'))
        .map(capitalised)
        .collect();
    let scope = match (target.resource.namespaced, path.contains("{namespace}")) {
        (true, false) => "ForAllNamespaces",
        _ => "",
    };
    format!("{verb}{words}{scope}")
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
        .unwrap_or_default()
}

type Parameter = (&'static str, &'static str, &'static str);

const DRY_RUN: Parameter = (
    "dryRun",
    "string",
    "`All`: do everything but store the result.",
);
const MANAGER: Parameter = (
    "fieldManager",
    "string",
    "Who is to own the fields that this request sets.",
);
const VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "What to do about unknown and duplicate fields: `Ignore`, `Warn` or `Strict`.",
);

/// The query parameters that a verb takes.
fn query(verb: &str) -> &'static [Parameter] {
    const LIST: &[Parameter] = &[
        (
            "allowWatchBookmarks",
            "boolean",
            "Send bookmarks in a watch.",
        ),
        ("continue", "string", "Token of the page before."),
        (
            "fieldSelector",
            "string",
            "Only objects whose fields are so.",
        ),
        (
            "labelSelector",
            "string",
            "Only objects whose labels are so.",
        ),
        ("limit", "integer", "How many objects a page may have."),
        (
            "resourceVersion",
            "string",
            "The revision to read at, or to watch from.",
        ),
        (
            "resourceVersionMatch",
            "string",
            "`Exact` or `NotOlderThan`.",
        ),
        (
            "sendInitialEvents",
            "boolean",
            "Begin a watch with what is there.",
        ),
        (
            "timeoutSeconds",
            "integer",
            "When to end the list or watch.",
        ),
        ("watch", "boolean", "Send changes as they happen."),
    ];
    match verb {
        "list" => LIST,
        "create" | "update" => &[DRY_RUN, MANAGER, VALIDATION],
        "patch" => &[
            DRY_RUN,
            MANAGER,
            VALIDATION,
            (
                "force",
                "boolean",
                "Server-side apply: take fields from their owners.",
            ),
        ],
        "delete" | "deletecollection" => &[
            DRY_RUN,
            (
                "gracePeriodSeconds",
                "integer",
                "How long the object may take to end.",
            ),
            (
                "propagationPolicy",
                "string",
                "`Background`, `Foreground` or `Orphan`: what happens to its dependents.",
            ),
        ],
        _ => &[],
    }
}

fn parameter(dialect: Dialect, place: &str, name: &str, kind: &str, what: &str) -> Value {
    let mut parameter = json!({"in": place, "name": name, "description": what});
    if place == "path" {
        parameter["required"] = true.into();
    }
    match dialect {
        Dialect::V2 => parameter["type"] = kind.into(),
        Dialect::V3 => parameter["schema"] = json!({"type": kind}),
    }
    parameter
}
