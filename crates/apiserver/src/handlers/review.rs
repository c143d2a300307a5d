//! Reviews: who am I, and may I? Answered at once, stored never.

use api::apply::{Target, track};
use api::codec::{Decoded, Expected};
use api::{Resource, Status};
use http::StatusCode;
use serde_json::{Value, json};

use super::{token, write};
use crate::authz::{self, Attributes};
use crate::body::Response;
use crate::dispatch::Call;
use crate::identity::Identity;
use crate::options::WriteOptions;
use crate::respond;

/// Answers the creation of a review.
pub(crate) async fn review(call: &Call) -> Result<Response, Status> {
    let Decoded {
        mut value,
        warnings,
    } = write::decode(call, Expected::from(call.resource))?;
    if value.get("metadata").is_none_or(Value::is_null) {
        value["metadata"] = json!({});
    }
    let options = WriteOptions::read("CreateOptions", &call.query, &call.headers)?;
    let context = write::context(call, &options);
    track(Target::new(call.resource, None), None, &mut value, &context);
    value["status"] = match call.resource.plural {
        "selfsubjectreviews" => {
            let now = write::now();
            value["metadata"]["creationTimestamp"] = now.to_string().into();
            json!({"userInfo": user_info(&call.identity)})
        }
        "selfsubjectaccessreviews" => decide(call, &call.identity, &value),
        "subjectaccessreviews" | "localsubjectaccessreviews" => {
            decide(call, &subject(&value), &value)
        }
        "selfsubjectrulesreviews" => rules(&call.identity),
        "tokenreviews" => token::review(call, &value).await?,
        other => {
            return Err(Status::internal(format!("no such review: {other}")));
        }
    };
    let response = respond::value(StatusCode::CREATED, call.form.media, &value)?;
    Ok(respond::warn(response, &warnings))
}

/// A user as reviews show it.
pub(super) fn user_info(identity: &Identity) -> Value {
    let mut user = json!({"username": identity.user, "groups": identity.groups});
    if !identity.uid.is_empty() {
        user["uid"] = identity.uid.as_str().into();
    }
    if !identity.extra.is_empty() {
        user["extra"] = json!(identity.extra);
    }
    user
}

/// The user that a review is about.
fn subject(review: &Value) -> Identity {
    let groups: Vec<String> = review
        .pointer("/spec/groups")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|g| Some(g.as_str()?.to_owned()))
        .collect();
    let user = review.pointer("/spec/user").and_then(Value::as_str);
    Identity {
        user: user.unwrap_or_default().to_owned(),
        groups,
        ..Identity::default()
    }
}

fn decide(call: &Call, identity: &Identity, review: &Value) -> Value {
    let text = |path: &str| {
        review
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let allowed = if review.pointer("/spec/nonResourceAttributes").is_some() {
        let verb = text("/spec/nonResourceAttributes/verb").to_uppercase();
        let method = http::Method::from_bytes(verb.as_bytes()).unwrap_or(http::Method::OPTIONS);
        authz::allowed_path(identity, &method, text("/spec/nonResourceAttributes/path"))
    } else {
        let asked = Attributes {
            verb: text("/spec/resourceAttributes/verb"),
            group: text("/spec/resourceAttributes/group"),
            resource: text("/spec/resourceAttributes/resource"),
            subresource: text("/spec/resourceAttributes/subresource"),
            namespace: text("/spec/resourceAttributes/namespace"),
            name: text("/spec/resourceAttributes/name"),
            node_name: None,
            absent: false,
        };
        authz::allowed(identity, &asked, &call.server.inner.cache.nodes.read())
    };
    json!({"allowed": allowed})
}

/// What a user may do, as `kubectl auth can-i --list` shows it.
fn rules(identity: &Identity) -> Value {
    let (resources, paths) = if identity.is_superuser() {
        (
            json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]),
            json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]),
        )
    } else {
        let own = |group: &str| {
            let plurals: Vec<&str> = api::resource::all()
                .iter()
                .filter(|r: &&Resource| r.group == group && r.plural.starts_with("selfsubject"))
                .map(|r| r.plural)
                .collect();
            json!({"verbs": ["create"], "apiGroups": [group], "resources": plurals})
        };
        (
            json!([own("authentication.k8s.io"), own("authorization.k8s.io")]),
            json!([{"verbs": ["get"], "nonResourceURLs": [
                "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez",
                "/openapi", "/openapi/*", "/readyz", "/version", "/version/"]}]),
        )
    };
    json!({
        "resourceRules": resources,
        "nonResourceRules": paths,
        // What a node may besides depends on its pods.
        "incomplete": identity.node().is_some(),
    })
}
