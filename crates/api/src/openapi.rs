//! OpenAPI documents made from the schema's tables: v3, one a group and version, and v2, one for all.
//!
//! Clients read three things from them: the fields of a kind (`kubectl explain`), how lists are
//! merged (`kubectl apply`), and, from the paths' parameters, whether the server itself validates
//! fields and can do a dry run. Paths are therefore complete for the verbs that are served, while
//! answers and errors are only named.

mod describe;
mod gnostic;
mod paths;
mod schemas;

use crate::discovery;
use crate::resource::Resource;
use crate::schema::KUBERNETES;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Which of the two dialects a document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// Where the schemas stand in the document, as references name it.
    fn schemas(self) -> &'static str {
        match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        }
    }
}

/// A document and what tells its editions apart.
#[derive(Clone, Debug)]
pub struct Document {
    /// JSON, or protobuf where the function says so.
    pub body: Vec<u8>,
    /// SHA-256 of the body in uppercase hex: the `hash` in the index, and the `ETag`.
    pub hash: String,
}

impl Document {
    fn new(value: &Value) -> Self {
        let body = value.to_string().into_bytes();
        let hash = hex::encode_upper(Sha256::digest(&body));
        Self { body, hash }
    }
}

/// Hashes of the v3 documents by path. The documents themselves are made anew for each request:
/// a client asks for one once and keeps it for as long as its hash stands in the index.
static HASHES: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    group_versions()
        .map(|(group, version)| {
            (
                path(group, version),
                Document::new(&group_version(group, version)).hash,
            )
        })
        .collect()
});

/// `/openapi/v3`: the paths of all documents, each with its hash.
pub fn v3_index() -> Document {
    let paths: Map<String, Value> = HASHES
        .iter()
        .map(|(path, hash)| {
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path.clone(), json!({"serverRelativeURL": url}))
        })
        .collect();
    Document::new(&json!({"paths": paths}))
}

/// `/openapi/v3/PATH`, where the path is `api/v1` or `apis/GROUP/VERSION`.
pub fn v3(path: &str) -> Option<Document> {
    let (group, version) = match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => ("", *version),
        ["apis", group, version] => (*group, *version),
        _ => return None,
    };
    discovery::served(group, version).next()?;
    Some(Document::new(&group_version(group, version)))
}

/// `/openapi/v2`: everything in one document, in JSON.
pub fn v2() -> Document {
    Document::new(&everything())
}

/// The media type by which clients ask for [`v2_protobuf`]. The answer's own has no `@`, which a
/// `Content-Type` cannot hold: [`V2_PROTOBUF_CONTENT`].
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// The `Content-Type` of [`v2_protobuf`].
pub const V2_PROTOBUF_CONTENT: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// `/openapi/v2` for `client-go`, which reads it in protobuf only.
pub fn v2_protobuf() -> Document {
    let body = gnostic::encode(&everything());
    let hash = hex::encode_upper(Sha256::digest(&body));
    Document { body, hash }
}

fn everything() -> Value {
    let mut all = Map::new();
    let mut types = schemas::Collector::new(Dialect::V2);
    for (group, version) in group_versions() {
        for resource in discovery::served(group, version) {
            all.extend(paths::of(resource, &mut types));
        }
    }
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": all,
        "definitions": types.finish(),
    })
}

fn group_version(group: &str, version: &str) -> Value {
    let mut all = Map::new();
    let mut types = schemas::Collector::new(Dialect::V3);
    for resource in discovery::served(group, version) {
        all.extend(paths::of(resource, &mut types));
    }
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": all,
        "components": {"schemas": types.finish()},
    })
}

fn info() -> Value {
    json!({"title": "carob", "version": format!("v{KUBERNETES}")})
}

fn group_versions() -> impl Iterator<Item = (&'static str, &'static str)> {
    discovery::groups().into_iter().flat_map(|group| {
        discovery::versions(group)
            .into_iter()
            .map(move |version| (group, version))
    })
}

fn path(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// Group, version and kind as the extension that clients search for.
fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn gvk_of(resource: &Resource) -> Value {
    gvk(resource.group, resource.version, resource.kind)
}

#[cfg(test)]
mod tests;
