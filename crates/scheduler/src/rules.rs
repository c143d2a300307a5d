//! What a pod's spec says of other pods: beside which of them it may, must or would rather run, and how evenly pods like it
//! are to lie over domains of nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api::selector::{LabelSelector, Operator, Requirement};
use k8s_openapi::{
    api::core::v1::{PodAffinityTerm, PodSpec, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1 as meta,
};

/// Labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;

/// Which pods somebody speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    namespaces: BTreeSet<String>,
    /// Others whose labels say so.
    more: Option<LabelSelector>,
    selector: LabelSelector,
}

impl Scope {
    /// Whether a pod of this namespace with these labels is meant. `known` are the labels of namespaces.
    pub(crate) fn covers(
        &self,
        namespace: &str,
        labels: &Labels,
        known: &BTreeMap<String, Labels>,
    ) -> bool {
        let by_label = |more: &LabelSelector| {
            more.is_everything() || more.matches_labels(known.get(namespace))
        };
        let is_there =
            self.namespaces.contains(namespace) || self.more.as_ref().is_some_and(by_label);
        is_there && self.selector.matches_labels(Some(labels))
    }

    /// The same where the labels of namespaces are not at hand, and may be any.
    pub(crate) fn may_cover(&self, namespace: &str, labels: &Labels) -> bool {
        let is_there = self.namespaces.contains(namespace) || self.more.is_some();
        is_there && self.selector.matches_labels(Some(labels))
    }

    /// Whether whom it means depends on the labels of namespaces.
    pub(crate) fn goes_by_labels(&self) -> bool {
        self.more.as_ref().is_some_and(|more| !more.is_everything())
    }
}

/// Nearness to some pods: in one domain of this label of the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Term {
    pub(crate) scope: Arc<Scope>,
    pub(crate) key: String,
}

/// A pod's affinity and anti-affinity to others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Neighbours {
    /// All of them have to be near.
    pub(crate) required: Vec<Term>,
    /// None of them may be near.
    pub(crate) refused: Vec<Term>,
    /// What their nearness is worth; less than nothing where they are rather avoided.
    pub(crate) preferred: Vec<(i64, Term)>,
}

/// How evenly pods are to lie.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Spread {
    pub(crate) scope: Arc<Scope>,
    pub(crate) key: String,
    pub(crate) max_skew: i64,
    /// Else it is a wish.
    pub(crate) is_required: bool,
    pub(crate) min_domains: usize,
    /// Nodes that the pod's own node rules exclude do not count.
    pub(crate) honors_affinity: bool,
    /// Nodes whose taints it does not tolerate do not count.
    pub(crate) honors_taints: bool,
    /// The pod is one of those that are counted.
    pub(crate) counts_itself: bool,
}

/// All that a pod says of others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Rules {
    pub(crate) neighbours: Neighbours,
    pub(crate) spreads: Vec<Spread>,
}

impl Rules {
    /// # Errors
    /// What is wrong with them; the API takes none such.
    pub(crate) fn of(namespace: &str, labels: &Labels, spec: &PodSpec) -> Result<Self, String> {
        let affinity = spec.affinity.as_ref();
        let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let apart = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let term = |term: &PodAffinityTerm| Term::of(namespace, labels, term);
        let terms = |terms: Option<&Vec<PodAffinityTerm>>| {
            let terms = terms.into_iter().flatten().map(term);
            terms.collect::<Result<Vec<_>, _>>()
        };
        let required = near.and_then(|n| {
            n.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
        let refused = apart.and_then(|a| {
            a.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
        let mut preferred = Vec::new();
        let wished = near.and_then(|n| {
            n.preferred_during_scheduling_ignored_during_execution
                .as_ref()
        });
        for one in wished.into_iter().flatten() {
            preferred.push((i64::from(one.weight), term(&one.pod_affinity_term)?));
        }
        let avoided = apart.and_then(|a| {
            a.preferred_during_scheduling_ignored_during_execution
                .as_ref()
        });
        for one in avoided.into_iter().flatten() {
            preferred.push((-i64::from(one.weight), term(&one.pod_affinity_term)?));
        }
        let spreads = spec.topology_spread_constraints.iter().flatten();
        let spreads = spreads.map(|one| Spread::of(namespace, labels, one));
        Ok(Self {
            neighbours: Neighbours {
                required: terms(required)?,
                refused: terms(refused)?,
                preferred,
            },
            spreads: spreads.collect::<Result<_, _>>()?,
        })
    }
}

impl Term {
    fn of(namespace: &str, labels: &Labels, term: &PodAffinityTerm) -> Result<Self, String> {
        let mut selector = LabelSelector::from_meta(term.label_selector.as_ref())?;
        // Without a selector no pod is meant, whatever keys there are.
        if term.label_selector.is_some() {
            selector = with_keys(selector, labels, &term.match_label_keys, Operator::In)?;
            selector = with_keys(selector, labels, &term.mismatch_label_keys, Operator::NotIn)?;
        }
        let more = term.namespace_selector.as_ref();
        let more = more.map(|more| LabelSelector::from_meta(Some(more)));
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && more.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        let scope = Scope {
            namespaces,
            more: more.transpose()?,
            selector,
        };
        Ok(Self {
            scope: Arc::new(scope),
            key: term.topology_key.clone(),
        })
    }
}

impl Spread {
    fn of(
        namespace: &str,
        labels: &Labels,
        constraint: &TopologySpreadConstraint,
    ) -> Result<Self, String> {
        let nothing = meta::LabelSelector::default();
        let keys = &constraint.match_label_keys;
        let has_keys = keys.as_ref().is_some_and(|keys| !keys.is_empty());
        let given = constraint.label_selector.as_ref();
        let selector = LabelSelector::from_meta(given.or(has_keys.then_some(&nothing)))?;
        let selector = with_keys(selector, labels, keys, Operator::In)?;
        let honors = |policy: &Option<String>, default| {
            policy.as_ref().map_or(default, |policy| policy == "Honor")
        };
        Ok(Self {
            key: constraint.topology_key.clone(),
            max_skew: i64::from(constraint.max_skew),
            is_required: constraint.when_unsatisfiable == "DoNotSchedule",
            min_domains: constraint
                .min_domains
                .map_or(1, |n| usize::try_from(n).unwrap_or(1)),
            honors_affinity: honors(&constraint.node_affinity_policy, true),
            honors_taints: honors(&constraint.node_taints_policy, false),
            counts_itself: selector.matches_labels(Some(labels)),
            scope: Arc::new(Scope {
                namespaces: BTreeSet::from([namespace.to_owned()]),
                more: None,
                selector,
            }),
        })
    }
}

/// The selector, narrowed to pods that have (`In`) or have not (`NotIn`) the same values of these labels as the pod itself.
/// Labels that it has not got are passed over.
fn with_keys(
    mut selector: LabelSelector,
    labels: &Labels,
    keys: &Option<Vec<String>>,
    operator: Operator,
) -> Result<LabelSelector, String> {
    for key in keys.iter().flatten() {
        if let Some(value) = labels.get(key) {
            selector = selector.and(Requirement::new(key, operator, vec![value.clone()])?);
        }
    }
    Ok(selector)
}
