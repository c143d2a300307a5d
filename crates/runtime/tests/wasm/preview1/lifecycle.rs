//! `carob:pod/lifecycle` as preview 1 modules import it.

use std::time::Duration;

use runtime::{Exit, Runtime as _, Workload};

use super::setup::Guest;
use crate::support::{Bench, ended, run};

const GRACE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn termination_is_waited_for_beside_clocks_and_sockets() {
    let mut guest = Guest::play_draining(&[
        "subscribe",
        "remain",
        "poll r4 m20",
        "poll m30000 r3 r4",
        "remain",
        "poll r3 r4 w4",
        "read 4 8",
        "subscribe",
        "poll r5 r4",
        "accept 3",
        "read 6 9",
    ])
    .await;
    guest.answers(&["subscribed 4", "remain -1", "m20"]).await;
    assert!(guest.running.handles_termination());
    guest.running.terminate(GRACE);
    guest.answers(&["r4:0:hangup"]).await;
    let remaining = guest.line().await;
    let remaining: u128 = remaining["remain ".len()..].parse().unwrap();
    assert!((1..=GRACE.as_nanos()).contains(&remaining), "{remaining}");
    // Nothing can be written to it. It stays as it is, and so begins what is opened late.
    guest
        .answers(&[
            "r4:0:hangup",
            "end",
            "subscribed 5",
            "r5:0:hangup r4:0:hangup",
        ])
        .await;
    // It goes on until it ends by itself.
    let stream = guest.connect().await;
    guest.answers(&["accepted 6"]).await;
    super::setup::say(&stream, "last").await;
    guest.answers(&["read last"]).await;
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_waits_for_termination() {
    let mut guest = Guest::play_draining(&["subscribe", "read 4 0", "wait", "read 4 8"]).await;
    // Where there is room for nothing, nothing is waited for.
    guest.answers(&["subscribed 4", "end"]).await;
    guest.go_on().await;
    let early = tokio::time::timeout(Duration::from_millis(100), guest.line()).await;
    assert!(early.is_err(), "{early:?}");
    guest.running.terminate(GRACE);
    guest.answers(&["end"]).await;
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_as_the_reading_end_of_a_pipe() {
    let mut guest = Guest::play_draining(&[
        "subscribe",
        "stat 4",
        "filetype 4",
        "prestat 4",
        "write 4 x",
        "call seek 4 0",
        "call sync 4",
        "call list 4",
        "call mkdir 4",
        "accept 4",
        "receive 4 0 8",
        "call shutdown 4 1",
        "call flags 4 1",
        "call flags 4 4",
        "stat 4",
        "read 4 8",
        "subscribe",
        "call renumber 4 5",
        "read 5 8",
        "read 4 8",
        "call close 5",
        "read 5 8",
        "subscribe",
    ])
    .await;
    guest
        .answers(&[
            "subscribed 4",
            "type 0 flags 0 rights 820000a",
            "type 0",
            "errno 8",
            "errno 8",
            "errno 70",
            "errno 28",
            "errno 54",
            "errno 54",
            "errno 57",
            "errno 57",
            "errno 57",
            "errno 28",
            "done",
            "type 0 flags 4 rights 820000a",
            "errno 6",
        ])
        .await;
    let moved = [
        "subscribed 5",
        "done",
        "errno 6",
        "errno 8",
        "done",
        "errno 8",
    ];
    guest.answers(&moved).await;
    guest.answers(&["subscribed 4"]).await;
    guest.ends().await;
}

/// Go's runtime, in which a call that waits would make all of the guest wait.
#[tokio::test(flavor = "multi_thread")]
async fn who_polls_never_waits_by_reading() {
    let mut guest = Guest::play_draining(&[
        "call flags 0 4",
        "subscribe",
        "read 4 8",
        "poll r4",
        "read 4 8",
    ])
    .await;
    guest.answers(&["errno 8", "subscribed 4", "errno 6"]).await;
    guest.running.terminate(GRACE);
    guest.answers(&["r4:0:hangup", "end"]).await;
    guest.ends().await;
}

/// A module that never ends, with these imports.
fn endless(imports: &str) -> String {
    format!(r#"(module {imports} (func (export "_start") (loop $l (br $l))))"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_imports_it_is_given_time() {
    let bench = Bench::new();
    let import = r#"(import "carob:pod/lifecycle@0.1.0" "remaining-grace" (func (result i64)))"#;
    for (imports, given, exit) in [("", false, Exit::Terminated), (import, true, Exit::Killed)] {
        let module = bench.text(&endless(imports)).await.unwrap();
        let running = bench.runtime.start(Workload::new(module)).unwrap();
        assert_eq!(running.handles_termination(), given);
        running.terminate(Duration::from_millis(50));
        assert_eq!(ended(&running).await, exit);
    }
}

/// As many descriptors as there may be, and then none.
#[tokio::test(flavor = "multi_thread")]
async fn descriptors_are_bounded() {
    let bench = Bench::new();
    let text = r#"(module
        (import "carob:pod/lifecycle@0.1.0" "subscribe-termination" (func $subscribe (result i32)))
        (func (export "_start") (local $next i32)
            (local.set $next (i32.const 3))
            (loop $more
                (if (i32.ne (call $subscribe) (local.get $next)) (then unreachable))
                (local.set $next (i32.add (local.get $next) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $next) (i32.const 4096))))
            (if (i32.ne (call $subscribe) (i32.const -1)) (then unreachable))))"#;
    let module = bench.text(text).await.unwrap();
    assert_eq!(run(&bench, Workload::new(module)).await, Exit::Code(0));
}

/// The functions of components have the same names and other types.
#[tokio::test]
async fn a_component_s_types_are_refused() {
    let bench = Bench::new();
    let text = r#"(module
        (import "carob:pod/lifecycle@0.1.0" "remaining-grace" (func (param i32)))
        (func (export "_start")))"#;
    let refused = bench.text(text).await.unwrap_err().to_string();
    assert!(
        refused.contains("carob:pod/lifecycle@0.1.0::remaining-grace"),
        "{refused}"
    );
}
