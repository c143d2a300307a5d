//! IngressClasses: who serves an ingress.

use super::field::{child, default_text, present, root, text};
use super::{Hooks, ingress, names, template};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "networking.k8s.io/v1 IngressClass",
    default: |class| {
        if let Some(parameters) = root(class)
            .and_then(|class| child(class, "spec"))
            .and_then(|spec| child(spec, "parameters"))
        {
            default_text(parameters, "scope", "Cluster");
        }
    },
    validate,
    ..Hooks::NONE
};

const LONGEST_CONTROLLER: usize = 250;

fn validate(class: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &class["spec"];
    let path = FieldPath::new("spec");
    if let Some(old) = old {
        template::immutable(spec, &old["spec"], "controller", &path, errors);
    }
    let controller = text(spec, "/controller");
    let at = path.child("controller");
    if controller.len() > LONGEST_CONTROLLER {
        errors.push(FieldError::too_long(&at, LONGEST_CONTROLLER));
    }
    names::domain_prefixed_path(controller, &at, errors);
    let Some(parameters) = present(spec, "/parameters") else {
        return;
    };
    let path = path.child("parameters");
    ingress::typed_reference(parameters, &path, errors);
    names::one_of(
        errors,
        parameters,
        "scope",
        &path,
        &["Cluster", "Namespace"],
    );
    let namespace = present(parameters, "/namespace");
    let path = path.child("namespace");
    match (text(parameters, "/scope"), namespace) {
        ("Namespace", None) => errors.push(FieldError::required(
            &path,
            "`parameters.scope` is set to 'Namespace'",
        )),
        ("Namespace", Some(name)) => {
            names::check(errors, &path, text(name, ""), names::dns_label);
        }
        ("Cluster", Some(_)) => errors.push(FieldError::forbidden(
            &path,
            "`parameters.scope` is set to 'Cluster'",
        )),
        _ => {}
    }
}
