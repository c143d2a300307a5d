//! PodDisruptionBudgets.

use super::field::present;
use super::names::one_of;
use super::{Hooks, template};
use crate::status::{FieldError, FieldPath};
use serde_json::{Value, json};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "policy/v1 PodDisruptionBudget",
    prepare: |budget, old, _| {
        if old.is_none() {
            budget["status"] = json!({"currentHealthy": 0, "desiredHealthy": 0,
                "disruptionsAllowed": 0, "expectedPods": 0});
        }
    },
    validate,
    ..Hooks::NONE
};

fn validate(budget: &Value, _old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &budget["spec"];
    let path = FieldPath::new("spec");
    let given = |field: &str| present(spec, field).is_some();
    if given("/minAvailable") && given("/maxUnavailable") {
        errors.push(FieldError::invalid(
            &path,
            spec.clone(),
            "minAvailable and maxUnavailable cannot be both set",
        ));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        if present(spec, &format!("/{field}")).is_some() {
            template::share(spec, field, &path, errors);
        }
    }
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    one_of(errors, spec, "unhealthyPodEvictionPolicy", &path, &policies);
    template::label_selector(&spec["selector"], &path.child("selector"), errors);
}
