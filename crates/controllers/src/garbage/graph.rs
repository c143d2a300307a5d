//! Who owns whom, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use client::{Key, Object, PartialObject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use super::remains::Remains;
use crate::plan::{Plan, Target, Write};

/// Finalizer of an owner whose dependents are to live on.
const ORPHAN: &str = "orphan";
/// Finalizer of an owner that waits for its dependents.
const FOREGROUND: &str = "foregroundDeletion";

/// What the collector knows of an object.
#[derive(Clone, Debug)]
struct Item {
    target: Target,
    owners: Vec<OwnerReference>,
    finalizers: Vec<String>,
    resource_version: Option<String>,
    deleting: bool,
}

/// The metadata of all objects, by uid.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    items: BTreeMap<String, Item>,
    /// From an owner's uid to its dependents'.
    dependents: BTreeSet<(String, String)>,
    /// From a namespace to what is in it.
    inhabitants: BTreeSet<(String, String)>,
}

impl Graph {
    /// Takes in an object of the given kind; the uids that must be looked at.
    pub(crate) fn put(
        &mut self,
        api_version: &str,
        kind: &str,
        object: &PartialObject,
    ) -> Vec<String> {
        let uid = object.uid().to_owned();
        // Owners that it no longer names may have waited for it to let go.
        let owners = |item: &Item| {
            item.owners
                .iter()
                .map(|o| o.uid.clone())
                .collect::<Vec<_>>()
        };
        let mut concerned = self.items.get(&uid).map(owners).unwrap_or_default();
        self.unlink(&uid);
        let meta = &object.metadata;
        let item = Item {
            target: Target {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                key: Key::of(object),
                uid: uid.clone(),
            },
            owners: meta.owner_references.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone(),
            deleting: meta.deletion_timestamp.is_some(),
        };
        for owner in &item.owners {
            self.dependents.insert((owner.uid.clone(), uid.clone()));
        }
        if !item.target.key.namespace.is_empty() {
            self.inhabitants
                .insert((item.target.key.namespace.clone(), uid.clone()));
        }
        // An owner that is on its way out waits for what its dependents do.
        concerned.extend(owners(&item));
        concerned.push(uid.clone());
        concerned.dedup();
        self.items.insert(uid, item);
        concerned
    }

    /// Forgets an object that is gone; the uids that must be looked at.
    pub(crate) fn remove(&mut self, uid: &str) -> Vec<String> {
        let mut concerned: Vec<String> = self
            .dependents_of(uid)
            .map(|i| i.target.uid.clone())
            .collect();
        if let Some(item) = self.items.get(uid) {
            concerned.extend(item.owners.iter().map(|o| o.uid.clone()));
        }
        self.unlink(uid);
        self.items.remove(uid);
        concerned
    }

    fn unlink(&mut self, uid: &str) {
        let Some(item) = self.items.get(uid) else {
            return;
        };
        for owner in &item.owners {
            self.dependents.remove(&(owner.uid.clone(), uid.to_owned()));
        }
        self.inhabitants
            .remove(&(item.target.key.namespace.clone(), uid.to_owned()));
    }

