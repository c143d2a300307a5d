//! The pods' network: between nodes, through Services, by names, by nodes' ports, and as far as policies let it.

mod accepting;
mod clients;
mod moments;
mod outside;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use carob_tests::{Case, Cluster, Outcome, check, succeed, until};
use libtest_mimic::Failed;

const CASES: &[Case] = &[
    ("the_example_works", example),
    ("a_service_is_all_its_pods_from_every_node", services),
    ("names_are_what_kubernetes_calls_things", names),
    ("pods_are_reached_by_the_nodes_ports", outside::node_ports),
    ("datagrams_go_where_streams_go", datagrams),
    ("policies_hold_for_new_and_open_connections", policies),
    ("what_is_not_ready_is_not_asked", readiness),
    ("the_network_follows_at_once", moments::moments),
    ("the_host_can_ask_for_names", outside::dns),
    ("functions_answer_requests", outside::functions),
    ("a_go_program_serves_http", accepting::go),
    ("ingresses_lead_to_services", outside::ingress),
    ("hyper_serves_curl", clients::hyper),
    ("javascript_serves_curl", clients::javascript),
    ("wrk_finds_no_fault", clients::load),
    ("pods_ask_the_api", api),
    ("kubectl_leads_into_pods", outside::kubectl),
    ("carob_forwards_ports", outside::port_forward),
    ("kube_rs_leads_into_pods", clients::kube_rs),
    ("a_dead_nodes_connections_end", dead_node),
];

fn main() {
    carob_tests::run(CASES);
}

/// `args` as a container of a pod's or template's `spec`, which knows its pod and node.
fn talker(args: &str, more: &str) -> String {
    format!(
        "{{name: c, image: talker, args: [{args}], env: [{{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}},
          {{name: NODE_NAME, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}]{more}}}"
    )
}

/// A pod on a node.
fn pod(name: &str, labels: &str, node: &str, spec: &str, container: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{{labels}}}}},
          spec: {{nodeName: {node}, containers: [{container}]{spec}}}}}"
    )
}

/// What a program says that a pod on this node runs to its end, and whether it succeeded.
fn says(cluster: &Cluster, name: &str, node: &str, args: &str) -> Result<(String, bool), Failed> {
    let run = pod(
        name,
        "role: client",
        node,
        ", restartPolicy: Never",
        &talker(args, ""),
    );
    cluster.apply(&run)?;
    let pod = format!("pods/{name}");
    let mut phase = String::new();
    until("the client ends", Duration::from_secs(30), || {
        phase = cluster.get(&pod)?["status"]["phase"].to_string();
        Ok(phase.contains("Succeeded") || phase.contains("Failed"))
    })?;
    let said = cluster.carob(&format!("logs {name}"))?;
    cluster.carob(&format!("delete {pod}"))?;
    Ok((said, phase.contains("Succeeded")))
}

fn nodes(cluster: &Cluster) -> Result<Vec<(String, String)>, Failed> {
    let status = cluster.status()?;
    let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
    let text =
        |node: &serde_json::Value, field: &str| node[field].as_str().unwrap_or_default().to_owned();
    Ok(nodes
        .iter()
        .map(|node| (text(node, "name"), text(node, "address")))
        .collect())
}

/// A server on each node behind one Service, ready to be asked.
fn serving(cluster: &Cluster) -> Outcome {
    for (name, _) in nodes(cluster)? {
        let server = talker(
            "serve, '8080'",
            ", ports: [{name: http, containerPort: 8080}]",
        );
        cluster.apply(&pod(&format!("web-{name}"), "app: web", &name, "", &server))?;
    }
    cluster.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: web},
          spec: {type: NodePort, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}}",
    )?;
    until("all are endpoints", Duration::from_secs(20), || {
        Ok(ready(cluster, "web")? == 3)
    })
}

/// How many ready endpoints a Service has.
fn ready(cluster: &Cluster, service: &str) -> Result<usize, Failed> {
    let slices = cluster.get(&format!(
        "endpointslices -l kubernetes.io/service-name={service}"
    ))?;
    let slices = slices["items"].as_array().cloned().unwrap_or_default();
    let endpoints = slices
        .iter()
        .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
    Ok(endpoints
        .filter(|endpoint| endpoint["conditions"]["ready"] == true)
        .count())
}

