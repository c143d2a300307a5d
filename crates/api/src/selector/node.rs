//! Which nodes a term of a node selector chooses: of pods' affinity, and of where volumes lie.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, TopologySelectorTerm};

/// Labels by their names.
pub type Labels = BTreeMap<String, String>;

/// Whether a node of this name and with these labels meets all of a term. A term without any requirement matches nothing.
pub fn matches(term: &NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let expressions = || term.match_expressions.iter().flatten();
    let fields = || term.match_fields.iter().flatten();
    if expressions().next().is_none() && fields().next().is_none() {
        return false;
    }
    expressions().all(|one| meets(one, labels.get(&one.key).map(String::as_str)))
        && fields().all(|one| one.key == "metadata.name" && meets(one, Some(name)))
}

/// Whether a node with these labels lies within a term of a class's topologies.
pub fn is_within(term: &TopologySelectorTerm, labels: &Labels) -> bool {
    let mut expressions = term.match_label_expressions.iter().flatten();
    expressions.all(|one| {
        let label = labels.get(&one.key);
        label.is_some_and(|label| one.values.contains(label))
    })
}

fn meets(requirement: &NodeSelectorRequirement, actual: Option<&str>) -> bool {
    let values = || requirement.values.iter().flatten();
    let listed = || actual.is_some_and(|actual| values().any(|value| value == actual));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        operator @ ("Gt" | "Lt") => {
            let actual = actual.and_then(|actual| actual.parse::<i64>().ok());
            let bound = values().next().and_then(|value| value.parse::<i64>().ok());
            match (actual, bound) {
                (Some(actual), Some(bound)) if operator == "Gt" => actual > bound,
                (Some(actual), Some(bound)) => actual < bound,
                _ => false,
            }
        }
        _ => false,
    }
}
