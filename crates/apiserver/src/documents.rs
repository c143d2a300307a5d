//! Discovery and OpenAPI: documents about the API itself.

use api::discovery::{self, Aggregated};
use api::{Status, openapi};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::ApiServer;
use crate::body::{Response, answer};
use crate::negotiate;
use crate::request::Query;
use crate::respond;

const JSON: &str = "application/json";

impl ApiServer {
    /// The answer, if the path is one of these.
    pub(crate) async fn document(
        &self,
        path: &str,
        query: &Query,
        headers: &HeaderMap,
    ) -> Result<Option<Response>, Status> {
        if let Some(path) = path.strip_prefix("/openapi/") {
            return open_api(path.to_owned(), query, headers).await.map(Some);
        }
        if let Some((document, content_type)) = self.issuer_document(path)? {
            let body = client::full(document.to_string());
            return Ok(Some(answer(StatusCode::OK, content_type, body)));
        }
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let found = match parts.as_slice() {
            [""] => Some(root()),
            ["api" | "apis"] if let Some(form) = aggregated(headers) => {
                return Ok(Some(aggregate(parts == ["api"], form, headers)));
            }
            ["api"] => Some(discovery::api_versions(self.authority())),
            ["apis"] => Some(discovery::api_group_list()),
            ["api", version] => Some(resources("", version)?),
            ["apis", group] => {
                Some(discovery::api_group(group).ok_or_else(Status::no_such_resource)?)
            }
            ["apis", group, version] => Some(resources(group, version)?),
            _ => None,
        };
        found
            .map(|value| {
                let form = negotiate::form(headers).ok_or_else(|| {
                    Status::not_acceptable(
                        "application/json, application/yaml, application/vnd.kubernetes.protobuf",
                    )
                })?;
                respond::value(StatusCode::OK, form.media, &value)
            })
            .transpose()
    }

    /// `HOST:PORT` of this server.
    fn authority(&self) -> &str {
        let url = self.inner.config.url.as_str();
        url.split_once("://").map_or(url, |(_, rest)| rest)
    }
}

fn resources(group: &str, version: &str) -> Result<Value, Status> {
    discovery::api_resource_list(group, version).ok_or_else(Status::no_such_resource)
}

/// Which aggregated form the client wants most, if any before plain JSON. Parameters other than
/// these three (`profile`) change nothing.
fn aggregated(headers: &HeaderMap) -> Option<Aggregated> {
    for range in negotiate::accepted(headers) {
        let wanted = range.media == "application/json"
            && range.parameter("g") == Some("apidiscovery.k8s.io")
            && range.parameter("as") == Some("APIGroupDiscoveryList");
        match range.parameter("v") {
            Some("v2") if wanted => return Some(Aggregated::V2),
            Some("v2beta1") if wanted => return Some(Aggregated::V2Beta1),
            None if range.media == "application/json" => return None,
            _ => {}
        }
    }
    None
}

fn aggregate(core: bool, form: Aggregated, headers: &HeaderMap) -> Response {
    let content_type = match form {
        Aggregated::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        Aggregated::V2Beta1 => {
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
        }
    };
    let body = discovery::aggregated(core, form).to_string();
    let hash = hex::encode_upper(Sha256::digest(&body));
    tagged(content_type, body, &hash, "public", headers)
}

/// Whether the client wants `/openapi/v2` in protobuf, as client-go does, more than in JSON.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    let known = [
        openapi::V2_PROTOBUF,
        openapi::V2_PROTOBUF_CONTENT,
        JSON,
        "application/*",
        "*/*",
    ];
    let first = negotiate::accepted(headers)
        .iter()
        .find_map(|range| known.iter().position(|k| range.media == *k));
    first.is_some_and(|at| at < 2)
}

/// `/openapi/v2`, `/openapi/v3` and the documents below it.
async fn open_api(path: String, query: &Query, headers: &HeaderMap) -> Result<Response, Status> {
    let protobuf = path.trim_end_matches('/') == "v2" && wants_protobuf(headers);
    if !protobuf && negotiate::form(headers).is_none() {
        return Err(Status::not_acceptable("application/json"));
    }
    let media = if protobuf {
        openapi::V2_PROTOBUF_CONTENT
    } else {
        JSON
    };
    // Made anew each time: not on a thread that others' requests wait for.
    let made = tokio::task::spawn_blocking(move || match path.trim_end_matches('/') {
        "v2" if protobuf => Some(openapi::v2_protobuf()),
        "v2" => Some(openapi::v2()),
        "v3" => Some(openapi::v3_index()),
        path => openapi::v3(path.strip_prefix("v3/")?),
    });
    let document = made
        .await
        .map_err(|e| Status::internal(format!("making the OpenAPI document: {e}")))?
        .ok_or_else(Status::no_such_resource)?;
    // What is asked for by its hash never changes.
    let cached = if query.text("hash") == Some(&document.hash) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache, private"
    };
    Ok(tagged(
        media,
        document.body,
        &document.hash,
        cached,
        headers,
    ))
}

/// A document with its hash as tag; 304 to those who have it.
fn tagged(
    content_type: &'static str,
    body: impl Into<Bytes>,
    hash: &str,
    cached: &'static str,
    headers: &HeaderMap,
) -> Response {
    let tag = format!("\"{hash}\"");
    let known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|t| t.trim() == "*" || t.trim().trim_start_matches("W/") == tag);
    let mut response = if known {
        answer(StatusCode::NOT_MODIFIED, content_type, client::empty())
    } else {
        answer(StatusCode::OK, content_type, client::full(body))
    };
    let head = response.headers_mut();
    head.append(VARY, HeaderValue::from_static("Accept"));
    head.insert(CACHE_CONTROL, HeaderValue::from_static(cached));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        head.insert(ETAG, tag);
    }
    response
}

/// `/`: what paths there are.
fn root() -> Value {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for resource in api::resource::all() {
        if resource.group.is_empty() {
            continue;
        }
        for path in [
            format!("/apis/{}", resource.group),
            format!("/apis/{}", resource.api_version()),
        ] {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    for path in [
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ] {
        paths.push(path.to_owned());
    }
    json!({"paths": paths})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_is_for_those_who_ask_for_it() {
        let of = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("accept", accept.parse().unwrap());
            wants_protobuf(&headers)
        };
        assert!(of(openapi::V2_PROTOBUF));
        assert!(of(&format!("{},application/json", openapi::V2_PROTOBUF)));
        assert!(!of(&format!("application/json,{}", openapi::V2_PROTOBUF)));
        assert!(!of(&format!("*/*,{};q=0.5", openapi::V2_PROTOBUF)));
        assert!(!of("application/json"));
        assert!(!wants_protobuf(&HeaderMap::new()));
    }

    #[test]
    fn clients_get_the_newest_form_they_know() {
        let of = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("accept", accept.parse().unwrap());
            aggregated(&headers)
        };
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let old = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        assert_eq!(
            of(&format!("{v2},{old},application/json")),
            Some(Aggregated::V2)
        );
        assert_eq!(
            of(&format!("{v2};profile=nopeer,{old}")),
            Some(Aggregated::V2)
        );
        assert_eq!(
            of(&format!("{old},application/json")),
            Some(Aggregated::V2Beta1)
        );
        assert_eq!(of("application/json"), None);
        assert_eq!(of("*/*"), None);
    }
}
