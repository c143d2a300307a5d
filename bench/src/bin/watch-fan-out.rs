//! One stream of changes to a thousand watchers: how many events reach them, and how far behind the last one is.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use carob_bench::{Cluster, Conditions, cpu_seconds, figure, raise_open_files};
use client::{Body, Client};
use http::{Method, Request, header};
use http_body_util::BodyExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

const WATCHERS: usize = 1_000;
/// How many changes a second there are to be.
const RATE: usize = 1_000;
const LENGTH: Duration = Duration::from_secs(10);
/// How many clients make them, each of an object of its own.
const WRITERS: usize = 32;
const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";
const ANSWER: usize = 1 << 16;

fn main() -> ExitCode {
    carob_bench::main(measure())
}

async fn measure() -> Result<()> {
    Conditions {
        nodes: 3,
        runs: 1,
        more: format!(
            "{WATCHERS} watchers, a connection each, all at one server; {RATE} changes a second wanted for {} s",
            LENGTH.as_secs()
        ),
    }
    .print();
    raise_open_files()?;
    let (cluster, _) = Cluster::start(3)?;
    let writers = (0..WRITERS)
        .map(|_| cluster.client())
        .collect::<Result<Vec<_>>>()?;
    for (number, writer) in writers.iter().enumerate() {
        let object = format!(r#"{{"metadata":{{"name":"shared-{number}"}}}}"#);
        send(writer, Method::POST, COLLECTION, "application/json", object).await?;
    }
    let (all, made) = watch::channel(None);
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        watchers.push(follow(cluster.client()?, made.clone()).await?);
    }
    let processes = cluster.all_processes()?;
    let before = cpu_seconds(&processes)?;
    let began = Instant::now();
    let changes = change(writers).await?;
    let writing = began.elapsed().as_secs_f64();
    all.send_replace(Some(changes));
    let written = Instant::now();
    for watcher in watchers {
        watcher.await.context("a watcher broke off")??;
    }
    let behind = written.elapsed();
    let took = began.elapsed().as_secs_f64();
    let spent = cpu_seconds(&processes)? - before;
    let events = (changes * WATCHERS) as f64;
    figure("watch-fan-out", format!("{:.0}", events / took), "events/s");
    figure(
        "watch-fan-out-writes",
        format!("{:.0}", changes as f64 / writing),
        "/s",
    );
    figure(
        "watch-fan-out-behind",
        format!("{:.2}", behind.as_secs_f64()),
        "s after the last write",
    );
    figure(
        "watch-fan-out-cpu",
        format!("{:.1}", 1e6 * spent / events),
        "µs an event, over all processes",
    );
    Ok(())
}

/// Makes changes for [`LENGTH`], none sooner than [`RATE`] asks for; how many.
async fn change(writers: Vec<Client>) -> Result<usize> {
    let pause = Duration::from_secs(1) * WRITERS as u32 / RATE as u32;
    let mut running = Vec::new();
    for (number, writer) in writers.into_iter().enumerate() {
        running.push(tokio::spawn(async move {
            let until = Instant::now() + LENGTH;
            let mut pace = tokio::time::interval(pause);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut done = 0;
            while Instant::now() < until {
                pace.tick().await;
                let path = format!("{COLLECTION}/shared-{number}");
                let patch = format!(r#"{{"data":{{"n":"{done}"}}}}"#);
                send(
                    &writer,
                    Method::PATCH,
                    &path,
                    "application/merge-patch+json",
                    patch,
                )
                .await?;
                done += 1;
            }
            anyhow::Ok(done)
        }));
    }
    let mut changes = 0;
    for one in running {
        changes += one.await.context("a writer broke off")??;
    }
    Ok(changes)
}

async fn send(client: &Client, method: Method, path: &str, kind: &str, body: String) -> Result<()> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, kind)
        .body(Bytes::from(body))?;
    let answer = client.raw(request).await?;
    client::collect(answer.into_body(), ANSWER).await?;
    Ok(())
}

/// Opens a watch from now on, and counts its events in a task until it has as many as were made.
async fn follow(
    client: Client,
    made: watch::Receiver<Option<usize>>,
) -> Result<JoinHandle<Result<()>>> {
    let list = Request::get(format!("{COLLECTION}?limit=1"));
    let listed = client.raw(list.body(Bytes::new())?).await?;
    let listed = client::collect(listed.into_body(), ANSWER).await?;
    let listed: serde_json::Value = serde_json::from_slice(&listed)?;
    let version = listed["metadata"]["resourceVersion"].as_str();
    let version = version.context("a list without a version")?;
    let path = format!("{COLLECTION}?watch=1&resourceVersion={version}");
    let answer = client.raw(Request::get(path).body(Bytes::new())?).await?;
    Ok(tokio::spawn(async move {
        // The client holds the connection.
        let _client = client;
        count(answer.into_body(), made).await
    }))
}

async fn count(mut body: Body, mut made: watch::Receiver<Option<usize>>) -> Result<()> {
    let mut seen = 0;
    loop {
        let enough = made.borrow_and_update().is_some_and(|made| seen >= made);
        if enough {
            return Ok(());
        }
        tokio::select! {
            frame = body.frame() => {
                let Some(frame) = frame else { bail!("a watch ended after {seen} events") };
                if let Some(data) = frame?.data_ref() {
                    seen += data.iter().filter(|byte| **byte == b'\n').count();
                }
            }
            changed = made.changed() => changed.context("the writers broke off")?,
        }
    }
}
