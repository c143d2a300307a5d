//! `up`, `down`, `status`, and machines that join by hand.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use carob_tests::{
    Case, Cluster, Outcome, carob, check, fail, free_port, processes_of, succeed, until,
};

const CASES: &[Case] = &[
    ("up_is_idempotent", idempotent),
    ("status_is_a_contract", status),
    (
        "a_taken_port_is_refused_and_nothing_stays_behind",
        taken_port,
    ),
    (
        "a_directory_that_may_not_be_written_is_refused",
        closed_directory,
    ),
    ("two_clusters_run_side_by_side_and_never_mix", side_by_side),
    ("a_server_and_a_node_join_by_hand", join),
    ("an_emptied_server_catches_up", emptied),
    ("any_server_answers_reads_and_writes", any_server),
    ("strangers_are_refused", strangers),
    ("a_pod_can_be_followed_through_the_logs", follow_a_pod),
    ("down_leaves_nothing", down),
    ("a_directory_has_one_path_and_a_context_one_cluster", paths),
];

fn main() {
    carob_tests::run(CASES);
}

fn pids(cluster: &Cluster) -> Result<Vec<serde_json::Value>, libtest_mimic::Failed> {
    let status = cluster.status()?;
    let all = ["servers", "nodes"]
        .map(|part| status[part].as_array().cloned().unwrap_or_default())
        .concat();
    Ok(all.into_iter().map(|p| p["pid"].clone()).collect())
}

fn idempotent(cluster: &Cluster) -> Outcome {
    let before = pids(cluster)?;
    cluster.up_again()?;
    check(pids(cluster)? == before, "processes were replaced")?;
    check(
        cluster.processes().len() == 6,
        format!("{:?}", cluster.processes()),
    )?;
    for line in cluster.processes() {
        check(
            line.contains(&format!("--data-dir {}", cluster.path().display())),
            line,
        )?;
    }
    Ok(())
}

fn status(cluster: &Cluster) -> Outcome {
    let status = cluster.status()?;
    let servers = status["servers"].as_array().cloned().unwrap_or_default();
    let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
    check(servers.len() == 3 && nodes.len() == 3, &status)?;
    check(
        servers.iter().filter(|s| s["leader"] == true).count() == 1,
        &status,
    )?;
    for (index, (server, node)) in servers.iter().zip(&nodes).enumerate() {
        check(
            server["name"] == format!("t-{}", index + 1)
                && server["address"] == format!("127.0.0.{}", index + 1),
            server,
        )?;
        check(
            node["address"] == server["address"] && node["ready"] == true && node["pid"].is_i64(),
            node,
        )?;
    }
    Ok(())
}

fn taken_port(cluster: &Cluster) -> Outcome {
    let holder = TcpListener::bind(("127.0.0.1", 0))?;
    let port = holder.local_addr()?.port();
    let dir = cluster.scratch("taken");
    let mut up = Command::new(carob());
    up.args([
        "up",
        "--name",
        "taken",
        "--nodes",
        "1",
        "--api-port",
        &port.to_string(),
        "--data-dir",
    ])
    .arg(&dir);
    up.arg("--kubeconfig")
        .arg(cluster.scratch("taken.kubeconfig"));
    let said = fail(&mut up)?;
    check(
        said.contains(&port.to_string()) && said.contains("--api-port"),
        said,
    )?;
    check(processes_of(&dir).is_empty(), "a process stayed behind")
}

fn closed_directory(cluster: &Cluster) -> Outcome {
    // Root may write anywhere but where there is no directory to be made.
    let file = cluster.scratch("file");
    std::fs::write(&file, "")?;
    let said = fail(
        Command::new(carob())
            .args(["up", "--data-dir"])
            .arg(file.join("below")),
    )?;
    check(
        said.contains("file/below") && said.contains("--data-dir"),
        said,
    )
}

