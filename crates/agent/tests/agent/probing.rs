//! Probes of what listens in a pod's own network.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use network::{Listener, PodNet};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::bench::Bench;

impl Bench {
    /// A pod of one container that runs for ever, with such probes.
    async fn probed(&self, name: &str, probes: Value) -> PodNet {
        let before = self.nets.lock().unwrap().len();
        let mut main =
            json!({"name": "main", "env": [{"name": "TAPPED", "value": "1"}], "args": ["forever"]});
        let more = probes.as_object().unwrap().clone();
        main.as_object_mut().unwrap().extend(more);
        self.create(name, json!({"containers": [main]})).await;
        self.until("started", async |b| b.nets.lock().unwrap().len() > before)
            .await;
        self.until_phase(name, "Running").await;
        self.nets.lock().unwrap()[before].clone()
    }

    async fn main(&self, name: &str) -> Value {
        self.pod(name).await["status"]["containerStatuses"][0].clone()
    }

    async fn until_main(&self, name: &str, field: &str, value: impl Into<Value>) {
        let value = value.into();
        self.until(&format!("{name} {field}={value}"), async |b| {
            b.main(name).await[field] == value
        })
        .await;
    }
}

/// An HTTP server in a pod that answers everything with this status.
fn serve(net: &PodNet, ip: Ipv4Addr, status: Arc<AtomicU16>) -> AbortOnDropHandle<()> {
    let bound = net.bind_stream(SocketAddrV4::new(ip, 80)).unwrap();
    let listener = Listener::new(Arc::new(bound), 8);
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let mut io = listener.accept().await.into_io();
            let status = Arc::clone(&status);
            tokio::spawn(async move {
                let _ = io.read(&mut [0; 4096]).await;
                let status = status.load(Ordering::Relaxed);
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                let _ = io.write_all(answer.as_bytes()).await;
            });
        }
    }))
}

fn get(more: Value) -> Value {
    let mut probe = json!({
        "httpGet": {"path": "/", "port": 80}, "timeoutSeconds": 1, "periodSeconds": 10, "failureThreshold": 1,
    });
    let more = more.as_object().unwrap().clone();
    probe.as_object_mut().unwrap().extend(more);
    probe
}

#[tokio::test(start_paused = true)]
async fn readiness_follows_what_answers() {
    let b = Bench::new().await;
    let status = Arc::new(AtomicU16::new(200));
    let net = b
        .probed("web", json!({"readinessProbe": get(json!({}))}))
        .await;
    b.until_ready("web", "False").await;
    assert_eq!(b.main("web").await["started"], true);
    // Who listens on the pod's loopback alone serves nobody.
    let local = serve(&net, Ipv4Addr::LOCALHOST, Arc::clone(&status));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(b.main("web").await["ready"], false);
    drop(local);
    tokio::task::yield_now().await;
    let _server = serve(&net, Ipv4Addr::UNSPECIFIED, Arc::clone(&status));
    b.until_ready("web", "True").await;
    status.store(500, Ordering::Relaxed);
    b.until_ready("web", "False").await;
    assert_eq!(b.main("web").await["restartCount"], 0);
    let events = b.events("web").await.join("\n");
    for wanted in [
        "Unhealthy: Readiness probe failed: Get \"http://10.128.0.3:80/\": dial tcp 10.128.0.3:80: connect: connection refused",
        "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 500",
    ] {
        assert!(events.contains(wanted), "{wanted} in {events}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_begins_to_listen_is_ready_at_once() {
    let b = Bench::new().await;
    let probe = get(json!({"timeoutSeconds": 30, "periodSeconds": 60}));
    let net = b.probed("web", json!({"readinessProbe": probe})).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let _server = serve(&net, Ipv4Addr::UNSPECIFIED, Arc::new(AtomicU16::new(200)));
    let began = Instant::now();
    b.until_ready("web", "True").await;
    let took = began.elapsed();
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_alive_is_started_again() {
    let b = Bench::new().await;
    let status = Arc::new(AtomicU16::new(200));
    let net = b.probed("web", json!({
        // Not so many that no event could be written about the pod any more.
        "startupProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 10, "failureThreshold": 3},
        "livenessProbe": get(json!({"failureThreshold": 2, "periodSeconds": 5})),
    }))
    .await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let main = b.main("web").await;
    assert_eq!(
        (&main["started"], &main["ready"]),
        (&json!(false), &json!(false))
    );
    let server = serve(&net, Ipv4Addr::UNSPECIFIED, Arc::clone(&status));
    b.until_main("web", "started", true).await;
    b.until_ready("web", "True").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(b.main("web").await["restartCount"], 0);
    status.store(404, Ordering::Relaxed);
    b.until_main("web", "restartCount", 1).await;
    b.until_main("web", "started", true).await;
    let events = b.events("web").await.join("\n");
    for wanted in [
        "Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 404",
        "Killing: Container main failed liveness probe, will be restarted",
    ] {
        assert!(events.contains(wanted), "{wanted} in {events}");
    }
    // What was never there at its start is started again, too.
    drop(server);
    b.until_main("web", "restartCount", 3).await;
    let events = b.events("web").await.join("\n");
    let wanted = "Killing: Container main failed startup probe, will be restarted";
    assert!(events.contains(wanted), "{wanted} in {events}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_well_is_not_written() {
    let b = Bench::new().await;
    let every = json!({"periodSeconds": 1});
    let net = b
        .probed(
            "web",
            json!({"readinessProbe": get(every.clone()), "livenessProbe": get(every)}),
        )
        .await;
    let _server = serve(&net, Ipv4Addr::UNSPECIFIED, Arc::new(AtomicU16::new(200)));
    b.until_ready("web", "True").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let version = b.pod("web").await["metadata"]["resourceVersion"].clone();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(b.pod("web").await["metadata"]["resourceVersion"], version);
    // What others write into its status is put right although nothing new is found.
    let silent = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    b.client
        .of::<k8s_openapi::api::core::v1::Pod>()
        .patch(
            "default",
            "web",
            &client::Patch::Strategic(silent),
            Some("status"),
        )
        .await
        .unwrap();
    b.until_ready("web", "True").await;
}
