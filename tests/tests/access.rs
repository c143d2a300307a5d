//! Who may talk to a cluster, and do what: users with certificates, service accounts with tokens, roles.

use std::time::Duration;

use carob_tests::{Case, Cluster, Outcome, check, until};
use serde_json::Value;

const CASES: &[Case] = &[
    ("users_come_and_go", users),
    ("tokens_are_asked_for", tokens),
    ("pods_have_a_token_of_their_own", pods),
];

/// Where a pod finds what it needs to speak to the API.
const FILES: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn main() {
    carob_tests::run_with_kubectl(CASES);
}

/// The flags by which kubectl is nobody but the token's bearer.
fn bearer(cluster: &Cluster, token: &str) -> Result<String, libtest_mimic::Failed> {
    let server =
        cluster.kubectl("config view --minify -o jsonpath={.clusters[0].cluster.server}")?;
    Ok(format!(
        "--kubeconfig /dev/null --server {server} --insecure-skip-tls-verify --token {token}"
    ))
}

fn users(cluster: &Cluster) -> Outcome {
    let file = cluster.scratch("jane.kubeconfig");
    let jane = format!("--kubeconfig {}", file.display());
    cluster.carob(&format!(
        "user add jane --group dev --output {}",
        file.display()
    ))?;
    let whoami = cluster.kubectl(&format!("{jane} auth whoami"))?;
    check(whoami.contains("jane") && whoami.contains("dev"), whoami)?;
    let refused = cluster.kubectl_fails(&format!("{jane} get pods"))?;
    check(
        refused.contains("User \"jane\" cannot list resource \"pods\""),
        refused,
    )?;

    cluster.kubectl("create rolebinding devs --clusterrole view --group dev")?;
    cluster.kubectl(&format!("{jane} get pods"))?;
    let allowed = cluster.kubectl(&format!("{jane} auth can-i list pods"))?;
    check(allowed.trim() == "yes", allowed)?;
    for hidden in [
        "get secrets",
        "get pods -A",
        "delete configmap kube-root-ca.crt",
    ] {
        let refused = cluster.kubectl_fails(&format!("{jane} {hidden}"))?;
        check(refused.contains("Forbidden"), refused)?;
    }

    // Modules are pushed by those whose roles say so.
    let module = carob_tests::root().join("examples/demo/reader.wasm");
    let push = || {
        let mut push = cluster.carob_command(&["push"]);
        push.arg(&module).arg("jane/reader").arg("--kubeconfig");
        push.arg(&file);
        push
    };
    let refused = carob_tests::fail(&mut push())?;
    check(refused.contains("403"), refused)?;
    cluster.kubectl(
        "create clusterrolebinding pushers --clusterrole carob:image-pusher --group dev",
    )?;
    carob_tests::succeed(&mut push())?;
    let catalog = cluster.kubectl(&format!("{jane} get --raw /v2/_catalog"))?;
    check(catalog.contains("jane/reader"), catalog)?;

    cluster.carob("user revoke jane")?;
    // Another server learns of it a moment later.
    until("jane is refused", Duration::from_secs(5), || {
        let whoami = cluster.kubectl_fails(&format!("{jane} auth whoami"));
        Ok(whoami.is_ok_and(|refused| refused.contains("Unauthorized")))
    })?;
    let listed = cluster.carob("user ls -o name")?;
    check(!listed.contains("jane"), listed)
}

fn tokens(cluster: &Cluster) -> Outcome {
    cluster.kubectl("create serviceaccount builder")?;
    let token = cluster.kubectl("create token builder --duration 20m")?;
    let builder = bearer(cluster, &token)?;
    let whoami = cluster.kubectl(&format!("{builder} auth whoami"))?;
    check(
        whoami.contains("system:serviceaccount:default:builder"),
        whoami,
    )?;
    let refused = cluster.kubectl_fails(&format!("{builder} get deployments"))?;
    check(refused.contains("Forbidden"), refused)?;
    cluster.kubectl(
        "create rolebinding builder --clusterrole admin --serviceaccount default:builder",
    )?;
    cluster.kubectl(&format!(
        "{builder} create configmap built --from-literal=by=token"
    ))?;
    // What it may is all that it can hand on.
    let escalated = cluster.kubectl_fails(&format!(
        "{builder} create rolebinding more --clusterrole cluster-admin --serviceaccount default:builder"
    ))?;
    check(
        escalated.contains("is attempting to grant RBAC permissions not currently held"),
        escalated,
    )?;
    cluster.kubectl("delete serviceaccount builder")?;
    let gone = cluster.kubectl_fails(&format!("{builder} get configmaps"))?;
    check(gone.contains("Unauthorized"), gone)
}

fn pods(cluster: &Cluster) -> Outcome {
    let reader = carob_tests::root().join("examples/demo/reader.wasm");
    carob_tests::succeed(cluster.carob_command(&["push"]).arg(reader).arg("reader"))?;
    let container = |file: &str| {
        format!(
            "{{name: {}, image: reader, args: ['{FILES}/{file}']}}",
            file.replace('.', "-")
        )
    };
    let containers = ["token", "ca.crt", "namespace"].map(container).join(", ");
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: speaker}}, spec: {{restartPolicy: Never, containers: [{containers}]}}}}"
    ))?;
    let pod = cluster.wait_for("pods/speaker", "/status/phase", "Succeeded")?;
    let log = |container: &str| cluster.carob(&format!("logs speaker -c {container}"));
    check(log("namespace")?.trim() == "default", "namespace")?;
    let root = cluster.get("configmaps/kube-root-ca.crt")?;
    let ca = root["data"]["ca.crt"].as_str().unwrap_or_default();
    check(
        !ca.is_empty() && log("ca-crt")?.trim() == ca.trim(),
        "ca.crt",
    )?;

    let token = log("token")?;
    let review = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token.trim()},
    });
    let seen = cluster.kubectl_with("create -o json -f -", &review.to_string())?;
    let seen: Value = serde_json::from_str(&seen)?;
    let extra = &seen["status"]["user"]["extra"];
    let bound = |key: &str| &extra[format!("authentication.kubernetes.io/{key}")][0];
    check(
        seen["status"]["user"]["username"] == "system:serviceaccount:default:default"
            && *bound("pod-uid") == pod["metadata"]["uid"]
            && *bound("node-name") == pod["spec"]["nodeName"],
        &seen,
    )?;
    let speaker = bearer(cluster, token.trim())?;
    cluster.kubectl(&format!("{speaker} auth whoami"))?;
    cluster.kubectl("delete pod speaker --now")?;
    let gone = cluster.kubectl_fails(&format!("{speaker} auth whoami"))?;
    check(gone.contains("Unauthorized"), gone)
}
