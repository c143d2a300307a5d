//! Which requests run, which wait and which are turned away.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::memory::Memory;

/// The most requests of one server that run at a time.
pub(super) const MOST_RUNNING: u64 = 1_000;

/// The most requests that wait for their turn.
pub(super) const MOST_WAITING: usize = 1_000;

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Gives turns to requests, in the order in which they came.
///
/// As many run as [`MOST_RUNNING`] and the memory limit allow. What an instance will need is not known before; that it
/// needs what others needed lately is a good guess, and where it is wrong the limit itself still holds.
#[derive(Debug)]
pub(in crate::wasm) struct Admission {
    memory: Arc<Memory>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    running: u64,
    /// What an instance is likely to need, in bytes.
    likely: u64,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// A request's turn, which ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Option<Arc<Admission>>);

impl Admission {
    /// For instances that begin with `initial` bytes and are counted in `memory`.
    pub(in crate::wasm) fn new(memory: Arc<Memory>, initial: u64) -> Arc<Self> {
        Arc::new(Self {
            memory,
            state: Mutex::new(State {
                running: 0,
                likely: initial,
                waiting: VecDeque::new(),
            }),
        })
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// At once when too many wait already.
    pub(super) async fn admit(self: &Arc<Self>) -> Result<Turn, Full> {
        let receiver = {
            let mut state = self.state.lock();
            let limit = self.memory.limit();
            if state.waiting.is_empty() && fits(state.running, state.likely, limit) {
                state.running += 1;
                return Ok(Turn(Some(self.clone())));
            }
            if state.waiting.len() >= MOST_WAITING {
                state.waiting.retain(|waiting| !waiting.is_closed());
            }
            if state.waiting.len() >= MOST_WAITING {
                return Err(Full);
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back(sender);
            receiver
        };
        // Whoever has the sender is this value's own queue.
        receiver.await.map_err(|_| Full)
    }

    /// Gives turns to those that fit by now.
    pub(in crate::wasm) fn advance(self: &Arc<Self>) {
        while let Some(waiting) = self.next() {
            if let Err(mut turn) = waiting.send(Turn(Some(self.clone()))) {
                // It went away while it waited. Not by dropping: that would come back here.
                turn.0 = None;
                self.state.lock().running -= 1;
            }
        }
    }

    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        let mut state = self.state.lock();
        if !fits(state.running, state.likely, self.memory.limit()) {
            return None;
        }
        let waiting = state.waiting.pop_front()?;
        state.running += 1;
        Some(waiting)
    }
}

impl Turn {
    /// Learns what an instance needed, in bytes.
    pub(super) fn learn(&self, needed: u64) {
        if let Some(admission) = &self.0 {
            let mut state = admission.state.lock();
            state.likely = likely(state.likely, needed);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(admission) = self.0.take() {
            admission.state.lock().running -= 1;
            admission.advance();
        }
    }
}

/// Whether one more may run. One always may: it shows itself whether the limit is too small for it.
fn fits(running: u64, likely: u64, limit: u64) -> bool {
    let needed = || (running + 1).checked_mul(likely);
    running == 0 || (running < MOST_RUNNING && needed().is_some_and(|needed| needed <= limit))
}

/// The guess after an instance that needed so much: a large one counts at once, and is forgotten by and by.
fn likely(before: u64, needed: u64) -> u64 {
    needed.max(before - before / 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::NodeMemory;

    #[test]
    fn how_many_fit() {
        const MIB: u64 = 1 << 20;
        for (likely, limit, most) in [
            (2 * MIB, 10 * MIB, 5),
            (2 * MIB, MIB, 1),
            (2 * MIB, 0, 1),
            (0, MIB, MOST_RUNNING),
            (MIB, u64::MAX, MOST_RUNNING),
            (u64::MAX, u64::MAX, 1),
        ] {
            let running = (0..).find(|&n| !fits(n, likely, limit));
            assert_eq!(running, Some(most), "{likely} of {limit}");
        }
    }

    #[test]
    fn one_large_instance_is_forgotten() {
        let mut guess = likely(1_000, 100_000);
        assert_eq!(guess, 100_000);
        for _ in 0..100 {
            guess = likely(guess, 1_000);
        }
        assert_eq!(guess, 1_000);
    }

    #[tokio::test]
    async fn turns_come_in_order_and_the_queue_ends() {
        let admission = Admission::new(
            Arc::new(Memory::new(Some(10), 0, NodeMemory::endless())),
            10,
        );
        let first = admission.admit().await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for number in 0..MOST_WAITING {
            let (admission, order) = (admission.clone(), order.clone());
            waiting.push(tokio::spawn(async move {
                let turn = admission.admit().await.unwrap();
                order.lock().push(number);
                drop(turn);
            }));
        }
        while admission.state.lock().waiting.len() < MOST_WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(admission.admit().await.unwrap_err(), Full);
        // Those that went away make room for others, and take nobody's turn.
        for gone in &waiting[..10] {
            gone.abort();
        }
        tokio::task::yield_now().await;
        let late = tokio::spawn({
            let admission = admission.clone();
            async move { admission.admit().await.map(drop) }
        });
        tokio::task::yield_now().await;
        drop(first);
        late.await.unwrap().unwrap();
        assert!(order.lock().iter().copied().eq(10..MOST_WAITING));
        assert_eq!(admission.state.lock().running, 0);
    }

    #[tokio::test]
    async fn a_raised_limit_gives_turns_at_once() {
        let memory = Arc::new(Memory::new(Some(10), 0, NodeMemory::endless()));
        let admission = Admission::new(memory.clone(), 10);
        let _first = admission.admit().await.unwrap();
        let second = admission.admit();
        tokio::pin!(second);
        tokio::select! {
            biased;
            turn = &mut second => panic!("{turn:?}: there is room for one"),
            () = std::future::ready(()) => {}
        }
        memory.resize(Some(20), 0).unwrap();
        admission.advance();
        let _second = second.await.unwrap();
        assert_eq!(admission.state.lock().running, 2);
    }
}
