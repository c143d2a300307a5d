//! Pod templates and the selectors that belong to them: what Deployments, Jobs and the other kinds
//! that make pods have in common.

use super::field::{default, entry, items, map, present, same, text};
use super::{names, pod_spec};
use crate::selector::LabelSelector;
use crate::status::{FieldError, FieldPath};
use serde_json::{Map, Value, json};

/// Fills the template in field `template` of `holder`.
pub(super) fn fill(holder: &mut Map<String, Value>) {
    let Some(template) = entry(holder, "template") else {
        return;
    };
    default(template, "metadata", json!({}));
    if let Some(held) = entry(template, "spec") {
        pod_spec::fill(held);
    }
}

/// Judges a template on its own.
pub(super) fn validate(template: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let labels = path.child("metadata").child("labels");
    pod_spec::labels(map(template, "/metadata/labels"), &labels, errors);
    let annotations = path.child("metadata").child("annotations");
    for key in map(template, "/metadata/annotations")
        .into_iter()
        .flat_map(Map::keys)
    {
        names::check(
            errors,
            &annotations,
            &key.to_lowercase(),
            names::qualified_name,
        );
    }
    // Kubernetes tells these without the metadata.
    let annotations = path.child("annotations");
    pod_spec::annotations(
        map(template, "/metadata/annotations"),
        &template["spec"],
        &annotations,
        errors,
    );
    let spec = path.child("spec");
    pod_spec::validate(&template["spec"], &spec, errors);
    if !items(template, "/spec/ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden(
            &spec.child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
}

/// Judges the template of a kind whose pods run for ever.
pub(super) fn validate_always(
    template: &Value,
    path: &FieldPath,
    owner: &str,
    errors: &mut Vec<FieldError>,
) {
    validate(template, path, errors);
    let spec = path.child("spec");
    let policy = text(template, "/spec/restartPolicy");
    if policy != "Always" {
        let path = spec.child("restartPolicy");
        errors.push(FieldError::not_supported(&path, policy, &["Always"]));
    }
    if present(template, "/spec/activeDeadlineSeconds").is_some() {
        errors.push(FieldError::forbidden(
            &spec.child("activeDeadlineSeconds"),
            &format!("activeDeadlineSeconds in {owner} is not Supported"),
        ));
    }
}

/// Judges `spec.selector`: it must be there, be well formed and select something.
pub(super) fn validate_selector(
    spec: &Value,
    path: &FieldPath,
    owner: &str,
    errors: &mut Vec<FieldError>,
) {
    let path = path.child("selector");
    let Some(selector) = present(spec, "/selector") else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    label_selector(selector, &path, errors);
    if is_empty(selector) {
        errors.push(FieldError::invalid(
            &path,
            selector.clone(),
            &format!("empty selector is invalid for {owner}"),
        ));
    }
}

fn is_empty(selector: &Value) -> bool {
    map(selector, "/matchLabels").is_none_or(Map::is_empty)
        && items(selector, "/matchExpressions").is_empty()
}

/// Judges a `metav1.LabelSelector`.
pub(super) fn label_selector(selector: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    pod_spec::labels(
        map(selector, "/matchLabels"),
        &path.child("matchLabels"),
        errors,
    );
    let list = path.child("matchExpressions");
    for (index, expression) in items(selector, "/matchExpressions").iter().enumerate() {
        let path = list.index(index);
        let values = items(expression, "/values");
        values_of_operator(text(expression, "/operator"), values, &path, errors);
        names::check(
            errors,
            &path.child("key"),
            text(expression, "/key"),
            names::qualified_name,
        );
        for (index, value) in values.iter().enumerate() {
            let path = path.child("values").index(index);
            names::check(errors, &path, text(value, ""), names::label_value);
        }
    }
}

/// Judges how many values go with an operator that all selectors have; another one is a fault.
pub(super) fn values_of_operator(
    operator: &str,
    values: &[Value],
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    match operator {
        "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
            &path.child("values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        )),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
            &path.child("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => not_an_operator(other, path, errors),
    }
}

/// The fault of an operator that the selector does not have.
pub(super) fn not_an_operator(operator: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    errors.push(FieldError::invalid(
        &path.child("operator"),
        operator,
        "not a valid selector operator",
    ));
}

/// A fault unless the selector takes the pods that the template makes. One that is missing takes
/// none; that one that selects all is a fault is another rule's affair.
pub(super) fn validate_match(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let labels = map(spec, "/template/metadata/labels").filter(|labels| !labels.is_empty());
    let matches = match present(spec, "/selector") {
        None => false,
        Some(selector) if is_empty(selector) => true,
        Some(selector) => {
            let parsed = serde_json::from_value(selector.clone())
                .map_err(|error| error.to_string())
                .and_then(|typed| LabelSelector::from_meta(Some(&typed)));
            let Ok(parsed) = parsed else {
                let path = path.child("selector");
                let why = "invalid label selector";
                errors.push(FieldError::invalid(&path, selector.clone(), why));
                return;
            };
            parsed.matches(|key| labels?.get(key)?.as_str())
        }
    };
    if !matches {
        errors.push(FieldError::invalid(
            &path.child("template").child("metadata").child("labels"),
            labels.cloned().map_or(Value::Null, Value::Object),
            "`selector` does not match template `labels`",
        ));
    }
}

/// A fault if field `name` is not what it was.
pub(super) fn immutable(
    new: &Value,
    old: &Value,
    name: &str,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    if !same(new.get(name), old.get(name)) {
        errors.push(FieldError::invalid(
            &path.child(name),
            new.get(name).cloned().unwrap_or(Value::Null),
            "field is immutable",
        ));
    }
}

/// The number or percentage in field `name`; a fault unless it is 0 or more.
pub(super) fn amount(
    object: &Value,
    name: &str,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) -> Option<i64> {
    let path = path.child(name);
    match object.get(name)? {
        Value::String(text) => {
            let percent = text
                .strip_suffix('%')
                .and_then(|digits| digits.parse::<u32>().ok());
            if percent.is_none() {
                errors.push(FieldError::invalid(
                    &path,
                    text.as_str(),
                    "a valid percent string must be a numeric string followed by an ending '%' \
                     (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                ));
            }
            percent.map(i64::from)
        }
        number => {
            let number = number.as_i64()?;
            if number < 0 {
                errors.push(FieldError::invalid(
                    &path,
                    number,
                    "must be greater than or equal to 0",
                ));
            }
            Some(number)
        }
    }
}

/// As [`amount`], where a percentage may be no more than all.
pub(super) fn share(
    object: &Value,
    name: &str,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) -> Option<i64> {
    let amount = amount(object, name, path, errors);
    if object[name].is_string() && amount.is_some_and(|percent| percent > 100) {
        errors.push(FieldError::invalid(
            &path.child(name),
            object[name].clone(),
            "must not be greater than 100%",
        ));
    }
    amount
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selector_must_take_the_template_s_pods() {
        let judged = |spec: Value| {
            let mut errors = Vec::new();
            validate_match(&spec, &FieldPath::new("spec"), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let labels = json!({"metadata": {"labels": {"a": "x"}}});
        assert!(
            judged(json!({"selector": {"matchLabels": {"a": "x"}}, "template": labels})).is_empty()
        );
        assert!(judged(json!({"selector": {}, "template": labels})).is_empty());
        let fault = |labels: &str| {
            [format!(
                "spec.template.metadata.labels: Invalid value: {labels}: `selector` does not match template `labels`"
            )]
        };
        assert_eq!(
            judged(json!({"selector": {"matchLabels": {"a": "y"}}, "template": labels})),
            fault("{\"a\":\"x\"}")
        );
        assert_eq!(judged(json!({"template": labels})), fault("{\"a\":\"x\"}"));
        assert_eq!(judged(json!({"template": {}})), fault("null"));
    }
}
