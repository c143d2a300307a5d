//! How long a list of ten thousand pods takes over HTTPS, read to its last byte.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use carob_bench::{Cluster, Conditions, Samples, figure};
use client::Client;
use http::{Method, Request, header};

const PODS: usize = 10_000;
/// How many clients create them.
const CLIENTS: usize = 32;
const RUNS: usize = 21;
const COLLECTION: &str = "/api/v1/namespaces/default/pods";
/// What the reference's list held for each pod.
const EACH: usize = 1_780;
const ANSWER: usize = 1 << 16;
const LIST: usize = 256 << 20;

fn main() -> ExitCode {
    carob_bench::main(measure())
}

async fn measure() -> Result<()> {
    Conditions {
        nodes: 3,
        runs: RUNS,
        more: format!("{PODS} pods, JSON, no compression, one kept connection"),
    }
    .print();
    let (cluster, _) = Cluster::start(3)?;
    fill(&cluster).await?;
    let client = cluster.client()?;
    let mut samples = Samples::default();
    let mut size = 0;
    // The first is not counted: it makes the connection.
    for run in 0..=RUNS {
        let request = Request::get(COLLECTION).body(Bytes::new())?;
        let began = Instant::now();
        let answer = client.raw(request).await?;
        size = client::collect(answer.into_body(), LIST).await?.len();
        if run > 0 {
            samples.push(began.elapsed());
        }
    }
    figure("list", format!("{:.1}", samples.median_ms()), "ms");
    let longest = samples.longest().as_secs_f64() * 1e3;
    figure("list-longest", format!("{longest:.1}"), "ms");
    figure("list-size", format!("{:.1}", size as f64 / 1e6), "MB");
    Ok(())
}

/// Creates the pods, which no scheduler of the cluster takes for its own.
async fn fill(cluster: &Cluster) -> Result<()> {
    let mut running = Vec::new();
    for number in 0..CLIENTS {
        let client = cluster.client()?;
        running.push(tokio::spawn(async move {
            for at in (number..PODS).step_by(CLIENTS) {
                create(&client, at).await?;
            }
            anyhow::Ok(())
        }));
    }
    for one in running {
        one.await.context("a client broke off")??;
    }
    Ok(())
}

async fn create(client: &Client, at: usize) -> Result<()> {
    let pod = serde_json::json!({
        "metadata": {"name": format!("pod-{at:05}"), "labels": {"app": "list"}},
        "spec": {
            "schedulerName": "nobody",
            "containers": [{
                "name": "main",
                "image": "file:///nothing.wasm",
                "env": [{"name": "PADDING", "value": "x".repeat(padding())}],
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
            }],
        },
    });
    let request = Request::builder()
        .method(Method::POST)
        .uri(COLLECTION)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Bytes::from(pod.to_string()))?;
    let answer = client.raw(request).await?;
    client::collect(answer.into_body(), ANSWER).await?;
    Ok(())
}

/// What brings a pod to the size of the reference's.
const fn padding() -> usize {
    EACH.saturating_sub(2_200)
}
