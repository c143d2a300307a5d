//! Pods that write more than they may.

use carob_tests::{Cluster, Outcome, check};

use super::{pod, push_wat};

/// A p1 module that writes into a file of a directory that it is shown: once a little, or blocks without end.
fn fills(directory: u32, is_endless: bool) -> String {
    let more = if is_endless { "(br $more)" } else { "" };
    format!(
        r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 2)
    (data (i32.const 0) "\00\04\00\00\00\c0\00\00")
    (data (i32.const 32) "big")
    (func (export "_start")
        (if (call $open (i32.const {directory}) (i32.const 0) (i32.const 32) (i32.const 3)
                (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 16))
            (then (call $exit (i32.const 7))))
        (loop $more
            (if (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 24))
                (then (call $exit (i32.const 9))))
            {more})))"#
    )
}

/// The directory of the root, and that of the first volume.
const ROOT: u32 = 3;
const VOLUME: u32 = 4;

pub(super) fn limits(cluster: &Cluster) -> Outcome {
    push_wat(cluster, "fills-root", &fills(ROOT, true))?;
    push_wat(cluster, "fills-volume", &fills(VOLUME, true))?;
    push_wat(cluster, "writes-once", &fills(VOLUME, false))?;
    let limit = "resources: {limits: {ephemeral-storage: 1Mi}}";
    let volume = "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ";
    let total = "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ";
    for (name, image, resources, source, message) in [
        ("sized", "fills-volume", "", "sizeLimit: 1Mi", volume),
        (
            "in-memory",
            "fills-volume",
            "",
            "medium: Memory, sizeLimit: 1Mi",
            volume,
        ),
        ("limited-root", "fills-root", limit, "", total),
        ("limited-volume", "fills-volume", limit, "", total),
    ] {
        start(cluster, name, image, resources, source)?;
        let of = format!("pods/{name}");
        let pod = cluster.wait_for(&of, "/status/phase", "Failed")?;
        let status = &pod["status"];
        check(
            status["reason"] == "Evicted" && status["message"] == message,
            status,
        )?;
    }
    for (name, source) in [
        ("small", "sizeLimit: 1Mi"),
        ("small-in-memory", "medium: Memory"),
    ] {
        start(cluster, name, "writes-once", limit, source)?;
        cluster.wait_for(&format!("pods/{name}"), "/status/phase", "Succeeded")?;
    }
    Ok(())
}

fn start(cluster: &Cluster, name: &str, image: &str, resources: &str, source: &str) -> Outcome {
    let volumes = format!("[{{name: v, emptyDir: {{{source}}}}}]");
    let mounts = "[{name: v, mountPath: /v}]";
    let container = format!("{{name: c, image: {image}, volumeMounts: {mounts}, {resources}}}");
    let spec = format!("{{restartPolicy: Never, volumes: {volumes}, containers: [{container}]}}");
    cluster.apply(&pod(name, &spec)).map(drop)
}
