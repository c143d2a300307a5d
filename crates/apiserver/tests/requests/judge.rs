//! What an answer that refuses must be.

use api::codec::{self, Format};
use serde_json::Value;

use crate::world::Answer;

/// The codes of refusals, each with the reasons that Kubernetes gives with it. There is no 500 but [`PLAIN`]:
/// nothing that is sent may break a server. 501 is what carob does not offer and refuses by name, 503 what a proxied
/// request gets where nobody is behind a Service.
const REASONS: &[(u16, &[&str])] = &[
    (400, &["BadRequest"]),
    (401, &["Unauthorized"]),
    (403, &["Forbidden"]),
    (404, &["NotFound"]),
    (405, &["MethodNotAllowed"]),
    (406, &["NotAcceptable"]),
    (409, &["Conflict", "AlreadyExists"]),
    (410, &["Expired", "Gone"]),
    (413, &["RequestEntityTooLarge"]),
    (415, &["UnsupportedMediaType"]),
    (422, &["Invalid"]),
    (429, &["TooManyRequests"]),
    (501, &["NotImplemented"]),
    (503, &["ServiceUnavailable"]),
    (504, &["Timeout"]),
];

/// What Kubernetes says, without a reason and as a 500, to a create of what has a version, and to an apply of fields that
/// its merging library does not know: clients know it so.
const PLAIN: [&str; 2] = [
    "resourceVersion should not be set on objects to be created",
    "failed to create typed patch object (",
];

/// Whether a path is of a resource, and no document that everybody may read.
pub(crate) fn of_resource(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.first() {
        Some(&"api") => path.starts_with("/api/") && parts.len() > 2,
        Some(&"apis") => path.starts_with("/apis/") && parts.len() > 3,
        _ => false,
    }
}

/// Holds an answer to what Kubernetes says: one of its codes; and of a resource, a `Status` of the same code and
/// of a reason that goes with it, in the form that the answer's head tells.
pub(crate) fn refusal(answer: &Answer, method: &str, path: &str) -> Result<(), String> {
    let code = answer.code;
    if (100..400).contains(&code) {
        return Ok(());
    }
    let told = || format!("{code}: {}", answer.text());
    if code == 500 && PLAIN.iter().any(|plain| answer.text().contains(plain)) {
        return Ok(());
    }
    let reasons = REASONS.iter().find(|(known, _)| *known == code);
    let (_, reasons) = reasons.ok_or_else(told)?;
    if code == 503 && !path.contains("/proxy") {
        return Err(told());
    }
    if method == "HEAD" || !of_resource(path) {
        return Ok(());
    }
    let media = answer.headers.get(http::header::CONTENT_TYPE);
    let media = media.and_then(|media| media.to_str().ok());
    let status: Value = match media.unwrap_or_default() {
        "application/json" => answer.json()?,
        "application/yaml" => {
            let decoded = codec::decode_untyped(&answer.body, Format::Yaml);
            decoded.map_err(|e| e.message)?.value
        }
        "application/vnd.kubernetes.protobuf" => return protobuf(answer),
        other => return Err(format!("{other:?} of {}", told())),
    };
    let reason = status["reason"].as_str().unwrap_or_default();
    let whole = status["kind"] == "Status"
        && status["apiVersion"] == "v1"
        && status["status"] == "Failure"
        && status["code"] == code
        && status["message"].as_str().is_some_and(|m| !m.is_empty())
        && reasons.contains(&reason);
    whole.then_some(()).ok_or_else(told)
}

/// The envelope says what it holds.
fn protobuf(answer: &Answer) -> Result<(), String> {
    let has = |word: &[u8]| answer.body.windows(word.len()).any(|w| w == word);
    let whole = answer.body.starts_with(b"k8s\0") && has(b"Status") && has(b"Failure");
    whole
        .then_some(())
        .ok_or_else(|| format!("no Status: {}", answer.body.escape_ascii()))
}
