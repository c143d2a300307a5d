//! What was met lately, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Values with the times at which they were last used. Beyond `MOST` of them those that were not used for long are
/// forgotten, if need be the older half.
#[derive(Debug)]
pub(crate) struct Lately<K, V, const MOST: usize>(HashMap<K, (V, Instant)>);

impl<K, V, const MOST: usize> Default for Lately<K, V, MOST> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, V, const MOST: usize> Lately<K, V, MOST> {
    /// What was kept under a key, if that was used within this time.
    pub(crate) fn get(&self, key: &K, now: Instant, within: Duration) -> Option<&V> {
        let (value, last) = self.0.get(key)?;
        (now.saturating_duration_since(*last) < within).then_some(value)
    }

    /// Keeps a value that is used now. `within` is how long ago what is worth keeping was used.
    pub(crate) fn keep(&mut self, key: K, value: V, now: Instant, within: Duration) {
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            self.forget(now, within);
        }
        self.0.insert(key, (value, now));
    }

    fn forget(&mut self, now: Instant, within: Duration) {
        self.0
            .retain(|_, (_, last)| now.saturating_duration_since(*last) < within);
        if self.0.len() > MOST / 2 {
            let mut times: Vec<Instant> = self.0.values().map(|(_, last)| *last).collect();
            let (_, middle, _) = times.select_nth_unstable(MOST / 2);
            let middle = *middle;
            self.0.retain(|_, (_, last)| *last > middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_is_kept() {
        let mut lately = Lately::<u32, u32, 100>::default();
        let start = Instant::now();
        let after = |millis: u32| start + Duration::from_millis(millis.into());
        let within = Duration::from_secs(1);
        for key in 0..1_000 {
            lately.keep(key, 2 * key, after(key), within);
            assert!(lately.0.len() <= 100);
        }
        assert_eq!(lately.get(&999, after(999), within), Some(&1_998));
        assert_eq!(lately.get(&999, after(1_999), within), None);
        // What is long unused goes first, and nothing else for it.
        for key in 0..100 {
            lately.keep(10_000 + key, 0, after(5_000), within);
        }
        assert_eq!(lately.0.len(), 100);
    }

    #[test]
    fn many_of_one_moment_are_bounded_too() {
        let mut lately = Lately::<u32, (), 100>::default();
        let now = Instant::now();
        for key in 0..1_000 {
            lately.keep(key, (), now, Duration::from_secs(1));
            assert!(lately.0.len() <= 100);
        }
    }
}