    fn dependents_of<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = &'a Item> {
        related(&self.dependents, owner).filter_map(|uid| self.items.get(uid))
    }

    /// What is left in a namespace.
    pub(crate) fn inhabitants<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Target, bool)> {
        self.within(namespace)
            .map(|item| (&item.target, item.deleting))
    }

    /// What is left in a namespace, as its conditions tell it.
    pub(crate) fn remains(&self, namespace: &str) -> Remains {
        let mut remains = Remains::default();
        for item in self.within(namespace) {
            remains.count(&item.target, &item.finalizers);
        }
        remains
    }

    fn within<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Item> {
        related(&self.inhabitants, namespace).filter_map(|uid| self.items.get(uid))
    }

    /// What is to be done about one object.
    pub(crate) fn reconcile(&self, uid: &str) -> Plan {
        let mut plan = Plan::default();
        let Some(item) = self.items.get(uid) else {
            return plan;
        };
        if item.deleting {
            self.finalize(item, &mut plan);
        } else if !item.owners.is_empty() {
            self.collect(item, &mut plan);
        }
        plan
    }

    /// Deletes an object all of whose owners seem to be gone.
    fn collect(&self, item: &Item, plan: &mut Plan) {
        let there = |o: &OwnerReference| self.owner(item, o).is_some();
        let waits = |o: &OwnerReference| {
            self.owner(item, o)
                .is_some_and(|i| i.deleting && i.finalizers.iter().any(|f| f == FOREGROUND))
        };
        let solid = item.owners.iter().any(|o| there(o) && !waits(o));
        let waited_for = item.owners.iter().any(waits);
        if solid {
            if waited_for {
                // It stays for another owner's sake, and must not hold this one up.
                let owners: Vec<_> = item.owners.iter().filter(|o| !waits(o)).collect();
                plan.writes.push(Write::Patch {
                    target: item.target.clone(),
                    patch: json!({"metadata": {
                        "ownerReferences": owners, "resourceVersion": item.resource_version,
                    }}),
                });
            }
            return;
        }
        // An owner that waits wants the dependents' dependents gone, too.
        let foreground = waited_for && self.dependents_of(&item.target.uid).next().is_some();
        // An owner that waits for its dependents counts as gone; all others must be proven so.
        let unless = item
            .owners
            .iter()
            .filter(|o| !waits(o))
            .map(|o| owner_target(item, o))
            .collect();
        plan.writes.push(Write::Delete {
            target: item.target.clone(),
            force: false,
            foreground,
            unless,
        });
    }

    /// What a reference names. In another namespace nothing is anybody's owner; what is in none can be left to
    /// nobody's care, whatever it names.
    fn owner(&self, dependent: &Item, reference: &OwnerReference) -> Option<&Item> {
        let own = &dependent.target.key.namespace;
        self.items.get(&reference.uid).filter(|owner| {
            let there = &owner.target.key.namespace;
            there.is_empty() || own.is_empty() || there == own
        })
    }

    /// Does what an owner's finalizers ask before it goes.
    fn finalize(&self, item: &Item, plan: &mut Plan) {
        let has = |finalizer: &str| item.finalizers.iter().any(|f| f == finalizer);
        let uid = item.target.uid.as_str();
        if has(ORPHAN) {
            let mut left = false;
            for dependent in self.dependents_of(uid) {
                left = true;
                let owners: Vec<_> = dependent.owners.iter().filter(|o| o.uid != uid).collect();
                plan.writes.push(Write::Patch {
                    target: dependent.target.clone(),
                    patch: json!({"metadata": {
                        "ownerReferences": owners, "resourceVersion": dependent.resource_version,
                    }}),
                });
            }
            // The finalizer goes when the graph shows that nobody refers to the owner any more.
            if !left {
                plan.writes.push(without(item, ORPHAN));
            }
        } else if has(FOREGROUND) {
            let mut blocked = false;
            for dependent in self.dependents_of(uid) {
                let blocks = dependent
                    .owners
                    .iter()
                    .any(|o| o.uid == uid && o.block_owner_deletion == Some(true));
                blocked |= blocks;
                if !dependent.deleting {
                    self.collect(dependent, plan);
                }
            }
            if !blocked {
                plan.writes.push(without(item, FOREGROUND));
            }
        }
    }
}

/// The second halves of the pairs that begin with `first`.
fn related<'a>(
    pairs: &'a BTreeSet<(String, String)>,
    first: &'a str,
) -> impl Iterator<Item = &'a String> {
    pairs
        .range((first.to_owned(), String::new())..)
        .take_while(move |(a, _)| a == first)
        .map(|(_, b)| b)
}

/// An owner is cluster-scoped or lives beside its dependents.
fn owner_target(item: &Item, owner: &OwnerReference) -> Target {
    let namespaced =
        api::resource::by_kind(&owner.api_version, &owner.kind).is_some_and(|r| r.namespaced);
    let namespace = if namespaced {
        item.target.key.namespace.clone()
    } else {
        String::new()
    };
    Target {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        key: Key::new(namespace, owner.name.clone()),
        uid: owner.uid.clone(),
    }
}

