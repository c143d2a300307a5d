//! The sets of pods that policies' peers mean, each kept once.

use std::collections::{BTreeMap, BTreeSet};

use api::selector::LabelSelector;
use network::policy::Group;

/// Which namespaces' pods a peer means.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    /// The policy's own, by name.
    Own(String),
    /// Those with such labels.
    Labelled(LabelSelector),
}

/// By what a group is known again. Of selectors their text: it says all of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Own(String, String),
    Labelled(String, String),
}

#[derive(Debug)]
struct Known {
    name: Name,
    scope: Scope,
    pods: LabelSelector,
    /// How many policies use it.
    users: usize,
}

/// All groups that a policy uses.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Never a number twice, so that no stale membership means anything.
    next: u64,
    by_name: BTreeMap<Name, Group>,
    known: BTreeMap<Group, Known>,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// The group of these pods, made if there is none, without a user more.
    pub(super) fn of(&mut self, scope: Scope, pods: LabelSelector) -> Group {
        let name = match &scope {
            Scope::Own(namespace) => Name::Own(namespace.clone(), pods.to_string()),
            Scope::Labelled(selector) => Name::Labelled(selector.to_string(), pods.to_string()),
        };
        if let Some(group) = self.by_name.get(&name) {
            return *group;
        }
        let group = Group(self.next);
        self.next += 1;
        self.by_name.insert(name.clone(), group);
        let known = Known {
            name,
            scope,
            pods,
            users: 0,
        };
        self.known.insert(group, known);
        group
    }

    /// Counts a policy that uses them. Returns those that nobody used before.
    pub(super) fn hold(&mut self, groups: &BTreeSet<Group>) -> Vec<Group> {
        let mut fresh = Vec::new();
        for group in groups {
            if let Some(known) = self.known.get_mut(group) {
                if known.users == 0 {
                    fresh.push(*group);
                }
                known.users += 1;
            }
        }
        fresh
    }

    /// Discounts a policy that used them. Returns those that nobody uses any more; they are forgotten.
    pub(super) fn release(&mut self, groups: &BTreeSet<Group>) -> Vec<Group> {
        let mut gone = Vec::new();
        for group in groups {
            let Some(known) = self.known.get_mut(group) else {
                continue;
            };
            known.users = known.users.saturating_sub(1);
            if known.users == 0 {
                self.by_name.remove(&known.name);
                self.known.remove(group);
                gone.push(*group);
            }
        }
        gone
    }

    /// Whether the group means pods of this namespace at all. A namespace whose labels nobody knows is selected by
    /// none.
    pub(super) fn spans(
        &self,
        group: Group,
        namespace: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> bool {
        match self.known.get(&group).map(|known| &known.scope) {
            Some(Scope::Own(own)) => own == namespace,
            Some(Scope::Labelled(selector)) => {
                labels.is_some_and(|labels| selector.matches_labels(Some(labels)))
            }
            None => false,
        }
    }

    /// The groups that mean pods of this namespace.
    pub(super) fn spanning(
        &self,
        namespace: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> BTreeSet<Group> {
        let all = self.known.keys().copied();
        all.filter(|group| self.spans(*group, namespace, labels))
            .collect()
    }

    /// Whether a pod with these labels belongs to the group, if its namespace does.
    pub(super) fn takes(&self, group: Group, labels: &BTreeMap<String, String>) -> bool {
        self.known
            .get(&group)
            .is_some_and(|known| known.pods.matches_labels(Some(labels)))
    }
}
