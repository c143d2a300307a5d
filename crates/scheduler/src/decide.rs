//! The decision: one pod, one snapshot, one outcome.

use std::{borrow::Cow, collections::BTreeMap};

use rand::{Rng, RngCore};

use crate::{
    judged::{Judged, Kinds, Questions, Weighed},
    plugins::{Filter, OUT, Plugins, PreFilter, Rank, Scan},
    pod::Pod,
    snapshot::{NodeState, Snapshot},
    storage::Step,
};

/// What is to become of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It goes to a node.
    Bind {
        /// Which.
        node: String,
        /// What has to be written before it is bound.
        first: Vec<Step>,
    },
    /// It fits nowhere now.
    Wait(Unschedulable),
}

/// Why a pod fits nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unschedulable {
    /// For the condition: `Unschedulable`, `SchedulingGated`.
    pub condition: &'static str,
    /// For people, in Kubernetes' words: `0/3 nodes are available: 3 Insufficient cpu. …`
    pub message: String,
    /// The plugins that turned it away somewhere: only a change that helps one of them can help.
    pub plugins: Vec<&'static str>,
}

/// Decides where pods go: equal pods and nodes give equal decisions, whatever was decided before.
#[derive(Debug, Default)]
pub struct Scheduler {
    plugins: Plugins,
    kinds: Kinds,
}

impl Scheduler {
    /// One that goes by these rules.
    #[must_use]
    pub fn new(plugins: Plugins) -> Self {
        let kinds = Kinds::default();
        Self { plugins, kinds }
    }

    /// The rules.
    #[must_use]
    pub fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    /// Decides where a pod goes. All nodes are looked at, where kube-scheduler takes the best of some; `rng` only breaks ties.
    pub fn schedule(
        &mut self,
        pod: &Pod,
        snapshot: &mut Snapshot,
        rng: &mut impl RngCore,
    ) -> Decision {
        let plugins = &self.plugins;
        // What the pod's rules ask for is counted from now on.
        snapshot.prepare(pod);
        let snapshot = &*snapshot;
        if snapshot.nodes().is_empty() {
            return Decision::Wait(Unschedulable {
                condition: "Unschedulable",
                message: "no nodes available to schedule pods".to_owned(),
                plugins: plugins.iter().map(|plugin| plugin.name()).collect(),
            });
        }
        let prepared = match prepare(pod, snapshot, plugins) {
            Ok(prepared) => prepared,
            Err(held) => return Decision::Wait(held),
        };
        // What claims ask for, hardly any other pod asks for; and it changes with more than the nodes.
        let mut own = Judged::default();
        let judged = match (&prepared.among, pod.claims.is_empty()) {
            (Some((names, _)), _) => {
                own.few(snapshot, names, &prepared.questions);
                &own
            }
            (None, true) => {
                let kept = self.kinds.of(pod, snapshot.nodes().len());
                kept.update(snapshot, &prepared.questions);
                kept
            }
            (None, false) => {
                own.update(snapshot, &prepared.questions);
                &own
            }
        };
        let mut totals = judged.totals();
        for scan in &prepared.scans {
            scan.sift(totals.to_mut());
        }
        for (weight, rank) in &prepared.ranks {
            let ranks = rank.rank(&totals);
            let in_question = totals.to_mut().iter_mut().zip(ranks);
            for (total, rank) in in_question.filter(|(total, _)| **total != OUT) {
                *total += rank * weight;
            }
        }
        match best(&totals, rng) {
            Some(at) => bind(pod, snapshot, plugins, &snapshot.nodes()[at]),
            None => Decision::Wait(unschedulable(pod, snapshot, plugins, &prepared, judged)),
        }
    }
}

fn bind(pod: &Pod, snapshot: &Snapshot, plugins: &Plugins, chosen: &NodeState) -> Decision {
    let first = plugins.iter();
    let first = first.flat_map(|plugin| plugin.reserve(pod, snapshot, chosen));
    Decision::Bind {
        node: chosen.node.name.clone(),
        first: first.collect(),
    }
}

/// What the plugins have to ask of the nodes.
struct Prepared<'a> {
    questions: Questions<'a>,
    scans: Vec<Box<dyn Scan + 'a>>,
    /// With how much they count.
    ranks: Vec<(i64, Box<dyn Rank + 'a>)>,
    /// The only nodes that come into question, and the plugins that say so.
    among: Option<(Vec<&'a str>, Vec<&'static str>)>,
}

