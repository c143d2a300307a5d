//! Clusters and rules by chance.

use k8s_openapi::api::core::v1 as core;
use rand::{Rng as _, rngs::SmallRng};
use serde_json::{Value, json};

/// Random nodes, pods and rules.
pub(super) struct Chance(pub(super) SmallRng);

impl Chance {
    pub(super) fn of(&mut self, most: u32) -> u32 {
        self.0.random_range(0..most)
    }

    pub(super) fn one<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.0.random_range(0..all.len())]
    }

    fn key(&mut self) -> &'static str {
        self.one(&["kubernetes.io/hostname", "zone", "zone", "rack"])
    }

    fn labels(&mut self) -> Value {
        let mut labels = json!({ "app": self.one(&["a", "b"]) });
        if self.of(2) == 0 {
            labels["tier"] = self.one(&["x", "y"]).into();
        }
        labels
    }

    pub(super) fn node(&mut self, name: &str) -> core::Node {
        let mut labels = json!({ "kubernetes.io/hostname": name });
        if self.of(5) > 0 {
            labels["zone"] = self.one(&["z1", "z2", "z3"]).into();
        }
        if self.of(3) > 0 {
            labels["rack"] = self.one(&["r1", "r2"]).into();
        }
        serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels },
            "status": { "allocatable": { "pods": "1000" } } }))
        .unwrap()
    }

    fn selector(&mut self) -> Value {
        match self.of(6) {
            0 => json!({}),
            1 => {
                json!({ "matchExpressions": [{ "key": "tier", "operator": self.one(&["Exists", "DoesNotExist"]) }] })
            }
            2 => {
                json!({ "matchExpressions": [{ "key": "app", "operator": self.one(&["In", "NotIn"]), "values": ["a"] }] })
            }
            _ => json!({ "matchLabels": { "app": self.one(&["a", "b"]) } }),
        }
    }

    fn term(&mut self) -> Value {
        let mut term = json!({ "topologyKey": self.key() });
        if self.of(10) > 0 {
            term["labelSelector"] = self.selector();
            match self.of(6) {
                0 => term["matchLabelKeys"] = json!(["tier"]),
                1 => term["mismatchLabelKeys"] = json!(["tier"]),
                _ => {}
            }
        }
        match self.of(6) {
            0 => term["namespaces"] = json!(["n2"]),
            1 => term["namespaceSelector"] = json!({}),
            2 => term["namespaceSelector"] = json!({ "matchLabels": { "team": "t" } }),
            _ => {}
        }
        term
    }

    fn constraint(&mut self) -> Value {
        let what = self.one(&["DoNotSchedule", "ScheduleAnyway"]);
        let mut constraint = json!({ "topologyKey": self.key(), "maxSkew": 1 + self.of(3), "whenUnsatisfiable": what });
        if self.of(10) > 0 {
            constraint["labelSelector"] = self.selector();
            if self.of(4) == 0 {
                constraint["matchLabelKeys"] = json!(["tier"]);
            }
        }
        if what == "DoNotSchedule" && self.of(4) == 0 {
            constraint["minDomains"] = (2 + self.of(3)).into();
        }
        if self.of(4) == 0 {
            constraint["nodeAffinityPolicy"] = self.one(&["Ignore", "Honor"]).into();
        }
        constraint
    }

    pub(super) fn pod(&mut self, name: &str) -> core::Pod {
        let mut affinity = json!({});
        for kind in ["podAffinity", "podAntiAffinity"] {
            let required: Vec<Value> = (0..self.of(8) / 6).map(|_| self.term()).collect();
            let preferred: Vec<Value> = (0..self.of(6) / 3)
                .map(|_| json!({ "weight": 1 + self.of(100), "podAffinityTerm": self.term() }))
                .collect();
            affinity[kind] = json!({ "requiredDuringSchedulingIgnoredDuringExecution": required,
                "preferredDuringSchedulingIgnoredDuringExecution": preferred });
        }
        let spread: Vec<Value> = (0..self.of(6) / 3).map(|_| self.constraint()).collect();
        let mut spec = json!({ "containers": [{ "name": "c" }], "affinity": affinity, "topologySpreadConstraints": spread });
        if self.of(5) == 0 {
            spec["nodeSelector"] = json!({ "zone": "z1" });
        }
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": self.one(&["n1", "n2"]), "uid": name, "labels": self.labels() },
            "spec": spec,
        })).unwrap()
    }
}
