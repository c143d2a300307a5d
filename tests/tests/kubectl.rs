//! The real `kubectl` against a real cluster.

use std::time::Duration;

use carob_tests::{Case, Cluster, Outcome, check, until};

const CASES: &[Case] = &[
    ("get_in_all_forms", get),
    ("create_apply_edit_and_delete", writes),
    ("labels_annotations_and_selectors", labels),
    ("scale_and_wait", scale),
    ("watch_sees_what_happens", watch),
    ("errors_are_kubernetes_own", errors),
    ("discovery_and_explain", discovery),
    ("namespaces_are_emptied", namespaces),
    ("cordon_keeps_pods_away", cordon),
    ("events_and_describe", events),
    ("garbage_goes_with_its_owner", garbage),
    ("top_shows_what_is_used", top),
    ("attach_passes_input_and_output", attach),
    (
        "runs_show_what_was_printed_before_anybody_attached",
        run_attached,
    ),
];

fn main() {
    carob_tests::run_with_kubectl(CASES);
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: greeter, args: [--every, '5', you]}
";

/// A deployment of the `greeter`, running.
fn web(cluster: &Cluster) -> Outcome {
    let greeter = carob_tests::root().join("examples/demo/greeter.wasm");
    carob_tests::succeed(cluster.carob_command(&["push"]).arg(greeter).arg("greeter"))?;
    cluster.kubectl_with("apply -f -", DEPLOYMENT)?;
    cluster
        .kubectl("wait --for=condition=Available deploy/web --timeout=60s")
        .map(drop)
}

fn get(cluster: &Cluster) -> Outcome {
    web(cluster)?;
    let table = cluster.kubectl("get pods")?;
    check(
        table.starts_with("NAME ") && table.contains("READY   STATUS    RESTARTS   AGE"),
        &table,
    )?;
    check(table.matches("1/1     Running").count() == 2, &table)?;
    let wide = cluster.kubectl("get pods -o wide")?;
    check(wide.contains("NODE") && wide.contains("10.128."), &wide)?;
    let labels = cluster.kubectl("get pods --show-labels -L app")?;
    check(
        labels.contains("app=web") && labels.contains("APP"),
        &labels,
    )?;
    for form in [
        "json",
        "yaml",
        "name",
        "jsonpath={.items[0].metadata.name}",
        "custom-columns=N:.metadata.name",
    ] {
        check(
            cluster
                .kubectl(&format!("get pods -o {form}"))?
                .contains("web-"),
            form,
        )?;
    }
    check(
        cluster
            .kubectl("get all -A")?
            .contains("deployment.apps/web"),
        "get all",
    )?;
    let running = cluster.kubectl("get pods --field-selector status.phase=Running -o name")?;
    check(running.lines().count() == 2, &running)?;
    let nodes = cluster.kubectl("get nodes -o wide")?;
    check(nodes.matches(" Ready ").count() == 3, &nodes)
}

fn writes(cluster: &Cluster) -> Outcome {
    cluster.kubectl("create configmap made --from-literal=a=1")?;
    cluster.kubectl("create secret generic hidden --from-literal=a=1")?;
    let manifest = |value: &str| {
        format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: applied}}, data: {value}}}")
    };
    check(
        cluster
            .kubectl_with("apply -f -", &manifest("{a: '1', b: '1'}"))?
            .contains("created"),
        "created",
    )?;
    check(
        cluster
            .kubectl_with("apply -f -", &manifest("{a: '1', b: '1'}"))?
            .contains("unchanged"),
        "unchanged",
    )?;
    check(
        cluster
            .kubectl_with("apply -f -", &manifest("{a: '2'}"))?
            .contains("configured"),
        "configured",
    )?;
    let data = cluster.kubectl("get cm applied -o jsonpath={.data}")?;
    check(data == "{\"a\":\"2\"}", &data)?;
    cluster.kubectl_with(
        "create -f -",
        "{apiVersion: v1, kind: ConfigMap, metadata: {generateName: made-}}",
    )?;
    cluster.kubectl("patch cm applied --type=merge -p {\"data\":{\"c\":\"3\"}}")?;
    cluster
        .kubectl("patch cm applied --type=json -p [{\"op\":\"remove\",\"path\":\"/data/c\"}]")?;
    cluster.kubectl("delete cm made applied")?;
    cluster.kubectl("delete secret --all")?;
    let gone = cluster.kubectl_fails("get cm applied")?;
    check(gone.contains("(NotFound)"), gone)
}

