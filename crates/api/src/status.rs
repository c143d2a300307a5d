//! `metav1.Status`: the API's errors, with Kubernetes' codes, reasons and causes.
//!
//! Constructors are named as in `k8s.io/apimachinery/pkg/api/errors`.

mod field;

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value, json};

pub use field::{FieldError, FieldErrorKind, FieldPath};

use crate::resource::{Resource, qualified};

/// An answer that is not an object: mostly an error.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason; empty where Kubernetes gives none.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<Details>>,
}

/// `metav1.StatusDetails`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The API group.
    pub group: String,
    /// The resource (`pods`), or for validation errors the kind (`Pod`).
    pub kind: String,
    /// The object's uid.
    pub uid: String,
    /// Single faults.
    pub causes: Vec<Cause>,
    /// Seconds after which to try again; 0: not given.
    pub retry_after_seconds: u32,
}

/// `metav1.StatusCause`.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldManagerConflict`, …
    pub reason: String,
    /// For people.
    pub message: String,
    /// Path of the field.
    pub field: String,
}

/// The group and resource or kind that an error is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Plural, or kind.
    pub name: &'a str,
}

impl<'a> From<&'a Resource> for Subject<'a> {
    fn from(resource: &'a Resource) -> Self {
        Self {
            group: resource.group,
            name: resource.plural,
        }
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&qualified(self.name, self.group))
    }
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    fn about(mut self, subject: Subject<'_>, name: &str) -> Self {
        self.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: subject.group.to_owned(),
            kind: subject.name.to_owned(),
            ..Details::default()
        }));
        self
    }

    fn with_empty_details(mut self) -> Self {
        self.details = Some(Box::default());
        self
    }

    /// 404: `pods "web" not found`.
    pub fn not_found<'a>(subject: impl Into<Subject<'a>>, name: &str) -> Self {
        let subject = subject.into();
        Self::new(404, "NotFound", format!("{subject} {name:?} not found")).about(subject, name)
    }

    /// 404 for a path that no resource serves.
    pub fn no_such_resource() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
        .with_empty_details()
    }

    /// 409: `pods "web" already exists`.
    pub fn already_exists<'a>(subject: impl Into<Subject<'a>>, name: &str) -> Self {
        let subject = subject.into();
        Self::new(
            409,
            "AlreadyExists",
            format!("{subject} {name:?} already exists"),
        )
        .about(subject, name)
    }

    /// 409: the write lost against another, or a precondition does not hold.
    pub fn conflict<'a>(subject: impl Into<Subject<'a>>, name: &str, why: &str) -> Self {
        let subject = subject.into();
        let message = format!("Operation cannot be fulfilled on {subject} {name:?}: {why}");
        Self::new(409, "Conflict", message).about(subject, name)
    }

    /// 409: the object has another resourceVersion than the write was made for.
    pub fn modified<'a>(subject: impl Into<Subject<'a>>, name: &str) -> Self {
        Self::conflict(
            subject,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409: server-side apply would take fields from other managers.
    pub fn apply_conflict(message: impl Into<String>, causes: Vec<Cause>) -> Self {
        let mut status = Self::new(409, "Conflict", message);
        status.details = Some(Box::new(Details {
            causes,
            ..Details::default()
        }));
        status
    }

    /// 422: the object's fields are not valid. `errors` must not be empty.
    pub fn invalid(resource: &Resource, name: &str, errors: Vec<FieldError>) -> Self {
        Self::invalid_kind(resource.group, resource.kind, name, errors)
    }

    /// 422 for a kind that is not a resource of its own (`Scale`, `PatchOptions`).
    pub fn invalid_kind(group: &str, kind: &str, name: &str, errors: Vec<FieldError>) -> Self {
        // A body may have as many faults as fields; nobody reads more than these.
        let errors = &errors[..errors.len().min(1_000)];
        let mut told = BTreeSet::new();
        let texts = errors.iter().map(FieldError::to_string);
        let texts: Vec<String> = texts.filter(|text| told.insert(text.clone())).collect();
        let all = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} {name:?} is invalid: {all}", qualified(kind, group));
        let mut status =
            Self::new(422, "Invalid", message).about(Subject { group, name: kind }, name);
        if let Some(details) = &mut status.details {
            details.causes = errors.iter().map(FieldError::cause).collect();
        }
        status
    }

    /// 422 without causes: a patch that cannot be carried out.
    pub fn unprocessable() -> Self {
        Self::new(
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
        )
        .with_empty_details()
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, "Unauthorized", message)
    }

    /// 403: `pods "web" is forbidden: why`. `name` is empty for collections.
    pub fn forbidden<'a>(subject: impl Into<Subject<'a>>, name: &str, why: &str) -> Self {
        let subject = subject.into();
        let message = if name.is_empty() {
            format!("{subject} is forbidden: {why}")
        } else {
            format!("{subject} {name:?} is forbidden: {why}")
        };
        Self::new(403, "Forbidden", message).about(subject, name)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .with_empty_details()
    }

    /// 406. `served` lists the media types there are.
    pub fn not_acceptable(served: &str) -> Self {
        let message = format!("406: Not Acceptable\n\nAvailable representations: {served}");
        Self::new(406, "NotAcceptable", message).with_empty_details()
    }

    /// 410: the resourceVersion or continue token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413.
    pub fn request_entity_too_large(message: impl Into<String>) -> Self {
        let message = format!("Request entity too large: {}", message.into());
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415 of a write's body.
    pub fn unsupported_media_type(served: &str) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {served}"
            ),
        )
    }

    /// 415 of a patch.
    pub fn unsupported_patch_type() -> Self {
        Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type").with_empty_details()
    }

    /// 429: try again after so many seconds.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::new(429, "TooManyRequests", message);
        status.details = Some(Box::new(Details {
            retry_after_seconds,
            ..Details::default()
        }));
        status
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        let mut status = Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {message}"),
        );
        status.details = Some(Box::new(Details {
            causes: vec![Cause {
                reason: String::new(),
                message,
                field: String::new(),
            }],
            ..Details::default()
        }));
        status
    }

    /// 500 without a reason, as a plain Go error becomes.
    pub fn plain_error(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504: the request's time is over.
    pub fn timeout(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Self::new(504, "Timeout", format!("Timeout: {}", message.into()));
        status.details = Some(Box::new(Details {
            retry_after_seconds,
            ..Details::default()
        }));
        status
    }

    /// An error that another server answered with. Unknown reasons are kept as none.
    pub fn from_value(value: &Value) -> Option<Self> {
        if value["kind"] != "Status" {
            return None;
        }
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let details = value["details"].as_object().map(|d| {
            let get = |key: &str| d.get(key).map(text).unwrap_or_default();
            let causes = d.get("causes").and_then(Value::as_array);
            Box::new(Details {
                name: get("name"),
                group: get("group"),
                kind: get("kind"),
                uid: get("uid"),
                causes: causes
                    .into_iter()
                    .flatten()
                    .map(|cause| Cause {
                        reason: text(&cause["reason"]),
                        message: text(&cause["message"]),
                        field: text(&cause["field"]),
                    })
                    .collect(),
                retry_after_seconds: d
                    .get("retryAfterSeconds")
                    .and_then(Value::as_u64)
                    .and_then(|s| u32::try_from(s).ok())
                    .unwrap_or_default(),
            })
        });
        let given = value["reason"].as_str().unwrap_or_default();
        Some(Self {
            code: value["code"]
                .as_u64()
                .and_then(|code| u16::try_from(code).ok())
                .unwrap_or(500),
            reason: REASONS.iter().find(|r| **r == given).copied().unwrap_or(""),
            message: text(&value["message"]),
            details,
        })
    }

    /// The error as its JSON object.
    pub fn to_value(&self) -> Value {
        let mut out = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if let Value::Object(map) = &mut out {
            if !self.reason.is_empty() {
                map.insert("reason".into(), self.reason.into());
            }
            if let Some(details) = &self.details {
                map.insert("details".into(), details.to_value());
            }
        }
        out
    }

    /// The error as its JSON text.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_value().to_string().into_bytes()
    }

    /// The answer to a deletion that left nothing: `status: Success` with the object's identity.
    pub fn deleted(resource: &Resource, name: &str, uid: &str) -> Value {
        let details = Details {
            name: name.to_owned(),
            group: resource.group.to_owned(),
            kind: resource.plural.to_owned(),
            uid: uid.to_owned(),
            ..Details::default()
        };
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details.to_value(),
        })
    }

    /// The answer to a request that made nothing to show (a binding): `status: Success`, 201.
    pub fn created() -> Value {
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "code": 201,
        })
    }

    /// Whether this is a 404 `NotFound`.
    pub fn is_not_found(&self) -> bool {
        self.reason == "NotFound"
    }

    /// Whether this is a 409 `AlreadyExists`.
    pub fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }

    /// Whether this is a 409 `Conflict`.
    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        let texts = [
            ("name", &self.name),
            ("group", &self.group),
            ("kind", &self.kind),
            ("uid", &self.uid),
        ];
        for (key, text) in texts {
            if !text.is_empty() {
                out.insert(key.into(), text.as_str().into());
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(Cause::to_value).collect();
            out.insert("causes".into(), Value::Array(causes));
        }
        if self.retry_after_seconds > 0 {
            out.insert("retryAfterSeconds".into(), self.retry_after_seconds.into());
        }
        Value::Object(out)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        let texts = [
            ("reason", &self.reason),
            ("message", &self.message),
            ("field", &self.field),
        ];
        for (key, text) in texts {
            if !text.is_empty() {
                out.insert(key.into(), text.as_str().into());
            }
        }
        Value::Object(out)
    }
}

