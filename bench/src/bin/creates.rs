//! Small ConfigMaps created over HTTPS: how many a second, how long each takes, what each costs.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use carob_bench::{Cluster, Conditions, Samples, cpu_seconds, figure};
use client::Client;
use http::{Method, Request, header};

const MEASURED: Duration = Duration::from_secs(10);
const WARMING: Duration = Duration::from_secs(1);
const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";
/// An answer is no larger than the object and its metadata.
const ANSWER: usize = 1 << 16;

fn main() -> ExitCode {
    carob_bench::main(measure())
}

async fn measure() -> Result<()> {
    Conditions {
        nodes: 3,
        runs: 1,
        more: format!(
            "{} s each, JSON of about 200 bytes, one kept connection a client, through the shared address",
            MEASURED.as_secs()
        ),
    }
    .print();
    let (cluster, _) = Cluster::start(3)?;
    report(&cluster, 32).await?;
    report(&cluster, 1).await
}

/// Measures so many clients.
async fn report(cluster: &Cluster, clients: usize) -> Result<()> {
    let clients = (0..clients)
        .map(|_| cluster.client())
        .collect::<Result<Vec<_>>>()?;
    let count = clients.len();
    load(&clients, "warming", WARMING).await?;
    let processes = cluster.all_processes()?;
    let before = cpu_seconds(&processes)?;
    let began = Instant::now();
    let samples = load(&clients, "measured", MEASURED).await?;
    let took = began.elapsed().as_secs_f64();
    let spent = cpu_seconds(&processes)? - before;
    let done = samples.len().max(1) as f64;
    let name = format!("creates-{count}");
    figure(&name, format!("{:.0}", samples.len() as f64 / took), "/s");
    figure(
        &format!("{name}-p50"),
        format!("{:.2}", samples.median_ms()),
        "ms",
    );
    let each = format!("{:.2}", 1e3 * spent / done);
    figure(&format!("{name}-cpu"), each, "ms each, over all processes");
    Ok(())
}

/// Has every client create one after the other for this long.
async fn load(clients: &[Client], phase: &str, length: Duration) -> Result<Samples> {
    let until = Instant::now() + length;
    let prefix: Arc<str> = format!("{phase}-{}", clients.len()).into();
    let running: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(number, client)| {
            tokio::spawn(create_until(
                client.clone(),
                format!("{prefix}-{number}"),
                until,
            ))
        })
        .collect();
    let mut samples = Samples::default();
    for one in running {
        samples.extend(one.await.context("a client broke off")??);
    }
    Ok(samples)
}

async fn create_until(client: Client, prefix: String, until: Instant) -> Result<Samples> {
    let mut samples = Samples::default();
    while Instant::now() < until {
        let name = format!("{prefix}-{}", samples.len());
        let request = Request::builder()
            .method(Method::POST)
            .uri(COLLECTION)
            .header(header::CONTENT_TYPE, "application/json")
            .body(object(&name))?;
        let began = Instant::now();
        let answer = client.raw(request).await?;
        client::collect(answer.into_body(), ANSWER).await?;
        samples.push(began.elapsed());
    }
    Ok(samples)
}

/// A small ConfigMap, written without a serializer: the clients share the machine with the cluster.
fn object(name: &str) -> Bytes {
    let text = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","namespace":"default"}},"data":{{"value":"{}"}}}}"#,
        "x".repeat(100)
    );
    Bytes::from(text)
}
