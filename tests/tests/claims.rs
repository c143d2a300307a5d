//! Claims of storage: volumes on the nodes' own disks, and those that several nodes share.

use std::path::PathBuf;
use std::time::Duration;

use carob_tests::{Case, Cluster, Outcome, check, until};
use libtest_mimic::Failed;
use serde_json::Value;

const CASES: &[Case] = &[
    ("data_outlives_its_pod_and_goes_with_its_claim", dynamic),
    ("an_ephemeral_volume_goes_with_its_pod", ephemeral),
    ("a_pod_that_moves_finds_what_is_shared", shared),
    ("a_claim_may_be_one_pod_s_alone", alone),
];

fn main() {
    carob_tests::run(CASES);
}

const LIMIT: Duration = Duration::from_secs(30);

fn guests(cluster: &Cluster) -> Outcome {
    for name in ["reader", "writer"] {
        let file = carob_tests::root().join(format!("examples/demo/{name}.wasm"));
        carob_tests::succeed(cluster.carob_command(&["push"]).arg(file).arg(name))?;
    }
    Ok(())
}

fn claim(cluster: &Cluster, name: &str, more: &str) -> Outcome {
    let spec = format!("{{resources: {{requests: {{storage: 1Gi}}}}, {more}}}");
    cluster
        .apply(&format!(
            "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: {name}}}, spec: {spec}}}"
        ))
        .map(drop)
}

/// A pod whose only container mounts a volume at `/data`.
fn pod(
    cluster: &Cluster,
    name: &str,
    image: &str,
    args: &str,
    volume: &str,
    more: &str,
) -> Outcome {
    let container = format!(
        "{{name: c, image: {image}, args: {args}, volumeMounts: [{{name: v, mountPath: /data}}]}}"
    );
    cluster
        .apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: Never, terminationGracePeriodSeconds: 1, \
             containers: [{container}], volumes: [{{name: v, {volume}}}]{more}}}}}"
        ))
        .map(drop)
}

fn of_claim(name: &str) -> String {
    format!("persistentVolumeClaim: {{claimName: {name}}}")
}

fn ends(cluster: &Cluster, name: &str) -> Result<Value, Failed> {
    cluster.wait_for(&format!("pods/{name}"), "/status/phase", "Succeeded")
}

fn delete(cluster: &Cluster, what: &str) -> Outcome {
    cluster.carob(&format!("delete {what}")).map(drop)
}

fn gone(cluster: &Cluster, what: &str) -> Outcome {
    until(&format!("{what} is gone"), LIMIT, || {
        Ok(cluster.get(what).is_err())
    })
}

fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    let found = value.pointer(path).and_then(Value::as_str);
    found.unwrap_or_default()
}

/// The volume that a claim is bound to, and where it lies.
fn volume_of(cluster: &Cluster, claim: &str) -> Result<(String, PathBuf), Failed> {
    let what = format!("persistentvolumeclaims/{claim}");
    let bound = cluster.wait_for(&what, "/status/phase", "Bound")?;
    let name = text(&bound, "/spec/volumeName").to_owned();
    let volume = cluster.get(&format!("persistentvolumes/{name}"))?;
    let node = text(&volume, "/metadata/labels/carob.dev~1node");
    let dir = cluster.path().join(node).join("agent/volumes").join(&name);
    Ok((name, dir))
}

fn dynamic(cluster: &Cluster) -> Outcome {
    guests(cluster)?;
    claim(cluster, "data", "accessModes: [ReadWriteOnce]")?;
    let made = cluster.get("persistentvolumeclaims/data")?;
    check(text(&made, "/spec/storageClassName") == "local-path", &made)?;
    until("it waits for a pod", LIMIT, || {
        let events = cluster.get("events")?.to_string();
        Ok(events.contains("waiting for first consumer to be created before binding"))
    })?;
    let made = cluster.get("persistentvolumeclaims/data")?;
    check(text(&made, "/status/phase") == "Pending", &made)?;
    pod(
        cluster,
        "writes",
        "writer",
        "[/data, '1']",
        &of_claim("data"),
        "",
    )?;
    let wrote = ends(cluster, "writes")?;
    let (volume, dir) = volume_of(cluster, "data")?;
    check(dir.join("00000001.txt").exists(), dir.display())?;
    delete(cluster, "pod/writes")?;
    gone(cluster, "pods/writes")?;

    pod(
        cluster,
        "reads",
        "reader",
        "[/data/00000001.txt]",
        &of_claim("data"),
        "",
    )?;
    let read = ends(cluster, "reads")?;
    let node = "/spec/nodeName";
    check(text(&wrote, node) == text(&read, node), &read["spec"])?;
    let printed = cluster.carob("logs reads")?;
    check(printed.contains("this is note 1"), printed)?;
    // While a pod has it, the claim stays.
    delete(cluster, "persistentvolumeclaim/data")?;
    let going = cluster.get("persistentvolumeclaims/data")?;
    check(
        !text(&going, "/metadata/deletionTimestamp").is_empty(),
        &going,
    )?;
    check(dir.exists(), dir.display())?;
    delete(cluster, "pod/reads")?;
    gone(cluster, "persistentvolumeclaims/data")?;
    gone(cluster, &format!("persistentvolumes/{volume}"))?;
    check(!dir.exists(), dir.display())
}

