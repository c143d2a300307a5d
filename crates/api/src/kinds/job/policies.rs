//! When a job counts as failed or done: rules of `podFailurePolicy` and `successPolicy`.

use crate::kinds::field::{items, maybe_int, present, text};
use crate::kinds::names;
use crate::kinds::omitted;
use crate::status::{FieldError, FieldPath};
use serde_json::Value;
use std::collections::BTreeSet;

const MOST_RULES: usize = 20;
const MOST_PATTERNS: usize = 20;
const MOST_EXIT_CODES: usize = 255;
const LONGEST_INDEXES: usize = 64 * 1024;

/// Judges `podFailurePolicy` of the job's spec.
pub(super) fn failure(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let list = path.child("rules");
    let rules = items(spec, "/podFailurePolicy/rules");
    if rules.len() > MOST_RULES {
        errors.push(FieldError::too_many(&list, rules.len(), MOST_RULES));
    }
    let containers: BTreeSet<&str> = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|kind| items(spec, &format!("/template/spec/{kind}")))
        .map(|container| text(container, "/name"))
        .collect();
    for (index, rule) in rules.iter().enumerate() {
        let path = list.index(index);
        let action = text(rule, "/action");
        if action == "FailIndex" && present(spec, "/backoffLimitPerIndex").is_none() {
            errors.push(FieldError::invalid(
                &path.child("action"),
                action,
                "requires the backoffLimitPerIndex to be set",
            ));
        }
        let actions = ["Count", "FailIndex", "FailJob", "Ignore"];
        given_one_of(action, &actions, &path.child("action"), errors);
        let codes = present(rule, "/onExitCodes");
        if let Some(codes) = codes {
            exit_codes(codes, &containers, &path.child("onExitCodes"), errors);
        }
        let conditions = items(rule, "/onPodConditions");
        pod_conditions(conditions, &path.child("onPodConditions"), errors);
        let why = match (codes, conditions) {
            (Some(_), [_, ..]) => {
                "specifying both OnExitCodes and OnPodConditions is not supported"
            }
            (None, []) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.push(omitted(&path, why));
    }
}

fn given_one_of(given: &str, allowed: &[&str], path: &FieldPath, errors: &mut Vec<FieldError>) {
    if given.is_empty() {
        // A list as Go prints it.
        let listed: Vec<String> = allowed.iter().map(|value| format!("{value:?}")).collect();
        let why = format!("valid values: [{}]", listed.join(" "));
        errors.push(FieldError::required(path, &why));
    } else if !allowed.contains(&given) {
        errors.push(FieldError::not_supported(path, given, allowed));
    }
}

fn exit_codes(
    codes: &Value,
    containers: &BTreeSet<&str>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let operator = text(codes, "/operator");
    given_one_of(operator, &["In", "NotIn"], &path.child("operator"), errors);
    let container = codes.get("containerName").and_then(Value::as_str);
    if let Some(name) = container.filter(|name| !containers.contains(name)) {
        errors.push(FieldError::invalid(
            &path.child("containerName"),
            name,
            "must be one of the container or initContainer names in the pod template",
        ));
    }
    let list = path.child("values");
    let values = items(codes, "/values");
    if values.is_empty() {
        let why = "at least one value is required";
        errors.push(FieldError::invalid(&list, values.to_vec(), why));
    } else if values.len() > MOST_EXIT_CODES {
        errors.push(FieldError::too_many(&list, values.len(), MOST_EXIT_CODES));
    }
    let numbers: Vec<i64> = values.iter().filter_map(Value::as_i64).collect();
    let mut seen = BTreeSet::new();
    for (index, number) in numbers.iter().enumerate() {
        let path = list.index(index);
        if operator == "In" && *number == 0 {
            let why = "must not be 0 for the In operator";
            errors.push(FieldError::invalid(&path, 0, why));
        }
        if !seen.insert(*number) {
            errors.push(FieldError::duplicate(&path, *number));
        }
    }
    if !numbers.is_sorted() {
        errors.push(FieldError::invalid(&list, numbers, "must be ordered"));
    }
}

fn pod_conditions(conditions: &[Value], list: &FieldPath, errors: &mut Vec<FieldError>) {
    if conditions.len() > MOST_PATTERNS {
        let error = FieldError::too_many(list, conditions.len(), MOST_PATTERNS);
        errors.push(error);
    }
    for (index, pattern) in conditions.iter().enumerate() {
        let path = list.index(index);
        let kind = text(pattern, "/type");
        names::check(errors, &path.child("type"), kind, names::qualified_name);
        let status = text(pattern, "/status");
        let known = ["False", "True", "Unknown"];
        given_one_of(status, &known, &path.child("status"), errors);
    }
}

