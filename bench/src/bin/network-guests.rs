//! What a connection costs two guests on one node, beside the same program run natively over the system's loopback.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use carob_bench::{Built, Conditions, Printed, built, figure, source};
use network::{Network, PodNet};
use runtime::{Config, Exit, Runtime as _, Wasm, Workload};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const PROGRAM: &str = "bench/guests/pinger";
const PORT: u16 = 8080;
/// What the program sends in a stream.
const SENT: f64 = (1 << 30) as f64;

fn main() -> ExitCode {
    carob_bench::main(measure())
}

async fn measure() -> Result<()> {
    let conditions = Conditions {
        nodes: 1,
        runs: 20_000,
        more: "a guest or process on each side".to_owned(),
    };
    conditions.print();
    let peer = native(&built(PROGRAM, "pinger", Built::Native)?)?;
    let module = built(PROGRAM, "pinger.wasm", Built::Component)?;
    for threads in [1, 2] {
        let measured = guests(&module, threads).await?;
        report(&format!("network-guests-{threads}"), &measured, &peer);
    }
    Ok(())
}

/// What the asking side printed, both in nanoseconds.
struct Measured {
    round_trip: f64,
    stream: f64,
}

impl Measured {
    fn read(text: &str) -> Result<Self> {
        let mut numbers = text.lines().map(str::parse);
        let mut next = || -> Result<f64> { Ok(numbers.next().context("a number")??) };
        Ok(Self {
            round_trip: next()?,
            stream: next()?,
        })
    }

    fn micros(&self) -> f64 {
        self.round_trip / 1e3
    }

    fn gibs(&self) -> f64 {
        SENT / (1 << 30) as f64 / (self.stream / 1e9)
    }
}

fn report(name: &str, of: &Measured, peer: &Measured) {
    figure(
        &format!("{name}-round-trip"),
        format!("{:.1}", of.micros()),
        &format!(
            "µs ({:.2} × loopback between processes, {:.1} µs)",
            of.micros() / peer.micros(),
            peer.micros()
        ),
    );
    figure(
        &format!("{name}-stream"),
        format!("{:.2}", of.gibs()),
        &format!(
            "GiB/s ({:.2} × loopback between processes, {:.2} GiB/s)",
            of.gibs() / peer.gibs(),
            peer.gibs()
        ),
    );
}

/// Two processes.
fn native(program: &Path) -> Result<Measured> {
    let start = |words: [&str; 2]| {
        let mut command = Command::new(program);
        command.args(words).stdout(Stdio::piped()).spawn()
    };
    let mut server = start(["answer", "0"])?;
    let mut port = String::new();
    let printed = server.stdout.take().context("its output")?;
    BufReader::new(printed).read_line(&mut port)?;
    let mut client = start(["ask", &format!("127.0.0.1:{}", port.trim())])?;
    let mut text = String::new();
    let printed = client.stdout.as_mut().context("its output")?;
    printed.read_to_string(&mut text)?;
    ensure!(
        client.wait()?.success() && server.wait()?.success(),
        "the native program failed"
    );
    Measured::read(&text)
}

/// Two guests, each in a pod of its own, on so many threads.
async fn guests(module: &Path, threads: usize) -> Result<Measured> {
    let scratch = tempfile::tempdir()?;
    let mut config = Config::new(scratch.path().join("compiled"));
    config.threads = threads;
    let wasm = Wasm::new(config)?;
    let network = Network::new("10.128.0.0/24".parse()?);
    let (served, asking) = (network.join("answers")?, network.join("asks")?);
    let address = served.address();
    let start = async |pod: PodNet, words: [&str; 2]| -> Result<_> {
        let (printed, lines) = unbounded_channel();
        let mut workload = Workload::new(wasm.prepare(source(module)?).await?);
        workload.argv = ["pinger", words[0], words[1]].map(str::to_owned).into();
        workload.net = Some(pod);
        workload.stdout = Box::new(Printed(printed));
        Ok((wasm.start(workload)?, lines))
    };
    let (server, mut port) = start(served, ["answer", &PORT.to_string()]).await?;
    port.recv().await.context("it listens")?;
    let (client, answer) = start(asking, ["ask", &format!("{address}:{PORT}")]).await?;
    let ended = [client.wait().await, server.wait().await];
    ensure!(
        ended.iter().all(|exit| *exit == Exit::Code(0)),
        "the guests ended with {ended:?}"
    );
    drop((client, server));
    Measured::read(&text(answer))
}

fn text(mut printed: UnboundedReceiver<Bytes>) -> String {
    let mut all = Vec::new();
    while let Ok(chunk) = printed.try_recv() {
        all.extend_from_slice(&chunk);
    }
    String::from_utf8_lossy(&all).into_owned()
}