fn side_by_side(cluster: &Cluster) -> Outcome {
    let door = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let mut other = Cluster::up_with(1, &["--ingress-http", &door.to_string()])?;
    other.apply(
        "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: all},
          spec: {defaultBackend: {service: {name: none, port: {number: 80}}}}}",
    )?;
    until(
        "Ingresses have the port asked for",
        Duration::from_secs(10),
        || Ok(other.status()?["nodes"][0]["ingress"]["http"] == door),
    )?;
    cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: here}}")?;
    let said = other.carob_fails("get configmap here")?;
    check(said.contains("not found"), said)?;
    // The other cluster's port, while it lives, is taken.
    let port = std::mem::replace(&mut other.port, cluster.port);
    let said = other
        .up_again()
        .err()
        .and_then(|e| e.message().map(str::to_owned))
        .unwrap_or_default();
    other.port = port;
    check(said.contains("--api-port"), format!("it mixed in: {said}"))
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn join(cluster: &Cluster) -> Outcome {
    let url = format!("https://127.0.0.1:{}", cluster.port);
    let token = |role: &str| -> Result<String, libtest_mimic::Failed> {
        Ok(cluster
            .carob(&format!("token create --role {role} --ttl 5m"))?
            .trim()
            .to_owned())
    };
    let start = |args: &[&str]| -> Result<Running, libtest_mimic::Failed> {
        Ok(Running(
            Command::new(carob())
                .args(args)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()?,
        ))
    };
    let worker_dir = cluster.path().join("worker");
    let agent_token = token("agent")?;
    let worker = start(&[
        "agent",
        "--data-dir",
        &worker_dir.to_string_lossy(),
        "--server",
        &url,
        "--token",
        &agent_token,
        "--advertise",
        "127.0.0.21",
        "--node-name",
        "worker",
        "--node-label",
        "disk=fast",
    ])?;
    let ready = |node: &str| {
        until(&format!("{node} is ready"), Duration::from_secs(30), || {
            let Ok(node) = cluster.get(&format!("nodes/{node}")) else {
                return Ok(false);
            };
            let conditions = node["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            Ok(conditions
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True"))
        })
    };
    ready("worker")?;
    check(
        cluster.get("nodes/worker")?["metadata"]["labels"]["disk"] == "fast",
        "the label is missing",
    )?;
    // An agent's token is not good for a server.
    let server_dir = cluster.path().join("fourth");
    let dir = server_dir.to_string_lossy().into_owned();
    let server = |token: &str| {
        start(&[
            "server",
            "--data-dir",
            &dir,
            "--join",
            &url,
            "--token",
            token,
            "--advertise",
            "127.0.0.22",
            "--node-name",
            "fourth",
        ])
    };
    let mut refused = server(&agent_token)?;
    check(
        !refused.0.wait()?.success(),
        "an agent's token made a server",
    )?;
    let fourth = server(&token("server")?)?;
    ready("fourth")?;
    let members = || -> Result<usize, libtest_mimic::Failed> {
        let text = cluster.get("configmaps/carob-servers -n kube-system")?;
        Ok(text["data"].as_object().map_or(0, serde_json::Map::len))
    };
    until("four servers are known", Duration::from_secs(10), || {
        Ok(members()? == 4)
    })?;
    drop(worker);
    drop(fourth);
    // The fourth server's own agent goes on without it, as it should.
    until("the worker is not ready", Duration::from_secs(15), || {
        let node = cluster.get("nodes/worker")?;
        let conditions = node["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(conditions
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] != "True"))
    })?;
    Ok(())
}