const REASONS: [&str; 20] = [
    "AlreadyExists",
    "BadRequest",
    "Conflict",
    "Expired",
    "Forbidden",
    "Gone",
    "InternalError",
    "Invalid",
    "MethodNotAllowed",
    "NotAcceptable",
    "NotFound",
    "RequestEntityTooLarge",
    "ServerTimeout",
    "ServiceUnavailable",
    "StorageReadError",
    "StoreReadError",
    "Timeout",
    "TooManyRequests",
    "Unauthorized",
    "UnsupportedMediaType",
];

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    #[test]
    fn says_what_a_real_server_says() {
        let maps = Resource::of::<ConfigMap>();
        assert_eq!(
            Status::already_exists(maps, "a").to_value(),
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "configmaps \"a\" already exists", "reason": "AlreadyExists",
                "details": {"name": "a", "kind": "configmaps"}, "code": 409})
        );
        let deployments = Resource::of::<Deployment>();
        let path = FieldPath::new("spec").child("replicas");
        let error = FieldError::invalid(&path, -1, "must be greater than or equal to 0");
        assert_eq!(
            Status::invalid(deployments, "d", vec![error]).to_value(),
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "Deployment.apps \"d\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "reason": "Invalid",
                "details": {"name": "d", "group": "apps", "kind": "Deployment", "causes": [
                    {"reason": "FieldValueInvalid", "message": "Invalid value: -1: must be greater than or equal to 0", "field": "spec.replicas"}]},
                "code": 422})
        );
    }

    #[test]
    fn many_faults_are_listed_once_each() {
        let path = FieldPath::new("metadata").child("finalizers");
        let twice = vec![
            FieldError::forbidden(&path, "no"),
            FieldError::forbidden(&path, "no"),
        ];
        let status = Status::invalid(Resource::of::<ConfigMap>(), "a", twice);
        assert_eq!(
            status.message,
            "ConfigMap \"a\" is invalid: metadata.finalizers: Forbidden: no"
        );
        assert_eq!(status.details.expect("details").causes.len(), 2);
    }

    #[test]
    fn survives_the_way_over_the_wire() {
        for status in [
            Status::not_found(Resource::of::<Deployment>(), "d"),
            Status::too_many_requests("slow down", 3),
            Status::internal("broken"),
            Status::method_not_allowed(),
        ] {
            assert_eq!(Status::from_value(&status.to_value()), Some(status));
        }
        assert_eq!(Status::from_value(&json!({"kind": "Pod"})), None);
    }
}
