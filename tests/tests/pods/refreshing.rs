//! ConfigMaps and Secrets that change while pods show them.

use std::time::Duration;

use carob_tests::{Cluster, Outcome, check, until};

use super::{pod, push_wat};

/// A p1 module that reads the files `a` and `b` of its second directory again and again, both by one look at `..data`,
/// until both begin with `2`. It ends with 9 if they are ever of two versions, and with 7 if what it has by `subPath`
/// (`a` in its third directory, and a file that is its fifth one, behind the token's, or `etc/word` in the first) is not as it was at first.
const LOOKS: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\80\00\00\00\01\00\00\00")
    (data (i32.const 64) "..data")
    (data (i32.const 80) "a")
    (data (i32.const 84) "b")
    (data (i32.const 88) ".")
    (data (i32.const 96) "etc/word")
    (func $open (param $at i32) (param $name i32) (param $length i32) (param $flags i32) (result i32)
        (call $path_open (local.get $at) (i32.const 1) (local.get $name) (local.get $length)
            (local.get $flags) (i64.const 8194) (i64.const 8194) (i32.const 0) (i32.const 16)))
    ;; The file's first byte; 0 if there is none.
    (func $first (param $at i32) (param $name i32) (param $length i32) (result i32)
        (local $file i32)
        (if (call $open (local.get $at) (local.get $name) (local.get $length) (i32.const 0))
            (then (return (i32.const 0))))
        (local.set $file (i32.load (i32.const 16)))
        (i32.store8 (i32.const 128) (i32.const 0))
        (drop (call $fd_read (local.get $file) (i32.const 0) (i32.const 1) (i32.const 24)))
        (drop (call $fd_close (local.get $file)))
        (i32.load8_u (i32.const 128)))
    (func $is_old (param $at i32) (param $name i32) (param $length i32)
        (if (i32.ne (call $first (local.get $at) (local.get $name) (local.get $length)) (i32.const 49))
            (then (call $exit (i32.const 7)))))
    (func (export "_start")
        (local $data i32) (local $a i32) (local $b i32)
        (loop $again
            (br_if $again (call $open (i32.const 4) (i32.const 64) (i32.const 6) (i32.const 2)))
            (local.set $data (i32.load (i32.const 16)))
            (local.set $a (call $first (local.get $data) (i32.const 80) (i32.const 1)))
            (local.set $b (call $first (local.get $data) (i32.const 84) (i32.const 1)))
            (drop (call $fd_close (local.get $data)))
            ;; The old files may be removed while they are read.
            (br_if $again (i32.eqz (local.get $a)))
            (br_if $again (i32.eqz (local.get $b)))
            (if (i32.ne (local.get $a) (local.get $b)) (then (call $exit (i32.const 9))))
            (br_if $again (i32.ne (local.get $a) (i32.const 50))))
        (if (i32.ne (call $first (i32.const 7) (i32.const 88) (i32.const 1)) (i32.const 49))
            (then (call $is_old (i32.const 3) (i32.const 96) (i32.const 8))))
        (call $is_old (i32.const 5) (i32.const 80) (i32.const 1))))"#;

const ITEMS: &str = "[{key: a, path: a}, {key: b, path: b}, {key: a, path: deep/a}]";

pub(super) fn config_maps(cluster: &Cluster) -> Outcome {
    let volume = format!("configMap: {{name: turning, items: {ITEMS}}}");
    follow(cluster, "turning", "kind: ConfigMap", "data", &volume)
}

pub(super) fn secrets(cluster: &Cluster) -> Outcome {
    let volume = format!("secret: {{secretName: secret-turning, items: {ITEMS}}}");
    follow(
        cluster,
        "secret-turning",
        "kind: Secret",
        "stringData",
        &volume,
    )
}

/// Changes an object under the eyes of a pod.
fn follow(cluster: &Cluster, name: &str, kind: &str, field: &str, volume: &str) -> Outcome {
    push_wat(cluster, "looks", LOOKS)?;
    let write = |version: u32| {
        // More than one page each, so that they take a while to write.
        let text = format!("{version} {}", "x".repeat(20_000));
        cluster.apply(&format!(
            "{{apiVersion: v1, {kind}, metadata: {{name: {name}}}, {field}: {{a: '{text}', b: '{text}'}}}}"
        ))
    };
    write(1)?;
    let spec = format!(
        "{{restartPolicy: Never, containers: [{{name: c, image: looks, volumeMounts: [
            {{name: v, mountPath: /etc/c}}, {{name: v, mountPath: /etc/deep, subPath: deep}},
            {{name: v, mountPath: /etc/word, subPath: a}}]}}],
        volumes: [{{name: v, {volume}}}]}}"
    );
    cluster.apply(&pod(name, &spec))?;
    cluster.wait_for(&format!("pods/{name}"), "/status/phase", "Running")?;
    for version in [3, 4, 5, 6, 7] {
        write(version)?;
    }
    write(2)?;
    let mut seen = serde_json::Value::Null;
    until("the change is seen", Duration::from_secs(2), || {
        seen = cluster.get(&format!("pods/{name}"))?["status"].clone();
        Ok(seen["phase"] != "Running")
    })?;
    check(seen["phase"] == "Succeeded", seen)
}
