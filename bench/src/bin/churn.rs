//! Pods that come and go for minutes: how many a second, and that the node holds no more for it in the end than after the
//! first minute.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use carob_bench::{
    Cluster, Conditions, Holdings, Memory, Part, Process, SLEEPING, figure, holdings, memory,
    metrics, pod, pods, push,
};
use clap::Parser;
use client::{Client, DeleteOptions, Informer, Key, ListOptions};
use k8s_openapi::api::core::v1::Pod;
use tokio::task::JoinSet;

const MODULE: &str = "sleeping";
const MINUTE: Duration = Duration::from_secs(60);
/// Where nothing has happened for so long nothing more will.
const STALLED: Duration = Duration::from_secs(60);
/// How long the node rests at the end.
const QUIET: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Arguments {
    /// For how many minutes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..))]
    minutes: u32,
    /// How many pods there are at a time
    #[arg(long, default_value_t = 50)]
    at_once: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    carob_bench::main(async move { measure(&arguments).await })
}

async fn measure(arguments: &Arguments) -> Result<()> {
    Conditions {
        nodes: 1,
        runs: 1,
        more: format!(
            "{} minutes, {} pods at a time, each deleted when it is seen Running, and another created when it is gone; \
             the server keeps an hour of events",
            arguments.minutes, arguments.at_once
        ),
    }
    .print();
    let (cluster, _) = Cluster::start(1)?;
    let client = cluster.client()?;
    push(&cluster, &client, MODULE, SLEEPING).await?;
    let looks = Looks::new(cluster, client.clone())?;
    let mut held = vec![looks.look("at the start").await?];
    let mut churn = Churn::start(client, arguments.at_once).await?;
    let began = Instant::now();
    for minute in 1..=arguments.minutes {
        churn.go_on(began + MINUTE * minute).await?;
        held.push(looks.look(&format!("after {minute} min")).await?);
    }
    let (done, took) = (churn.gone, began.elapsed().as_secs_f64());
    churn.end().await?;
    tokio::time::sleep(QUIET).await;
    looks.look("when all are gone").await?;
    figure("churn", format!("{:.1}", done as f64 / took), "pods/s");
    figure("churn-pods", done, "pods");
    match held.as_slice() {
        [_, first, .., last] => print(first, last),
        _ => bail!("there were less than two minutes"),
    }
    Ok(())
}

/// What is looked at.
struct Looks {
    cluster: Cluster,
    client: Client,
    agent: Process,
    server: Process,
}

/// What a process holds.
struct Holder {
    memory: Memory,
    holdings: Holdings,
}

/// What the node holds.
struct Held {
    agent: Holder,
    server: Holder,
    addresses: f64,
    directories: usize,
}

impl Looks {
    fn new(cluster: Cluster, client: Client) -> Result<Self> {
        let processes = cluster.all_processes()?;
        let of = |part: Part| {
            let found = processes.iter().find(|process| process.part == part);
            found.cloned().context("a process is missing")
        };
        Ok(Self {
            agent: of(Part::Agent)?,
            server: of(Part::Server)?,
            cluster,
            client,
        })
    }

    /// Looks, and prints what is seen.
    async fn look(&self, when: &str) -> Result<Held> {
        let page = metrics::page(&self.client, &self.agent.node, "metrics").await?;
        let directories = std::fs::read_dir(self.cluster.pods_dir(&self.agent.node))?.count();
        let held = Held {
            agent: Holder::of(&self.agent)?,
            server: Holder::of(&self.server)?,
            addresses: metrics::value(&page, "carob_pod_addresses")?,
            directories,
        };
        println!(
            "{when}: agent {}; server {}; {} addresses held, {} directories of pods",
            held.agent.shown(),
            held.server.shown(),
            held.addresses,
            held.directories
        );
        Ok(held)
    }
}

impl Holder {
    fn of(process: &Process) -> Result<Self> {
        Ok(Self {
            memory: memory(std::slice::from_ref(process))?,
            holdings: holdings(process)?,
        })
    }

    fn shown(&self) -> String {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        format!(
            "{:.1} MB (RSS {:.1}), {} descriptors, {} threads",
            megabytes(self.memory.pss),
            megabytes(self.memory.rss),
            self.holdings.descriptors,
            self.holdings.threads
        )
    }
}

