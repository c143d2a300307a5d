//! The server's own counters, under Kubernetes' names.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use api::Resource;
use http::Method;
use parking_lot::Mutex;

use crate::join;
use crate::request::{ResourcePath, Verb};

/// Upper bounds of the buckets of durations, in seconds: a part of Kubernetes' own.
const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// What requests are counted by. `resource` is empty for paths that are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) verb: &'static str,
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) subresource: &'static str,
    pub(crate) scope: &'static str,
}

impl Kind {
    /// What a resource's request is counted as. Only names from the tables: a client cannot make series.
    pub(crate) fn of_resource(
        verb: Verb,
        path: &ResourcePath,
        resource: Option<&'static Resource>,
    ) -> Kind {
        let scope = match (&path.name, &path.namespace) {
            (Some(_), _) => "resource",
            (None, Some(_)) => "namespace",
            (None, None) => "cluster",
        };
        let subresource = resource
            .zip(path.subresource.as_deref())
            .and_then(|(r, name)| r.subresource(name))
            .map_or("", |s| s.name);
        Kind {
            verb: verb.as_str(),
            group: resource.map_or("", |r| r.group),
            version: resource.map_or("", |r| r.version),
            resource: resource.map_or("", |r| r.plural),
            subresource,
            scope,
        }
    }

    /// What a path that is no resource's is counted as: its method and, like Kubernetes, its beginning.
    pub(crate) fn of_path(method: &Method, path: &str) -> Kind {
        const KNOWN: [&str; 9] = [
            "/healthz",
            "/livez",
            "/readyz",
            "/version",
            "/metrics",
            "/openapi",
            join::JOIN_PATH,
            join::MEMBERS_PATH,
            join::SERVERS_PATH,
        ];
        Kind {
            verb: match *method {
                Method::GET | Method::HEAD => "get",
                Method::POST => "post",
                _ => "other",
            },
            group: "",
            version: "",
            resource: "",
            subresource: KNOWN
                .into_iter()
                .find(|known| path.starts_with(known))
                .unwrap_or(""),
            scope: "",
        }
    }

    /// Whether an answer is told of only on demand: reads, and what every node and controller writes all
    /// the time.
    pub(crate) fn is_routine(self) -> bool {
        matches!(self.verb, "get" | "list") || matches!(self.resource, "leases" | "events")
    }
}

#[derive(Default)]
struct Durations {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Durations {
    fn add(&mut self, seconds: f64) {
        for (bucket, bound) in self.buckets.iter_mut().zip(BUCKETS) {
            if seconds <= bound {
                *bucket += 1;
            }
        }
        self.count += 1;
        self.sum += seconds;
    }
}

/// All of a server's counters. One lock a request, held for two map look-ups.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<Requests>,
    /// Watches that are open now.
    pub(crate) watches: AtomicI64,
    /// Requests that are being answered now.
    pub(crate) inflight: AtomicI64,
}

#[derive(Default)]
struct Requests {
    total: BTreeMap<(Kind, u16), u64>,
    durations: BTreeMap<Kind, Durations>,
}

impl Metrics {
    /// Counts one answered request. A watch's duration is the time to its head.
    pub(crate) fn request(&self, kind: Kind, code: u16, took: Duration) {
        let mut requests = self.requests.lock();
        *requests.total.entry((kind, code)).or_default() += 1;
        requests
            .durations
            .entry(kind)
            .or_default()
            .add(took.as_secs_f64());
    }

    /// Prometheus' text format.
    pub(crate) fn render(&self, out: &mut String) {
        head(
            out,
            "apiserver_request_total",
            "counter",
            "Counter of apiserver requests by verb, resource and HTTP response code.",
        );
        let requests = self.requests.lock();
        for ((kind, code), count) in &requests.total {
            line(
                out,
                "apiserver_request_total",
                &format!("{},code=\"{code}\"", labels(kind)),
                count,
            );
        }
        let name = "apiserver_request_duration_seconds";
        head(
            out,
            name,
            "histogram",
            "Response latency distribution in seconds by verb and resource.",
        );
        for (kind, durations) in &requests.durations {
            let labels = labels(kind);
            for (count, bound) in durations.buckets.iter().zip(BUCKETS) {
                line(
                    out,
                    &format!("{name}_bucket"),
                    &format!("{labels},le=\"{bound}\""),
                    count,
                );
            }
            line(
                out,
                &format!("{name}_bucket"),
                &format!("{labels},le=\"+Inf\""),
                durations.count,
            );
            line(out, &format!("{name}_sum"), &labels, durations.sum);
            line(out, &format!("{name}_count"), &labels, durations.count);
        }
        drop(requests);
        for (name, help, gauge) in [
            (
                "apiserver_longrunning_requests",
                "Gauge of open watches.",
                &self.watches,
            ),
            (
                "apiserver_current_inflight_requests",
                "Requests being answered.",
                &self.inflight,
            ),
        ] {
            head(out, name, "gauge", help);
            line(out, name, "", gauge.load(Ordering::Relaxed));
        }
    }
}

/// Writes a family's HELP and TYPE.
pub(crate) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Writes one sample. `labels` come without braces.
pub(crate) fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = if labels.is_empty() {
        writeln!(out, "{name} {value}")
    } else {
        writeln!(out, "{name}{{{labels}}} {value}")
    };
}

fn labels(kind: &Kind) -> String {
    format!(
        "verb=\"{}\",group=\"{}\",version=\"{}\",resource=\"{}\",subresource=\"{}\",scope=\"{}\"",
        kind.verb.to_uppercase(),
        kind.group,
        kind.version,
        kind.resource,
        kind.subresource,
        kind.scope
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_are_counted_by_their_path() {
        let kind = Kind::of_path(&Method::POST, "/carob/v1/join");
        assert_eq!((kind.verb, kind.subresource), ("post", "/carob/v1/join"));
        let kind = Kind::of_path(&Method::GET, "/readyz/ping");
        assert_eq!((kind.verb, kind.subresource), ("get", "/readyz"));
    }

    #[test]
    fn counts_and_buckets() {
        let metrics = Metrics::default();
        let kind = Kind {
            verb: "get",
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "",
            scope: "resource",
        };
        metrics.request(kind, 200, Duration::from_millis(3));
        metrics.request(kind, 200, Duration::from_millis(30));
        let mut out = String::new();
        metrics.render(&mut out);
        let labels = "verb=\"GET\",group=\"\",version=\"v1\",resource=\"pods\",subresource=\"\",scope=\"resource\"";
        for want in [
            format!("apiserver_request_total{{{labels},code=\"200\"}} 2"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.005\"}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{labels},le=\"0.05\"}} 2"),
            format!("apiserver_request_duration_seconds_count{{{labels}}} 2"),
        ] {
            assert!(out.contains(&want), "{want}\nin\n{out}");
        }
    }
}
