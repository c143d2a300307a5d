//! The decision: one pod, one snapshot, one outcome.

use std::sync::Arc;

use rand::{Rng, RngCore};

use crate::{
    judged::{Judged, Kinds, Questions, Weighed},
    plugins::{Filter, OUT, Plugins, PreFilter, Rank, Rejection, Scan},
    pod::Pod,
    preempt::{self, Preemption, Reasons},
    snapshot::{NodeState, Snapshot},
    storage::Step,
};

/// What is to become of a pod.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Decision {
    /// It goes to a node.
    Bind {
        /// Which.
        node: String,
        /// What has to be written before it is bound.
        first: Vec<Step>,
    },
    /// It fits nowhere until others have gone.
    Preempt {
        /// Who, and where it fits then.
        preemption: Preemption,
        /// Why it fits nowhere now.
        why: Unschedulable,
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
    /// Pods are on their way out that make room for it.
    pub is_awaited: bool,
}

impl Unschedulable {
    /// Whether somebody wishes that it waits.
    pub(crate) fn is_gated(&self) -> bool {
        self.condition == "SchedulingGated"
    }
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
        let reserved = preempt::reserved(pod, snapshot, plugins);
        if snapshot.nodes().is_empty() {
            return Decision::Wait(Unschedulable {
                condition: "Unschedulable",
                message: "no nodes available to schedule pods".to_owned(),
                plugins: plugins.iter().map(|plugin| plugin.name()).collect(),
                is_awaited: false,
            });
        }
        let all = &*snapshot;
        let mut prepared = match prepare(pod, all, plugins) {
            Ok(prepared) => prepared,
            Err(held) => return Decision::Wait(held),
        };
        // What claims ask for, hardly any other pod asks for; and it changes with more than the nodes.
        let mut own = Judged::default();
        let judged = match (&prepared.among, pod.claims.is_empty()) {
            (Some((names, _)), _) => {
                own.few(all, names, &prepared.questions);
                &own
            }
            (None, true) => {
                let kept = self.kinds.of(pod, all.nodes().len());
                kept.update(all, &prepared.questions);
                kept
            }
            (None, false) => {
                own.update(all, &prepared.questions);
                &own
            }
        };
        let mut totals = judged.totals();
        for scan in &prepared.scans {
            scan.sift(totals.to_mut());
        }
        for (at, _) in &reserved {
            totals.to_mut()[*at] = OUT;
        }
        for (weight, rank) in &prepared.ranks {
            let ranks = rank.rank(&totals);
            let in_question = totals.to_mut().iter_mut().zip(ranks);
            for (total, rank) in in_question.filter(|(total, _)| **total != OUT) {
                *total += rank * weight;
            }
        }
        // Where room was made for it, it goes.
        let nominated = all.nomination(pod);
        let nominated = nominated.and_then(|node| Some(all.find(node)?.0));
        let nominated = nominated.filter(|at| totals[*at] != OUT);
        if let Some(at) = nominated.or_else(|| best(&totals, rng)) {
            return bind(pod, all, plugins, &all.nodes()[at]);
        }
        let refused = refused(&prepared, judged, reserved);
        let restricting = prepared.among.take().map(|(_, by)| by);
        let restricting = restricting.unwrap_or_default();
        drop(prepared);
        wait(pod, snapshot, plugins, &restricting, &refused, rng)
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
pub(crate) struct Prepared<'a> {
    pub(crate) questions: Questions<'a>,
    pub(crate) scans: Vec<Box<dyn Scan + 'a>>,
    /// With how much they count.
    ranks: Vec<(i64, Box<dyn Rank + 'a>)>,
    /// The only nodes that come into question, and the plugins that say so.
    among: Option<(Vec<&'a str>, Vec<&'static str>)>,
}

pub(crate) fn prepare<'a>(
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
                    is_awaited: false,
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

/// Why nodes will not do, with their positions.
type Refused = Vec<(Rejection, Vec<usize>)>;

fn refused(prepared: &Prepared<'_>, judged: &Judged, reserved: Vec<(usize, Rejection)>) -> Refused {
    let mut refused: Refused = judged
        .refused()
        .map(|(why, at)| (why.clone(), at))
        .collect();
    let mut add =
        |at: usize, why: Rejection| match refused.iter_mut().find(|(known, _)| *known == why) {
            Some((_, nodes)) => nodes.push(at),
            None => refused.push((why, vec![at])),
        };
    // A scan is asked of nodes that will do but for it.
    for at in judged.passed() {
        let by_scan = prepared.scans.iter().find_map(|scan| scan.check(at).err());
        let by_others = || {
            reserved
                .iter()
                .find(|(node, _)| *node == at)
                .map(|(_, why)| why.clone())
        };
        if let Some(why) = by_scan.or_else(by_others) {
            add(at, why);
        }
    }
    refused
}

/// What becomes of a pod that fits nowhere; `restricting` are the plugins because of which some nodes were not looked at.
fn wait(
    pod: &Pod,
    snapshot: &mut Snapshot,
    plugins: &Plugins,
    restricting: &[&'static str],
    refused: &Refused,
    rng: &mut impl RngCore,
) -> Decision {
    let count = snapshot.nodes().len();
    let mut looked_at = 0;
    let mut by = restricting.to_vec();
    let mut reasons = Reasons::new();
    for (why, at) in refused {
        looked_at += at.len();
        by.push(why.plugin);
        for reason in &why.reasons {
            *reasons.entry(reason.clone()).or_default() += at.len();
        }
    }
    let unseen = count - looked_at;
    if unseen > 0 {
        let why = format!(
            "node(s) didn't satisfy plugin(s) [{}]",
            restricting.join(" ")
        );
        reasons.insert(why.into(), unseen);
    }
    // In the order of the table.
    let turned_away = plugins.iter().map(|plugin| plugin.name());
    let mut why = Unschedulable {
        condition: "Unschedulable",
        message: format!("0/{count} nodes are available: {}.", listed(&reasons)),
        plugins: turned_away.filter(|name| by.contains(name)).collect(),
        is_awaited: is_awaited(pod, snapshot),
    };
    if why.is_awaited {
        let until = "preemption: not eligible due to a terminating pod on the nominated node.";
        why.message = format!("{} {until}", why.message);
        return Decision::Wait(why);
    }
    match make_room(pod, snapshot, plugins, refused, unseen, rng) {
        Ok(preemption) => Decision::Preempt { preemption, why },
        Err(in_vain) => {
            why.message = format!("{} preemption: {in_vain}", why.message);
            Decision::Wait(why)
        }
    }
}

/// Whether pods on their way out make room for this one.
pub(crate) fn is_awaited(pod: &Pod, snapshot: &Snapshot) -> bool {
    let nominated = snapshot.nomination(pod);
    let nominated = nominated.and_then(|node| snapshot.node(node));
    let is_leaving = |other: Arc<Pod>| other.deleting;
    nominated.is_some_and(|state| state.lower(pod.priority).any(is_leaving))
}

/// Finds who has to go.
///
/// # Errors
/// Why nobody does, in Kubernetes' words.
fn make_room(
    pod: &Pod,
    snapshot: &mut Snapshot,
    plugins: &Plugins,
    refused: &Refused,
    unseen: usize,
    rng: &mut impl RngCore,
) -> Result<Preemption, String> {
    if pod.never_preempts {
        return Err("not eligible due to preemptionPolicy=Never.".to_owned());
    }
    let (mut candidates, mut helpless, mut empty) = (Vec::new(), unseen, 0);
    for (why, at) in refused {
        let (lower, others): (Vec<usize>, Vec<usize>) = at
            .iter()
            .partition(|at| snapshot.nodes()[**at].has_lower(pod.priority));
        match why.unresolvable {
            true => helpless += at.len(),
            false => {
                candidates.extend(lower);
                empty += others.len();
            }
        }
    }
    preempt::preempt(pod, snapshot, plugins, &candidates, rng).map_err(|mut reasons| {
        for (what, nodes) in [(NOT_HELPFUL, helpless), (NO_VICTIMS, empty)] {
            if nodes > 0 {
                *reasons.entry(what.into()).or_default() += nodes;
            }
        }
        let count = snapshot.nodes().len();
        format!("0/{count} nodes are available: {}.", listed(&reasons))
    })
}

const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// `1 Insufficient memory, 2 node(s) had untolerated taint(s)`: sorted as text, as Kubernetes
/// does.
fn listed(reasons: &Reasons) -> String {
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
