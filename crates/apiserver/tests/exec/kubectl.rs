//! A real `kubectl`, by both protocols. Left out, loudly, where none is installed.

use std::process::{Output, Stdio};

use apiserver::ca::Profile;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{World, soon};

/// Runs it with this input; none where there is no kubectl.
async fn kubectl(world: &World, web_sockets: bool, line: &str, input: &[u8]) -> Option<Output> {
    let found = Command::new("kubectl")
        .args(["version", "--client"])
        .output();
    if !found.await.is_ok_and(|o| o.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI needs a kubectl");
        eprintln!("LEFT OUT: kubectl is not installed");
        return None;
    }
    let issued = world.server.ca.issue(&Profile::Admin).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let cluster = json!({
        "server": world.context.server,
        "certificate-authority": write("ca.crt", world.server.ca.certificate()),
    });
    let user = json!({
        "client-certificate": write("tls.crt", &issued.certificate),
        "client-key": write("tls.key", &issued.key),
    });
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    let mut child = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(write("config", &config.to_string()))
        .args(line.split_whitespace())
        .env("HOME", dir.path())
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", web_sockets.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writing = async move {
        // One that reads no input has gone before it is written.
        let _ = stdin.write_all(input).await;
    };
    let (_, output) = soon(async { tokio::join!(writing, child.wait_with_output()) }).await;
    Some(output.unwrap())
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn kubectl_runs(web_sockets: bool) -> Option<()> {
    let world = World::start().await;
    let run = async |line: &str, input: &[u8]| kubectl(&world, web_sockets, line, input).await;
    let out = run("exec p -- echo a b", b"").await?;
    assert!(out.status.success(), "{}", said(&out.stderr));
    assert_eq!(said(&out.stdout), "a b\n");
    // More than any window or buffer holds.
    let long: Vec<u8> = (0..3u32 << 20).map(|n| (n / 7) as u8).collect();
    let out = run("exec -i p -c c -- cat", &long).await?;
    assert!(out.status.success(), "{}", said(&out.stderr));
    assert!(out.stdout == long, "{} bytes came back", out.stdout.len());
    let out = run("exec p -- fail 7", b"").await?;
    assert_eq!(out.status.code(), Some(7));
    let why = said(&out.stderr);
    assert_eq!(why, "failed\ncommand terminated with exit code 7\n");
    let out = run("exec p -- crash", b"").await?;
    assert_eq!(out.status.code(), Some(1));
    let why = said(&out.stderr);
    assert!(why.contains("the guest's engine is gone"), "{why}");
    let out = run("exec p -c x -- echo", b"").await?;
    let why = said(&out.stderr);
    assert!(why.contains("container x is not valid for pod p"), "{why}");
    // What was typed comes back as errors.
    let out = run("attach -i p -c c", b"typed").await?;
    assert!(out.status.success(), "{}", said(&out.stderr));
    assert_eq!(said(&out.stdout), "one\nNone Stdout\n");
    let why = said(&out.stderr);
    assert!(why.ends_with("typed"), "{why}");
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_runs_commands_through_a_web_socket() {
    kubectl_runs(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_runs_commands_over_spdy() {
    kubectl_runs(false).await;
}
