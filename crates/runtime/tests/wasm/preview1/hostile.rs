//! Arguments that no honest guest gives: each is refused, or traps, and harms nobody.

use network::Network;
use runtime::{Exit, Runtime as _};

use super::setup::Guest;
use crate::support::{Bench, ended, run};

/// Runs a body with a listener as descriptor 3 and gives how it ended: the exit code is what the body leaves.
async fn with_listener(bench: &Bench, body: &str) -> Exit {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "sock_accept"
                (func $sock_accept (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "sock_recv"
                (func $sock_recv (param i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "sock_send"
                (func $sock_send (param i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read"
                (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write"
                (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_fdstat_get"
                (func $fd_fdstat_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_prestat_get"
                (func $fd_prestat_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open"
                (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff"
                (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start")
                ;; Descriptor 4 is a connection.
                (if (call $sock_accept (i32.const 3) (i32.const 0) (i32.const 0)) (then unreachable))
                (call $proc_exit {body})))"#
    );
    let node = Network::new("10.128.0.0/24".parse().unwrap());
    let pod = node.join("one").unwrap();
    let module = bench.text(&text).await.unwrap();
    let mut workload = runtime::Workload::new(module);
    workload.net = Some(pod.clone());
    workload.serve = vec![80.into()];
    let running = bench.runtime.start(workload).unwrap();
    let at = std::net::SocketAddrV4::new(pod.address(), 80);
    let stream = pod.connect(at).await.unwrap();
    let exit = ended(&running).await;
    drop(stream);
    exit
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_an_errno() {
    let bench = Bench::new();
    for (body, errno) in [
        // More buffers than a call may name, and more bytes in them than can be counted.
        (
            "(call $fd_read (i32.const 4) (i32.const 0) (i32.const -1) (i32.const 0))",
            28,
        ),
        (
            "(call $fd_write (i32.const 4) (i32.const 0) (i32.const 1025) (i32.const 0))",
            28,
        ),
        (
            "(call $sock_recv (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 99) (i32.const 0) (i32.const 0))",
            28,
        ),
        (
            "(call $sock_recv (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0x10000) (i32.const 0) (i32.const 0))",
            61,
        ),
        // None to read into.
        (
            "(call $fd_read (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0))",
            0,
        ),
        (
            "(call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
            28,
        ),
        (
            "(call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0))",
            28,
        ),
        // A subscription to nothing that there is.
        (
            "(block (result i32) (i32.store8 (i32.const 8) (i32.const 9)) \
            (call $poll_oneoff (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)))",
            28,
        ),
        (
            "(call $path_open (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 9) (i32.const 0) (i64.const 0) \
            (i64.const 0) (i32.const 0) (i32.const 0))",
            54,
        ),
        (
            "(call $fd_read (i32.const -1) (i32.const 0) (i32.const 0) (i32.const 0))",
            8,
        ),
    ] {
        assert_eq!(
            with_listener(&bench, body).await,
            Exit::Code(errno),
            "{body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_outside_of_memory_traps() {
    let bench = Bench::new();
    let vector = |at: u32, length: u32| {
        format!(
            "(i32.store (i32.const 16) (i32.const {at})) (i32.store (i32.const 20) (i32.const {length}))"
        )
    };
    for body in [
        "(call $fd_read (i32.const 4) (i32.const 65532) (i32.const 1) (i32.const 0))".to_owned(),
        "(call $fd_write (i32.const 4) (i32.const -8) (i32.const 1) (i32.const 0))".to_owned(),
        // Misaligned.
        "(call $fd_read (i32.const 4) (i32.const 17) (i32.const 1) (i32.const 0))".to_owned(),
        // A buffer that is larger than memory; nothing is allocated for it.
        format!(
            "(block (result i32) {} (call $fd_read (i32.const 4) (i32.const 16) (i32.const 1) (i32.const 0)))",
            vector(0, u32::MAX)
        ),
        format!(
            "(block (result i32) {} (call $sock_send (i32.const 4) (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 0)))",
            vector(65_530, 8)
        ),
        // Where the result goes.
        "(call $fd_read (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 65536))".to_owned(),
        "(call $fd_fdstat_get (i32.const 3) (i32.const 65528))".to_owned(),
        "(call $fd_prestat_get (i32.const 3) (i32.const 65535))".to_owned(),
        "(call $poll_oneoff (i32.const 65500) (i32.const 0) (i32.const 1000) (i32.const 0))"
            .to_owned(),
        // The events of a clock that has rung.
        "(call $poll_oneoff (i32.const 0) (i32.const 65528) (i32.const 1) (i32.const 0))"
            .to_owned(),
    ] {
        let exit = with_listener(&bench, &body).await;
        assert!(matches!(exit, Exit::Trap { .. }), "{body}: {exit:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_without_memory_traps() {
    let bench = Bench::new();
    let text = r#"(module
        (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
        (func (export "_start")
            (drop (call $accept (i32.const 3) (i32.const 0) (i32.const 0)))))"#;
    let module = bench.text(text).await.unwrap();
    let exit = run(&bench, runtime::Workload::new(module)).await;
    assert!(
        matches!(&exit, Exit::Trap { backtrace } if backtrace.contains("memory")),
        "{exit:?}"
    );
}

/// As many descriptors as there may be, and then no more: what waits is not lost.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded() {
    let steps = ["wait"]
        .into_iter()
        .chain(std::iter::repeat_n("accept 3 4", 4_100));
    let steps: Vec<&str> = steps.chain(["call close 4", "accept 3"]).collect();
    let mut guest = Guest::play(&steps).await;
    guest.go_on().await;
    let mut streams = Vec::new();
    for number in 4..4_096 {
        streams.push(guest.connect().await);
        let accepted = guest.line().await;
        assert_eq!(accepted, format!("accepted {number}"));
    }
    for _ in 4_092..4_100 {
        guest.answers(&["errno 33"]).await;
    }
    let _waiting = guest.connect().await;
    guest.answers(&["done", "accepted 4"]).await;
    guest.ends().await;
}
