//! May they? The three access reviews: one decision, asked about oneself or about anybody.
//!
//! The source of the rules and their words is Kubernetes' `pkg/apis/authorization/validation`.

use std::collections::BTreeMap;

use api::Status;
use api::status::{FieldError, FieldPath};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::authz::{Allowed, Attributes};
use crate::dispatch::Call;
use crate::identity::Identity;

/// What is asked, and about whom.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<PathAttributes>,
    user: String,
    groups: Option<Vec<String>>,
    uid: String,
    extra: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ResourceAttributes {
    namespace: String,
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    name: String,
    field_selector: Option<Selector>,
    label_selector: Option<Selector>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PathAttributes {
    path: String,
    verb: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Selector {
    raw_selector: String,
    requirements: Option<Vec<Requirement>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Requirement {
    key: String,
    operator: String,
    values: Option<Vec<String>>,
}

/// The status of an access review. Fills in what its metadata leaves to the path.
///
/// # Errors
///
/// 422 where the question is none.
pub(super) fn review(call: &Call, review: &mut Value) -> Result<Value, Status> {
    let own = call.resource.plural == "selfsubjectaccessreviews";
    let local = call.namespace();
    if let Some(namespace) = local
        && review["metadata"]["namespace"].is_null()
    {
        review["metadata"]["namespace"] = namespace.into();
    }
    let spec = Option::<Spec>::deserialize(&review["spec"])
        .map_err(|e| Status::bad_request(format!("the review's spec cannot be read: {e}")))?
        .unwrap_or_default();
    let mut errors = Vec::new();
    spec.check(own, &review["spec"], &mut errors);
    check_metadata(&review["metadata"], local.is_some(), &mut errors);
    if let Some(namespace) = local {
        spec.check_local(
            review["metadata"]["namespace"].as_str(),
            &review["spec"],
            &mut errors,
        );
        if errors.is_empty() && review["metadata"]["namespace"] != namespace {
            let why = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Status::bad_request(why));
        }
    }
    if !errors.is_empty() {
        return Err(Status::invalid(call.resource, "", errors));
    }
    let other;
    let identity = if own {
        &call.identity
    } else {
        other = spec.identity();
        &other
    };
    let decision = match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(asked), _) => call
            .server
            .decide(identity, &asked.attributes(), Allowed::Explained),
        (None, asked) => {
            let asked = asked.as_ref().map_or(("", ""), |a| (&a.verb, &a.path));
            call.server
                .decide_path(identity, asked.0, asked.1, Allowed::Explained)
        }
    };
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    Ok(status)
}

impl Spec {
    /// `given` is the spec as it came, to be shown.
    fn check(&self, own: bool, given: &Value, errors: &mut Vec<FieldError>) {
        let spec = FieldPath::new("spec");
        let resource = self.resource_attributes.as_ref();
        match (resource, &self.non_resource_attributes) {
            (Some(_), Some(_)) => errors.push(FieldError::invalid(
                &spec.child("nonResourceAttributes"),
                given["nonResourceAttributes"].clone(),
                "cannot be specified in combination with resourceAttributes",
            )),
            (None, None) => errors.push(FieldError::invalid(
                &spec.child("resourceAttributes"),
                Value::Null,
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            )),
            _ => {}
        }
        let nobody = self.user.is_empty() && self.groups.as_ref().is_none_or(Vec::is_empty);
        if !own && nobody {
            errors.push(FieldError::invalid(
                &spec.child("user"),
                "",
                "at least one of user or group must be specified",
            ));
        }
        let path = spec.child("resourceAttributes");
        for (name, selector) in [
            (
                "fieldSelector",
                resource.and_then(|r| r.field_selector.as_ref()),
            ),
            (
                "labelSelector",
                resource.and_then(|r| r.label_selector.as_ref()),
            ),
        ] {
            if let Some(selector) = selector {
                selector.check(&path.child(name), errors);
            }
        }
    }

    /// What besides is asked of a review within a namespace.
    fn check_local(&self, namespace: Option<&str>, given: &Value, errors: &mut Vec<FieldError>) {
        let spec = FieldPath::new("spec");
        if let Some(asked) = &self.resource_attributes
            && Some(asked.namespace.as_str()) != namespace
        {
            errors.push(FieldError::invalid(
                &spec.child("resourceAttributes").child("namespace"),
                asked.namespace.as_str(),
                "must match metadata.namespace",
            ));
        }
        if self.non_resource_attributes.is_some() {
            errors.push(FieldError::invalid(
                &spec.child("nonResourceAttributes"),
                given["nonResourceAttributes"].clone(),
                "disallowed on this kind of request",
            ));
        }
    }

    /// The user that a review is about: exactly what it says, no group is added.
    fn identity(&self) -> Identity {
        Identity {
            user: self.user.clone(),
            groups: self.groups.clone().unwrap_or_default(),
            uid: self.uid.clone(),
            extra: self.extra.clone().unwrap_or_default(),
        }
    }
}

impl ResourceAttributes {
    fn attributes(&self) -> Attributes<'_> {
        let selector = self.field_selector.as_ref();
        Attributes {
            verb: &self.verb,
            group: &self.group,
            resource: &self.resource,
            subresource: &self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            node_name: selector.and_then(|s| s.exact("spec.nodeName")),
            absent: false,
            claim: None,
            disk: None,
        }
    }
}

impl Selector {
    fn check(&self, path: &FieldPath, errors: &mut Vec<FieldError>) {
        let none = self.requirements.as_ref().is_none_or(Vec::is_empty);
        if !self.raw_selector.is_empty() && !none {
            errors.push(FieldError::invalid(
                &path.child("rawSelector"),
                self.raw_selector.as_str(),
                "may not specified at the same time as requirements",
            ));
        }
        if self.raw_selector.is_empty() && none {
            let why = format!("when {path} is specified, requirements or rawSelector is required");
            errors.push(FieldError::required(&path.child("requirements"), &why));
        }
    }

    /// The value that the requirements demand of a field. What is written raw demands nothing here.
    fn exact(&self, field: &str) -> Option<&str> {
        let of = |r: &&Requirement| r.key == field && r.operator == "In";
        let found = self.requirements.iter().flatten().find(of)?;
        match found.values.as_deref() {
            Some([value]) => Some(value),
            _ => None,
        }
    }
}

/// Reviews have no names and no labels: nothing but what the server puts there.
fn check_metadata(metadata: &Value, local: bool, errors: &mut Vec<FieldError>) {
    let fields = metadata.as_object().into_iter().flatten();
    let given = |(name, value): (&String, &Value)| {
        let kept = name == "managedFields" || (local && name == "namespace");
        !kept && !value.is_null()
    };
    if fields.into_iter().any(given) {
        let why = if local {
            "must be empty except for namespace"
        } else {
            "must be empty"
        };
        let path = FieldPath::new("metadata");
        errors.push(FieldError::invalid(&path, metadata.clone(), why));
    }
}
