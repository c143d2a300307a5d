//! Stands in for the crate of the same name, from which openraft takes its statistics.
//!
//! The original prepares tables for sixteen resolutions when the first histogram is made, 27 MB of
//! which openraft uses 4 KB: more than half of what an idle server occupies. This one has the part
//! of its interface that openraft uses, with a bucket a power of two.

use std::fmt;
use std::marker::PhantomData;

/// One bucket for 0, one for each number of significant bits.
const BUCKETS: usize = u64::BITS as usize + 1;

/// How often values of which size were seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    slot: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// One that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            counts: [0; BUCKETS],
            slot: PhantomData,
        }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value that was seen `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        self.counts[bucket] = self.counts[bucket].saturating_add(count);
    }

    /// How many values were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        let counts = self.counts.iter();
        counts.fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The value below or at which this part of all lies (0.5: the median), as the least of its
    /// bucket: at most twice too small. 0 where nothing was counted.
    #[must_use]
    pub fn percentile(&self, part: f64) -> u64 {
        let rank = (self.total() as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0_u64;
        let bucket = self.counts.iter().position(|count| {
            seen = seen.saturating_add(*count);
            seen >= rank
        });
        match bucket {
            None | Some(0) => 0,
            Some(bits) => 1 << (bits - 1),
        }
    }

    /// The usual percentiles.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Percentiles of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values were counted.
    pub samples: u64,
    /// The 0.1th percentile.
    pub p0_1: u64,
    /// The first.
    pub p1: u64,
    /// The fifth.
    pub p5: u64,
    /// The tenth.
    pub p10: u64,
    /// The median.
    pub p50: u64,
    /// The 90th.
    pub p90: u64,
    /// The 99th.
    pub p99: u64,
    /// The 99.9th.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            samples, p50, p99, ..
        } = self;
        write!(f, "[samples: {samples}, P50: {p50}, P99: {p99}]")
    }
}

/// Histograms to be printed together, a line each.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart(Vec<(String, Histogram)>);

impl AsciiChart {
    /// One without histograms.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.0.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.0 {
            writeln!(f, "{name}: {}", histogram.percentile_stats())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_within_a_factor_of_two() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile(0.5), 0);
        for value in 0..=1000 {
            histogram.record(value);
        }
        for (part, value) in [
            (0.0005, 0),
            (0.1, 100),
            (0.5, 500),
            (0.99, 990),
            (1.0, 1000),
        ] {
            let said = histogram.percentile(part);
            assert!(said <= value && value <= said * 2, "{part}: {said}");
        }
        histogram.record_n(u64::MAX, 1_000_000);
        assert_eq!(histogram.percentile(0.99), 1 << 63);
        assert_eq!(histogram.percentile_stats().samples, 1_001_001);
    }
}
