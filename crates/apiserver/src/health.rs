//! `/livez`, `/readyz`, `/healthz`, `/version`, `/metrics`.

use http::StatusCode;
use serde_json::json;

use crate::body::{Response, answer, text};
use crate::metrics::{head, line};
use crate::request::Query;
use crate::{ApiServer, body};

/// The Kubernetes release whose API this is.
pub(crate) const KUBERNETES_MINOR: &str = "36";
/// The oldest release beside which that one works.
const COMPATIBLE_MINOR: &str = "35";

/// Whether a path is one of these: answered whatever state the server is in.
pub(crate) fn serves(path: &str) -> bool {
    let first = path.split('/').nth(1).unwrap_or_default();
    matches!(
        first,
        "livez" | "readyz" | "healthz" | "version" | "metrics"
    )
}

impl ApiServer {
    /// The answer, if the path is one of these.
    pub(crate) async fn health(&self, path: &str, query: &Query) -> Option<Response> {
        let (endpoint, check) = match path.split('/').collect::<Vec<_>>().as_slice() {
            ["", endpoint] => (*endpoint, None),
            ["", endpoint, check] => (*endpoint, Some(*check)),
            _ => return None,
        };
        match endpoint {
            // Clients that are made from the OpenAPI document ask with a slash at the end.
            "version" if check.unwrap_or_default().is_empty() => Some(self.version()),
            "metrics" if check.is_none() => Some(self.metrics()),
            "livez" | "readyz" | "healthz" => self.checks(endpoint, check, query),
            _ => None,
        }
    }

    fn checks(&self, endpoint: &str, only: Option<&str>, query: &Query) -> Option<Response> {
        let leader = self.inner.store.leadership().borrow().leader.is_some();
        let cached = self.inner.cache.revision() > 0;
        let ready = *self.ready().borrow();
        let all: &[(&str, bool)] = match endpoint {
            "livez" => &[("ping", true)],
            _ => &[
                ("ping", true),
                ("store-leader", leader),
                ("watch-cache", cached),
                ("bootstrap", ready || !leader || !cached),
            ],
        };
        let excluded: Vec<&str> = query.all("exclude").collect();
        let checks: Vec<(&str, bool)> = all
            .iter()
            .copied()
            .filter(|(name, _)| only.is_none_or(|o| o == *name) && !excluded.contains(name))
            .collect();
        if checks.is_empty() {
            return None;
        }
        let passed = checks.iter().all(|(_, ok)| *ok);
        let code = if passed {
            StatusCode::OK
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        if passed && !query.flag("verbose") && query.get("verbose").is_none() {
            return Some(text(code, "ok"));
        }
        let mut out = String::new();
        for (name, ok) in checks {
            out.push_str(&if ok {
                format!("[+]{name} ok\n")
            } else {
                format!("[-]{name} failed: reason withheld\n")
            });
        }
        out.push_str(&format!(
            "{endpoint} check {}\n",
            if passed { "passed" } else { "failed" }
        ));
        Some(text(code, out))
    }

    fn version(&self) -> Response {
        let version = format!(
            "v1.{KUBERNETES_MINOR}.0+carob.{}",
            env!("CARGO_PKG_VERSION")
        );
        let document = json!({
            "major": "1",
            "minor": KUBERNETES_MINOR,
            "emulationMajor": "1",
            "emulationMinor": KUBERNETES_MINOR,
            "minCompatibilityMajor": "1",
            "minCompatibilityMinor": COMPATIBLE_MINOR,
            "gitVersion": version,
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, platform()),
        });
        answer(
            StatusCode::OK,
            "application/json",
            // People read it: Kubernetes always indents it.
            client::full(format!("{document:#}")),
        )
    }

    fn metrics(&self) -> Response {
        let mut out = String::with_capacity(16 * 1024);
        self.inner.metrics.render(&mut out);
        head(
            &mut out,
            "apiserver_resource_objects",
            "gauge",
            "Number of stored objects at the time of last check split by kind.",
        );
        for (prefix, count) in self.inner.cache.counts() {
            let mut parts = prefix.trim_matches('/').split('/').skip(1);
            let group = parts.next().filter(|g| *g != "core").unwrap_or_default();
            let resource = parts.next().unwrap_or_default();
            line(
                &mut out,
                "apiserver_resource_objects",
                &format!("group=\"{group}\",resource=\"{resource}\""),
                count,
            );
        }
        self.store_metrics(&mut out);
        body::answer(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            client::full(out),
        )
    }

    fn store_metrics(&self, out: &mut String) {
        let metrics = self.inner.store.metrics();
        let leadership = *self.inner.store.leadership().borrow();
        let gauges = [
            (
                "carob_store_revision",
                "Revision of the applied state.",
                metrics.revision,
            ),
            (
                "carob_store_keys",
                "Keys in the store.",
                metrics.keys as u64,
            ),
            ("carob_raft_term", "The Raft term.", metrics.term),
            (
                "carob_raft_last_log_index",
                "Index of the last log entry.",
                metrics.last_log_index.unwrap_or(0),
            ),
            (
                "carob_raft_committed_index",
                "Index of the last committed log entry.",
                metrics.committed_index.unwrap_or(0),
            ),
            (
                "carob_raft_applied_index",
                "Index of the last applied log entry.",
                metrics.applied_index.unwrap_or(0),
            ),
            (
                "carob_raft_snapshot_index",
                "Index of the last log entry in the newest snapshot.",
                metrics.snapshot_index.unwrap_or(0),
            ),
            (
                "carob_store_log_syncs",
                "Times that the log was synced since the start.",
                metrics.log_syncs,
            ),
            (
                "carob_raft_is_leader",
                "Whether this server leads.",
                u64::from(leadership.is_leader),
            ),
            (
                "carob_raft_has_leader",
                "Whether this server knows a leader.",
                u64::from(leadership.leader.is_some()),
            ),
            (
                "carob_watch_cache_revision",
                "Revision up to which the watch cache is complete.",
                self.inner.cache.revision(),
            ),
        ];
        for (name, help, value) in gauges {
            head(out, name, "gauge", help);
            line(out, name, "", value);
        }
    }
}

/// The architecture as Go names it.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
