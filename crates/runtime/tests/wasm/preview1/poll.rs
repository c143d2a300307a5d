//! `poll_oneoff` with sockets among what is waited for.

use std::time::Duration;

use tokio::time::Instant;

use super::setup::{Guest, hear, say};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_that_is_ready_ends_the_wait() {
    let mut guest = Guest::play(&[
        "poll m20 r3",
        "poll m30000 r3",
        "accept 3",
        "poll r3 r4 m30000",
        "read 4 9",
        "poll r4 w4 r3",
        "poll r4 r3",
        "accept 3",
        "poll w5 r4 r9",
        "poll r4 r5",
    ])
    .await;
    guest.answers(&["m20"]).await;
    let first = guest.connect().await;
    guest.answers(&["r3:1", "accepted 4"]).await;
    say(&first, "word").await;
    guest.answers(&["r4:4", "read word"]).await;
    assert_eq!(guest.line().await, format!("w4:{}", network::BUFFER));
    let second = guest.connect().await;
    guest.answers(&["r3:1", "accepted 5"]).await;
    // What is no descriptor is told at once, as is all else that is ready.
    let room = format!("w5:{} r9:errno 8", network::BUFFER);
    assert_eq!(guest.line().await, room);
    second.writer.close();
    guest.answers(&["r5:0:hangup"]).await;
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_of_all_kinds_ring_beside_sockets() {
    let begun = Instant::now();
    let mut guest = Guest::play(&[
        "poll r3 m50",
        "poll r3 a50",
        "poll r3 t50",
        "poll r3 m0",
        "poll m60000 r3 m10 m60000",
        "poll m50",
        "poll t0 a0",
    ])
    .await;
    let expected = ["m50", "a50", "t50", "m0", "m10", "m50"];
    guest.answers(&expected).await;
    assert!(begun.elapsed() >= Duration::from_millis(4 * 50 + 10));
    // Either may be there first.
    assert!(["t0 a0", "t0", "a0"].contains(&&*guest.line().await));
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_the_process_are_waited_for_beside_sockets() {
    let mut guest = Guest::play(&[
        "poll r0 r3 m30000",
        "wait",
        "poll r0 r3 m30000",
        "accept 3",
        "poll r0 r4",
        "wait",
        "poll w1 r4",
        "poll r0 m10",
    ])
    .await;
    guest.type_in("\n");
    assert_eq!(guest.line().await, "r0:1");
    guest.answers(&["goes on"]).await;
    let stream = guest.connect().await;
    guest.answers(&["r3:1", "accepted 4"]).await;
    guest.type_in("\n");
    guest.answers(&["r0:1", "goes on", "w1:1", "m10"]).await;
    drop(stream);
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_waited_for() {
    let mut guest = Guest::play(&[
        "accept 3 4",
        "fill 4",
        "poll w4 m20",
        "poll w4 m30000",
        "wait",
    ])
    .await;
    let stream = guest.connect().await;
    guest.answers(&["accepted 4"]).await;
    assert!(guest.line().await.ends_with(" then errno 6"));
    guest.answers(&["m20"]).await;
    let read = stream.reader.read(100_000).await.unwrap().unwrap();
    let room = guest.line().await;
    let room: usize = room.strip_prefix("w4:").unwrap().parse().unwrap();
    assert!(room > 0 && room <= 100_000 + 64, "{room}");
    guest.go_on().await;
    assert!(read.len() + hear(&stream).await.len() > room);
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_uses_no_time() {
    let mut guest = Guest::play(&["accept 3 4", "poll r3 r4 m30000", "read 4 9"]).await;
    let stream = guest.connect().await;
    guest.answers(&["accepted 4"]).await;
    let before = guest.running.usage().cpu;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let used = guest.running.usage().cpu - before;
    assert!(used < Duration::from_millis(30), "{used:?}");
    say(&stream, "done").await;
    guest.answers(&["r4:4", "read done"]).await;
    guest.ends().await;
}

/// Go's runtime sets its standard streams non-blocking and then waits by `poll_oneoff` alone.
#[tokio::test(flavor = "multi_thread")]
async fn who_polls_has_listeners_that_do_not_wait() {
    let mut guest = Guest::play(&[
        "call flags 0 4",
        "stat 3",
        "accept 3",
        "call flags 3 0",
        "call flags 1 4",
        "stat 3",
        "accept 3",
    ])
    .await;
    // wasmtime-wasi's standard streams cannot be set, which Go knows of.
    let refused = "errno 8";
    guest
        .answers(&[
            refused,
            "type 6 flags 4 rights 28200008",
            "errno 6",
            "done",
            refused,
        ])
        .await;
    guest.answers(&["type 6 flags 0 rights 28200008"]).await;
    let _stream = guest.connect().await;
    guest.answers(&["accepted 4"]).await;
    guest.ends().await;
}
