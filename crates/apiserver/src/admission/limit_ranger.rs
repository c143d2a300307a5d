//! What LimitRanges say of the pods and claims of their namespace: what they get where they say
//! nothing, and between which bounds they may ask.

mod rules;

use api::{Resource, Status};
use k8s_openapi::api::core::v1::LimitRange;
use serde_json::Value;

use super::admit::{all, refused};
use crate::dispatch::Call;

/// How many amounts of ranges are given to a pod's containers, or held against theirs, at most. What comes of a
/// small pod must be small too.
const MOST_AMOUNTS: usize = 100_000;

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Pod,
    Claim,
}

/// The plugin's first look: what is not said gets the defaults.
pub(super) fn admit(call: &Call, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
    if subject(call, old) == Some(Subject::Pod) {
        let ranges = ranges(call);
        bounded(call, &ranges, new)?;
        for range in &ranges {
            rules::fill(new, range);
        }
    }
    Ok(())
}

/// The plugin's second look, at what is valid.
pub(super) fn judge(call: &Call, old: Option<&Value>, new: &Value) -> Result<(), Status> {
    let Some(subject) = subject(call, old) else {
        return Ok(());
    };
    let ranges = ranges(call);
    bounded(call, &ranges, new)?;
    for range in &ranges {
        let faults = match subject {
            Subject::Pod => rules::pod_faults(new, range),
            Subject::Claim => rules::claim_faults(new, range),
        };
        if let Some(why) = told(faults) {
            return Err(refused(call, new, &why));
        }
    }
    Ok(())
}

/// Refuses what the ranges would make too much of.
fn bounded(call: &Call, ranges: &[LimitRange], new: &Value) -> Result<(), Status> {
    let amounts = ranges.iter().map(|range| rules::amounts_for(new, range));
    if amounts.fold(0, usize::saturating_add) <= MOST_AMOUNTS {
        return Ok(());
    }
    let why = "it has too many containers to hold the namespace's LimitRanges against each of them";
    Err(refused(call, new, why))
}

/// Many faults are told as Kubernetes tells them: each once, between brackets.
fn told(mut faults: Vec<String>) -> Option<String> {
    let mut seen = std::collections::BTreeSet::new();
    faults.retain(|fault| seen.insert(fault.clone()));
    match faults.len() {
        0 | 1 => faults.pop(),
        _ => Some(format!("[{}]", faults.join(", "))),
    }
}

/// What of this write LimitRanges speak of. The resources of a pod change by `resize` alone, and what
/// is being deleted is left.
fn subject(call: &Call, old: Option<&Value>) -> Option<Subject> {
    if !call.resource.group.is_empty()
        || old.is_some_and(|old| old["metadata"]["deletionTimestamp"].is_string())
    {
        return None;
    }
    let part = call.path.subresource.as_deref();
    match (call.resource.plural, part, old.is_some()) {
        ("pods", None, false) | ("pods", Some("resize"), true) => Some(Subject::Pod),
        ("persistentvolumeclaims", None, _) => Some(Subject::Claim),
        _ => None,
    }
}

/// The namespace's, in the order of their names. Most namespaces have none: then nothing is read.
fn ranges(call: &Call) -> Vec<LimitRange> {
    all(call, Resource::of::<LimitRange>(), call.namespace())
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn how_faults_are_told() {
        let faults = |list: &[&str]| told(list.iter().map(|f| (*f).to_owned()).collect());
        assert_eq!(faults(&[]), None);
        assert_eq!(faults(&["a"]).as_deref(), Some("a"));
        assert_eq!(faults(&["a", "a"]).as_deref(), Some("a"));
        assert_eq!(faults(&["a", "b", "a"]).as_deref(), Some("[a, b]"));
    }
}
