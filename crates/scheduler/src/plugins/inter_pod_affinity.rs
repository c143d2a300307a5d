//! Pods lie near others, or away from them, as they or the others say.

use super::{MAX_SCORE, OUT, Plugin, Rank, Rejection, Remembered, Scan};
use crate::{
    pod::Pod,
    rules::{Neighbours, Term},
    snapshot::{Event, Snapshot},
    topology::{Meaning, NOWHERE, Table},
};

pub(super) struct InterPodAffinity;

pub(super) const NAME: &str = "InterPodAffinity";
const AFFINITY: &str = "node(s) didn't match pod affinity rules";
const ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
const OF_OTHERS: &str = "node(s) didn't satisfy existing pods anti-affinity rules";
/// What it is worth that a pod comes near one that needs such pods: kube-scheduler's `hardPodAffinityWeight`.
const WANTED: i64 = 1;

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn weight(&self) -> i64 {
        2
    }

    fn scan<'a>(&'a self, pod: &'a Pod, snapshot: &'a Snapshot) -> Option<Box<dyn Scan + 'a>> {
        let needs = Needs::of(pod, snapshot);
        let is_any =
            !(needs.near.is_empty() && needs.apart.is_empty() && needs.kept_away.is_empty());
        is_any.then(|| Box::new(needs) as _)
    }

    fn rank<'a>(&'a self, pod: &'a Pod, snapshot: &'a Snapshot) -> Option<Box<dyn Rank + 'a>> {
        let topology = snapshot.topology();
        let preferred = pod
            .rules
            .neighbours
            .preferred
            .iter()
            .filter_map(|(worth, term)| {
                let terms = std::slice::from_ref(term);
                Some((
                    *worth,
                    Near::to(term, &topology.near(terms, &term.key)?.table, snapshot),
                ))
            });
        let of_others = topology.speaking_of(pod).filter_map(|rule| {
            let worth = match rule.meaning {
                Meaning::Refused => return None,
                Meaning::Required => WANTED,
                Meaning::Preferred(worth) => worth,
            };
            Some((worth, Near::to(&rule.term, &rule.table, snapshot)))
        });
        let all: Vec<_> = preferred.chain(of_others).collect();
        (!all.is_empty()).then(|| Box::new(Wishes(all)) as _)
    }

    fn helps(&self, pod: &Pod, event: &Event<'_>) -> bool {
        let Neighbours {
            required, refused, ..
        } = &pod.rules.neighbours;
        let speaks = |terms: &[Term], of: &Pod| {
            let mut terms = terms.iter();
            terms.any(|term| term.scope.may_cover(&of.namespace, &of.labels))
        };
        match event {
            Event::Node(_) | Event::NodeGone | Event::Namespace => true,
            Event::Placed(other) => speaks(required, other),
            Event::Freed(_, other) => {
                // Without it this one may be the first of its kind.
                (speaks(required, pod) && speaks(required, other))
                    || speaks(refused, other)
                    || speaks(&other.rules.neighbours.refused, pod)
            }
            _ => false,
        }
    }
}

/// The pods that a term means, by the domains of its label.
struct Near<'a> {
    domains: &'a [usize],
    table: &'a Table,
}

impl<'a> Near<'a> {
    fn to(term: &Term, table: &'a Table, snapshot: &'a Snapshot) -> Self {
        Self {
            domains: snapshot.topology().domains(&term.key),
            table,
        }
    }

    /// How many of them there are near a node; none near one that lacks the label.
    fn pods(&self, at: usize) -> u32 {
        self.table.pods_in(self.domains[at])
    }
}

/// What has to hold.
struct Needs<'a> {
    /// Of each of these some have to be near.
    near: Vec<Near<'a>>,
    /// There is no pod that all of these mean but the new one itself, which may be the first.
    is_first: bool,
    apart: Vec<Near<'a>>,
    /// Those that will not have the pod near.
    kept_away: Vec<Near<'a>>,
}

impl<'a> Needs<'a> {
    fn of(pod: &Pod, snapshot: &'a Snapshot) -> Self {
        let topology = snapshot.topology();
        let Neighbours {
            required, refused, ..
        } = &pod.rules.neighbours;
        let near = required.iter().filter_map(|term| {
            let group = topology.near(required, &term.key)?;
            Some(Near::to(term, &group.table, snapshot))
        });
        let near: Vec<_> = near.collect();
        let nobody = |near: &Near<'_>| near.table.pods.iter().all(|pods| *pods == 0);
        let apart = refused.iter().filter_map(|term| {
            let group = topology.near(std::slice::from_ref(term), &term.key)?;
            Some(Near::to(term, &group.table, snapshot))
        });
        let kept_away = topology
            .speaking_of(pod)
            .filter(|rule| rule.meaning == Meaning::Refused);
        Self {
            is_first: near.iter().all(nobody)
                && required.iter().all(|term| topology.covers(term, pod)),
            near,
            apart: apart.collect(),
            kept_away: kept_away
                .map(|rule| Near::to(&rule.term, &rule.table, snapshot))
                .collect(),
        }
    }

    fn is_near(&self, near: &Near<'_>, at: usize) -> bool {
        near.domains[at] != NOWHERE && (self.is_first || near.pods(at) > 0)
    }
}

impl Scan for Needs<'_> {
    fn sift(&self, totals: &mut [i64]) {
        for near in &self.near {
            for (at, total) in totals.iter_mut().enumerate() {
                if !self.is_near(near, at) {
                    *total = OUT;
                }
            }
        }
        for apart in self.apart.iter().chain(&self.kept_away) {
            for (total, domain) in totals.iter_mut().zip(apart.domains) {
                if apart.table.pods_in(*domain) > 0 {
                    *total = OUT;
                }
            }
        }
    }

    fn check(&self, at: usize) -> Result<(), Rejection> {
        if !self.near.iter().all(|near| self.is_near(near, at)) {
            return Err(Rejection::unresolvable(NAME, AFFINITY));
        }
        if self.apart.iter().any(|apart| apart.pods(at) > 0) {
            return Err(Rejection::resolvable(NAME, ANTI_AFFINITY));
        }
        if self.kept_away.iter().any(|away| away.pods(at) > 0) {
            return Err(Rejection::resolvable(NAME, OF_OTHERS));
        }
        Ok(())
    }
}

/// What would be better.
struct Wishes<'a>(Vec<(i64, Near<'a>)>);

impl Rank for Wishes<'_> {
    /// kube-scheduler's: each pod near counts what it is worth; the best of the nodes in question gets all, the worst nothing.
    fn rank(&self, totals: &[i64]) -> Vec<i64> {
        let mut worths = vec![0_i64; totals.len()];
        for (worth, near) in &self.0 {
            for (sum, domain) in worths.iter_mut().zip(near.domains) {
                *sum += worth * i64::from(near.table.pods_in(*domain));
            }
        }
        let in_question = worths
            .iter()
            .zip(totals)
            .filter(|(_, total)| **total != OUT);
        let in_question = in_question.map(|(worth, _)| *worth);
        let most = in_question.clone().max().unwrap_or(0);
        let least = in_question.min().unwrap_or(0);
        let mut scaled = Remembered::new(|worth: i64| match most - least {
            0 => 0,
            range => MAX_SCORE.saturating_mul(worth - least) / range,
        });
        for (worth, _) in worths
            .iter_mut()
            .zip(totals)
            .filter(|(_, total)| **total != OUT)
        {
            *worth = scaled.of(*worth);
        }
        worths
    }
}
