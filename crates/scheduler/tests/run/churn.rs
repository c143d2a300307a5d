//! Nodes and pods come and go at random, writes fail, watches break and schedulers are replaced: what always holds, and what
//! holds once nothing happens any more.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};

use super::*;

const CLUSTERS: u64 = 24;
const STEPS: usize = 80;
/// Longer than the longest pause of a pod, and far shorter than what it may wait without a reason.
const QUIET: Duration = Duration::from_secs(30);
const ZONES: [&str; 2] = ["east", "west"];
const APPS: [&str; 4] = ["web", "db", "cache", "queue"];

/// What the test knows of a pod.
#[derive(Debug)]
struct Known {
    milli_cpu: u64,
    app: &'static str,
    rule: Rule,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    None,
    /// Only in this zone.
    Zone(&'static str),
    /// On no node with its like.
    Apart,
    /// In a zone with some of this app.
    Near(&'static str),
    /// No zone has more of its like than another, but for one.
    Even,
}

impl Rule {
    fn spec(self, app: &str) -> Value {
        let of = |app: &str| json!({ "matchLabels": { "app": app } });
        let term = |key: &str, app: &str| {
            let terms = json!([{ "topologyKey": key, "labelSelector": of(app) }]);
            json!({ "requiredDuringSchedulingIgnoredDuringExecution": terms })
        };
        match self {
            Rule::None => json!({}),
            Rule::Zone(zone) => json!({ "nodeSelector": { "zone": zone } }),
            Rule::Apart => {
                json!({ "affinity": { "podAntiAffinity": term("kubernetes.io/hostname", app) } })
            }
            Rule::Near(other) => json!({ "affinity": { "podAffinity": term("zone", other) } }),
            Rule::Even => json!({ "topologySpreadConstraints": [{
                "topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": of(app),
            }] }),
        }
    }
}

struct Machine {
    milli_cpu: u64,
    zone: &'static str,
    cordoned: bool,
}

/// A cluster as it is by its objects.
struct State<'a> {
    nodes: &'a BTreeMap<String, Machine>,
    pods: &'a BTreeMap<String, Known>,
    /// Where the pods are that are placed.
    places: BTreeMap<String, String>,
}

impl State<'_> {
    fn on(&self, node: &str) -> impl Iterator<Item = &Known> {
        let there = self.places.iter().filter(move |(_, at)| *at == node);
        there.map(|(name, _)| &self.pods[name])
    }

    fn used(&self, node: &str) -> u64 {
        self.on(node).map(|pod| pod.milli_cpu).sum()
    }

    fn of_app_in(&self, app: &str, zone: &str) -> usize {
        let nodes = self
            .nodes
            .iter()
            .filter(|(_, machine)| machine.zone == zone);
        let pods = nodes.flat_map(|(name, _)| self.on(name));
        pods.filter(|pod| pod.app == app).count()
    }

    fn fits(&self, pod: &Known, node: &str) -> bool {
        let machine = &self.nodes[node];
        let has_room = self.used(node) + pod.milli_cpu <= machine.milli_cpu;
        let is_near = |other: &Known| other.app == pod.app;
        let keeps_away = self
            .on(node)
            .any(|other| other.rule == Rule::Apart && is_near(other));
        let zones: BTreeSet<_> = self.nodes.values().map(|machine| machine.zone).collect();
        let suits = match pod.rule {
            Rule::None => true,
            Rule::Zone(zone) => machine.zone == zone,
            Rule::Apart => !self.on(node).any(is_near),
            Rule::Near(app) => {
                let is_first =
                    app == pod.app && zones.iter().all(|zone| self.of_app_in(app, zone) == 0);
                is_first || self.of_app_in(app, machine.zone) > 0
            }
            Rule::Even => {
                let fewest = zones.iter().map(|zone| self.of_app_in(pod.app, zone)).min();
                self.of_app_in(pod.app, machine.zone) <= fewest.unwrap_or(0)
            }
        };
        !machine.cordoned && has_room && !keeps_away && suits
    }
}

struct Churn {
    cluster: Cluster,
    rng: SmallRng,
    nodes: BTreeMap<String, Machine>,
    pods: BTreeMap<String, Known>,
    gated: BTreeSet<String>,
    made: usize,
}

