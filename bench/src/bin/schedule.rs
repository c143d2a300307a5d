//! How many decisions the scheduler makes a second, alone, with the shapes of Kubernetes' `scheduler_perf`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use carob_bench::{Conditions, Samples, figure};
use clap::Parser;
use k8s_openapi::api::core::v1 as core;
use rand::{SeedableRng as _, rngs::SmallRng};
use scheduler::{Decision, Node, Pod, Scheduler, Snapshot};
use serde_json::{Value, json};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// As many as in `scheduler_perf`.
const ZONES: usize = 3;

#[derive(Parser)]
struct Arguments {
    /// How many nodes
    #[arg(long, default_value_t = 5_000)]
    nodes: usize,
    /// How many pods of each shape
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// How many pods are placed before, of another kind
    #[arg(long, default_value_t = 0)]
    placed: usize,
    /// The shapes: all by default
    #[arg(long)]
    shape: Vec<String>,
}

/// Pods of one kind.
struct Shape {
    name: &'static str,
    /// What a pod's spec has beside its container.
    spec: Value,
    /// What kube-scheduler reached on a machine like this one, a second, where that was measured.
    peer: Option<f64>,
    /// Not one of them fits.
    in_vain: bool,
}

impl Shape {
    fn new(name: &'static str, spec: Value) -> Self {
        Self {
            name,
            spec,
            peer: None,
            in_vain: false,
        }
    }

    fn beside(self, peer: f64) -> Self {
        let peer = Some(peer);
        Self { peer, ..self }
    }
}

fn shapes() -> Vec<Shape> {
    let term = |key: &str| json!({ "topologyKey": key, "labelSelector": { "matchLabels": { "app": "measured" } } });
    let required = |key| json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term(key)] });
    let preferred = |key| {
        let one = json!({ "weight": 1, "podAffinityTerm": term(key) });
        json!({ "preferredDuringSchedulingIgnoredDuringExecution": [one] })
    };
    let in_zones = json!({ "matchExpressions": [{ "key": ZONE, "operator": "In", "values": ["zone-1", "zone-2"] }] });
    let spread = |what: &str, skew: u32| {
        json!({ "topologySpreadConstraints": [{ "maxSkew": skew, "topologyKey": ZONE, "whenUnsatisfiable": what,
            "labelSelector": { "matchLabels": { "app": "measured" } } }] })
    };
    vec![
        Shape::new("basic", json!({})).beside(228.0),
        Shape::new(
            "node-affinity",
            json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution":
                { "nodeSelectorTerms": [in_zones] } } } }),
        ),
        Shape::new(
            "preferred-node-affinity",
            json!({ "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution":
                [{ "weight": 1, "preference": in_zones }] } } }),
        ),
        Shape::new(
            "pod-affinity",
            json!({ "affinity": { "podAffinity": required(ZONE) } }),
        ),
        Shape::new(
            "pod-anti-affinity",
            json!({ "affinity": { "podAntiAffinity": required(HOSTNAME) } }),
        )
        .beside(86.0),
        Shape::new(
            "preferred-pod-affinity",
            json!({ "affinity": { "podAffinity": preferred(HOSTNAME) } }),
        ),
        Shape::new(
            "preferred-pod-anti-affinity",
            json!({ "affinity": { "podAntiAffinity": preferred(HOSTNAME) } }),
        ),
        Shape::new("topology-spreading", spread("DoNotSchedule", 5)).beside(101.0),
        Shape::new("preferred-topology-spreading", spread("ScheduleAnyway", 5)),
        Shape {
            in_vain: true,
            ..Shape::new("unschedulable", json!({ "nodeSelector": { "no": "such" } }))
        },
        Shape {
            in_vain: true,
            ..Shape::new("gated", json!({ "schedulingGates": [{ "name": "gate" }] }))
        },
    ]
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    carob_bench::main(async move { measure(&arguments) })
}

fn measure(arguments: &Arguments) -> Result<()> {
    Conditions {
        nodes: 0,
        runs: arguments.pods,
        more: format!(
            "{} simulated nodes in {ZONES} zones, {} pods placed before; one core, no API",
            arguments.nodes, arguments.placed
        ),
    }
    .print();
    let wanted = |shape: &Shape| {
        arguments.shape.is_empty() || arguments.shape.iter().any(|name| name == shape.name)
    };
    for shape in shapes().into_iter().filter(wanted) {
        run(&shape, arguments)?;
    }
    Ok(())
}

fn run(shape: &Shape, arguments: &Arguments) -> Result<()> {
    let mut snapshot = Snapshot::default();
    for number in 0..arguments.nodes {
        snapshot.set_node(node(number)?);
    }
    for number in 0..arguments.placed {
        let pod = pod(&format!("placed-{number}"), "placed", &json!({}))?;
        snapshot.place(pod, &name(number % arguments.nodes));
    }
    // One a node is all that anti-affinity to its own kind allows.
    let count = match shape.name {
        "pod-anti-affinity" => arguments.pods.min(arguments.nodes),
        _ => arguments.pods,
    };
    let pods = (0..count).map(|number| pod(&format!("pod-{number}"), "measured", &shape.spec));
    let pods: Vec<_> = pods.collect::<Result<_>>()?;
    let (mut scheduler, mut rng) = (Scheduler::default(), SmallRng::seed_from_u64(1));
    let mut each = Samples::default();
    let mut bound = 0;
    let began = Instant::now();
    for pod in &pods {
        let since = Instant::now();
        let decision = scheduler.schedule(pod, &mut snapshot, &mut rng);
        if let Decision::Bind { node, .. } = decision {
            snapshot.place(Arc::clone(pod), &node);
            bound += 1;
        }
        each.push(since.elapsed());
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    let expected = if shape.in_vain { 0 } else { count };
    ensure!(
        bound == expected,
        "{}: {bound} of {count} pods were bound",
        shape.name
    );
    let ratio = shape.peer.map_or_else(String::new, |peer| {
        format!(" ({:.0} × kube-scheduler's {peer}/s)", rate / peer)
    });
    figure(
        &format!("schedule-{}", shape.name),
        format!("{rate:.0}"),
        &format!("decisions/s{ratio}"),
    );
    for (quantile, share) in [("p50", 0.5), ("p99", 0.99)] {
        let micros = each.quantile(share).as_secs_f64() * 1e6;
        figure(
            &format!("schedule-{}-{quantile}", shape.name),
            format!("{micros:.1}"),
            "µs",
        );
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("node-{number}")
}

fn node(number: usize) -> Result<Arc<Node>> {
    let zone = format!("zone-{}", number % ZONES);
    let node: core::Node = serde_json::from_value(json!({
        "metadata": { "name": name(number), "labels": { HOSTNAME: name(number), ZONE: zone } },
        "status": {
            "allocatable": { "cpu": "4", "memory": "32Gi", "pods": "110" },
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    }))?;
    Ok(Arc::new(Node::from(node)))
}

fn pod(name: &str, app: &str, more: &Value) -> Result<Arc<Pod>> {
    let requests = json!({ "requests": { "cpu": "100m", "memory": "500Mi" } });
    let mut spec = json!({ "containers": [{ "name": "c", "resources": requests }] });
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    let metadata =
        json!({ "name": name, "namespace": "default", "uid": name, "labels": { "app": app } });
    let pod: core::Pod = serde_json::from_value(json!({ "metadata": metadata, "spec": spec }))?;
    Ok(Arc::new(Pod::from(pod)))
}
