//! The bounded record by which a command that arrives twice is applied once.

use imbl::OrdMap;
use imbl::Vector;

use crate::RequestId;
use crate::apply::Outcome;

/// How many log entries an answer is remembered for.
///
/// A proposal carries the log index that its author had seen applied when it was made. One that arrives this many
/// entries later or more is refused, whatever it is: its answer may already have been forgotten. So forgetting is
/// never mistaken for never having seen.
pub(crate) const WINDOW: u64 = 65_536;

/// Answers of the commands of the last [`WINDOW`] log entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answers {
    by_id: OrdMap<RequestId, Outcome>,
    /// Log index and id, oldest first.
    order: Vector<(u64, RequestId)>,
}

impl Answers {
    pub(crate) fn get(&self, id: RequestId) -> Option<&Outcome> {
        self.by_id.get(&id)
    }

    /// Remembers the answer given at log entry `index`, and forgets what lies [`WINDOW`] entries back.
    pub(crate) fn insert(&mut self, index: u64, id: RequestId, outcome: Outcome) {
        while let Some(&(oldest, old)) = self.order.front() {
            if oldest.saturating_add(WINDOW) > index {
                break;
            }
            self.order.pop_front();
            self.by_id.remove(&old);
        }
        self.by_id.insert(id, outcome);
        self.order.push_back((index, id));
    }

    /// All answers given after log entry `index`, oldest first.
    pub(crate) fn after(
        &self,
        index: Option<u64>,
    ) -> impl Iterator<Item = (u64, RequestId, &Outcome)> {
        // Newest first until the known ones begin, as the new ones are few.
        let known = |&&(at, _): &&(u64, RequestId)| index.is_none_or(|index| at > index);
        let new = self.order.iter().rev().take_while(known).count();
        self.order
            .iter()
            .skip(self.order.len() - new)
            .filter_map(|&(at, id)| self.by_id.get(&id).map(|outcome| (at, id, outcome)))
    }

    /// The log index of the oldest answer kept.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.order.front().map(|&(index, _)| index)
    }
}
