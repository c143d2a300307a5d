//! The form in which figures are printed.

use std::fmt::Display;
use std::time::Duration;

/// Under what a figure was taken; printed before it.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    /// The cluster's nodes.
    pub nodes: u8,
    /// How often the thing was done.
    pub runs: usize,
    /// Whatever else decides about the figure.
    pub more: String,
}

impl Conditions {
    /// Prints them, with the machine's cores, memory and load.
    pub fn print(&self) {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let memory = first_number("/proc/meminfo") / (1 << 20) as f64;
        let load = first_number("/proc/loadavg");
        let separator = if self.more.is_empty() { "" } else { ", " };
        println!(
            "{cores} cores, {memory:.0} GiB, load {load:.1}, {} nodes, {} runs{separator}{}",
            self.nodes, self.runs, self.more
        );
    }
}

/// The first number in a file of `/proc`; 0 where there is none.
fn first_number(path: &str) -> f64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut words = text.split_whitespace();
    words.find_map(|word| word.parse().ok()).unwrap_or_default()
}

/// Prints one figure.
pub fn figure(name: &str, value: impl Display, unit: &str) {
    println!("{name}: {value} {unit}");
}

/// What the same thing took, each time it was done.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// Adds those of another.
    pub fn extend(&mut self, other: Samples) {
        self.0.extend(other.0);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest that at least this share (0 to 1) of all do not exceed; zero of none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        let at = rank.clamp(1, sorted.len().max(1)) - 1;
        sorted.get(at).copied().unwrap_or_default()
    }

    /// The median in milliseconds.
    #[must_use]
    pub fn median_ms(&self) -> f64 {
        self.quantile(0.5).as_secs_f64() * 1e3
    }

    /// The largest; zero of none.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let mut samples = Samples::default();
        assert_eq!(samples.quantile(0.5), Duration::ZERO);
        for n in [5, 1, 4, 2, 3] {
            samples.push(Duration::from_millis(n));
        }
        assert_eq!(samples.quantile(0.5), Duration::from_millis(3));
        assert_eq!(samples.quantile(0.0), Duration::from_millis(1));
        assert_eq!(samples.quantile(0.99), Duration::from_millis(5));
        assert_eq!(samples.longest(), Duration::from_millis(5));
    }
}