fn ephemeral(cluster: &Cluster) -> Outcome {
    let template = "{spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}";
    let volume = format!("ephemeral: {{volumeClaimTemplate: {template}}}");
    pod(cluster, "scratches", "writer", "[/data]", &volume, "")?;
    cluster.wait_for("pods/scratches", "/status/phase", "Running")?;
    let (volume, dir) = volume_of(cluster, "scratches-v")?;
    until("it writes", LIMIT, || Ok(dir.join("00000001.txt").exists()))?;
    delete(cluster, "pod/scratches")?;
    gone(cluster, "persistentvolumeclaims/scratches-v")?;
    gone(cluster, &format!("persistentvolumes/{volume}"))?;
    check(!dir.exists(), dir.display())
}

fn shared(cluster: &Cluster) -> Outcome {
    let dir = cluster.scratch("shared");
    let source = format!("{{path: {}, type: DirectoryOrCreate}}", dir.display());
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: PersistentVolume, metadata: {{name: shared}}, spec: {{accessModes: [ReadWriteMany], \
         capacity: {{storage: 1Gi}}, persistentVolumeReclaimPolicy: Retain, storageClassName: '', hostPath: {source}}}}}"
    ))?;
    claim(
        cluster,
        "shared",
        "accessModes: [ReadWriteMany], storageClassName: ''",
    )?;
    let on = |node: &str| format!(", nodeSelector: {{kubernetes.io/hostname: {node}}}");
    pod(
        cluster,
        "here",
        "writer",
        "[/data, '1']",
        &of_claim("shared"),
        &on("t-1"),
    )?;
    ends(cluster, "here")?;
    delete(cluster, "pod/here")?;
    gone(cluster, "pods/here")?;
    pod(
        cluster,
        "there",
        "reader",
        "[/data/00000001.txt]",
        &of_claim("shared"),
        &on("t-2"),
    )?;
    let moved = ends(cluster, "there")?;
    check(text(&moved, "/spec/nodeName") == "t-2", &moved["spec"])?;
    let printed = cluster.carob("logs there")?;
    check(printed.contains("this is note 1"), printed)?;
    delete(cluster, "pod/there")?;
    delete(cluster, "persistentvolumeclaim/shared")?;
    cluster.wait_for("persistentvolumes/shared", "/status/phase", "Released")?;
    check(
        dir.join("00000001.txt").exists(),
        "what is retained is there",
    )?;
    delete(cluster, "persistentvolume/shared")
}

fn alone(cluster: &Cluster) -> Outcome {
    claim(cluster, "alone", "accessModes: [ReadWriteOncePod]")?;
    pod(
        cluster,
        "first",
        "writer",
        "[/data]",
        &of_claim("alone"),
        "",
    )?;
    cluster.wait_for("pods/first", "/status/phase", "Running")?;
    pod(
        cluster,
        "second",
        "writer",
        "[/data]",
        &of_claim("alone"),
        "",
    )?;
    until("it is told why it waits", LIMIT, || {
        let status = cluster.get("pods/second")?["status"].to_string();
        Ok(status.contains("ReadWriteOncePod access mode"))
    })?;
    delete(cluster, "pod/first")?;
    cluster.wait_for("pods/second", "/status/phase", "Running")?;
    delete(cluster, "pod/second")?;
    delete(cluster, "persistentvolumeclaim/alone")?;
    gone(cluster, "persistentvolumeclaims/alone")
}
