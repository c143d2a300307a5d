//! What holds up a deleted namespace, as its conditions say it.
//!
//! Types, reasons and messages are those of Kubernetes' `pkg/controller/namespace/deletion`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::plan::Target;

/// Conditions that speak of faults which cannot be here: type, reason, message.
const FINE: [(&str, &str, &str); 3] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
];

/// What is left in a namespace.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// By resource, as `pods.` or `deployments.apps`.
    instances: BTreeMap<String, usize>,
    finalizers: BTreeMap<String, usize>,
}

impl Remains {
    pub(super) fn count(&mut self, what: &Target, finalizers: &[String]) {
        let resource = api::resource::by_kind(&what.api_version, &what.kind);
        if let Some(resource) = resource {
            let name = format!("{}.{}", resource.plural, resource.group);
            *self.instances.entry(name).or_default() += 1;
        }
        for finalizer in finalizers {
            *self.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
    }

    pub(super) fn is_none(&self) -> bool {
        self.instances.is_empty()
    }

    /// The namespace's conditions; of those that it has already, the times stay where nothing changes.
    pub(super) fn conditions(
        &self,
        held: &[NamespaceCondition],
        now: Timestamp,
    ) -> Vec<NamespaceCondition> {
        let fine = FINE.map(|(type_, reason, message)| (type_, false, reason, message.to_owned()));
        let content = match self.instances.is_empty() {
            true => (
                "ContentRemoved",
                "All content successfully removed".to_owned(),
            ),
            false => (
                "SomeResourcesRemain",
                format!(
                    "Some resources are remaining: {}",
                    list(&self.instances, "has", "resource")
                ),
            ),
        };
        let finalizers = match self.finalizers.is_empty() {
            true => (
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished".to_owned(),
            ),
            false => (
                "SomeFinalizersRemain",
                format!(
                    "Some content in the namespace has finalizers remaining: {}",
                    list(&self.finalizers, "in", "resource")
                ),
            ),
        };
        let (some, waits) = (!self.instances.is_empty(), !self.finalizers.is_empty());
        let remaining = [
            ("NamespaceContentRemaining", some, content.0, content.1),
            (
                "NamespaceFinalizersRemaining",
                waits,
                finalizers.0,
                finalizers.1,
            ),
        ];
        let wanted = fine.into_iter().chain(remaining);
        let condition = |(type_, holds, reason, message): (&str, bool, &str, String)| {
            let status = if holds { "True" } else { "False" };
            let before = held.iter().find(|c| c.type_ == type_ && c.status == status);
            let since = before.and_then(|c| c.last_transition_time.clone());
            NamespaceCondition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_transition_time: since.or(Some(Time(now))),
            }
        };
        wanted.map(condition).collect()
    }
}

fn list(counts: &BTreeMap<String, usize>, verb: &str, what: &str) -> String {
    let each = counts
        .iter()
        .map(|(name, count)| format!("{name} {verb} {count} {what} instances"));
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use client::Key;

    use super::*;

    #[test]
    fn what_is_left_is_said_and_times_stay() {
        let target = |api_version: &str, kind: &str, name: &str| Target {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            key: Key::new("n", name),
            uid: name.to_owned(),
        };
        let mut remains = Remains::default();
        assert!(remains.is_none());
        remains.count(&target("v1", "ConfigMap", "a"), &["x.dev/keep".to_owned()]);
        remains.count(&target("apps/v1", "Deployment", "d"), &[]);
        remains.count(&target("v1", "ConfigMap", "b"), &["x.dev/keep".to_owned()]);
        let (first, later) = (
            Timestamp::from_second(1).unwrap(),
            Timestamp::from_second(9).unwrap(),
        );
        let told = remains.conditions(&[], first);
        let said = |type_: &str| {
            let found = told.iter().find(|c| c.type_ == type_).unwrap();
            (found.status.as_str(), found.message.as_deref().unwrap())
        };
        assert_eq!(
            said("NamespaceContentRemaining"),
            (
                "True",
                "Some resources are remaining: configmaps. has 2 resource instances, deployments.apps has 1 resource instances"
            )
        );
        assert_eq!(
            said("NamespaceFinalizersRemaining"),
            (
                "True",
                "Some content in the namespace has finalizers remaining: x.dev/keep in 2 resource instances"
            )
        );
        assert_eq!(said("NamespaceDeletionContentFailure").0, "False");
        assert_eq!(
            remains.conditions(&told, later),
            told,
            "nothing has changed"
        );
        let mut less = Remains::default();
        less.count(&target("v1", "ConfigMap", "a"), &[]);
        let after = less.conditions(&told, later);
        assert_eq!(after[4].status, "False");
        assert_eq!(after[4].last_transition_time, Some(Time(later)));
        assert_eq!(after[3].last_transition_time, Some(Time(first)));
    }
}
