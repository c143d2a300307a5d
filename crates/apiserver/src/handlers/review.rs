//! Reviews: who am I, and may I? Answered at once, stored never.

mod access;

use api::Status;
use api::apply::{Target, track};
use api::codec::{Decoded, Expected};
use http::StatusCode;
use serde_json::{Value, json};

use super::{token, write};
use crate::body::Response;
use crate::dispatch::Call;
use crate::identity::Identity;
use crate::options::WriteOptions;
use crate::rbac::Rule;
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
        "selfsubjectaccessreviews" | "subjectaccessreviews" | "localsubjectaccessreviews" => {
            access::review(call, &mut value)?
        }
        "selfsubjectrulesreviews" => rules(call, &value)?,
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
    let mut info = json!({"username": identity.user, "groups": identity.groups});
    if !identity.uid.is_empty() {
        info["uid"] = json!(identity.uid);
    }
    if !identity.extra.is_empty() {
        info["extra"] = json!(identity.extra);
    }
    info
}

/// What the user may do in a namespace, as `kubectl auth can-i --list` shows it.
fn rules(call: &Call, review: &Value) -> Result<Value, Status> {
    let namespace = review.pointer("/spec/namespace").and_then(Value::as_str);
    let Some(namespace) = namespace.filter(|ns| !ns.is_empty()) else {
        return Err(Status::bad_request("no namespace on request"));
    };
    let identity = &call.identity;
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    let mut list = |rule: &Rule| {
        let rule = rule.clone();
        if !rule.resources.is_empty() {
            let urls = Vec::new();
            let of_resources = Rule {
                non_resource_urls: urls,
                ..rule.clone()
            };
            resources.push(of_resources);
        }
        if !rule.non_resource_urls.is_empty() {
            paths.push(Rule {
                verbs: rule.verbs,
                non_resource_urls: rule.non_resource_urls,
                ..Rule::default()
            });
        }
    };
    let mut errors = Vec::new();
    {
        let rights = call.server.inner.cache.rights.read();
        let (rules, missing) = rights.rules(identity, namespace);
        // Who may do everything whatever roles there are mostly has the role for it, too.
        let everything = Rule::everything();
        let beyond = everything.iter().filter(|rule| !rules.contains(rule));
        if identity.is_superuser() {
            beyond.for_each(&mut list);
        }
        rules.iter().copied().for_each(list);
        errors.extend(missing.iter().map(ToString::to_string));
    }
    if identity.node().is_some() {
        errors.push("node authorizer does not support user rule resolution".to_owned());
    }
    let mut status = json!({
        "resourceRules": resources,
        "nonResourceRules": paths,
        // What a node may besides depends on its pods.
        "incomplete": !errors.is_empty(),
    });
    if !errors.is_empty() {
        status["evaluationError"] = errors.join(", ").into();
    }
    Ok(status)
}