/// The last minute beside the first: as many pods live at both.
fn print(first: &Held, last: &Held) {
    let one = |name: &str, first: f64, last: f64, unit: &str| {
        figure(
            &format!("churn-{name}"),
            format!("{last:.1}"),
            &format!(
                "{unit} ({:.2} × after the first minute, {first:.1})",
                last / first
            ),
        );
    };
    for (name, first, last) in [
        ("agent", &first.agent, &last.agent),
        ("server", &first.server, &last.server),
    ] {
        let megabytes = |part: &Holder| part.memory.pss as f64 / 1e6;
        one(
            &format!("{name}-pss"),
            megabytes(first),
            megabytes(last),
            "MB",
        );
        let (was, is) = (first.holdings, last.holdings);
        let counts = [
            ("descriptors", was.descriptors, is.descriptors),
            ("threads", was.threads, is.threads),
        ];
        for (what, was, is) in counts {
            one(&format!("{name}-{what}"), was as f64, is as f64, what);
        }
    }
    one("addresses", first.addresses, last.addresses, "held");
    let directories = [first, last].map(|held| held.directories as f64);
    one("directories", directories[0], directories[1], "of pods");
}

/// How far a pod has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Created,
    Deleted,
}

/// Pods that come and go.
struct Churn {
    client: Client,
    informer: Informer<Pod>,
    changes: client::Changes,
    requests: JoinSet<Result<()>>,
    live: BTreeMap<Key, Stage>,
    created: usize,
    gone: usize,
}

impl Churn {
    async fn start(client: Client, at_once: usize) -> Result<Self> {
        let informer = Informer::start(client.of::<Pod>(), ListOptions::namespace("default"));
        informer.synced().await;
        let mut churn = Self {
            changes: informer.subscribe(),
            informer,
            client,
            requests: JoinSet::new(),
            live: BTreeMap::new(),
            created: 0,
            gone: 0,
        };
        for _ in 0..at_once.max(1) {
            churn.create()?;
        }
        Ok(churn)
    }

    fn create(&mut self) -> Result<()> {
        let name = format!("c-{}", self.created);
        self.created += 1;
        let mut pod = pod(&name, MODULE)?;
        if let Some(spec) = &mut pod.spec {
            // Its node ends it and removes it: with none the API would, whatever still runs.
            spec.termination_grace_period_seconds = Some(1);
        }
        self.live.insert(Key::of(&pod), Stage::Created);
        let pods = self.client.of::<Pod>();
        self.requests.spawn(async move {
            let created = pods.create(&pod).await;
            created.with_context(|| format!("cannot create {name}"))?;
            Ok(())
        });
        Ok(())
    }

    fn delete(&mut self, key: Key) {
        self.live.insert(key.clone(), Stage::Deleted);
        let pods = self.client.of::<Pod>();
        self.requests.spawn(async move {
            let options = DeleteOptions::default();
            let deleted = pods.delete("default", &key.name, &options).await;
            deleted.with_context(|| format!("cannot delete {}", key.name))?;
            Ok(())
        });
    }

    /// Goes on until then.
    async fn go_on(&mut self, until: Instant) -> Result<()> {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => return Ok(()),
                stepped = self.step() => for _ in 0..stepped? {
                    self.create()?;
                },
            }
        }
    }

    /// Sees the last ones go.
    async fn end(&mut self) -> Result<()> {
        while !self.live.is_empty() {
            self.step().await?;
        }
        Ok(())
    }

    /// Waits for something to happen; how many pods are gone by it. May be cancelled without loss.
    async fn step(&mut self) -> Result<usize> {
        let keys = tokio::select! {
            Some(asked) = self.requests.join_next() => {
                asked.context("a request broke off")??;
                return Ok(0);
            }
            keys = tokio::time::timeout(STALLED, self.changes.next()) => keys,
        };
        let Ok(keys) = keys else {
            bail!(
                "{} pods live, and nothing happens: {:?}",
                self.live.len(),
                self.informer.view().values().next()
            );
        };
        let mut gone = 0;
        for key in keys {
            let pod = self.informer.get(&key);
            match (self.live.get(&key).copied(), pod.as_deref()) {
                (Some(Stage::Created), Some(pod)) => match pods::phase(pod) {
                    Some("Running") => self.delete(key),
                    Some("Failed") => bail!("{key:?} failed: {:?}", pod.status),
                    _ => {}
                },
                (Some(Stage::Deleted), None) => {
                    self.live.remove(&key);
                    gone += 1;
                }
                _ => {}
            }
        }
        self.gone += gone;
        Ok(gone)
    }
}
