//! What the plugins say of every node, for all pods that ask alike; kept from one decision to the next.
//!
//! Most pods come in numbers that differ in nothing but their names. What was found for one of them holds for the next, but
//! on the nodes that have changed meanwhile: as a rule the one that the last pod went to.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::{
    plugins::{Filter, OUT, Rejection, Remembered, Scale, Score},
    pod::Pod,
    snapshot::{NodeState, Snapshot},
};

/// Of how many nodes, for all kinds of pods together, judgements are kept: some 25 bytes each.
const MOST: usize = 2_000_000;
/// For how many kinds of pods, however few nodes there are: they are looked through.
const KINDS: usize = 256;
/// With so many different refusals, most of them of the past, all nodes are looked at anew.
const REFUSALS: usize = 1_000;

/// A plugin's opinion of nodes, and how much it counts.
pub(crate) struct Weighed<'a> {
    pub(crate) weight: i64,
    pub(crate) score: Box<dyn Score + 'a>,
}

/// What is asked of nodes for one pod.
pub(crate) struct Questions<'a> {
    pub(crate) filters: Vec<Box<dyn Filter + 'a>>,
    pub(crate) scores: Vec<Weighed<'a>>,
}

/// What was answered for every node, by its position.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// Of which state of the nodes this is.
    version: (u64, u64),
    /// The positions of their refusals, for those that were asked about and will not do.
    verdicts: Vec<Option<usize>>,
    refusals: Vec<Rejection>,
    /// The weighted sums of those scores that need no comparison, or [`OUT`].
    sums: Vec<i64>,
    compared: Vec<Compared>,
}

/// Scores that are worth as much as the best of all lets them be.
#[derive(Debug)]
struct Compared {
    weight: i64,
    scale: Scale,
    scores: Vec<i64>,
    /// How many of them are not 0. As long as none is, all nodes are alike.
    telling: usize,
}

impl Judged {
    /// Asks about all nodes that have changed since it was asked last.
    pub(crate) fn update(&mut self, snapshot: &Snapshot, questions: &Questions<'_>) {
        let nodes = snapshot.nodes();
        let changed = snapshot.changed_since(self.version);
        match changed.filter(|_| self.refusals.len() < REFUSALS) {
            Some(changed) if self.verdicts.len() == nodes.len() => {
                for at in changed {
                    self.judge(at, &nodes[at], questions);
                }
            }
            _ => {
                *self = Self::empty(nodes.len(), questions);
                for (at, state) in nodes.iter().enumerate() {
                    self.judge(at, state, questions);
                }
            }
        }
        self.version = snapshot.version();
    }

    /// Asks about these nodes alone; others are neither refused nor will they do.
    pub(crate) fn few(&mut self, snapshot: &Snapshot, names: &[&str], questions: &Questions<'_>) {
        *self = Self::empty(snapshot.nodes().len(), questions);
        for (at, state) in names.iter().filter_map(|name| snapshot.find(name)) {
            self.judge(at, state, questions);
        }
    }

    fn empty(nodes: usize, questions: &Questions<'_>) -> Self {
        let scores = questions.scores.iter();
        let compared = scores.filter(|one| one.score.scale() != Scale::AsItIs);
        let compared = compared.map(|one| Compared {
            weight: one.weight,
            scale: one.score.scale(),
            scores: vec![0; nodes],
            telling: 0,
        });
        Self {
            version: (0, 0),
            verdicts: vec![None; nodes],
            refusals: Vec::new(),
            sums: vec![OUT; nodes],
            compared: compared.collect(),
        }
    }

    fn judge(&mut self, at: usize, state: &NodeState, questions: &Questions<'_>) {
        let mut filters = questions.filters.iter();
        let refusal = filters.find_map(|filter| filter.check(state).err());
        if let Some(refusal) = refusal {
            self.verdicts[at] = Some(self.number(refusal));
            self.sums[at] = OUT;
            self.compared.iter_mut().for_each(|c| c.set(at, 0));
            return;
        }
        let mut sum = 0;
        // As many and in the same order as at first: which plugins have an opinion is the pod's matter.
        let mut compared = self.compared.iter_mut();
        for one in &questions.scores {
            let score = one.score.score(state);
            match one.score.scale() {
                Scale::AsItIs => sum += score * one.weight,
                _ => compared.next().into_iter().for_each(|c| c.set(at, score)),
            }
        }
        self.verdicts[at] = None;
        self.sums[at] = sum;
    }

