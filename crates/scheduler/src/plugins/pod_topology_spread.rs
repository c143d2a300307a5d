//! Pods of a kind lie evenly over domains of nodes: where that is required, no domain may have many more of them than the one
//! with the fewest; where it is wished, those with fewer are better.

use super::{MAX_SCORE, OUT, Plugin, Rank, Rejection, Remembered, Scan};
use crate::{
    pod::Pod,
    rules::Spread,
    snapshot::{Event, Snapshot},
    topology::{Group, NOWHERE, Table},
};

pub(super) struct PodTopologySpread;

pub(super) const NAME: &str = "PodTopologySpread";
const UNEVEN: &str = "node(s) didn't match pod topology spread constraints";
const UNLABELLED: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";
const HOSTNAME: &str = "kubernetes.io/hostname";

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        NAME
    }

    fn weight(&self) -> i64 {
        2
    }

    fn scan<'a>(&'a self, pod: &'a Pod, snapshot: &'a Snapshot) -> Option<Box<dyn Scan + 'a>> {
        let required = pod.rules.spreads.iter().filter(|spread| spread.is_required);
        let bounds: Vec<_> = required
            .filter_map(|spread| Bound::of(pod, spread, snapshot))
            .collect();
        (!bounds.is_empty()).then(|| Box::new(Bounds(bounds)) as _)
    }

    fn rank<'a>(&'a self, pod: &'a Pod, snapshot: &'a Snapshot) -> Option<Box<dyn Rank + 'a>> {
        let wished = pod
            .rules
            .spreads
            .iter()
            .filter(|spread| !spread.is_required);
        let wishes: Vec<_> = wished
            .filter_map(|spread| Wish::of(pod, spread, snapshot))
            .collect();
        (!wishes.is_empty()).then(|| Box::new(Wishes(wishes)) as _)
    }

    fn helps(&self, pod: &Pod, event: &Event<'_>) -> bool {
        let speaks_of = |other: &Pod| {
            let mut spreads = pod.rules.spreads.iter();
            spreads.any(|spread| spread.scope.may_cover(&other.namespace, &other.labels))
        };
        match event {
            // Where there were the fewest there may be none any more.
            Event::Node(_) | Event::NodeGone => true,
            // More in the domain with the fewest leave more room in all others.
            Event::Placed(other) | Event::Freed(_, other) => speaks_of(other),
            _ => false,
        }
    }
}

/// A constraint that has to hold.
struct Bound<'a> {
    domains: &'a [usize],
    table: &'a Table,
    /// How many pods a domain may have without this one.
    most: i64,
}

impl<'a> Bound<'a> {
    fn of(pod: &Pod, spread: &Spread, snapshot: &'a Snapshot) -> Option<Self> {
        let topology = snapshot.topology();
        let table = &topology.even(pod, spread)?.table;
        let domains = table.pods.iter().zip(&table.nodes);
        let counts = domains
            .filter(|(_, nodes)| **nodes > 0)
            .map(|(pods, _)| *pods);
        let fewest = match counts.clone().count() < spread.min_domains {
            true => 0,
            false => counts.min().unwrap_or(0),
        };
        let own = i64::from(spread.counts_itself);
        Some(Self {
            domains: topology.domains(&spread.key),
            table,
            most: spread.max_skew + i64::from(fewest) - own,
        })
    }

    fn allows(&self, domain: usize) -> bool {
        i64::from(self.table.pods_in(domain)) <= self.most
    }
}

struct Bounds<'a>(Vec<Bound<'a>>);

impl Scan for Bounds<'_> {
    fn sift(&self, totals: &mut [i64]) {
        for bound in &self.0 {
            // Asked of each domain once.
            let allowed = bound.table.pods.iter();
            let allowed: Vec<bool> = allowed.map(|pods| i64::from(*pods) <= bound.most).collect();
            let others = bound.allows(NOWHERE);
            for (total, domain) in totals.iter_mut().zip(bound.domains) {
                let allows = *domain != NOWHERE && allowed.get(*domain).copied().unwrap_or(others);
                if !allows {
                    *total = OUT;
                }
            }
        }
    }

    fn check(&self, at: usize) -> Result<(), Rejection> {
        for bound in &self.0 {
            match bound.domains[at] {
                NOWHERE => return Err(Rejection::unresolvable(NAME, UNLABELLED)),
                domain if !bound.allows(domain) => return Err(Rejection::resolvable(NAME, UNEVEN)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A constraint that would better hold.
struct Wish<'a> {
    domains: &'a [usize],
    group: &'a Group,
    table: &'a Table,
    /// Each node is a domain of its own, of which also those nodes count that others exclude.
    by_node: bool,
    max_skew: i64,
}

impl<'a> Wish<'a> {
    fn of(pod: &Pod, spread: &Spread, snapshot: &'a Snapshot) -> Option<Self> {
        let topology = snapshot.topology();
        let group = topology.even(pod, spread)?;
        Some(Self {
            domains: topology.domains(&spread.key),
            group,
            table: &group.table,
            by_node: spread.key == HOSTNAME,
            max_skew: spread.max_skew,
        })
    }

    /// Adds how crowded nodes are by this constraint.
    fn add_to(&self, crowds: &mut [f64], among: &[usize]) {
        let weight = self.weight(among);
        let crowd = |pods: u32| f64::from(pods) * weight + (self.max_skew - 1) as f64;
        if self.by_node {
            for (sum, at) in crowds.iter_mut().zip(among) {
                *sum += crowd(self.group.on_node(*at));
            }
            return;
        }
        let domains: Vec<f64> = self.table.pods.iter().map(|pods| crowd(*pods)).collect();
        let none = crowd(0);
        for (sum, at) in crowds.iter_mut().zip(among) {
            *sum += domains.get(self.domains[*at]).copied().unwrap_or(none);
        }
    }

    /// What a pod in a domain counts: the more domains there are, the more, for they have the fewer pods each.
    fn weight(&self, among: &[usize]) -> f64 {
        let size = match self.by_node {
            true => among.len(),
            false => {
                let mut seen = vec![false; self.table.pods.len()];
                let new = among.iter().filter(|at| {
                    let seen = seen.get_mut(self.domains[**at]);
                    seen.is_some_and(|seen| !std::mem::replace(seen, true))
                });
                new.count()
            }
        };
        (size as f64 + 2.0).ln()
    }
}

struct Wishes<'a>(Vec<Wish<'a>>);

impl Rank for Wishes<'_> {
    /// kube-scheduler's: the weighted number of pods near, turned round.
    fn rank(&self, totals: &[i64]) -> Vec<i64> {
        let is_labelled = |at: &usize| self.0.iter().all(|wish| wish.domains[*at] != NOWHERE);
        let in_question = totals
            .iter()
            .enumerate()
            .filter(|(_, total)| **total != OUT);
        let among: Vec<usize> = in_question.map(|(at, _)| at).filter(is_labelled).collect();
        let mut crowds = vec![0.0; among.len()];
        for wish in &self.0 {
            wish.add_to(&mut crowds, &among);
        }
        let crowds: Vec<i64> = crowds.iter().map(|crowd| crowd.round() as i64).collect();
        let most = crowds.iter().copied().max().unwrap_or(0);
        let least = crowds.iter().copied().min().unwrap_or(0);
        let mut scaled = Remembered::new(|crowd| match most {
            0 => MAX_SCORE,
            _ => MAX_SCORE * (most + least - crowd) / most,
        });
        let mut ranks = vec![0; totals.len()];
        for (at, crowd) in among.iter().zip(&crowds) {
            ranks[*at] = scaled.of(*crowd);
        }
        ranks
    }
}
