//! What three nodes with nothing to do take of a processor core.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use carob_bench::{Cluster, Conditions, Part, Process, cpu_seconds, figure};

const QUIET: Duration = Duration::from_secs(10);
const MEASURED: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    carob_bench::main(measure())
}

async fn measure() -> Result<()> {
    Conditions {
        nodes: 3,
        runs: 1,
        more: format!("over {} s without a request", MEASURED.as_secs()),
    }
    .print();
    let (cluster, _) = Cluster::start(3)?;
    tokio::time::sleep(QUIET).await;
    let (servers, agents): (Vec<Process>, Vec<Process>) = cluster
        .all_processes()?
        .into_iter()
        .partition(|process| process.part == Part::Server);
    // `carob status` itself has made the servers work: let that end.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let before = (cpu_seconds(&servers)?, cpu_seconds(&agents)?);
    tokio::time::sleep(MEASURED).await;
    let after = (cpu_seconds(&servers)?, cpu_seconds(&agents)?);
    let share = |seconds: f64| format!("{:.2}", 100.0 * seconds / began.elapsed().as_secs_f64());
    let (servers, agents) = (after.0 - before.0, after.1 - before.1);
    figure("idle-cpu", share(servers + agents), "% of a core");
    figure("idle-cpu-servers", share(servers), "% of a core");
    figure("idle-cpu-agents", share(agents), "% of a core");
    Ok(())
}
