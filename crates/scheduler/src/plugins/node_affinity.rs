//! A pod's node selector, and its required and preferred node affinity.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use api::selector::node::matches;
use k8s_openapi::api::core::v1::{NodeSelectorTerm, PodSpec};

use super::{Filter, Plugin, PreFilter, Rejection, Scale, Score};
use crate::{
    node::Node,
    pod::Pod,
    snapshot::{Event, NodeState, Snapshot},
};

pub(super) struct NodeAffinity;

const NAME: &str = "NodeAffinity";

/// What a pod says of the nodes it may or would like to go to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NodeRules {
    selector: BTreeMap<String, String>,
    /// Any of them must match; `None`: no matter. An empty list matches no node.
    required: Option<Vec<NodeSelectorTerm>>,
    preferred: Vec<(i64, NodeSelectorTerm)>,
}

impl Hash for NodeRules {
    /// Of what most rules differ in.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.selector.hash(hasher);
        self.required.as_ref().map(Vec::len).hash(hasher);
        self.preferred.len().hash(hasher);
    }
}

impl NodeRules {
    pub(crate) fn of(spec: &PodSpec) -> Self {
        let affinity = spec.affinity.as_ref();
        let affinity = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity
            .and_then(|a| {
                a.required_during_scheduling_ignored_during_execution
                    .as_ref()
            })
            .map(|selector| selector.node_selector_terms.clone());
        let preferred = affinity
            .and_then(|a| {
                a.preferred_during_scheduling_ignored_during_execution
                    .as_ref()
            })
            .into_iter()
            .flatten()
            .map(|term| (i64::from(term.weight), term.preference.clone()))
            .collect();
        NodeRules {
            selector: spec.node_selector.clone().unwrap_or_default(),
            required,
            preferred,
        }
    }

    /// Those of them that must hold.
    pub(crate) fn required(&self) -> Self {
        Self {
            preferred: Vec::new(),
            ..self.clone()
        }
    }

    pub(crate) fn allow(&self, node: &Node) -> bool {
        let selected = self
            .selector
            .iter()
            .all(|(key, value)| node.labels.get(key) == Some(value));
        let required = self.required.as_ref();
        selected && required.is_none_or(|terms| terms.iter().any(|term| is_met(term, node)))
    }

    /// The nodes that the terms name, if all of them do.
    fn named(&self) -> Option<Vec<&str>> {
        let terms = self.required.as_ref()?;
        let mut names = Vec::new();
        for term in terms {
            let mut fields = term.match_fields.iter().flatten();
            let by_name =
                fields.find(|field| field.key == "metadata.name" && field.operator == "In")?;
            names.extend(by_name.values.iter().flatten().map(String::as_str));
        }
        (!names.is_empty()).then_some(names)
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn weight(&self) -> i64 {
        2
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        let rules = &pod.node_rules;
        if rules.selector.is_empty() && rules.required.is_none() {
            return PreFilter::Skip;
        }
        let filter = Box::new(Allowed(rules));
        match rules.named() {
            Some(names) => PreFilter::Among(names, filter),
            None => PreFilter::Filter(filter),
        }
    }

    fn pre_score<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> Option<Box<dyn Score + 'a>> {
        if pod.node_rules.preferred.is_empty() {
            return None;
        }
        Some(Box::new(Allowed(&pod.node_rules)))
    }

    fn helps(&self, pod: &Pod, event: &Event<'_>) -> bool {
        matches!(event, Event::Node(state) if pod.node_rules.allow(&state.node))
    }
}

struct Allowed<'a>(&'a NodeRules);

impl Filter for Allowed<'_> {
    fn check(&self, node: &NodeState) -> Result<(), Rejection> {
        if self.0.allow(&node.node) {
            return Ok(());
        }
        let reason = "node(s) didn't match Pod's node affinity/selector";
        Err(Rejection::unresolvable(NAME, reason))
    }
}

impl Score for Allowed<'_> {
    /// The sum of the weights of the preferences that the node meets.
    fn score(&self, node: &NodeState) -> i64 {
        let preferred = self.0.preferred.iter();
        preferred
            .filter(|(_, term)| is_met(term, &node.node))
            .map(|(weight, _)| weight)
            .sum()
    }

    fn scale(&self) -> Scale {
        Scale::Best
    }
}

fn is_met(term: &NodeSelectorTerm, node: &Node) -> bool {
    matches(term, &node.name, &node.labels)
}
