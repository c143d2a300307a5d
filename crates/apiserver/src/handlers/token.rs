//! `serviceaccounts/token`, and the review of a token.

use api::codec::{Decoded, Expected};
use api::status::{FieldError, FieldPath, Subject};
use api::write::Context;
use api::{Object, Resource, Status};
use http::StatusCode;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use serde_json::{Value, json};

use super::review::user_info;
use super::write;
use crate::admission;
use crate::body::Response;
use crate::dispatch::Call;
use crate::options::WriteOptions;
use crate::respond;
use crate::tokens::{self, Bound, Claims, ISSUER, Named};

/// Seconds that a token lives for which nothing is said.
const LIFE: i64 = 3600;
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;

/// Answers a request for a token of a service account.
pub(super) async fn request(call: &Call) -> Result<Response, Status> {
    let options = WriteOptions::read("CreateOptions", &call.query, &call.headers)?;
    let sub = call.resource.subresource("token");
    let sub = sub.ok_or_else(Status::no_such_resource)?;
    let expected = Expected::subresource(call.resource, sub);
    let Decoded {
        mut value,
        warnings,
    } = write::decode(call, expected)?;
    write::place(call, &mut value)?;
    let account = call.server.read(call.key().as_bytes()).await?;
    let account = account.ok_or_else(|| call.not_found())?;
    complete(&mut value)?;
    let bound = bind(call, &account, &value["spec"]["boundObjectRef"])?;
    if let Some(node) = call
        .identity
        .node()
        .filter(|_| !call.identity.is_superuser())
    {
        let pod = bound
            .pod
            .as_ref()
            .and_then(|pod| find::<Pod>(call, &pod.name));
        let pod = pod.and_then(|pod| pod.value().ok());
        admission::node_token(node, &value["spec"], pod.as_ref())
            .map_err(|why| Status::forbidden(call.resource, call.name(), &why))?;
    }
    let context = write::context(call, &options);
    let claims = claims(&value["spec"], bound, &context);
    let expires = context.now + SignedDuration::from_secs(claims.exp - claims.iat);
    value["metadata"]["creationTimestamp"] = context.now.to_string().into();
    value["status"] = json!({
        "token": call.server.sign(&claims)?,
        "expirationTimestamp": expires.to_string(),
    });
    let response = respond::value(StatusCode::CREATED, call.form.media, &value)?;
    Ok(respond::warn(response, &warnings))
}

/// Fills in what a request leaves out, and judges the rest.
fn complete(request: &mut Value) -> Result<(), Status> {
    let spec = &mut request["spec"];
    if spec["audiences"].as_array().is_none_or(Vec::is_empty) {
        spec["audiences"] = json!(tokens::own_audiences());
    }
    if spec["expirationSeconds"].is_null() {
        spec["expirationSeconds"] = LIFE.into();
    }
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or_default();
    let why = match seconds {
        ..SHORTEST => "may not specify a duration less than 10 minutes",
        SHORTEST..=LONGEST => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let path = FieldPath::new("spec").child("expirationSeconds");
    let error = FieldError::invalid(&path, seconds, why);
    Err(Status::invalid_kind(
        "authentication.k8s.io",
        "TokenRequest",
        "",
        vec![error],
    ))
}

fn find<K: k8s_openapi::Resource>(call: &Call, name: &str) -> Option<Object> {
    let resource = Resource::of::<K>();
    let namespace = call.namespace().filter(|_| resource.namespaced);
    let entry = call
        .server
        .local(resource.key(namespace, name).as_bytes())?;
    Object::from_stored(&entry.value, entry.modified).ok()
}

/// What the token is bound to: the account, and the object that the request names.
fn bind(call: &Call, account: &Object, reference: &Value) -> Result<Bound, Status> {
    let mut bound = Bound {
        namespace: account.namespace().to_owned(),
        serviceaccount: named(account),
        ..Bound::default()
    };
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    if !reference.is_object() {
        return Ok(bound);
    }
    let (kind, name) = (text("kind"), text("name"));
    let missing = |resource| Status::not_found(resource, name);
    let object = match (text("apiVersion"), kind) {
        ("v1", "Pod") => {
            let object = find::<Pod>(call, name).ok_or_else(|| missing(Resource::of::<Pod>()))?;
            let pod = object
                .value()
                .map_err(|e| Status::internal(e.to_string()))?;
            if pod["spec"]["serviceAccountName"] != account.name() {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    account.name()
                )));
            }
            if let Some(node) = pod["spec"]["nodeName"].as_str() {
                bound.node = Some(find::<Node>(call, node).map_or_else(
                    || Named {
                        name: node.to_owned(),
                        uid: String::new(),
                    },
                    |node| named(&node),
                ));
            }
            bound.pod = Some(named(&object));
            object
        }
        ("v1", "Node") => {
            let node = find::<Node>(call, name).ok_or_else(|| missing(Resource::of::<Node>()))?;
            bound.node = Some(named(&node));
            node
        }
        ("v1", "Secret") => {
            let secret = find::<Secret>(call, name);
            let secret = secret.ok_or_else(|| missing(Resource::of::<Secret>()))?;
            bound.secret = Some(named(&secret));
            secret
        }
        (version, kind) => {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind}"
            )));
        }
    };
    let uid = text("uid");
    if !uid.is_empty() && uid != object.uid() {
        let why = admission::another_uid(uid);
        let subject = Subject {
            group: "",
            name: kind,
        };
        return Err(Status::conflict(subject, name, &why));
    }
    Ok(bound)
}

fn named(object: &Object) -> Named {
    Named {
        name: object.name().to_owned(),
        uid: object.uid().to_owned(),
    }
}

fn claims(spec: &Value, bound: Bound, context: &Context) -> Claims {
    let audiences = spec["audiences"].as_array();
    let now = context.now.as_second();
    Claims {
        aud: audiences
            .into_iter()
            .flatten()
            .filter_map(|a| Some(a.as_str()?.to_owned()))
            .collect(),
        exp: now + spec["expirationSeconds"].as_i64().unwrap_or(LIFE),
        iat: now,
        nbf: now,
        iss: ISSUER.to_owned(),
        jti: context.uid.clone(),
        sub: Claims::subject(&bound.namespace, &bound.serviceaccount.name),
        bound,
    }
}

/// What a review says of the token that it holds.
pub(super) async fn review(call: &Call, review: &Value) -> Result<Value, Status> {
    let spec = &review["spec"];
    let token = spec["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let given: Vec<String> = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|a| Some(a.as_str()?.to_owned()))
        .collect();
    let wanted = if given.is_empty() {
        tokens::own_audiences()
    } else {
        given
    };
    Ok(match call.server.believe(token, &wanted).await? {
        Ok(bearer) => json!({
            "authenticated": true,
            "user": user_info(&bearer.identity),
            "audiences": bearer.audiences,
        }),
        Err(tokens::Fault::NotOurs) => json!({"user": {}, "error": "invalid bearer token"}),
        Err(fault) => json!({"user": {}, "error": format!("[invalid bearer token, {fault}]")}),
    })
}