/// Asks by HTTP from the host.
fn ask(address: &str, port: &serde_json::Value) -> Result<String, Failed> {
    let mut stream = TcpStream::connect(format!("{address}:{port}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer
        .split("\r\n\r\n")
        .nth(1)
        .unwrap_or_default()
        .to_owned())
}

fn example(cluster: &Cluster) -> Outcome {
    let module = carob_tests::root().join("examples/services/talker.wasm");
    succeed(cluster.carob_command(&["push"]).arg(module).arg("talker"))?;
    let services = carob_tests::root().join("examples/services");
    succeed(cluster.carob_command(&["deploy", "--wait"]).arg(services))?;
    cluster.wait_for("jobs/ask", "/status/succeeded", "1")?;
    let said = cluster.carob("logs job/ask")?;
    check(
        said.lines()
            .filter(|line| line.starts_with("talker-"))
            .count()
            == 6,
        &said,
    )?;
    for (_, address) in nodes(cluster)? {
        let answer = ask(&address, &30_080.into())?;
        check(answer.starts_with("talker-"), answer)?;
    }
    // Who is no friend is refused.
    let (said, done) = says(
        cluster,
        "stranger",
        &nodes(cluster)?[0].0,
        "ask, 'talker:80'",
    )?;
    check(!done && said.contains("refused"), said)?;
    cluster
        .carob("delete deployment/talker service/talker job/ask networkpolicy/friends")
        .map(drop)
}

fn services(cluster: &Cluster) -> Outcome {
    serving(cluster)?;
    for (name, _) in nodes(cluster)? {
        let (said, done) = says(cluster, "client", &name, "ask, --times, '9', 'web:80'")?;
        let servers: BTreeSet<_> = said
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        check(done && servers.len() == 3, format!("from {name}: {said}"))?;
    }
    Ok(())
}

fn names(cluster: &Cluster) -> Outcome {
    for more in [
        "{apiVersion: v1, kind: Service, metadata: {name: each}, spec: {clusterIP: None, selector: {app: web}, ports: [{port: 8080}]}}",
        "{apiVersion: v1, kind: Service, metadata: {name: other}, spec: {type: ExternalName, externalName: web.default.svc.cluster.local}}",
    ] {
        cluster.apply(more)?;
    }
    until(
        "the headless Service has endpoints",
        Duration::from_secs(10),
        || Ok(ready(cluster, "each")? == 3),
    )?;
    let web = cluster.get("services/web")?["spec"]["clusterIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let mut pods: Vec<_> = Vec::new();
    for (name, _) in nodes(cluster)? {
        let pod = cluster.get(&format!("pods/web-{name}"))?;
        pods.push(
            pod["status"]["podIP"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        );
    }
    pods.sort();
    let node = &nodes(cluster)?[1].0;
    let asked = "look, web, web.default, web.default.svc.cluster.local, other, each, kubernetes.default.svc, localhost, client, absent, web.absent";
    let (said, _) = says(cluster, "client", node, asked)?;
    let own = said
        .lines()
        .find_map(|line| line.strip_prefix("client "))
        .unwrap_or_default();
    check(own.starts_with("10.128."), &said)?;
    let due = format!(
        "web {web}\nweb.default {web}\nweb.default.svc.cluster.local {web}\nother {web}\neach {}\n\
         kubernetes.default.svc 10.96.0.1\nlocalhost 127.0.0.1 ::1\nclient {own}\nabsent unknown\nweb.absent unknown\n",
        pods.join(" ")
    );
    check(said == due, format!("{said}, where due was {due}"))
}

fn datagrams(cluster: &Cluster) -> Outcome {
    let all = nodes(cluster)?;
    let (server, client) = (&all[0], &all[2]);
    let serve = talker(
        "serve-udp, '5000'",
        ", ports: [{containerPort: 5000, protocol: UDP}]",
    );
    cluster.apply(&pod("echo", "app: echo", &server.0, "", &serve))?;
    cluster.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: echo},
          spec: {type: NodePort, selector: {app: echo}, ports: [{port: 5000, protocol: UDP}]}}",
    )?;
    until("it is an endpoint", Duration::from_secs(10), || {
        Ok(ready(cluster, "echo")? == 1)
    })?;
    let (said, done) = says(cluster, "client", &client.0, "ask-udp, 'echo:5000'")?;
    check(done && said.starts_with("echo on"), said)?;
    let port = cluster.get("services/echo")?["spec"]["ports"][0]["nodePort"].clone();
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.send_to(b"who?", format!("{}:{port}", client.1))?;
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer)?;
    check(
        answer[..length].starts_with(b"echo on"),
        String::from_utf8_lossy(&answer[..length]),
    )
}