impl Churn {
    async fn step(&mut self) {
        match self.rng.random_range(0..20) {
            0..2 if self.nodes.len() < 6 => self.node_comes().await,
            0 => self.node_goes().await,
            2 => self.node_turns().await,
            3..12 => self.pod_comes().await,
            12..15 => self.pod_goes().await,
            15 => self.gate_opens().await,
            16 => self.write_fails(),
            17 => self.cluster.server.break_watches(),
            18 => self.replace_scheduler().await,
            _ => self
                .cluster
                .server
                .set_latency(self.rng.random_range(0..200) * MS),
        }
    }

    async fn node_comes(&mut self) {
        self.made += 1;
        let name = format!("node-{}", self.made);
        let cores = self.rng.random_range(1..=3);
        let zone = *ZONES.choose(&mut self.rng).unwrap();
        let labelled = json!({ "metadata": { "labels": { "zone": zone } }, "spec": { "unschedulable": true } });
        self.cluster.node(&name, "0").await;
        self.cluster.patch_node(&name, labelled).await;
        let room = json!({ "status": { "allocatable": { "cpu": cores.to_string() } }, "spec": { "unschedulable": null } });
        self.cluster.patch_node(&name, room).await;
        let machine = Machine {
            milli_cpu: 1_000 * cores,
            zone,
            cordoned: false,
        };
        self.nodes.insert(name, machine);
    }

    async fn node_turns(&mut self) {
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        let Some(name) = names.choose(&mut self.rng) else {
            return;
        };
        let machine = self.nodes.get_mut(name).unwrap();
        machine.cordoned = !machine.cordoned;
        let turned = json!({ "spec": { "unschedulable": machine.cordoned } });
        self.cluster.patch_node(name, turned).await;
    }

    /// A node goes, and its pods with it.
    async fn node_goes(&mut self) {
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        let Some(name) = names.choose(&mut self.rng) else {
            return;
        };
        let options = DeleteOptions::default();
        let nodes = self.cluster.client.of::<Node>();
        nodes.delete("", name, &options).await.unwrap();
        // What was decided before the scheduler heard of it is bound yet.
        tokio::time::sleep(SECOND).await;
        let places = self.look().await.places;
        for (pod, _) in places.iter().filter(|(_, node)| *node == name) {
            self.cluster.delete(pod).await;
            self.pods.remove(pod);
        }
        self.nodes.remove(name);
    }

    async fn pod_comes(&mut self) {
        self.made += 1;
        let name = format!("pod-{}", self.made);
        let app = *APPS.choose(&mut self.rng).unwrap();
        let rule = match self.rng.random_range(0..6) {
            0 => Rule::Zone(ZONES.choose(&mut self.rng).unwrap()),
            1 => Rule::Apart,
            2 => Rule::Near(APPS.choose(&mut self.rng).unwrap()),
            3 => Rule::Even,
            _ => Rule::None,
        };
        let milli_cpu = 250 * self.rng.random_range(1..=4);
        let mut spec = rule.spec(app);
        spec["priority"] = (10 * self.rng.random_range(0..2)).into();
        if self.rng.random_bool(0.1) {
            spec["schedulingGates"] = json!([{ "name": "later" }]);
            self.gated.insert(name.clone());
        }
        let request = format!("{milli_cpu}m");
        self.cluster.pod_of(&name, app, &request, spec).await;
        self.pods.insert(
            name,
            Known {
                milli_cpu,
                app,
                rule,
            },
        );
    }

    async fn pod_goes(&mut self) {
        let names: Vec<String> = self.pods.keys().cloned().collect();
        let Some(name) = names.choose(&mut self.rng) else {
            return;
        };
        // It may have made room for another already.
        let options = DeleteOptions::default();
        match self.cluster.pods().delete("default", name, &options).await {
            Err(error) if !error.is_not_found() => panic!("{error}"),
            _ => {}
        }
        self.pods.remove(name);
        self.gated.remove(name);
    }

