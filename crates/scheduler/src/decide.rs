//! The decision: one pod, one snapshot, one outcome.

use std::{borrow::Cow, collections::BTreeMap};

use rand::{Rng, RngCore};

use crate::{
    plugins::{Filter, Plugins, PreFilter, Rejection, Score},
    pod::Pod,
    snapshot::{NodeState, Snapshot},
    storage::Step,
};

/// Up to this many nodes, all are looked at.
const ALL_NODES: usize = 100;
/// Of more, at least this share in percent, as kube-scheduler does.
const LEAST_PERCENT: usize = 5;

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
    /// What each node that was looked at was refused for; empty if no node was.
    pub nodes: BTreeMap<String, Rejection>,
}

/// Decides where a pod goes. Equal inputs give equal decisions; `rng` only breaks ties, and
/// chooses where to begin among more nodes than are looked at.
pub fn schedule(
    pod: &Pod,
    snapshot: &Snapshot,
    plugins: &Plugins,
    rng: &mut impl RngCore,
) -> Decision {
    if snapshot.nodes().is_empty() {
        return Decision::Wait(Unschedulable {
            condition: "Unschedulable",
            message: "no nodes available to schedule pods".to_owned(),
            plugins: plugins.iter().map(|plugin| plugin.name()).collect(),
            nodes: BTreeMap::new(),
        });
    }
    let filters = match prepare(pod, snapshot, plugins) {
        Ok(filters) => filters,
        Err(held) => return Decision::Wait(held),
    };
    let (feasible, rejected) = filter(snapshot, &filters, rng);
    let chosen = match feasible.as_slice() {
        [] => {
            let why = unschedulable(pod, snapshot, plugins, &filters, rejected);
            return Decision::Wait(why);
        }
        [only] => *only,
        several => best(pod, snapshot, plugins, several, rng),
    };
    let first = plugins
        .iter()
        .flat_map(|plugin| plugin.reserve(pod, snapshot, chosen));
    Decision::Bind {
        node: chosen.node.name.clone(),
        first: first.collect(),
    }
}

/// What the plugins have to ask of the nodes.
struct Filters<'a> {
    all: Vec<Box<dyn Filter + 'a>>,
    /// The only nodes that come into question, and the plugins that say so.
    among: Option<(Vec<&'a str>, Vec<&'static str>)>,
}

fn prepare<'a>(
    pod: &'a Pod,
    snapshot: &'a Snapshot,
    plugins: &Plugins,
) -> Result<Filters<'a>, Unschedulable> {
    let mut filters = Filters {
        all: Vec::new(),
        among: None,
    };
    for plugin in plugins.iter() {
        match plugin.pre_filter(pod, snapshot) {
            PreFilter::Skip => {}
            PreFilter::Filter(filter) => filters.all.push(filter),
            PreFilter::Among(mut names, filter) => {
                filters.all.push(filter);
                names.sort_unstable();
                names.dedup();
                match &mut filters.among {
                    None => filters.among = Some((names, vec![plugin.name()])),
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
                    nodes: BTreeMap::new(),
                });
            }
        }
    }
    Ok(filters)
}

type Rejections<'a> = Vec<(&'a NodeState, Rejection)>;

/// Finds nodes that all filters let pass: all of them, or enough of many.
fn filter<'a>(
    snapshot: &'a Snapshot,
    filters: &Filters<'_>,
    rng: &mut impl RngCore,
) -> (Vec<&'a NodeState>, Rejections<'a>) {
    let mut feasible = Vec::new();
    let mut rejected = Vec::new();
    let mut judge = |state: &'a NodeState| {
        match filters
            .all
            .iter()
            .find_map(|filter| filter.check(state).err())
        {
            None => feasible.push(state),
            Some(rejection) => rejected.push((state, rejection)),
        }
        feasible.len()
    };
    if let Some((among, _)) = &filters.among {
        for state in among.iter().filter_map(|name| snapshot.node(name)) {
            judge(state);
        }
        return (feasible, rejected);
    }
    let nodes = snapshot.nodes();
    let enough = enough(nodes.len());
    // Beginning anywhere lets every node have its turn.
    let start = if enough < nodes.len() {
        rng.random_range(0..nodes.len())
    } else {
        0
    };
    let (before, after) = nodes.split_at(start);
    for state in after.iter().chain(before) {
        if judge(state) >= enough {
            break;
        }
    }
    (feasible, rejected)
}