fn labels(cluster: &Cluster) -> Outcome {
    for (name, tier) in [("l-1", "a"), ("l-2", "b"), ("l-3", "b")] {
        cluster.kubectl(&format!("create configmap {name}"))?;
        cluster.kubectl(&format!("label cm {name} tier={tier} test=labels"))?;
    }
    cluster.kubectl("annotate cm l-1 note=x")?;
    let count = |selector: &str| -> Result<usize, libtest_mimic::Failed> {
        Ok(cluster
            .kubectl(&format!("get cm -o name -l {selector}"))?
            .lines()
            .count())
    };
    for (selector, wanted) in [
        ("tier=b", 2),
        ("tier!=b,test", 1),
        ("tier==a", 1),
        ("'tier in (a,b)'", 3),
        ("'tier notin (a),test'", 2),
        ("'!tier,test'", 0),
    ] {
        let found = count(selector)?;
        check(found == wanted, format!("{selector}: {found}"))?;
    }
    cluster.kubectl("label cm l-1 tier-")?;
    check(count("tier=a")? == 0, "the label is still there")?;
    cluster.kubectl("delete cm -l test=labels")?;
    check(count("test=labels")? == 0, "deleted by selector")
}

fn scale(cluster: &Cluster) -> Outcome {
    cluster.kubectl("scale deploy/web --replicas=5")?;
    cluster.kubectl("rollout status deploy/web --timeout=60s")?;
    let spread = cluster.kubectl("get pods -l app=web -o jsonpath={.items[*].spec.nodeName}")?;
    let nodes: std::collections::BTreeSet<&str> = spread.split(' ').collect();
    check(nodes.len() == 3, format!("spread over {nodes:?}"))?;
    cluster.kubectl("scale deploy/web --replicas=1")?;
    cluster
        .kubectl("wait --for=jsonpath={.status.replicas}=1 deploy/web --timeout=30s")
        .map(drop)
}

fn watch(cluster: &Cluster) -> Outcome {
    let output = std::fs::File::create(cluster.scratch("watch"))?;
    let mut watching = std::process::Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .args(["get", "cm", "-w", "--output-watch-events", "-l", "seen"])
        .stdout(output)
        .spawn()?;
    let seen = |what: &str| {
        until(what, Duration::from_secs(10), || {
            Ok(std::fs::read_to_string(cluster.scratch("watch"))?.contains(what))
        })
    };
    let outcome = (|| {
        cluster.kubectl_with(
            "create -f -",
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: w, labels: {seen: 'yes'}}}",
        )?;
        seen("ADDED")?;
        cluster.kubectl("patch cm w --type=merge -p {\"data\":{\"a\":\"1\"}}")?;
        seen("MODIFIED")?;
        cluster.kubectl("label cm w seen-")?;
        seen("DELETED")
    })();
    watching.kill()?;
    watching.wait()?;
    cluster.kubectl("delete cm w")?;
    outcome
}

fn errors(cluster: &Cluster) -> Outcome {
    let bad = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: Bad}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: x, image: z}]}}}}";
    let said = cluster
        .kubectl_with("create -f -", bad)
        .err()
        .and_then(|e| e.message().map(str::to_owned))
        .unwrap_or_default();
    check(
        said.contains("metadata.name: Invalid value")
            && said.contains("spec.template.metadata.labels"),
        &said,
    )?;
    let unknown = "{apiVersion: v1, kind: ConfigMap, metadata: {name: u}, dat: {}}";
    let said = cluster
        .kubectl_with("apply -f -", unknown)
        .err()
        .and_then(|e| e.message().map(str::to_owned))
        .unwrap_or_default();
    check(said.contains("unknown field \"dat\""), &said)?;
    check(
        cluster
            .kubectl_fails("get gadgets")?
            .contains("the server doesn't have a resource type"),
        "gadgets",
    )?;
    check(
        cluster
            .kubectl_fails("get pods none")?
            .contains("pods \"none\" not found"),
        "none",
    )
}