/// Judges `successPolicy` of the job's spec.
pub(super) fn success(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if text(spec, "/completionMode") != "Indexed" {
        errors.push(FieldError::invalid(
            path,
            spec["successPolicy"].clone(),
            "requires indexed completion mode",
        ));
        return;
    }
    let list = path.child("rules");
    let rules = items(spec, "/successPolicy/rules");
    if rules.is_empty() {
        errors.push(FieldError::required(
            &list,
            "at least one rules must be specified when the successPolicy is specified",
        ));
    }
    if rules.len() > MOST_RULES {
        errors.push(FieldError::too_many(&list, rules.len(), MOST_RULES));
    }
    let completions = maybe_int(spec, "/completions").unwrap_or_default();
    for (index, rule) in rules.iter().enumerate() {
        success_rule(rule, completions, &list.index(index), errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let indexes = rule.get("succeededIndexes").and_then(Value::as_str);
    let count = maybe_int(rule, "/succeededCount");
    if indexes.is_none() && count.is_none() {
        errors.push(FieldError::required(
            path,
            "at least one of succeededCount or succeededIndexes must be specified",
        ));
    }
    let at = path.child("succeededIndexes");
    let total = indexes.map(|indexes| {
        if indexes.len() > LONGEST_INDEXES {
            errors.push(FieldError::too_long(&at, LONGEST_INDEXES));
        }
        count_indexes(indexes, completions).unwrap_or_else(|fault| {
            let why = format!("error parsing succeededIndexes: {fault}");
            errors.push(FieldError::invalid(&at, indexes, &why));
            0
        })
    });
    let Some(count) = count else { return };
    names::not_negative(errors, rule, "succeededCount", path);
    let at = path.child("succeededCount");
    let indexes = "the number of indexes in the specified succeededIndexes field";
    for (most, what) in [
        (Some(completions), "the number of specified completions"),
        (total, indexes),
    ] {
        if let Some(most) = most.filter(|most| count > *most) {
            let why = format!("must be less than or equal to {most} ({what})");
            errors.push(FieldError::invalid(&at, count, &why));
        }
    }
}

/// How many indexes a text as `1,3-5` names; all below `completions`, in rising order.
pub(super) fn count_indexes(indexes: &str, completions: i64) -> Result<i64, String> {
    let mut last: Option<i64> = None;
    let mut total = 0;
    let index = |text: &str| -> Result<i64, String> {
        let number: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if number >= completions {
            return Err(format!("too large index: {text:?}"));
        }
        Ok(number)
    };
    let order =
        |before: i64, now: i64| format!("non-increasing order, previous: {before}, current: {now}");
    for interval in indexes.split(',').filter(|_| !indexes.is_empty()) {
        let mut ends = interval.splitn(3, '-');
        let first = ends.next().unwrap_or_default();
        let (second, third) = (ends.next(), ends.next());
        if third.is_some() {
            return Err(format!(
                "the fragment {interval:?} violates the requirement that an index interval can have \
                 at most two parts separated by '-'"
            ));
        }
        let from = index(first)?;
        let to = second.map(index).transpose()?;
        if let Some(to) = to.filter(|to| from >= *to) {
            return Err(order(from, to));
        }
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(order(last, from));
        }
        let to = to.unwrap_or(from);
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::count_indexes;

    #[test]
    fn indexes_are_counted() {
        assert_eq!(count_indexes("", 3), Ok(0));
        assert_eq!(count_indexes("1", 3), Ok(1));
        assert_eq!(count_indexes("0,2-4", 5), Ok(4));
        for (text, fault) in [
            ("x", "cannot convert string to integer for index: \"x\""),
            ("3", "too large index: \"3\""),
            ("1-2-3", "the fragment \"1-2-3\" violates"),
            ("2-1", "non-increasing order, previous: 2, current: 1"),
            ("1,1", "non-increasing order, previous: 1, current: 1"),
            ("1,", "cannot convert string to integer for index: \"\""),
        ] {
            let found = count_indexes(text, 3).expect_err(text);
            assert!(found.starts_with(fault), "{text}: {found}");
        }
    }
}