/// How many feasible nodes are enough to choose from: fewer percent of more nodes.
fn enough(nodes: usize) -> usize {
    if nodes <= ALL_NODES {
        return nodes;
    }
    let percent = 50_usize.saturating_sub(nodes / 125).max(LEAST_PERCENT);
    (nodes * percent / 100).max(ALL_NODES)
}

/// The node with the highest sum of weighted scores.
fn best<'a>(
    pod: &Pod,
    snapshot: &Snapshot,
    plugins: &Plugins,
    nodes: &[&'a NodeState],
    rng: &mut impl RngCore,
) -> &'a NodeState {
    let mut totals = vec![0_i64; nodes.len()];
    let mut scores = vec![0_i64; nodes.len()];
    for plugin in plugins.iter() {
        let Some(score): Option<Box<dyn Score + '_>> = plugin.pre_score(pod, snapshot) else {
            continue;
        };
        for (slot, node) in scores.iter_mut().zip(nodes) {
            *slot = score.score(node);
        }
        score.normalize(&mut scores);
        for (total, score) in totals.iter_mut().zip(&scores) {
            *total += score * plugin.weight();
        }
    }
    let highest = totals.iter().copied().max().unwrap_or(0);
    let equals: Vec<&'a NodeState> = nodes
        .iter()
        .zip(&totals)
        .filter(|(_, total)| **total == highest)
        .map(|(node, _)| *node)
        .collect();
    equals[rng.random_range(0..equals.len())]
}

fn unschedulable(
    pod: &Pod,
    snapshot: &Snapshot,
    plugins: &Plugins,
    filters: &Filters<'_>,
    rejected: Rejections<'_>,
) -> Unschedulable {
    let count = snapshot.nodes().len();
    let restricting = filters.among.iter().flat_map(|(_, by)| by).copied();
    let restricting: Vec<&'static str> = restricting.collect();
    let unseen = format!(
        "node(s) didn't satisfy plugin(s) [{}]",
        restricting.join(" ")
    );
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, rejection) in &rejected {
        for reason in &rejection.reasons {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    if count > rejected.len() {
        reasons.insert(&unseen, count - rejected.len());
    }
    let mut by: Vec<&'static str> = rejected.iter().map(|(_, one)| one.plugin).collect();
    by.extend(restricting);
    // In the order of the table.
    let turned_away = plugins.iter().map(|plugin| plugin.name());
    let by = turned_away.filter(|name| by.contains(name)).collect();
    let listed = listed(&reasons);
    let preemption = preemption(pod, count, &rejected);
    Unschedulable {
        condition: "Unschedulable",
        message: format!("0/{count} nodes are available: {listed}. preemption: {preemption}"),
        plugins: by,
        nodes: rejected
            .into_iter()
            .map(|(state, rejection)| (state.node.name.clone(), rejection))
            .collect(),
    }
}

/// `1 Insufficient memory, 2 node(s) had untolerated taint(s)`: sorted as text, as Kubernetes
/// does.
fn listed(reasons: &BTreeMap<&str, usize>) -> String {
    let mut texts: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    texts.sort_unstable();
    texts.join(", ")
}

/// What taking other pods away could do. Nothing is taken away yet, and where that might have
/// helped the message says so.
fn preemption(pod: &Pod, count: usize, rejected: &Rejections<'_>) -> Cow<'static, str> {
    if pod.never_preempts {
        return "not eligible due to preemptionPolicy=Never.".into();
    }
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for (state, rejection) in rejected {
        let reason = if rejection.unresolvable {
            "Preemption is not helpful for scheduling"
        } else if state.pods().any(|other| other.priority < pod.priority) {
            "node(s) hold pods of lower priority, which carob does not preempt yet"
        } else {
            "No preemption victims found for incoming pod"
        };
        *reasons.entry(reason).or_default() += 1;
    }
    let unseen = count - rejected.len();
    if unseen > 0 {
        *reasons
            .entry("Preemption is not helpful for scheduling")
            .or_default() += unseen;
    }
    let listed = listed(&reasons);
    format!("0/{count} nodes are available: {listed}.").into()
}

#[cfg(test)]
mod tests;