fn discovery(cluster: &Cluster) -> Outcome {
    let kinds = cluster.kubectl("api-resources")?;
    for kind in [
        "deployments",
        "networkpolicies",
        "cronjobs",
        "leases",
        "endpointslices",
        "storageclasses",
    ] {
        check(kinds.contains(kind), kind)?;
    }
    check(
        cluster
            .kubectl("explain deployment.spec.replicas")?
            .contains("<integer>"),
        "explain",
    )?;
    check(
        cluster
            .kubectl("version")?
            .contains("Server Version: v1.36"),
        "version",
    )?;
    check(cluster.kubectl("get --raw /readyz")? == "ok", "readyz")?;
    check(
        cluster
            .kubectl("get --raw /metrics")?
            .contains("apiserver_request_total"),
        "metrics",
    )?;
    check(
        cluster.kubectl("config current-context")?.trim() == "t",
        "context",
    )
}

fn namespaces(cluster: &Cluster) -> Outcome {
    cluster.kubectl("create namespace short")?;
    until("born whole", Duration::from_secs(10), || {
        Ok(cluster
            .kubectl("-n short get sa default cm/kube-root-ca.crt")
            .is_ok()
            || cluster
                .kubectl("-n short get sa/default cm/kube-root-ca.crt")
                .is_ok())
    })?;
    cluster.kubectl_with("-n short apply -f -", DEPLOYMENT)?;
    cluster.kubectl("delete namespace short --timeout=60s")?;
    check(
        cluster
            .kubectl_fails("get namespace short")?
            .contains("NotFound"),
        "still there",
    )?;
    check(
        cluster
            .kubectl("get pods -A -o name --field-selector metadata.namespace=short")?
            .is_empty(),
        "pods are left",
    )
}

fn cordon(cluster: &Cluster) -> Outcome {
    for node in ["t-1", "t-2"] {
        cluster.kubectl(&format!("cordon {node}"))?;
    }
    cluster.kubectl("scale deploy/web --replicas=4")?;
    cluster.kubectl("rollout status deploy/web --timeout=60s")?;
    let young = cluster.kubectl("get pods -l app=web -o jsonpath={.items[*].spec.nodeName}")?;
    for node in ["t-1", "t-2"] {
        cluster.kubectl(&format!("uncordon {node}"))?;
    }
    check(young.matches("t-3").count() >= 3, young)?;
    let manifest = "{apiVersion: v1, kind: Pod, metadata: {name: huge}, spec: {containers: [{name: c, image: greeter, resources: {requests: {cpu: 10k}}}]}}";
    cluster.kubectl_with("apply -f -", manifest)?;
    let wanted = "0/3 nodes are available: 3 Insufficient cpu";
    let outcome = until(wanted, Duration::from_secs(10), || {
        Ok(cluster
            .kubectl("get events --field-selector involvedObject.name=huge")?
            .contains(wanted))
    });
    cluster.kubectl("delete pod huge")?;
    outcome
}

fn events(cluster: &Cluster) -> Outcome {
    let pod = cluster.kubectl("get pods -l app=web -o jsonpath={.items[0].metadata.name}")?;
    let told = cluster.kubectl(&format!("describe pod {pod}"))?;
    for reason in ["Scheduled", "Pulled", "Created", "Started"] {
        check(
            told.contains(reason),
            format!("{reason} is missing in {told}"),
        )?;
    }
    check(
        cluster
            .kubectl("events --for deployment/web")?
            .contains("ScalingReplicaSet"),
        "events of the deployment",
    )
}

fn garbage(cluster: &Cluster) -> Outcome {
    let count = |kind: &str| -> Result<usize, libtest_mimic::Failed> {
        Ok(cluster
            .kubectl(&format!("get {kind} -l app=web -o name"))?
            .lines()
            .count())
    };
    cluster.kubectl("delete deploy web --cascade=orphan")?;
    check(count("rs")? > 0, "orphaned replica sets went too")?;
    cluster.kubectl("delete rs -l app=web")?;
    until("no pods are left", Duration::from_secs(30), || {
        Ok(count("pods")? == 0)
    })
}

