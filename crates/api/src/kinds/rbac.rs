//! Roles and their bindings.

use super::field::{child, children, default_text, items, root, text};
use super::{Hooks, names, template};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

/// Bindings within a namespace.
pub(super) const ROLE_BINDING: Hooks = Hooks {
    kind: "rbac.authorization.k8s.io/v1 RoleBinding",
    default: fill_binding,
    validate: validate_binding,
    ..Hooks::NONE
};

/// Bindings for the whole cluster.
pub(super) const CLUSTER_ROLE_BINDING: Hooks = Hooks {
    kind: "rbac.authorization.k8s.io/v1 ClusterRoleBinding",
    default: fill_binding,
    validate: validate_binding,
    ..Hooks::NONE
};

/// Roles within a namespace.
pub(super) const ROLE: Hooks = Hooks {
    kind: "rbac.authorization.k8s.io/v1 Role",
    validate: validate_role,
    ..Hooks::NONE
};

/// Roles for the whole cluster.
pub(super) const CLUSTER_ROLE: Hooks = Hooks {
    kind: "rbac.authorization.k8s.io/v1 ClusterRole",
    validate: validate_role,
    ..Hooks::NONE
};

const GROUP: &str = "rbac.authorization.k8s.io";

fn fill_binding(binding: &mut Value) {
    let Some(binding) = root(binding) else { return };
    if let Some(role) = child(binding, "roleRef") {
        default_text(role, "apiGroup", GROUP);
    }
    for subject in children(binding, "subjects") {
        if subject
            .get("kind")
            .is_some_and(|kind| kind == "User" || kind == "Group")
        {
            default_text(subject, "apiGroup", GROUP);
        }
    }
}

fn validate_binding(binding: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("roleRef");
    let group = text(binding, "/roleRef/apiGroup");
    if group != GROUP {
        let path = path.child("apiGroup");
        errors.push(FieldError::not_supported(&path, group, &[GROUP]));
    }
    let namespaced = text(binding, "/kind") == "RoleBinding";
    let kinds: &[&str] = if namespaced {
        &["ClusterRole", "Role"]
    } else {
        &["ClusterRole"]
    };
    let kind = text(binding, "/roleRef/kind");
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported(&path.child("kind"), kind, kinds));
    }
    match text(binding, "/roleRef/name") {
        "" => errors.push(FieldError::required(&path.child("name"), "")),
        name => names::check(errors, &path.child("name"), name, names::path_segment),
    }
    for (index, subject) in items(binding, "/subjects").iter().enumerate() {
        let path = FieldPath::new("subjects").index(index);
        validate_subject(subject, namespaced, &path, errors);
    }
    if old.is_some_and(|old| old["roleRef"] != binding["roleRef"]) {
        errors.push(FieldError::invalid(
            &path,
            binding["roleRef"].clone(),
            "cannot change roleRef",
        ));
    }
}

fn validate_subject(
    subject: &Value,
    namespaced: bool,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    if text(subject, "/name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    let group = text(subject, "/apiGroup");
    match text(subject, "/kind") {
        "ServiceAccount" => {
            let name = text(subject, "/name");
            if !name.is_empty() {
                names::check(errors, &path.child("name"), name, names::dns_subdomain);
            }
            if !namespaced && text(subject, "/namespace").is_empty() {
                errors.push(FieldError::required(&path.child("namespace"), ""));
            }
            if !group.is_empty() {
                let path = path.child("apiGroup");
                errors.push(FieldError::not_supported(&path, group, &[""]));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                let path = path.child("apiGroup");
                errors.push(FieldError::not_supported(&path, group, &[GROUP]));
            }
        }
        // The schema requires it.
        "" => {}
        kind => errors.push(FieldError::not_supported(
            &path.child("kind"),
            kind,
            &["Group", "ServiceAccount", "User"],
        )),
    }
}

fn validate_role(role: &Value, _old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let namespaced = text(role, "/kind") == "Role";
    for (index, rule) in items(role, "/rules").iter().enumerate() {
        let path = FieldPath::new("rules").index(index);
        let empty = |field: &str| items(rule, &format!("/{field}")).is_empty();
        if empty("verbs") {
            let path = path.child("verbs");
            errors.push(FieldError::required(
                &path,
                "verbs must contain at least one value",
            ));
        }
        if !empty("nonResourceURLs") {
            let mixed = ["apiGroups", "resources", "resourceNames"]
                .iter()
                .any(|field| !empty(field));
            for (wrong, why) in [
                (
                    namespaced,
                    "namespaced rules cannot apply to non-resource URLs",
                ),
                (
                    mixed,
                    "rules cannot apply to both regular resources and non-resource URLs",
                ),
            ] {
                if wrong {
                    let path = path.child("nonResourceURLs");
                    let urls = rule["nonResourceURLs"].clone();
                    errors.push(FieldError::invalid(&path, urls, why));
                }
            }
            continue;
        }
        if empty("apiGroups") {
            errors.push(FieldError::required(
                &path.child("apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if empty("resources") {
            errors.push(FieldError::required(
                &path.child("resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
    let path = FieldPath::new("aggregationRule").child("clusterRoleSelectors");
    for (index, selector) in items(role, "/aggregationRule/clusterRoleSelectors")
        .iter()
        .enumerate()
    {
        template::label_selector(selector, &path.index(index), errors);
    }
}
