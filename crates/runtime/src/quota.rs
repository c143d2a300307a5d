//! A guest's CPU quota: a token bucket of CPU time.

/// Fills with `quota` nanoseconds of CPU time per nanosecond, up to 100 ms' worth, as a cgroup's
/// period does; goes into debt when a guest ran longer than it holds.
#[derive(Debug)]
pub(crate) struct Bucket {
    quota: f64,
    tokens: f64,
    filled: u64,
}

/// For how long an idle guest may save up, in nanoseconds.
const PERIOD: f64 = 100e6;

/// The smallest quota: a guest with less could never be seen to run.
const LEAST: f64 = 0.001;

impl Bucket {
    /// A full bucket of `quota` cores. Times are monotonic nanoseconds.
    pub(crate) fn new(quota: f64, now: u64) -> Self {
        let quota = bounded(quota);
        Self {
            quota,
            tokens: quota * PERIOD,
            filled: now,
        }
    }

    /// Fills at another rate from now on. A debt stays what it is, and is paid at the new rate.
    pub(crate) fn set_quota(&mut self, quota: f64, now: u64) {
        self.fill(now);
        self.quota = bounded(quota);
        self.tokens = self.tokens.min(self.quota * PERIOD);
    }

    fn fill(&mut self, now: u64) {
        let elapsed = now.saturating_sub(self.filled) as f64;
        self.tokens = (self.tokens + elapsed * self.quota).min(self.quota * PERIOD);
        self.filled = self.filled.max(now);
    }

    /// Takes what a guest used.
    pub(crate) fn take(&mut self, now: u64, used: u64) {
        self.fill(now);
        self.tokens -= used as f64;
    }

    /// When the bucket is out of debt, if it is in debt now.
    pub(crate) fn debt_ends(&mut self, now: u64) -> Option<u64> {
        self.fill(now);
        (self.tokens < 0.0).then(|| now + (-self.tokens / self.quota).ceil() as u64)
    }
}

fn bounded(quota: f64) -> f64 {
    if quota.is_finite() {
        quota.max(LEAST)
    } else {
        f64::MAX / PERIOD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_spinner_gets_its_quota() {
        let mut bucket = Bucket::new(0.25, 0);
        let (mut now, mut used) = (0, 0);
        while now < 10_000 * MS {
            now += MS;
            used += MS;
            bucket.take(now, MS);
            now = bucket.debt_ends(now).unwrap_or(now);
        }
        let share = used as f64 / now as f64;
        assert!((0.25..0.2526).contains(&share), "{share}");
    }

    #[test]
    fn saving_up_has_an_end() {
        let mut bucket = Bucket::new(0.5, 0);
        bucket.take(3_600_000 * MS, 50 * MS);
        assert_eq!(bucket.debt_ends(3_600_000 * MS), None);
        bucket.take(3_600_000 * MS, 10 * MS);
        assert_eq!(bucket.debt_ends(3_600_000 * MS), Some(3_600_020 * MS));
    }

    #[test]
    fn another_quota_holds_from_then_on() {
        let mut bucket = Bucket::new(0.1, 0);
        // 10 ms were saved up: 20 ms of debt, which take 200 ms.
        bucket.take(0, 30 * MS);
        assert_eq!(bucket.debt_ends(0), Some(200 * MS));
        // Half of it was paid when the quota rises: the rest takes 20 ms.
        bucket.set_quota(0.5, 100 * MS);
        assert_eq!(bucket.debt_ends(100 * MS), Some(120 * MS));
        assert_eq!(bucket.debt_ends(120 * MS), None);
        // Full with 50 ms; no more than 10 ms of them are left when the quota falls.
        bucket.set_quota(0.1, 1_000 * MS);
        bucket.take(1_000 * MS, 11 * MS);
        assert_eq!(bucket.debt_ends(1_000 * MS), Some(1_010 * MS));
    }

    #[test]
    fn senseless_quotas_are_bounded() {
        for quota in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut bucket = Bucket::new(quota, 0);
            bucket.take(0, 1_000 * MS);
            if let Some(end) = bucket.debt_ends(0) {
                assert!(end <= 1_000_000 * MS, "{quota}: {end}");
            }
        }
    }
}