fn prepare<'a>(
    pod: &'a Pod,
    snapshot: &'a Snapshot,
    plugins: &Plugins,
) -> Result<Prepared<'a>, Unschedulable> {
    let mut filters: Vec<Box<dyn Filter + 'a>> = Vec::new();
    let mut few: Option<(Vec<&'a str>, Vec<&'static str>)> = None;
    for plugin in plugins.iter() {
        match plugin.pre_filter(pod, snapshot) {
            PreFilter::Skip => {}
            PreFilter::Filter(filter) => filters.push(filter),
            PreFilter::Among(mut names, filter) => {
                filters.push(filter);
                names.sort_unstable();
                names.dedup();
                match &mut few {
                    None => few = Some((names, vec![plugin.name()])),
                    Some((among, by)) => {
                        among.retain(|name| names.binary_search(name).is_ok());
                        by.push(plugin.name());
                    }
                }
            }
            PreFilter::Reject { condition, message } => {
                let count = snapshot.nodes().len();
                let message = match condition {
                    "Unschedulable" => format!("0/{count} nodes are available: {message}."),
                    _ => message,
                };
                return Err(Unschedulable {
                    condition,
                    message,
                    plugins: vec![plugin.name()],
                });
            }
        }
    }
    let scores = plugins.iter().filter_map(|plugin| {
        Some(Weighed {
            weight: plugin.weight(),
            score: plugin.pre_score(pod, snapshot)?,
        })
    });
    let scores = scores.collect();
    let scans = plugins
        .iter()
        .filter_map(|plugin| plugin.scan(pod, snapshot));
    let ranks = plugins.iter().filter_map(|plugin| {
        let rank = plugin.rank(pod, snapshot)?;
        Some((plugin.weight(), rank))
    });
    Ok(Prepared {
        questions: Questions { filters, scores },
        scans: scans.collect(),
        ranks: ranks.collect(),
        among: few,
    })
}

/// The position of the highest total, any of those that have it; none where all are [`OUT`].
fn best(totals: &[i64], rng: &mut impl RngCore) -> Option<usize> {
    let highest = totals
        .iter()
        .copied()
        .max()
        .filter(|highest| *highest != OUT)?;
    let equals = totals.iter().filter(|total| **total == highest).count();
    let chosen = rng.random_range(0..equals);
    let mut equals = totals
        .iter()
        .enumerate()
        .filter(|(_, total)| **total == highest);
    equals.nth(chosen).map(|(at, _)| at)
}

fn unschedulable(
    pod: &Pod,
    snapshot: &Snapshot,
    plugins: &Plugins,
    prepared: &Prepared<'_>,
    judged: &Judged,
) -> Unschedulable {
    let nodes = snapshot.nodes();
    let count = nodes.len();
    let restricting = prepared.among.as_ref().map_or(&[][..], |(_, by)| by);
    let mut refused: Vec<_> = judged
        .refused()
        .map(|(why, at)| (Cow::Borrowed(why), at))
        .collect();
    // A scan is asked of nodes that will do but for it.
    for at in judged.passed() {
        let why = prepared.scans.iter().find_map(|scan| scan.check(at).err());
        let Some(why) = why else { continue };
        match refused.iter_mut().find(|(known, _)| **known == why) {
            Some((_, nodes)) => nodes.push(at),
            None => refused.push((Cow::Owned(why), vec![at])),
        }
    }
    let mut looked_at = 0;
    let mut by = restricting.to_vec();
    let mut reasons: BTreeMap<Cow<'_, str>, usize> = BTreeMap::new();
    let mut preempting: BTreeMap<Cow<'_, str>, usize> = BTreeMap::new();
    for (why, at) in &refused {
        looked_at += at.len();
        by.push(why.plugin);
        for reason in &why.reasons {
            *reasons.entry(Cow::Borrowed(reason)).or_default() += at.len();
        }
        let lower = at.iter().filter(|at| nodes[**at].has_lower(pod.priority));
        let lower = if why.unresolvable { 0 } else { lower.count() };
        let others = if why.unresolvable {
            NOT_HELPFUL
        } else {
            NO_VICTIMS
        };
        for (what, count) in [(LOWER, lower), (others, at.len() - lower)] {
            if count > 0 {
                *preempting.entry(what.into()).or_default() += count;
            }
        }
    }
    let unseen = count - looked_at;
    if unseen > 0 {
        let why = format!(
            "node(s) didn't satisfy plugin(s) [{}]",
            restricting.join(" ")
        );
        reasons.insert(why.into(), unseen);
        *preempting.entry(NOT_HELPFUL.into()).or_default() += unseen;
    }
    // In the order of the table.
    let turned_away = plugins.iter().map(|plugin| plugin.name());
    let by = turned_away.filter(|name| by.contains(name)).collect();
    let preemption = match pod.never_preempts {
        true => "not eligible due to preemptionPolicy=Never.".to_owned(),
        false => format!("0/{count} nodes are available: {}.", listed(&preempting)),
    };
    let listed = listed(&reasons);
    Unschedulable {
        condition: "Unschedulable",
        message: format!("0/{count} nodes are available: {listed}. preemption: {preemption}"),
        plugins: by,
    }
}

const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const LOWER: &str = "node(s) hold pods of lower priority, which carob does not preempt yet";

/// `1 Insufficient memory, 2 node(s) had untolerated taint(s)`: sorted as text, as Kubernetes
/// does.
fn listed(reasons: &BTreeMap<Cow<'_, str>, usize>) -> String {
    let mut texts: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    texts.sort_unstable();
    texts.join(", ")
}

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;
