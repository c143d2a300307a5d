//! What the write path costs, in microseconds a write: `cargo run --release -p api --example write-cost`.

#![expect(
    clippy::disallowed_methods,
    reason = "no test pauses this program's clock"
)]

use std::hint::black_box;
use std::time::Instant;

use api::write::{self, Context, User};
use api::{Resource, patch};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::{Value, json};

const ROUNDS: u32 = 20_000;

fn context() -> Context {
    Context {
        now: api::time::parse("2026-11-21T10:00:00Z").unwrap_or_default(),
        uid: "0f9d1d0a-0f66-4c1e-9a3b-6d5c7a1a2b3c".into(),
        suffix: "abcde".into(),
        user: User::default(),
        manager: "write-cost".into(),
    }
}

/// The best of five passes: whatever else the machine does makes a pass slower, never faster.
fn report(what: &str, mut once: impl FnMut()) {
    let pass = |once: &mut dyn FnMut()| {
        let began = Instant::now();
        for _ in 0..ROUNDS {
            once();
        }
        began.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS)
    };
    let best = (0..5).map(|_| pass(&mut once)).fold(f64::MAX, f64::min);
    println!("{what:<28} {best:8.2} µs");
}

fn created(resource: &Resource, body: &Value) -> Value {
    write::create(resource, body.clone(), &context()).unwrap_or_else(|e| panic!("{}", e.message))
}

fn create(what: &str, resource: &Resource, body: &Value) {
    report(what, || {
        let object = created(resource, black_box(body));
        black_box(write::encode(object).unwrap_or_default());
    });
    let bytes = write::encode(created(resource, body)).unwrap_or_default();
    println!("{:<28} {:8} bytes stored", "", bytes.len());
}

fn update(what: &str, resource: &Resource, part: Option<&str>, old: &Value, change: &Value) {
    report(what, || {
        let mut new = black_box(old).clone();
        patch::merge(&mut new, change.clone());
        let updated = write::update(resource, part, old, new, &context());
        black_box(updated.unwrap_or_else(|e| panic!("{}", e.message)));
    });
}

fn main() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-0", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "registry/web:v1",
            "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}],
            "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}}}]}});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "m", "namespace": "default"}, "data": {"a": "1", "b": "2", "c": "3"}});
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "n1", "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": "n1", "leaseDurationSeconds": 4, "renewTime": "2026-11-21T10:00:00.000000Z"}});
    let (pods, maps) = (Resource::of::<Pod>(), Resource::of::<ConfigMap>());
    create("create Pod", pods, &pod);
    create("create ConfigMap", maps, &map);
    let renewed = json!({"spec": {"renewTime": "2026-11-21T10:00:01.000000Z"}});
    let leases = Resource::of::<Lease>();
    update(
        "renew Lease",
        leases,
        None,
        &created(leases, &lease),
        &renewed,
    );
    let running = json!({"status": {"phase": "Running", "podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-21T10:00:00Z"}]}});
    update(
        "status of a Pod",
        pods,
        Some("status"),
        &created(pods, &pod),
        &running,
    );
}
