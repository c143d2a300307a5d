//! How soon the network follows what is written: printed, and required only to happen at all.

use std::time::{Duration, SystemTime};

use carob_tests::{Cluster, Outcome, check, until};
use client::kubeconfig::Sources;
use client::{Client, DeleteOptions, Patch};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use libtest_mimic::Failed;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::{nodes, pod, talker};

/// How often each change is made.
const ROUNDS: usize = 10;
/// What does not happen by then never does.
const NEVER: Duration = Duration::from_secs(5);

/// A pod that follows another by its Service, from another node, and who changes what it sees.
struct Follower<'a> {
    cluster: &'a Cluster,
    client: Client,
    runtime: Runtime,
    /// How many lines of its log were looked at.
    seen: usize,
}

impl<'a> Follower<'a> {
    fn start(cluster: &'a Cluster) -> Result<Self, Failed> {
        let all = nodes(cluster)?;
        let gate = ", readinessGates: [{conditionType: example.com/open}]";
        let server = talker("listen, '8080'", "");
        cluster.apply(&pod("kept", "app: kept", &all[0].0, gate, &server))?;
        cluster.apply(
            "{apiVersion: v1, kind: Service, metadata: {name: kept}, spec: {selector: {app: kept}, ports: [{port: 80, targetPort: 8080}]}}",
        )?;
        cluster.wait_for("pods/kept", "/status/phase", "Running")?;
        let follow = talker("follow, 'kept:80'", "");
        cluster.apply(&pod("follower", "role: follower", &all[1].0, "", &follow))?;
        let context = Sources::from_environment(Some(cluster.kubeconfig())).load(None)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut follower = Self {
            cluster,
            client: context.client("tests")?,
            runtime,
            seen: 0,
        };
        follower.next("ceased")?;
        Ok(follower)
    }

    /// What the follower says next, and when, in microseconds of Unix time.
    fn next_word(&mut self) -> Result<(u128, String), Failed> {
        let mut line = String::new();
        until("the follower says something", NEVER, || {
            let log = self.cluster.carob("logs follower").unwrap_or_default();
            line = log.lines().nth(self.seen).unwrap_or_default().to_owned();
            Ok(!line.is_empty())
        })?;
        self.seen += 1;
        let (time, word) = line.split_once(' ').ok_or_else(|| line.clone())?;
        Ok((time.parse()?, word.to_owned()))
    }

    /// When the follower said this.
    fn next(&mut self, due: &str) -> Result<u128, Failed> {
        let (time, word) = self.next_word()?;
        check(word == due, format!("{word}, where due was {due}"))?;
        Ok(time)
    }

    /// The pod's readiness gate, and with it the pod, becomes ready or ceases to be; when the API had said so.
    fn set_ready(&self, ready: bool) -> Result<u128, Failed> {
        let status = if ready { "True" } else { "False" };
        let condition = json!({"type": "example.com/open", "status": status});
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        let pods = self.client.of::<Pod>();
        let patched = pods.patch("default", "kept", &patch, Some("status"));
        self.runtime.block_on(patched)?;
        Ok(now())
    }

    fn deny(&self) -> Result<u128, Failed> {
        let policy = serde_json::from_value(json!({
            "metadata": {"name": "kept", "namespace": "default"},
            "spec": {"podSelector": {"matchLabels": {"app": "kept"}}, "policyTypes": ["Ingress"]},
        }))?;
        let policies = self.client.of::<NetworkPolicy>();
        self.runtime.block_on(policies.create(&policy))?;
        Ok(now())
    }

    fn allow(&self) -> Result<u128, Failed> {
        let policies = self.client.of::<NetworkPolicy>();
        let options = DeleteOptions::default();
        self.runtime
            .block_on(policies.delete("default", "kept", &options))?;
        Ok(now())
    }
}

fn now() -> u128 {
    let since = SystemTime::UNIX_EPOCH.elapsed();
    since.unwrap_or_default().as_micros()
}

/// Durations in milliseconds from a write's answer until what follows from it; what came before the answer did took none.
#[derive(Default)]
struct Delays(Vec<f64>);

impl Delays {
    fn add(&mut self, answered: u128, followed: u128) {
        let micros = followed.saturating_sub(answered);
        self.0.push(micros as f64 / 1000.0);
    }

    fn print(mut self, what: &str) {
        self.0.sort_by(f64::total_cmp);
        let (median, worst) = (self.0[self.0.len() / 2], self.0[self.0.len() - 1]);
        println!("{what}: median {median:.1} ms, worst {worst:.1} ms");
    }
}

pub(crate) fn moments(cluster: &Cluster) -> Outcome {
    let mut follower = Follower::start(cluster)?;
    readiness(&mut follower)?;
    policies(&mut follower)?;
    cluster
        .carob("delete pod/kept pod/follower service/kept")
        .map(drop)
}

fn readiness(follower: &mut Follower<'_>) -> Outcome {
    let (mut works, mut ceased) = (Delays::default(), Delays::default());
    for _ in 0..ROUNDS {
        let answered = follower.set_ready(true)?;
        works.add(answered, follower.next("works")?);
        let answered = follower.set_ready(false)?;
        ceased.add(answered, follower.next("ceased")?);
    }
    works.print("a pod becomes ready: its Service reaches it after");
    ceased.print("it ceases to be ready: no more after");
    Ok(())
}

fn policies(follower: &mut Follower<'_>) -> Outcome {
    let (mut refused, mut broken, mut works) =
        (Delays::default(), Delays::default(), Delays::default());
    follower.set_ready(true)?;
    follower.next("works")?;
    for _ in 0..ROUNDS {
        let answered = follower.deny()?;
        for _ in 0..2 {
            // In either order.
            let (time, word) = follower.next_word()?;
            match word.as_str() {
                "ceased" => refused.add(answered, time),
                "broken" => broken.add(answered, time),
                _ => return Err(word.into()),
            }
        }
        let answered = follower.allow()?;
        works.add(answered, follower.next("works")?);
    }
    check(
        refused.0.len() == ROUNDS && broken.0.len() == ROUNDS,
        "one of the two came twice",
    )?;
    refused.print("a policy denies: connections are refused after");
    broken.print("an open one is broken after");
    works.print("the policy goes: connections are made after");
    Ok(())
}