fn emptied(_: &Cluster) -> Outcome {
    let cluster = Cluster::up_with(3, &["--snapshot-after", "50"])?;
    for number in 0..60 {
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c-{number}}}}}"
        ))?;
    }
    let victim = (cluster.leader()? + 1) % 3;
    cluster.kill("servers", victim)?;
    cluster.kill("nodes", victim)?;
    std::fs::remove_dir_all(cluster.path().join(format!("t-{}", victim + 1)))?;
    cluster.up_again()?;
    let api = cluster.status()?["servers"][victim]["api"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let kubeconfig = std::fs::read_to_string(cluster.kubeconfig())?;
    let direct = cluster.scratch("direct");
    std::fs::write(
        &direct,
        kubeconfig.replace(&format!("https://127.0.0.1:{}", cluster.port), &api),
    )?;
    let seen = succeed(
        Command::new(carob())
            .args(["get", "configmaps", "-o", "name"])
            .arg("--kubeconfig")
            .arg(&direct),
    )?;
    check(
        seen.lines().filter(|l| l.contains("/c-")).count() == 60,
        seen,
    )
}

fn any_server(cluster: &Cluster) -> Outcome {
    let status = cluster.status()?;
    let kubeconfig = std::fs::read_to_string(cluster.kubeconfig())?;
    for (index, server) in status["servers"]
        .as_array()
        .cloned()
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let api = server["api"].as_str().unwrap_or_default();
        let direct = cluster.scratch(&format!("direct-{index}"));
        std::fs::write(
            &direct,
            kubeconfig.replace(&format!("https://127.0.0.1:{}", cluster.port), api),
        )?;
        let manifest = cluster.scratch("manifest.yaml");
        std::fs::write(
            &manifest,
            format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: by-{index}}}}}"),
        )?;
        succeed(
            Command::new(carob())
                .args(["apply", "-f"])
                .arg(&manifest)
                .arg("--kubeconfig")
                .arg(&direct),
        )?;
        // What one has acknowledged every other shows at once.
        cluster.get(&format!("configmaps/by-{index}"))?;
    }
    Ok(())
}

fn strangers(cluster: &Cluster) -> Outcome {
    let pki = cluster.path().join("t-1/agent/pki");
    let kubeconfig = |user: serde_json::Value| {
        let server = format!("https://127.0.0.1:{}", cluster.port);
        serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "n",
            "clusters": [{"name": "n", "cluster": {"server": server, "certificate-authority": pki.join("ca.crt")}}],
            "users": [{"name": "n", "user": user}],
            "contexts": [{"name": "n", "context": {"cluster": "n", "user": "n"}}],
        })
        .to_string()
    };
    let anonymous = cluster.scratch("anonymous");
    std::fs::write(&anonymous, kubeconfig(serde_json::json!({})))?;
    let said = fail(
        Command::new(carob())
            .args(["get", "secrets"])
            .arg("--kubeconfig")
            .arg(&anonymous),
    )?;
    check(
        said.contains("forbidden") || said.contains("Unauthorized"),
        &said,
    )?;
    // A node sees whom its pods may talk to, and nobody's secrets.
    let as_node = cluster.scratch("node");
    let user = serde_json::json!({"client-certificate": pki.join("node.crt"), "client-key": pki.join("node.key")});
    std::fs::write(&as_node, kubeconfig(user))?;
    let by_node = |args: &[&str]| {
        let mut command = Command::new(carob());
        command.args(args).arg("--kubeconfig").arg(&as_node);
        command
    };
    succeed(&mut by_node(&["get", "nodes/t-1"]))?;
    for args in [
        &["get", "secrets"][..],
        &["get", "configmaps", "-A"],
        &["delete", "nodes/t-2"],
        &["delete", "namespaces/default"],
    ] {
        let said = fail(&mut by_node(args))?;
        check(said.contains("forbidden"), format!("{args:?}: {said}"))?;
    }
    Ok(())
}