    /// Where a refusal is kept.
    fn number(&mut self, refusal: Rejection) -> usize {
        let known = self.refusals.iter().position(|one| *one == refusal);
        known.unwrap_or_else(|| {
            self.refusals.push(refusal);
            self.refusals.len() - 1
        })
    }

    /// The weighted sum of all scores of each node, or [`OUT`].
    pub(crate) fn totals(&self) -> Cow<'_, [i64]> {
        let mut totals = Cow::Borrowed(self.sums.as_slice());
        for compared in self.compared.iter().filter(|c| c.telling > 0) {
            compared.add_to(totals.to_mut());
        }
        totals
    }

    /// Why nodes will not do, each refusal with the positions of its nodes.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&Rejection, Vec<usize>)> {
        let mut by_refusal = vec![Vec::new(); self.refusals.len()];
        for (at, number) in self.verdicts.iter().enumerate() {
            if let Some(number) = number {
                by_refusal[*number].push(at);
            }
        }
        let refused = self.refusals.iter().zip(by_refusal);
        refused.filter(|(_, nodes)| !nodes.is_empty())
    }

    /// The positions of those that will do.
    pub(crate) fn passed(&self) -> impl Iterator<Item = usize> {
        let nodes = self.sums.iter().enumerate();
        nodes.filter(|(_, sum)| **sum != OUT).map(|(at, _)| at)
    }
}

impl Compared {
    fn set(&mut self, at: usize, score: i64) {
        self.telling += usize::from(score != 0);
        self.telling -= usize::from(self.scores[at] != 0);
        self.scores[at] = score;
    }

    fn add_to(&self, totals: &mut [i64]) {
        let among = self
            .scores
            .iter()
            .zip(totals.iter())
            .filter(|(_, total)| **total != OUT);
        let highest = among.map(|(score, _)| *score).max().unwrap_or(0);
        let mut scaled = Remembered::new(|score| self.scale.apply(score, highest) * self.weight);
        let in_question = totals.iter_mut().zip(&self.scores);
        for (total, score) in in_question.filter(|(total, _)| **total != OUT) {
            *total += scaled.of(*score);
        }
    }
}

/// The judgements that are kept, by what pods ask.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    all: Vec<Kind>,
    uses: u64,
}

#[derive(Debug)]
struct Kind {
    hash: u64,
    /// One of them.
    pod: Pod,
    judged: Judged,
    used: u64,
}

impl Kinds {
    /// What is known for pods that ask what this one asks.
    pub(crate) fn of(&mut self, pod: &Pod, nodes: usize) -> &mut Judged {
        self.uses += 1;
        let hash = hash(pod);
        let known = self
            .all
            .iter()
            .position(|kind| kind.hash == hash && kind.pod.is_judged_as(pod));
        let at = known.unwrap_or_else(|| {
            self.make_room(nodes);
            self.all.push(Kind {
                hash,
                pod: pod.clone(),
                judged: Judged::default(),
                used: 0,
            });
            self.all.len() - 1
        });
        let kind = &mut self.all[at];
        kind.used = self.uses;
        &mut kind.judged
    }

    /// Forgets those that were not used for longest, where there are too many.
    fn make_room(&mut self, nodes: usize) {
        while self.all.len() >= (MOST / nodes.max(1)).clamp(1, KINDS) {
            let all = self.all.iter().enumerate();
            let Some((oldest, _)) = all.min_by_key(|(_, kind)| kind.used) else {
                return;
            };
            self.all.swap_remove(oldest);
        }
    }
}

/// Alike for pods that ask alike, and as a rule for no others.
fn hash(pod: &Pod) -> u64 {
    let mut hasher = DefaultHasher::new();
    let asked = &pod.requests.asked;
    (asked.milli_cpu, asked.memory, asked.ephemeral_storage).hash(&mut hasher);
    pod.node_rules.hash(&mut hasher);
    (pod.tolerations.len(), pod.host_ports.len()).hash(&mut hasher);
    hasher.finish()
}
