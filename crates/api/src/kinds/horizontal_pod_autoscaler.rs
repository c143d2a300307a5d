//! HorizontalPodAutoscalers, in both versions.

mod scaling;

use super::Hooks;
use super::field::{absent, child, default, int, items, maybe_int, spec, text};
use crate::status::{FieldError, FieldPath};
use crate::write::Context;
use serde_json::{Value, json};

pub(super) const V1: Hooks = Hooks {
    kind: "autoscaling/v1 HorizontalPodAutoscaler",
    default: |scaler| {
        if let Some(spec) = spec(scaler) {
            default(spec, "minReplicas", 1);
        }
    },
    prepare,
    validate,
};

pub(super) const V2: Hooks = Hooks {
    kind: "autoscaling/v2 HorizontalPodAutoscaler",
    default: |scaler| {
        let Some(spec) = spec(scaler) else { return };
        default(spec, "minReplicas", 1);
        if absent(spec, "metrics") || spec["metrics"] == json!([]) {
            spec.insert(
                "metrics".to_owned(),
                json!([{"type": "Resource", "resource": {"name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 80}}}]),
            );
        }
        if let Some(behavior) = child(spec, "behavior") {
            scaling::fill(behavior);
        }
    },
    prepare,
    validate,
};

fn prepare(scaler: &mut Value, old: Option<&Value>, _context: &Context) {
    if old.is_some() {
        return;
    }
    scaler["status"] = if text(scaler, "/apiVersion") == "autoscaling/v1" {
        json!({"currentReplicas": 0, "desiredReplicas": 0})
    } else {
        json!({"currentMetrics": null, "desiredReplicas": 0})
    };
}

fn validate(scaler: &Value, _old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("spec");
    let least = maybe_int(scaler, "/spec/minReplicas").unwrap_or(1);
    let most = int(scaler, "/spec/maxReplicas");
    if least < 1 {
        errors.push(FieldError::invalid(
            &path.child("minReplicas"),
            least,
            "must be greater than or equal to 1",
        ));
    }
    if most < 1 {
        let path = path.child("maxReplicas");
        errors.push(FieldError::invalid(&path, most, "must be greater than 0"));
    } else if most < least {
        errors.push(FieldError::invalid(
            &path.child("maxReplicas"),
            most,
            "must be greater than or equal to `minReplicas`",
        ));
    }
    let target = &scaler["spec"]["scaleTargetRef"];
    scaling::reference(target, &path.child("scaleTargetRef"), errors);
    // What version 1 says of the CPU is version 2's first metric, under whose name it is judged.
    let percent = maybe_int(scaler, "/spec/targetCPUUtilizationPercentage");
    if let Some(percent) = percent.filter(|held| *held < 1) {
        let target = path.child("metrics").index(0).child("resource");
        let path = target.child("target").child("averageUtilization");
        let why = "must be greater than 0";
        errors.push(FieldError::invalid(&path, percent, why));
    }
    for (index, metric) in items(scaler, "/spec/metrics").iter().enumerate() {
        scaling::metric(metric, &path.child("metrics").index(index), errors);
    }
    let behavior = &scaler["spec"]["behavior"];
    scaling::behavior(behavior, &path.child("behavior"), errors);
}
