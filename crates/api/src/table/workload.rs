//! Rows of the kinds that make pods, and of those that steer how many.

use super::age::{between, since};
use super::cell::{
    age, capped, condition, count, int_or_string, labels, name, number, number_or, or_none,
    selector, selector_or_none, string, tristate,
};
use super::pod::containers;
use crate::kinds::field::{flag, int, items, maybe_int, present, text};
use jiff::Timestamp;
use serde_json::Value;

const TEMPLATE: &str = "/spec/template/spec";

pub(super) fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    vec![
        name(object),
        ready_of_desired(object),
        number(object, "/status/updatedReplicas"),
        number(object, "/status/availableReplicas"),
        age(object, now),
        names,
        images,
        selector(object, "/spec/selector").into(),
    ]
}

fn ready_of_desired(object: &Value) -> Value {
    format!(
        "{}/{}",
        int(object, "/status/readyReplicas"),
        int(object, "/spec/replicas")
    )
    .into()
}

pub(super) fn replica_set(object: &Value, now: Timestamp) -> Vec<Value> {
    replicas(object, now, selector_or_none(object, "/spec/selector"))
}

pub(super) fn replication_controller(object: &Value, now: Timestamp) -> Vec<Value> {
    replicas(object, now, labels(object, "/spec/selector"))
}

fn replicas(object: &Value, now: Timestamp, selector: Value) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    vec![
        name(object),
        number(object, "/spec/replicas"),
        number(object, "/status/replicas"),
        number(object, "/status/readyReplicas"),
        age(object, now),
        names,
        images,
        selector,
    ]
}

pub(super) fn stateful_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    vec![
        name(object),
        ready_of_desired(object),
        age(object, now),
        names,
        images,
    ]
}

pub(super) fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    vec![
        name(object),
        number(object, "/status/desiredNumberScheduled"),
        number(object, "/status/currentNumberScheduled"),
        number(object, "/status/numberReady"),
        number(object, "/status/updatedNumberScheduled"),
        number(object, "/status/numberAvailable"),
        labels(object, "/spec/template/spec/nodeSelector"),
        age(object, now),
        names,
        images,
        selector_or_none(object, "/spec/selector"),
    ]
}

pub(super) fn pod_template(object: &Value, _now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, "/template/spec");
    vec![
        name(object),
        names,
        images,
        labels(object, "/template/metadata/labels"),
    ]
}

pub(super) fn controller_revision(object: &Value, now: Timestamp) -> Vec<Value> {
    let controller = items(object, "/metadata/ownerReferences")
        .iter()
        .find(|owner| flag(owner, "/controller"))
        .map(|owner| {
            let kind = match text(owner, "/apiVersion").split_once('/') {
                Some((group, _)) => format!("{}.{group}", text(owner, "/kind")),
                None => text(owner, "/kind").to_owned(),
            };
            format!("{}/{}", kind.to_lowercase(), text(owner, "/name"))
        });
    vec![
        name(object),
        or_none(controller.as_deref().unwrap_or_default()).into(),
        number(object, "/revision"),
        age(object, now),
    ]
}

pub(super) fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    vec![
        name(object),
        job_status(object).into(),
        job_completions(object).into(),
        job_duration(object, now).into(),
        age(object, now),
        names,
        images,
        selector_or_none(object, "/spec/selector"),
    ]
}

fn job_status(job: &Value) -> &'static str {
    let is = |kind| condition(job, kind) == Some("True");
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if present(job, "/metadata/deletionTimestamp").is_some() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn job_completions(job: &Value) -> String {
    let succeeded = int(job, "/status/succeeded");
    match (
        maybe_int(job, "/spec/completions"),
        int(job, "/spec/parallelism"),
    ) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism @ 2..) => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn job_duration(job: &Value, now: Timestamp) -> String {
    let start = text(job, "/status/startTime");
    match text(job, "/status/completionTime") {
        _ if start.is_empty() => String::new(),
        "" => since(start, now),
        completion => between(start, completion),
    }
}

pub(super) fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, "/spec/jobTemplate/spec/template/spec");
    let last = match text(object, "/status/lastScheduleTime") {
        "" => "<none>".to_owned(),
        time => since(time, now),
    };
    vec![
        name(object),
        string(object, "/spec/schedule"),
        or_none(text(object, "/spec/timeZone")).into(),
        tristate(object, "/spec/suspend"),
        count(object, "/status/active"),
        last.into(),
        age(object, now),
        names,
        images,
        selector_or_none(object, "/spec/jobTemplate/spec/selector"),
    ]
}

pub(super) fn pod_disruption_budget(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        int_or_string(object, "/spec/minAvailable", "N/A"),
        int_or_string(object, "/spec/maxUnavailable", "N/A"),
        number(object, "/status/disruptionsAllowed"),
        age(object, now),
    ]
}

pub(super) fn horizontal_pod_autoscaler(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        format!(
            "{}/{}",
            text(object, "/spec/scaleTargetRef/kind"),
            text(object, "/spec/scaleTargetRef/name")
        )
        .into(),
        targets(object).into(),
        number_or(object, "/spec/minReplicas", "<unset>"),
        number(object, "/spec/maxReplicas"),
        number(object, "/status/currentReplicas"),
        age(object, now),
    ]
}

/// `current/target` of each metric, at most two of them.
fn targets(object: &Value) -> String {
    // autoscaling/v1 knows one target only.
    if let Some(target) = maybe_int(object, "/spec/targetCPUUtilizationPercentage") {
        let current = maybe_int(object, "/status/currentCPUUtilizationPercentage");
        return format!("cpu: {}/{target}%", percentage(current, "<unknown>"));
    }
    let metrics = items(object, "/spec/metrics");
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let current = items(object, "/status/currentMetrics");
    let shown: Vec<String> = metrics
        .iter()
        .enumerate()
        .map(|(index, metric)| target(metric, current.get(index).unwrap_or(&Value::Null)))
        .collect();
    capped(&shown, 2, shown.len(), ", ")
}

fn target(metric: &Value, status: &Value) -> String {
    let source = match text(metric, "/type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let of = |object: &Value, part: &str, field: &str| {
        text(object, &format!("/{source}/{part}/{field}")).to_owned()
    };
    let known = |value: String| {
        if value.is_empty() {
            "<unknown>".to_owned()
        } else {
            value
        }
    };
    let average = of(metric, "target", "averageValue");
    let current_average = known(of(status, "current", "averageValue"));
    match source {
        "pods" => format!("{current_average}/{average}"),
        "resource" | "containerResource" => {
            let resource = text(metric, &format!("/{source}/name"));
            if !average.is_empty() {
                return format!("{resource}: {current_average}/{average}");
            }
            let use_of = |object: &Value, part: &str| {
                maybe_int(object, &format!("/{source}/{part}/averageUtilization"))
            };
            format!(
                "{resource}: {}/{}",
                percentage(use_of(status, "current"), "<unknown>"),
                percentage(use_of(metric, "target"), "<auto>")
            )
        }
        _ if !average.is_empty() => format!("{current_average}/{average} (avg)"),
        _ => format!(
            "{}/{}",
            known(of(status, "current", "value")),
            of(metric, "target", "value")
        ),
    }
}

fn percentage(value: Option<i64>, otherwise: &str) -> String {
    value.map_or_else(|| otherwise.to_owned(), |value| format!("{value}%"))
}