fn follow_a_pod(cluster: &Cluster) -> Outcome {
    let greeter = carob_tests::root().join("examples/demo/greeter.wasm");
    succeed(
        cluster
            .carob_command(&["push"])
            .arg(greeter)
            .arg("followed"),
    )?;
    cluster.apply("{apiVersion: v1, kind: Pod, metadata: {name: followed}, spec: {restartPolicy: Never, nodeSelector: {kubernetes.io/hostname: t-2}, containers: [{name: c, image: followed, args: [--times, '1', you]}]}}")?;
    let pod = cluster.wait_for("pods/followed", "/status/phase", "Succeeded")?;
    let uid = pod["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let logs = |role: &str| -> Result<String, libtest_mimic::Failed> {
        Ok((0..3)
            .map(|i| cluster.log(role, i))
            .collect::<Result<Vec<_>, _>>()?
            .concat())
    };
    let with_uid = |text: &str| -> String {
        text.lines()
            .filter(|l| l.contains(&uid))
            .collect::<Vec<_>>()
            .join("\n")
    };
    for (role, step) in [
        ("server", "method=POST"),
        ("server", "subresource=\"binding\""),
        ("server", "subresource=\"status\""),
        ("agent", "start"),
    ] {
        // Lines are written in groups, a moment after what they tell of.
        let what = format!("{step} of the pod is in the {role}s' logs");
        until(&what, Duration::from_secs(10), || {
            Ok(with_uid(&logs(role)?).contains(step))
        })?;
    }
    Ok(())
}

fn down(_: &Cluster) -> Outcome {
    let cluster = Cluster::up(2)?;
    let dir = cluster.path();
    // An orphan: its server is gone.
    cluster.kill("servers", 1)?;
    let down = || {
        let mut command = Command::new(carob());
        command.args(["down", "--name", "t", "--data-dir"]);
        succeed(command.arg(&dir))
    };
    down()?;
    check(
        processes_of(&dir).is_empty(),
        format!("{:?}", processes_of(&dir)),
    )?;
    check(
        dir.join("cluster.json").exists(),
        "the data went without --purge",
    )?;
    let told = cluster.status_command().output()?;
    check(told.status.code() == Some(1), format!("{told:?}"))?;
    let status: serde_json::Value = serde_json::from_slice(&told.stdout)?;
    check(
        status["servers"][0]["pid"].is_null() && status["servers"][0]["leader"] == false,
        &status,
    )?;
    cluster.up_again()?;
    down()?;
    // Nobody was killed for being slow, though the servers end together and none is left to lead.
    for place in ["t-1/server", "t-2/server", "t-1/agent", "t-2/agent"] {
        let lock = std::fs::read_to_string(dir.join(place).join("lock"))?;
        check(lock.trim() == "told to end", format!("{place}: {lock}"))?;
    }
    free_port().map(drop)
}

/// Commands find a cluster by whatever path leads to its directory; other people's contexts stay.
fn paths(cluster: &Cluster) -> Outcome {
    let root = cluster.scratch("paths");
    std::fs::create_dir_all(root.join("below"))?;
    let kubeconfig = root.join("config");
    std::fs::copy(cluster.kubeconfig(), &kubeconfig)?;
    let port = free_port()?.to_string();
    let carob = |words: &[&str], dir: &str| {
        let mut command = Command::new(carob());
        command.current_dir(root.join("below"));
        command.env("KUBECONFIG", &kubeconfig);
        command
            .args(words)
            .args(["--name", "paths", "--data-dir", dir]);
        command
    };
    succeed(&mut carob(
        &["up", "--nodes", "1", "--api-port", &port],
        "../data",
    ))?;
    let contexts = || std::fs::read_to_string(&kubeconfig);
    check(
        contexts()?.contains("name: paths") && contexts()?.contains("name: t"),
        contexts()?,
    )?;
    let data = root.join("data");
    check(
        processes_of(&data).len() == 2,
        format!("{:?}", processes_of(&data)),
    )?;
    std::os::unix::fs::symlink(&data, root.join("below/link"))?;
    succeed(&mut carob(&["down", "--purge"], "link"))?;
    check(processes_of(&data).is_empty(), "processes without files")?;
    check(!data.exists(), "the data stayed")?;
    check(
        !contexts()?.contains("name: paths") && contexts()?.contains("name: t"),
        contexts()?,
    )
}