fn top(cluster: &Cluster) -> Outcome {
    web(cluster)?;
    // An agent has a second to answer; what none answers is left out, and on a busy machine that happens.
    let shows = |command: &str, holds: &dyn Fn(&str) -> bool| {
        let shown = || Ok(cluster.kubectl(command).is_ok_and(|shown| holds(&shown)));
        until(command, Duration::from_secs(20), shown)
    };
    shows("top pod", &|pods| {
        let mut lines = pods.lines();
        let header = lines.next().unwrap_or_default();
        let pods: Vec<&str> = lines.collect();
        header.contains("CPU(cores)   MEMORY(bytes)")
            && pods.len() == 2
            && pods.iter().all(|l| l.starts_with("web-"))
    })?;
    shows("top pod --containers -l app=web", &|containers| {
        containers.matches(" main ").count() == 2
    })?;
    shows("top pod -l app=web --sum", &|sum| sum.lines().count() > 3)?;
    shows("top pod -A", &|all| {
        all.starts_with("NAMESPACE") && all.contains(" web-")
    })?;
    shows("top node", &|nodes| {
        nodes.lines().count() == 4 && nodes.contains('%') && !nodes.contains("<unknown>")
    })?;
    shows("get pods.metrics.k8s.io -l app=web", &|table| {
        table.contains("CPU") && table.contains("WINDOW") && table.contains("web-")
    })?;
    let node = cluster.kubectl("get pods -l app=web -o jsonpath={.items[0].spec.nodeName}")?;
    for (page, metric) in [
        (
            "metrics/resource",
            "container_memory_working_set_bytes{container=\"main\"",
        ),
        ("metrics", "kube_pod_container_status_restarts_total{"),
    ] {
        let page = cluster.kubectl(&format!("get --raw /api/v1/nodes/{node}/proxy/{page}"))?;
        check(page.contains(metric), &page)?;
    }
    Ok(())
}

fn attach(cluster: &Cluster) -> Outcome {
    let cat = carob_tests::guest(cluster, "cat", carob_tests::CAT)?;
    carob_tests::succeed(cluster.carob_command(&["push"]).arg(cat).arg("cat"))?;
    cluster.apply("{apiVersion: v1, kind: Pod, metadata: {name: cat}, spec: {restartPolicy: Never, containers: [{name: c, image: cat, stdin: true, stdinOnce: true}]}}")?;
    cluster.wait_for("pods/cat", "/status/phase", "Running")?;
    let echoed = cluster.kubectl_with("attach -i cat", "typed\n")?;
    check(echoed.contains("typed"), echoed)?;
    cluster
        .wait_for("pods/cat", "/status/phase", "Succeeded")
        .map(drop)
}

/// Prints "hello" and ends.
const HELLO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "hello\n")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 16))
        (i32.store (i32.const 4) (i32.const 6))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

fn run_attached(cluster: &Cluster) -> Outcome {
    let cat = carob_tests::guest(cluster, "cat", carob_tests::CAT)?;
    carob_tests::succeed(cluster.carob_command(&["push"]).arg(cat).arg("cat"))?;
    // It runs until its input has ended: what is attached to is alive.
    let run = "run NAME --image=cat --restart=Never --rm -q -i";
    let echoed = cluster.kubectl_with(&run.replace("NAME", "alive"), "typed\n")?;
    check(echoed.contains("typed"), echoed)?;
    // It has ended before anybody can attach to it.
    let hello = carob_tests::guest(cluster, "hello", HELLO)?;
    carob_tests::succeed(cluster.carob_command(&["push"]).arg(hello).arg("hello"))?;
    for n in 0..3 {
        let run = format!("run short-{n} --image=hello --restart=Never --rm -i");
        let printed = cluster.kubectl_with(&run, "")?;
        check(printed.contains("hello"), format!("{n}: {printed}"))?;
    }
    // At a container's terminal, what is typed is shown, and then what comes of it.
    let run = "run typed --image=cat --restart=Never --rm -q -i -t";
    let shown = cluster.kubectl_with(run, "typed\n")?;
    check(shown.matches("typed\r\n").count() == 2, shown)?;
    // Nothing is attached to what does not run any more.
    cluster.kubectl("run ended --image=hello --restart=Never")?;
    cluster.wait_for("pods/ended", "/status/phase", "Succeeded")?;
    let refused = cluster.kubectl_fails("attach ended")?;
    check(refused.contains("completed pod"), refused)?;
    cluster.kubectl("delete pod ended").map(drop)
}
