//! The rules about other pods once more, as Kubernetes' documentation words them: each asked anew of every node and every
//! pod, with nothing kept. Over random clusters it says the same as what is counted as pods come and go.

mod chance;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use rand::{SeedableRng as _, rngs::SmallRng};
use serde_json::{Value, json};

use self::chance::Chance;
use super::*;
use crate::{MAX_SCORE, Node};

type Labels = BTreeMap<String, String>;

/// A cluster in its objects.
#[derive(Default)]
struct World {
    nodes: BTreeMap<String, core::Node>,
    /// By name, with their nodes.
    placed: BTreeMap<String, (core::Pod, String)>,
    namespaces: BTreeMap<String, Labels>,
    snapshot: Snapshot,
    scheduler: Scheduler,
}

fn labels(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Labels {
    metadata.labels.clone().unwrap_or_default()
}

fn selects(selector: &Value, of: &Labels) -> bool {
    let Some(selector) = selector.as_object() else {
        return false;
    };
    let has = |key: &str, value: &Value| of.get(key).map(String::as_str) == value.as_str();
    let mut equal = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let mut asked = selector
        .get("matchExpressions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    equal.all(|(key, value)| has(key, value))
        && asked.all(|one| {
            let key = one["key"].as_str().unwrap();
            let values: Vec<_> = one["values"].as_array().into_iter().flatten().collect();
            let is_in = values.iter().any(|value| has(key, value));
            match one["operator"].as_str().unwrap() {
                "In" => is_in,
                "NotIn" => !is_in,
                "Exists" => of.contains_key(key),
                _ => !of.contains_key(key),
            }
        })
}

impl World {
    fn node_labels(&self, node: &str) -> Labels {
        labels(&self.nodes[node].metadata)
    }

    fn domain(&self, node: &str, key: &Value) -> Option<String> {
        self.node_labels(node).get(key.as_str().unwrap()).cloned()
    }

    /// Whether a term of `owner` means `pod`.
    fn means(&self, owner: &core::Pod, term: &Value, pod: &core::Pod) -> bool {
        let namespace = pod.metadata.namespace.as_deref().unwrap();
        let named = term["namespaces"].as_array().cloned().unwrap_or_default();
        let by_label = &term["namespaceSelector"];
        let known = self.namespaces.get(namespace).cloned().unwrap_or_default();
        let is_there = match (named.is_empty(), by_label.is_null()) {
            (true, true) => owner.metadata.namespace == pod.metadata.namespace,
            _ => named.iter().any(|name| name == namespace) || selects(by_label, &known),
        };
        let of = labels(&pod.metadata);
        let own = labels(&owner.metadata);
        let keys = |field: &str, same: bool| {
            let keys = term[field].as_array().cloned().unwrap_or_default();
            keys.iter().all(|key| {
                let key = key.as_str().unwrap();
                let Some(value) = own.get(key) else {
                    return true;
                };
                (of.get(key) == Some(value)) == same
            })
        };
        is_there
            && selects(&term["labelSelector"], &of)
            && keys("matchLabelKeys", true)
            && keys("mismatchLabelKeys", false)
    }

    /// How many of the placed pods that `is` says lie in a node's domain of this label.
    fn near(&self, node: &str, key: &Value, is: impl Fn(&core::Pod) -> bool) -> i64 {
        let Some(domain) = self.domain(node, key) else {
            return 0;
        };
        let pods = self.placed.values();
        let near =
            pods.filter(|(pod, at)| self.domain(at, key).as_ref() == Some(&domain) && is(pod));
        near.count() as i64
    }

    fn affinity_allows(&self, pod: &core::Pod, node: &str) -> bool {
        let spec = spec(pod);
        let all = terms(&spec, "podAffinity");
        let means_all = |other: &core::Pod| all.iter().all(|term| self.means(pod, term, other));
        let somewhere = self.placed.values().any(|(other, at)| {
            means_all(other)
                && all
                    .iter()
                    .any(|term| self.domain(at, &term["topologyKey"]).is_some())
        });
        let is_first = !somewhere && means_all(pod);
        let has_keys = all
            .iter()
            .all(|term| self.domain(node, &term["topologyKey"]).is_some());
        let near = all
            .iter()
            .all(|term| is_first || self.near(node, &term["topologyKey"], means_all) > 0);
        let apart = terms(&spec, "podAntiAffinity");
        let apart = apart.iter().all(|term| {
            self.near(node, &term["topologyKey"], |other| {
                self.means(pod, term, other)
            }) == 0
        });
        let welcome = self.placed.values().all(|(other, at)| {
            let refused = terms(&self::spec(other), "podAntiAffinity");
            refused.iter().all(|term| {
                let key = &term["topologyKey"];
                let domain = self.domain(node, key);
                !self.means(other, term, pod) || domain.is_none() || domain != self.domain(at, key)
            })
        });
        (all.is_empty() || (has_keys && near)) && apart && welcome
    }

    /// Pods that a constraint counts, on the nodes where they count, by domain; also domains without any.
    fn counts(&self, pod: &core::Pod, constraint: &Value) -> BTreeMap<String, i64> {
        let alike = constraints(
            &spec(pod),
            constraint["whenUnsatisfiable"].as_str().unwrap(),
        );
        let mut counts = BTreeMap::new();
        for name in self.nodes.keys() {
            let counts_here = alike
                .iter()
                .all(|one| self.domain(name, &one["topologyKey"]).is_some());
            let honors = constraint["nodeAffinityPolicy"] != "Ignore";
            if counts_here && (!honors || self.selected(pod, name)) {
                let domain = self.domain(name, &constraint["topologyKey"]).unwrap();
                let pods = self
                    .placed
                    .values()
                    .filter(|(other, at)| at == name && counted(pod, constraint, other));
                *counts.entry(domain).or_default() += pods.count() as i64;
            }
        }
        counts
    }

    fn selected(&self, pod: &core::Pod, node: &str) -> bool {
        let of = self.node_labels(node);
        let selector = pod
            .spec
            .as_ref()
            .unwrap()
            .node_selector
            .clone()
            .unwrap_or_default();
        selector
            .iter()
            .all(|(key, value)| of.get(key) == Some(value))
    }

    fn spread_allows(&self, pod: &core::Pod, node: &str) -> bool {
        constraints(&spec(pod), "DoNotSchedule")
            .iter()
            .all(|constraint| {
                let counts = self.counts(pod, constraint);
                let Some(domain) = self.domain(node, &constraint["topologyKey"]) else {
                    return false;
                };
                let wanted = constraint["minDomains"].as_i64().unwrap_or(1);
                let fewest = match (counts.len() as i64) < wanted {
                    true => 0,
                    false => counts.values().copied().min().unwrap_or(0),
                };
                let own = i64::from(counted(pod, constraint, pod));
                let there = counts.get(&domain).copied().unwrap_or(0);
                there + own - fewest <= constraint["maxSkew"].as_i64().unwrap()
            })
    }

    fn feasible(&self, pod: &core::Pod) -> Vec<String> {
        let names = self.nodes.keys().filter(|node| {
            self.selected(pod, node)
                && self.affinity_allows(pod, node)
                && self.spread_allows(pod, node)
        });
        names.cloned().collect()
    }

    /// What the nodes in question are worth by affinity, before that is scaled.
    fn liked(&self, pod: &core::Pod, node: &str) -> i64 {
        let weighed = |of: &core::Pod, kind: &str, sign: i64| {
            let all = spec(of)["affinity"][kind]["preferredDuringSchedulingIgnoredDuringExecution"]
                .clone();
            let all = all.as_array().cloned().unwrap_or_default().into_iter();
            all.map(move |one| {
                (
                    sign * one["weight"].as_i64().unwrap(),
                    one["podAffinityTerm"].clone(),
                )
            })
        };
        let wishes = |of: &core::Pod| {
            weighed(of, "podAffinity", 1)
                .chain(weighed(of, "podAntiAffinity", -1))
                .collect::<Vec<_>>()
        };
        let own: i64 = wishes(pod)
            .iter()
            .map(|(worth, term)| {
                worth
                    * self.near(node, &term["topologyKey"], |other| {
                        self.means(pod, term, other)
                    })
            })
            .sum();
        let of_others = self.placed.values().map(|(other, at)| {
            let mut rules = wishes(other);
            rules.extend(
                terms(&spec(other), "podAffinity")
                    .into_iter()
                    .map(|term| (1, term)),
            );
            let near = rules.iter().filter(|(_, term)| {
                let key = &term["topologyKey"];
                let domain = self.domain(node, key);
                self.means(other, term, pod) && domain.is_some() && domain == self.domain(at, key)
            });
            near.map(|(worth, _)| worth).sum::<i64>()
        });
        own + of_others.sum::<i64>()
    }

    /// What they are worth by spread constraints, all together.
    fn even(&self, pod: &core::Pod, among: &[String]) -> BTreeMap<String, i64> {
        let wishes = constraints(&spec(pod), "ScheduleAnyway");
        if wishes.is_empty() {
            return BTreeMap::new();
        }
        let labelled = |node: &&String| {
            wishes
                .iter()
                .all(|one| self.domain(node, &one["topologyKey"]).is_some())
        };
        let labelled: Vec<&String> = among.iter().filter(labelled).collect();
        let crowd = |node: &str| {
            let near = wishes.iter().map(|one| {
                let key = &one["topologyKey"];
                let domains: BTreeSet<_> =
                    labelled.iter().map(|node| self.domain(node, key)).collect();
                let by_node = key == "kubernetes.io/hostname";
                let pods = match by_node {
                    true => self
                        .placed
                        .values()
                        .filter(|(other, at)| at == node && counted(pod, one, other))
                        .count() as i64,
                    false => self
                        .counts(pod, one)
                        .get(&self.domain(node, key).unwrap())
                        .copied()
                        .unwrap_or(0),
                };
                pods as f64 * (domains.len() as f64 + 2.0).ln()
                    + (one["maxSkew"].as_i64().unwrap() - 1) as f64
            });
            near.sum::<f64>().round() as i64
        };
        let crowds: Vec<(&String, i64)> =
            labelled.iter().map(|node| (*node, crowd(node))).collect();
        let most = crowds.iter().map(|(_, crowd)| *crowd).max().unwrap_or(0);
        let least = crowds.iter().map(|(_, crowd)| *crowd).min().unwrap_or(0);
        let scaled = |crowd: i64| match most {
            0 => MAX_SCORE,
            _ => MAX_SCORE * (most + least - crowd) / most,
        };
        crowds
            .into_iter()
            .map(|(node, crowd)| (node.clone(), scaled(crowd)))
            .collect()
    }

    /// The best of the feasible nodes.
    fn best(&self, pod: &core::Pod) -> BTreeSet<String> {
        let feasible = self.feasible(pod);
        let liked: Vec<i64> = feasible.iter().map(|node| self.liked(pod, node)).collect();
        let (most, least) = (
            liked.iter().max().copied().unwrap_or(0),
            liked.iter().min().copied().unwrap_or(0),
        );
        let even = self.even(pod, &feasible);
        let total = |(node, liked): (&String, &i64)| {
            let scaled = match most - least {
                0 => 0,
                range => MAX_SCORE * (liked - least) / range,
            };
            2 * scaled + 2 * even.get(node).copied().unwrap_or(0)
        };
        let totals: Vec<i64> = feasible.iter().zip(&liked).map(total).collect();
        let highest = totals.iter().max().copied();
        let best = feasible
            .iter()
            .zip(&totals)
            .filter(|(_, total)| Some(**total) == highest);
        best.map(|(node, _)| node.clone()).collect()
    }
}

fn spec(pod: &core::Pod) -> Value {
    serde_json::to_value(pod.spec.as_ref().unwrap()).unwrap()
}

fn terms(spec: &Value, kind: &str) -> Vec<Value> {
    let all = &spec["affinity"][kind]["requiredDuringSchedulingIgnoredDuringExecution"];
    all.as_array().cloned().unwrap_or_default()
}

fn constraints(spec: &Value, what: &str) -> Vec<Value> {
    let all = spec["topologySpreadConstraints"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    all.into_iter()
        .filter(|one| one["whenUnsatisfiable"] == what)
        .collect()
}

/// Whether a constraint of `pod` counts `other`.
fn counted(pod: &core::Pod, constraint: &Value, other: &core::Pod) -> bool {
    let (own, of) = (labels(&pod.metadata), labels(&other.metadata));
    let keys = constraint["matchLabelKeys"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let alike = keys.iter().all(|key| {
        let key = key.as_str().unwrap();
        own.get(key).is_none_or(|value| of.get(key) == Some(value))
    });
    pod.metadata.namespace == other.metadata.namespace
        && other.metadata.deletion_timestamp.is_none()
        && selects(&constraint["labelSelector"], &of)
        && alike
}

impl World {
    fn set_node(&mut self, node: core::Node) {
        let name = node.metadata.name.clone().unwrap();
        self.snapshot.set_node(Arc::new(Node::from(node.clone())));
        self.nodes.insert(name, node);
    }

    fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
        self.snapshot.remove_node(name);
        // Of those that were on it nobody knows any more.
        let gone: Vec<String> = self
            .placed
            .iter()
            .filter(|(_, (_, at))| at == name)
            .map(|(pod, _)| pod.clone())
            .collect();
        gone.iter().for_each(|pod| self.remove_pod(pod));
    }

    fn remove_pod(&mut self, name: &str) {
        if let Some((pod, _)) = self.placed.remove(name) {
            self.snapshot.remove_pod(&Pod::from(pod).key());
        }
    }

    /// Something happens.
    fn change(&mut self, chance: &mut Chance, step: u32) {
        let any = |chance: &mut Chance, names: Vec<String>| match names.len() as u32 {
            0 => None,
            count => Some(names[chance.of(count) as usize].clone()),
        };
        match chance.of(12) {
            0 => {
                let name = format!("node-{}", chance.of(9));
                let node = chance.node(&name);
                self.set_node(node);
            }
            1 if self.nodes.len() > 3 => {
                if let Some(name) = any(chance, self.nodes.keys().cloned().collect()) {
                    self.remove_node(&name);
                }
            }
            2 | 3 => {
                if let Some(name) = any(chance, self.placed.keys().cloned().collect()) {
                    self.remove_pod(&name);
                }
            }
            4 => {
                if let Some(name) = any(chance, self.placed.keys().cloned().collect()) {
                    let (pod, at) = self.placed.get_mut(&name).unwrap();
                    pod.metadata.deletion_timestamp =
                        serde_json::from_value(json!("2030-01-01T00:00:00Z")).unwrap();
                    let (pod, at) = (Arc::new(Pod::from(pod.clone())), at.clone());
                    self.snapshot.place(pod, &at);
                }
            }
            5 => {
                let team = chance.one(&["t", "u"]);
                let labels = Labels::from([("team".to_owned(), team.to_owned())]);
                self.namespaces.insert("n2".to_owned(), labels.clone());
                self.snapshot.set_namespace("n2", Some(labels));
            }
            // Bound by hand, whatever the rules say.
            6 => {
                if let Some(at) = any(chance, self.nodes.keys().cloned().collect()) {
                    self.place(chance.pod(&format!("hand-{step}")), at);
                }
            }
            _ => {}
        }
    }

    fn place(&mut self, pod: core::Pod, at: String) {
        self.snapshot.place(Arc::new(Pod::from(pod.clone())), &at);
        self.placed
            .insert(pod.metadata.name.clone().unwrap(), (pod, at));
    }
}

#[test]
fn what_is_counted_is_what_is_there() {
    let rules: Vec<_> = Plugins::default()
        .iter()
        .filter(|plugin| {
            ["NodeAffinity", "PodTopologySpread", "InterPodAffinity"].contains(&plugin.name())
        })
        .collect();
    let (mut bound, mut waited) = (0, 0);
    for seed in 0..60 {
        let mut chance = Chance(SmallRng::seed_from_u64(seed));
        let mut world = World {
            scheduler: Scheduler::new(Plugins::of(rules.clone())),
            ..World::default()
        };
        for number in 0..4 {
            let node = chance.node(&format!("node-{number}"));
            world.set_node(node);
        }
        for step in 0..60 {
            world.change(&mut chance, step);
            let pod = chance.pod(&format!("pod-{step}"));
            let best = world.best(&pod);
            let decided = world.scheduler.schedule(
                &Pod::from(pod.clone()),
                &mut world.snapshot,
                &mut chance.0,
            );
            let story = format!(
                "seed {seed}, step {step}: {}",
                serde_json::to_string(&pod).unwrap()
            );
            match decided {
                Decision::Bind { node, .. } => {
                    assert!(best.contains(&node), "{node}, not one of {best:?}: {story}");
                    world.place(pod, node);
                    bound += 1;
                }
                Decision::Preempt { .. } => panic!("all are alike: {story}"),
                Decision::Wait(why) => {
                    assert!(
                        best.is_empty(),
                        "one of {best:?}, instead of {}: {story}",
                        why.message
                    );
                    waited += 1;
                }
            }
        }
    }
    assert!(
        bound > 500 && waited > 500,
        "{bound} bound, {waited} waited"
    );
}
