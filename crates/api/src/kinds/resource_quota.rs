//! ResourceQuotas.

use super::field::{items, map, text};
use super::{Hooks, quantities};
use crate::status::{FieldError, FieldPath};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 ResourceQuota",
    prepare: |quota, old, _| {
        if old.is_none() {
            quota["status"] = json!({});
        }
    },
    validate,
    ..Hooks::NONE
};

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

fn validate(quota: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &quota["spec"];
    if old.is_some_and(|old| old["spec"] == *spec) {
        return;
    }
    let path = FieldPath::new("spec");
    for (resource, amount) in map(spec, "/hard").into_iter().flatten() {
        let path = path.child("hard").key(resource);
        quantities::quota_resource_name(resource, &path, errors);
        quantities::amount(resource, amount, &path, errors);
    }
    scopes(spec, &path.child("scopes"), errors);
    selector(spec, &path, errors);
    let set = |quota: &Value| -> BTreeSet<String> {
        let held = items(quota, "/spec/scopes").iter();
        held.map(|scope| text(scope, "").to_owned()).collect()
    };
    if old.is_some_and(|old| set(old) != set(quota)) {
        let held = items(spec, "/scopes").to_vec();
        let path = path.child("scopes");
        errors.push(FieldError::invalid(&path, held, "field is immutable"));
    }
}

fn scopes(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let scopes = items(spec, "/scopes");
    let mut fault = |why: &str| {
        errors.push(FieldError::invalid(path, scopes.to_vec(), why));
    };
    for scope in scopes {
        let scope = text(scope, "");
        if !SCOPES.contains(&scope) {
            fault("unsupported scope");
        }
        for _ in misfits(spec, scope) {
            fault("unsupported scope applied to resource");
        }
    }
    let named: BTreeSet<&str> = scopes.iter().map(|scope| text(scope, "")).collect();
    for _ in 0..conflicts(&named) {
        fault("conflicting scopes");
    }
}

/// The limited resources that the scope says nothing about.
fn misfits<'a>(spec: &'a Value, scope: &str) -> impl Iterator<Item = &'a String> {
    let scope = scope.to_owned();
    let limited = map(spec, "/hard").into_iter().flat_map(Map::keys);
    limited.filter(move |resource| {
        let bytes = matches!(
            resource.as_str(),
            "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory"
        );
        // Whether a scope of pods takes these is not settled by their names.
        let unsettled = resource.contains("ephemeral-storage") || resource.contains("hugepages-");
        let fits = match scope.as_str() {
            "BestEffort" => *resource == "pods",
            "VolumeAttributesClass" => {
                matches!(
                    resource.as_str(),
                    "persistentvolumeclaims" | "requests.storage"
                )
            }
            known if SCOPES.contains(&known) => *resource == "pods" || bytes,
            _ => true,
        };
        quantities::is_standard_for_quotas(resource) && !unsettled && !fits
    })
}

fn conflicts(scopes: &BTreeSet<&str>) -> usize {
    [
        ["BestEffort", "NotBestEffort"],
        ["Terminating", "NotTerminating"],
    ]
    .iter()
    .filter(|pair| pair.iter().all(|scope| scopes.contains(scope)))
    .count()
}

fn selector(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let path = path.child("scopeSelector").child("matchExpressions");
    let expressions = items(spec, "/scopeSelector/matchExpressions");
    for expression in expressions {
        let scope = text(expression, "/scopeName");
        if !SCOPES.contains(&scope) {
            let path = path.child("scopeName");
            errors.push(FieldError::invalid(&path, scope, "unsupported scope"));
        }
        for _ in misfits(spec, scope) {
            let held = spec["scopeSelector"].clone();
            let why = "unsupported scope applied to resource";
            errors.push(FieldError::invalid(&path, held, why));
        }
        let operator = text(expression, "/operator");
        let by_name = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if SCOPES.contains(&scope) && !by_name && operator != "Exists" {
            errors.push(FieldError::invalid(
                &path.child("operator"),
                operator,
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                 ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                 ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            ));
        }
        let values = items(expression, "/values");
        match operator {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                &path.child("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::invalid(
                &path.child("values"),
                values.to_vec(),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                &path.child("operator"),
                other,
                "not a valid selector operator",
            )),
        }
    }
    let named = expressions.iter().map(|held| text(held, "/scopeName"));
    for _ in 0..conflicts(&named.collect()) {
        let held = items(spec, "/scopes").to_vec();
        errors.push(FieldError::invalid(&path, held, "conflicting scopes"));
    }
}