    async fn gate_opens(&mut self) {
        let Some(name) = self.gated.pop_first() else {
            return;
        };
        let open = Patch::Merge(json!({ "spec": { "schedulingGates": [] } }));
        let pods = self.cluster.pods();
        pods.patch("default", &name, &open, None).await.unwrap();
    }

    fn write_fails(&mut self) {
        let server = &self.cluster.server;
        match self.rng.random_range(0..4) {
            0 => server.refuse(&Method::POST, "/binding", 500),
            1 => server.lose(&Method::POST, "/binding"),
            2 => server.lose_answer(&Method::POST, "/binding"),
            _ => server.refuse(&Method::PATCH, "/status", 500),
        }
    }

    async fn replace_scheduler(&mut self) {
        self.cluster.shutdown.cancel();
        // What is under way may come to its end, or may not.
        match self.rng.random_bool(0.5) {
            true => (&mut self.cluster.scheduler).await.unwrap(),
            false => self.cluster.scheduler.abort(),
        }
        self.cluster.shutdown = CancellationToken::new();
        let run = scheduler::run(
            self.cluster.server.client("kube-scheduler"),
            self.cluster.shutdown.clone(),
        );
        self.cluster.scheduler = tokio::spawn(run);
    }

    /// The cluster as it is; those that made room for others are forgotten.
    async fn look(&mut self) -> State<'_> {
        let list = self
            .cluster
            .pods()
            .list(&ListOptions::default())
            .await
            .unwrap();
        let mut places = BTreeMap::new();
        let mut there = BTreeSet::new();
        for pod in list.items {
            let name = pod.metadata.name.unwrap_or_default();
            let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
            there.insert(name.clone());
            if !node.is_empty() {
                assert!(
                    !self.gated.contains(&name),
                    "{name} has a gate, and is on {node}"
                );
                places.insert(name, node);
            }
        }
        self.pods.retain(|name, _| there.contains(name));
        self.gated.retain(|name| there.contains(name));
        State {
            nodes: &self.nodes,
            pods: &self.pods,
            places,
        }
    }

    /// What holds at any time.
    async fn check(&mut self) {
        let state = self.look().await;
        for (node, machine) in state.nodes {
            let used = state.used(node);
            assert!(
                used <= machine.milli_cpu,
                "{node} has {}m, of which {used}m are given",
                machine.milli_cpu
            );
            for pod in state.on(node).filter(|pod| pod.rule == Rule::Apart) {
                let alike = state.on(node).filter(|other| other.app == pod.app);
                assert_eq!(alike.count(), 1, "{node} has pods that are to be apart");
            }
        }
    }

    /// What holds when nothing has happened for a while.
    async fn check_quiet(&mut self) {
        let gated = self.gated.clone();
        let state = self.look().await;
        let waiting = state
            .pods
            .iter()
            .filter(|(name, _)| !state.places.contains_key(*name) && !gated.contains(*name));
        let mut wrong = Vec::new();
        for (name, pod) in waiting {
            let mut nodes = state.nodes.keys();
            if let Some(node) = nodes.find(|node| state.fits(pod, node)) {
                wrong.push(format!("{name} ({pod:?}) waits, and fits on {node}"));
            }
        }
        let places = state.places.clone();
        for wrong in &wrong {
            let name = wrong.split(' ').next().unwrap_or_default();
            println!("{:?}", self.cluster.condition(name).await);
        }
        assert!(wrong.is_empty(), "{wrong:#?}\n{places:#?}");
    }
}

async fn live(seed: u64) {
    let mut churn = Churn {
        cluster: Cluster::start(),
        rng: SmallRng::seed_from_u64(seed),
        nodes: BTreeMap::new(),
        pods: BTreeMap::new(),
        gated: BTreeSet::new(),
        made: 0,
    };
    for step in 0..STEPS {
        println!("cluster {seed}, step {step}");
        churn.step().await;
        churn.check().await;
        if churn.rng.random_bool(0.3) {
            tokio::time::sleep(QUIET).await;
            churn.check().await;
            churn.check_quiet().await;
        }
    }
    churn.cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_no_rule_is_broken_and_nobody_waits_in_vain() {
    for seed in 0..CLUSTERS {
        live(seed).await;
    }
}
