//! Counters of the agent, in Prometheus' text form and under the kubelet's names where it has one.

pub(crate) mod resource;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// The upper bounds of the start duration's buckets, in seconds.
const BUCKETS: [f64; 10] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0,
];

/// What the driver counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    starts: AtomicU64,
    ends: AtomicU64,
    start_seconds: Mutex<Histogram>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Counters {
    /// A container was started, which took this long from the decision.
    pub(crate) fn started(&self, took: Duration) {
        self.starts.fetch_add(1, Ordering::Relaxed);
        let seconds = took.as_secs_f64();
        let mut all = self.start_seconds.lock();
        for (bucket, bound) in all.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
        all.count += 1;
        all.sum += seconds;
    }

    /// A container ended.
    pub(crate) fn ended(&self) {
        self.ends.fetch_add(1, Ordering::Relaxed);
    }

    /// The page that Prometheus reads.
    pub(crate) fn page(
        &self,
        pods: usize,
        running_pods: usize,
        addresses: usize,
        runtime: &runtime::Metrics,
    ) -> String {
        let mut out = String::new();
        let mut one = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a string cannot fail.
            let _ = write!(
                out,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
            );
        };
        one(
            "kubelet_desired_pods",
            "gauge",
            "Pods bound to this node.",
            pods as u64,
        );
        one(
            "kubelet_running_pods",
            "gauge",
            "Pods with a running container.",
            running_pods as u64,
        );
        one(
            "kubelet_running_containers",
            "gauge",
            "Guests that run now.",
            runtime.running,
        );
        one(
            "carob_pod_addresses",
            "gauge",
            "Addresses of the node's range that are held: by pods, and by the node itself.",
            addresses as u64,
        );
        one(
            "kubelet_started_containers_total",
            "counter",
            "Containers started.",
            self.starts.load(Ordering::Relaxed),
        );
        one(
            "carob_ended_containers_total",
            "counter",
            "Containers ended.",
            self.ends.load(Ordering::Relaxed),
        );
        one(
            "carob_module_compilations_total",
            "counter",
            "Modules compiled on this node.",
            runtime.compilations,
        );
        one(
            "carob_module_disk_cache_hits_total",
            "counter",
            "Modules found compiled on disk.",
            runtime.disk_cache_hits,
        );
        one(
            "carob_module_memory_cache_hits_total",
            "counter",
            "Modules found ready in memory.",
            runtime.memory_cache_hits,
        );
        one(
            "carob_guest_starts_total",
            "counter",
            "Guests started, for containers or otherwise.",
            runtime.starts,
        );
        let all = *self.start_seconds.lock();
        let name = "carob_container_start_duration_seconds";
        let _ = write!(
            out,
            "# HELP {name} From the decision to start until the guest runs.\n# TYPE {name} histogram\n"
        );
        for (count, bound) in all.buckets.iter().zip(BUCKETS) {
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let _ = write!(
            out,
            "{name}_bucket{{le=\"+Inf\"}} {0}\n{name}_sum {1}\n{name}_count {0}\n",
            all.count, all.sum
        );
        out
    }
}
