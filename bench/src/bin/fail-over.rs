//! How long writes stop when the leader is killed with -9, and that none that was acknowledged is
//! lost.
//!
//! One writer creates ConfigMaps as fast as they are acknowledged, through the shared address on
//! kept HTTPS connections. When an answer stays away it tries the same name again: that the name
//! is taken then means that the first try was carried out.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use carob_bench::{Cluster, Conditions, Samples, figure};
use client::{Client, ListOptions};
use k8s_openapi::api::core::v1::ConfigMap;

const RUNS: usize = 7;
/// How long is written before the kill, and after it.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(6);
/// How long the cluster rests when it is whole again.
const SETTLING: Duration = Duration::from_secs(3);
/// A writer that gets no acknowledgement for so long has failed.
const GIVE_UP: Duration = Duration::from_secs(60);
const AGAIN_AFTER: Duration = Duration::from_millis(10);
/// An answer that has not begun by then is not waited for: the server is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    carob_bench::main(measure())
}

async fn measure() -> Result<()> {
    Conditions {
        nodes: 3,
        runs: RUNS,
        more: "kill -9 of the leader, one writer through the shared address".to_owned(),
    }
    .print();
    let (cluster, _) = Cluster::start(3)?;
    let (mut pauses, mut usual) = (Samples::default(), Samples::default());
    let (mut acknowledged, mut lost) = (0, 0);
    for run in 0..RUNS {
        tokio::time::sleep(SETTLING).await;
        let written = fail_over(&cluster, run).await?;
        pauses.push(written.longest);
        usual.push(written.usual);
        acknowledged += written.names.len();
        let lacking = lacking(&cluster.client()?, &written.names).await?;
        if let Some(name) = lacking.first() {
            eprintln!(
                "run {run}: {} acknowledged are not there, {name} first",
                lacking.len()
            );
        }
        lost += lacking.len();
        cluster.up()?;
    }
    let seconds = |pause: Duration| format!("{:.2}", pause.as_secs_f64());
    figure("fail-over", seconds(pauses.quantile(0.5)), "s");
    figure("fail-over-longest", seconds(pauses.longest()), "s");
    figure(
        "fail-over-usual-write",
        format!("{:.2}", usual.median_ms()),
        "ms",
    );
    figure(
        "fail-over-lost",
        lost,
        &format!("of {acknowledged} acknowledged writes"),
    );
    if lost > 0 {
        bail!("acknowledged writes were lost");
    }
    Ok(())
}

/// What a writer saw.
struct Written {
    names: BTreeSet<String>,
    /// The longest time between two acknowledgements.
    longest: Duration,
    /// The median time between two.
    usual: Duration,
}

/// Kills the leader while a writer writes.
async fn fail_over(cluster: &Cluster, run: usize) -> Result<Written> {
    let leader = cluster.leader()?;
    let ends = Arc::new(AtomicBool::new(false));
    let client = cluster.client()?.with_timeout(ANSWER_WITHIN);
    let writer = tokio::spawn(write(client, run, Arc::clone(&ends)));
    tokio::time::sleep(BEFORE).await;
    leader.kill()?;
    tokio::time::sleep(AFTER).await;
    ends.store(true, Ordering::Relaxed);
    writer.await.context("the writer broke off")?
}

async fn write(client: Client, run: usize, ends: Arc<AtomicBool>) -> Result<Written> {
    let mut names = BTreeSet::new();
    let mut gaps = Samples::default();
    let mut last = Instant::now();
    while !ends.load(Ordering::Relaxed) {
        let name = format!("run-{run}-{}", names.len());
        create(&client, &name, last + GIVE_UP).await?;
        let now = Instant::now();
        // The first one connects.
        if !names.is_empty() {
            gaps.push(now - last);
        }
        last = now;
        names.insert(name);
    }
    Ok(Written {
        names,
        longest: gaps.longest(),
        usual: gaps.quantile(0.5),
    })
}

/// Creates a ConfigMap, again and again until it is acknowledged.
async fn create(client: &Client, name: &str, until: Instant) -> Result<()> {
    let mut object = ConfigMap::default();
    object.metadata.name = Some(name.to_owned());
    object.metadata.namespace = Some("default".to_owned());
    let access = client.of::<ConfigMap>();
    loop {
        match access.create(&object).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_already_exists() => return Ok(()),
            Err(error) if error.is_transient() && Instant::now() < until => {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot create {name}")),
        }
    }
}

/// Those of the names that are not in the cluster.
async fn lacking(client: &Client, names: &BTreeSet<String>) -> Result<Vec<String>> {
    let all = client.of::<ConfigMap>();
    let list = all.list(&ListOptions::namespace("default")).await?;
    let there: BTreeSet<String> = list
        .items
        .into_iter()
        .filter_map(|object| object.metadata.name)
        .collect();
    Ok(names.difference(&there).cloned().collect())
}