fn policies(cluster: &Cluster) -> Outcome {
    let all = nodes(cluster)?;
    let (near, far) = (&all[0].0, &all[1].0);
    // Somebody who is connected when the rules come.
    let held = pod(
        "held",
        "role: held",
        far,
        ", restartPolicy: Never",
        &talker("hold, 'idle:80'", ""),
    );
    cluster.apply(&pod(
        "idle",
        "app: idle",
        near,
        "",
        &talker("serve, '8080'", ""),
    ))?;
    cluster.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: idle}, spec: {selector: {app: idle}, ports: [{port: 80, targetPort: 8080}]}}",
    )?;
    until("it is an endpoint", Duration::from_secs(10), || {
        Ok(ready(cluster, "idle")? == 1)
    })?;
    cluster.apply(&held)?;
    until("somebody is connected", Duration::from_secs(10), || {
        Ok(cluster
            .carob("logs held")
            .is_ok_and(|log| log.contains("connected")))
    })?;
    cluster.apply(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: idle},
          spec: {podSelector: {matchLabels: {app: idle}}, policyTypes: [Ingress]}}",
    )?;
    let ended = cluster.wait_for("pods/held", "/status/phase", "Succeeded")?;
    let said = cluster.carob("logs held")?;
    check(said.contains("broken"), format!("{said} {ended}"))?;
    for node in [near, far] {
        let (said, done) = says(cluster, "client", node, "ask, 'idle:80'")?;
        check(
            !done && said.contains("refused"),
            format!("from {node}: {said}"),
        )?;
    }
    // Who may not ask for names is told so, and what it knows by itself it still knows.
    cluster.apply(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: mute},
          spec: {podSelector: {matchLabels: {role: client}}, policyTypes: [Egress]}}",
    )?;
    let (said, _) = says(cluster, "client", near, "look, web, localhost, 10.1.2.3")?;
    check(
        said == "web unknown\nlocalhost 127.0.0.1 ::1\n10.1.2.3 10.1.2.3\n",
        said,
    )?;
    cluster
        .carob("delete networkpolicy/idle networkpolicy/mute pod/held pod/idle service/idle")
        .map(drop)
}

fn readiness(cluster: &Cluster) -> Outcome {
    let (name, _) = nodes(cluster)?[0].clone();
    cluster.carob(&format!("delete pod/web-{name}"))?;
    until("its endpoint is gone", Duration::from_secs(10), || {
        Ok(ready(cluster, "web")? == 2)
    })?;
    let (said, done) = says(cluster, "client", &name, "ask, --times, '6', 'web:80'")?;
    check(done && !said.contains(&format!("web-{name} ")), said)
}

fn api(cluster: &Cluster) -> Outcome {
    let api = carob_tests::root().join("examples/api");
    succeed(cluster.carob_command(&["deploy", "--wait"]).arg(api))?;
    until(
        "the ConfigMap lists the nodes",
        Duration::from_secs(20),
        || {
            let map = cluster.get("configmaps/census").unwrap_or_default();
            let ready = map["data"]
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, state)| *state == "ready");
            Ok(ready.count() == 3)
        },
    )
}

fn dead_node(cluster: &Cluster) -> Outcome {
    let all = nodes(cluster)?;
    let leader = cluster.leader()?;
    let victim = (0..3)
        .rev()
        .find(|index| *index != leader && *index != 0)
        .unwrap_or(2);
    let quiet = pod(
        "quiet",
        "app: quiet",
        &all[victim].0,
        "",
        &talker("serve, '8080'", ""),
    );
    cluster.apply(&quiet)?;
    let quiet = cluster.wait_for("pods/quiet", "/status/phase", "Running")?;
    let ip = quiet["status"]["podIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let holder = pod(
        "holder",
        "role: holder",
        &all[0].0,
        ", restartPolicy: Never",
        &talker(&format!("hold, '{ip}:8080'"), ""),
    );
    cluster.apply(&holder)?;
    until("it is connected", Duration::from_secs(10), || {
        Ok(cluster
            .carob("logs holder")
            .is_ok_and(|log| log.contains("connected")))
    })?;
    cluster.kill("nodes", victim)?;
    cluster.kill("servers", victim)?;
    cluster.wait_for("pods/holder", "/status/phase", "Succeeded")?;
    let said = cluster.carob("logs holder")?;
    check(said.contains("broken"), said)
}