fn without(item: &Item, finalizer: &str) -> Write {
    let left: Vec<&String> = item.finalizers.iter().filter(|f| *f != finalizer).collect();
    Write::Patch {
        target: item.target.clone(),
        patch: json!({"metadata": {"finalizers": left, "resourceVersion": item.resource_version}}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(
        name: &str,
        owners: &[(&str, bool)],
        finalizers: &[&str],
        deleting: bool,
    ) -> PartialObject {
        let owners: Vec<_> = owners
            .iter()
            .map(|(owner, blocks)| {
                json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner,
                       "blockOwnerDeletion": blocks})
            })
            .collect();
        let deleted = deleting.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({"metadata": {
            "name": name, "namespace": "ns", "uid": name, "resourceVersion": "7",
            "ownerReferences": owners, "finalizers": finalizers, "deletionTimestamp": deleted,
        }}))
        .unwrap()
    }

    fn graph(objects: &[PartialObject]) -> Graph {
        let mut graph = Graph::default();
        for object in objects {
            graph.put("v1", "Pod", object);
        }
        graph
    }

    fn summary(plan: &Plan) -> Vec<String> {
        plan.writes
            .iter()
            .map(|write| match write {
                Write::Delete { target, unless, .. } => {
                    let unless: Vec<_> = unless.iter().map(|t| t.uid.as_str()).collect();
                    format!("delete {} unless {unless:?}", target.uid)
                }
                Write::Patch { target, patch, .. } => {
                    format!("patch {} {}", target.uid, patch["metadata"])
                }
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_dependent_goes_only_when_every_owner_is_proven_gone() {
        let owned = object("pod", &[("gone", true)], &[], false);
        assert_eq!(
            summary(&graph(std::slice::from_ref(&owned)).reconcile("pod")),
            ["delete pod unless [\"gone\"]"]
        );
        let two = object("pod", &[("gone", true), ("there", false)], &[], false);
        assert!(
            graph(&[two, object("there", &[], &[], false)])
                .reconcile("pod")
                .is_empty()
        );
        assert!(
            graph(&[object("free", &[], &[], false)])
                .reconcile("free")
                .is_empty()
        );
    }

    #[test]
    fn an_orphaning_owner_frees_its_dependents_first() {
        let owner = object("owner", &[], &["orphan", "mine"], true);
        let with = graph(&[owner.clone(), object("pod", &[("owner", true)], &[], false)]);
        assert_eq!(
            summary(&with.reconcile("owner")),
            ["patch pod {\"ownerReferences\":[],\"resourceVersion\":\"7\"}"]
        );
        assert_eq!(
            summary(&graph(&[owner]).reconcile("owner")),
            ["patch owner {\"finalizers\":[\"mine\"],\"resourceVersion\":\"7\"}"]
        );
    }

    #[test]
    fn a_foreground_owner_waits_for_those_that_block_it() {
        let owner = object("owner", &[], &["foregroundDeletion"], true);
        let blocked = graph(&[owner.clone(), object("pod", &[("owner", true)], &[], false)]);
        assert_eq!(
            summary(&blocked.reconcile("owner")),
            ["delete pod unless []"]
        );
        let leaving = graph(&[owner.clone(), object("pod", &[("owner", true)], &[], true)]);
        assert!(leaving.reconcile("owner").is_empty());
        let loose = graph(&[owner, object("pod", &[("owner", false)], &[], true)]);
        assert_eq!(
            summary(&loose.reconcile("owner")),
            ["patch owner {\"finalizers\":[],\"resourceVersion\":\"7\"}"]
        );
    }

    #[test]
    fn a_dependent_of_two_does_not_hold_up_the_one_that_waits() {
        let waits = object("owner", &[], &["foregroundDeletion"], true);
        let stays = object("stays", &[], &[], false);
        let shared = object("pod", &[("owner", true), ("stays", true)], &[], false);
        let plan = summary(&graph(&[waits, stays, shared]).reconcile("owner"));
        assert_eq!(plan.len(), 1);
        assert!(
            plan[0].starts_with("patch pod") && !plan[0].contains("\"owner\""),
            "{plan:?}"
        );
    }

    #[test]
    fn foreground_reaches_the_dependents_of_dependents() {
        let owner = object("owner", &[], &["foregroundDeletion"], true);
        let set = object("set", &[("owner", true)], &[], false);
        let pod = object("pod", &[("set", true)], &[], false);
        let plan = graph(&[owner, set, pod]).reconcile("owner");
        assert!(
            matches!(
                plan.writes.as_slice(),
                [Write::Delete {
                    foreground: true,
                    ..
                }]
            ),
            "{plan:?}"
        );
    }

    #[test]
    fn an_owner_in_another_namespace_is_none() {
        let mut elsewhere = object("owner", &[], &[], false);
        elsewhere.metadata.namespace = Some("other".to_owned());
        let mut graph = graph(&[object("dependent", &[("owner", false)], &[], false)]);
        graph.put("apps/v1", "ReplicaSet", &elsewhere);
        let plan = graph.reconcile("dependent");
        assert_eq!(summary(&plan), ["delete dependent unless [\"owner\"]"]);
        // What is in no namespace itself is left alone.
        let mut outside = object("outside", &[("owner", false)], &[], false);
        outside.metadata.namespace = None;
        graph.put("v1", "Node", &outside);
        assert!(graph.reconcile("outside").writes.is_empty());
    }

    #[test]
    fn what_changes_names_whom_it_concerns() {
        let mut graph = graph(&[object("pod", &[("owner", true)], &[], false)]);
        assert_eq!(
            graph.put("v1", "Pod", &object("owner", &[], &[], false)),
            ["owner"]
        );
        assert_eq!(graph.remove("owner"), ["pod"]);
        assert_eq!(graph.remove("pod"), ["owner"]);
        assert_eq!(graph.inhabitants("ns").count(), 0);
    }
}
