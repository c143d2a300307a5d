//! What the processes of a node hold when nothing happens.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use carob_bench::{Cluster, Conditions, Memory, Process, figure, memory};

const QUIET: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    carob_bench::main(measure())
}

async fn measure() -> Result<()> {
    Conditions {
        nodes: 3,
        runs: 1,
        more: format!(
            "after {} s without a request, mean of the nodes; then of one node alone",
            QUIET.as_secs()
        ),
    }
    .print();
    report("idle-memory", 3).await?;
    report("idle-memory-alone", 1).await
}

/// Measures a cluster of so many nodes.
async fn report(name: &str, nodes: u8) -> Result<()> {
    let (cluster, _) = Cluster::start(nodes)?;
    tokio::time::sleep(QUIET).await;
    let processes = cluster.all_processes()?;
    let (servers, agents): (Vec<Process>, Vec<Process>) = processes
        .into_iter()
        .partition(|process| process.part == carob_bench::Part::Server);
    let servers = memory(&servers)?;
    let agents = memory(&agents)?;
    let all: Memory = [servers, agents].into_iter().sum();
    let lines = [
        ("", all.pss, "MB/node"),
        ("-rss", all.rss, "MB/node"),
        ("-anonymous", all.anonymous, "MB/node"),
        ("-server", servers.pss, "MB"),
        ("-agent", agents.pss, "MB"),
    ];
    for (what, bytes, unit) in lines {
        let megabytes = bytes as f64 / 1e6 / f64::from(nodes);
        figure(&format!("{name}{what}"), format!("{megabytes:.1}"), unit);
    }
    Ok(())
}
