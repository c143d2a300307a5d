//! Preview 1 modules that accept connections.

mod hostile;
mod lifecycle;
mod poll;
mod setup;

use std::time::Duration;

use network::pipe::Broken;
use runtime::{Exit, Mount, Runtime as _, Served, StartError, Workload};

use crate::support::{Player, ended, run, script};
use setup::{Guest, hear, say};

#[tokio::test(flavor = "multi_thread")]
async fn the_standard_library_accepts_reads_and_writes() {
    let mut guest = Guest::play(&["echo 3"]).await;
    for text in ["one", "", "three"] {
        let stream = guest.connect().await;
        say(&stream, text).await;
        stream.writer.close();
        assert_eq!(hear(&stream).await, text.as_bytes());
    }
    guest.answers(&["echoed 3"]).await;
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn much_goes_through_in_both_directions() {
    let mut guest = Guest::play(&["echo 1"]).await;
    let stream = guest.connect().await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    stream.writer.send(bytes.clone().into()).await.unwrap();
    stream.writer.close();
    assert!(hear(&stream).await == bytes);
    guest.answers(&["echoed 1"]).await;
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_where_it_is_told_not_to() {
    let mut guest = Guest::play(&[
        "accept 3 1",
        "call flags 3 4",
        "accept 3",
        "wait",
        "accept 3 4",
        "read 4 8",
        "receive 4 1 8",
        "fill 4",
        "call flags 4 0",
        "read 4 8",
        "call flags 4 1",
    ])
    .await;
    // Only NONBLOCK can be set on a socket.
    guest.answers(&["errno 28", "done", "errno 6"]).await;
    let stream = guest.connect().await;
    guest.go_on().await;
    guest.answers(&["accepted 4", "errno 6", "errno 6"]).await;
    let filled = guest.line().await;
    let sent: usize = filled
        .strip_prefix("wrote ")
        .and_then(|rest| rest.strip_suffix(" then errno 6"))
        .unwrap_or_else(|| panic!("{filled}"))
        .parse()
        .unwrap();
    assert!((200_000..=network::BUFFER).contains(&sent), "{sent}");
    guest.answers(&["done"]).await;
    // It waits from now on.
    say(&stream, "hello").await;
    guest.answers(&["read hello", "errno 28"]).await;
    assert_eq!(hear(&stream).await.len(), sent);
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_write_writes_all() {
    let mut guest = Guest::play(&["accept 3", "pour 4 2000000"]).await;
    let stream = guest.connect().await;
    guest.answers(&["accepted 4"]).await;
    assert_eq!(hear(&stream).await.len(), 2_000_000);
    guest.answers(&["wrote 2000000"]).await;
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directions_end_one_by_one() {
    let mut guest = Guest::play(&[
        "accept 3",
        "read 4 3 2",
        "read 4 8",
        "read 4 8",
        "write 4 still open",
        "call shutdown 4 2",
        "write 4 more",
        "call shutdown 4 0",
        "accept 3",
        "call shutdown 5 1",
        "read 5 8",
        "wait",
    ])
    .await;
    let stream = guest.connect().await;
    say(&stream, "sevenup").await;
    stream.writer.close();
    guest
        .answers(&[
            "accepted 4",
            "read seven",
            "read up",
            "end",
            "wrote 9",
            "done",
            "errno 64",
            "errno 28",
        ])
        .await;
    assert_eq!(hear(&stream).await, b"stillopen");
    let second = guest.connect().await;
    guest.answers(&["accepted 5", "done", "end"]).await;
    // What is sent to somebody who reads no more is refused.
    let refused = std::future::poll_fn(|cx| second.writer.poll_broken(cx)).await;
    assert_eq!(refused, Broken::Closed);
    guest.go_on().await;
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_are_told() {
    let mut guest = Guest::play(&[
        "accept 3",
        "wait",
        "read 4 8",
        "write 4 x",
        "poll r4",
        "accept 3",
        "wait",
        "write 5 x",
    ])
    .await;
    let stream = guest.connect().await;
    guest.answers(&["accepted 4"]).await;
    stream.reset();
    guest.go_on().await;
    guest
        .answers(&["errno 15", "errno 15", "r4:0:hangup"])
        .await;
    let second = guest.connect().await;
    guest.answers(&["accepted 5"]).await;
    drop(second);
    guest.go_on().await;
    guest.answers(&["errno 64"]).await;
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_can_be_looked_at() {
    let mut guest = Guest::play(&[
        "accept 3",
        "receive 4 1 4",
        "poll r4",
        "receive 4 1 99",
        "read 4 2",
        "wait",
        "receive 4 1 99",
        "receive 4 3 8",
        "wait",
        "receive 4 2 4 4",
        "receive 4 2 8",
        "receive 4 4 8",
        "call send 4 0",
        "call send 4 1",
    ])
    .await;
    let stream = guest.connect().await;
    say(&stream, "abcdef").await;
    guest
        .answers(&["accepted 4", "read abcd", "r4:6", "read abcdef", "read ab"])
        .await;
    say(&stream, "gh").await;
    guest.go_on().await;
    // Looking at all that is to come is not offered.
    guest.answers(&["read cdefgh", "errno 58"]).await;
    guest.go_on().await;
    // All of it is waited for, until the end.
    say(&stream, "i").await;
    say(&stream, "jkl").await;
    guest.answers(&["read cdefghij"]).await;
    stream.writer.close();
    guest
        .answers(&["read kl", "errno 28", "done", "errno 58"])
        .await;
    assert_eq!(hear(&stream).await, b"sent");
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_descriptors_in_their_order() {
    let steps = [
        "env LISTEN_FDS",
        "env LISTEN_FDNAMES",
        "accept 5",
        "accept 3",
        "accept 4",
        "accept 6",
        "accept 0",
    ];
    let mut guest = Guest::play_with(&steps, |_, workload| {
        let named = |number, name: &str| Served {
            number,
            name: Some(name.into()),
        };
        workload.serve = vec![named(9000, "api"), 80.into(), named(443, "tls"), 80.into()];
    })
    .await;
    guest.answers(&["3", "api:unknown:tls"]).await;
    let mut streams = Vec::new();
    for (port, number) in [(443, 6), (9000, 7), (80, 8)] {
        streams.push(guest.connect_at(port).await);
        let accepted = guest.line().await;
        assert_eq!(accepted, format!("accepted {number}"));
    }
    // A connection listens to nothing, and a stream is no socket.
    guest.answers(&["errno 28", "errno 57"]).await;
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_lie_after_the_listeners() {
    let steps = [
        "prestat 3",
        "prestat 4",
        "prestat 5",
        "cat /data/file",
        "open /data/file",
        "stat 3",
        "filetype 3",
        "accept 3",
        "stat 6",
        "filetype 6",
        "prestat 6",
        "call close 5",
        "open /data/file",
        "call close 3",
        "open /data/file",
        "accept 3",
    ];
    let mut guest = Guest::play_with(&steps, |bench, workload| {
        let data = bench.directory("data");
        std::fs::write(data.join("file"), "text").unwrap();
        workload.mounts = vec![Mount {
            host: data.into(),
            beneath: String::new(),
            guest: "/data".into(),
            read_only: true,
        }];
    })
    .await;
    guest
        .answers(&[
            "tag 1",
            "tag 0",
            "errno 8",
            "text",
            "opened 5",
            "type 6 flags 0 rights 28200008",
            "type 6",
        ])
        .await;
    let stream = guest.connect().await;
    let numbers = ["done", "opened 5", "done", "opened 3", "errno 57"];
    let told = [
        "accepted 6",
        "type 6 flags 0 rights 1820004a",
        "type 6",
        "errno 8",
    ];
    guest.answers(&told).await;
    guest.answers(&numbers).await;
    drop(stream);
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_moved_and_closed() {
    let mut guest = Guest::play(&[
        "accept 3",
        "accept 3",
        "call renumber 4 5",
        "write 5 first",
        "write 4 x",
        "call renumber 5 9",
        "call renumber 5 5",
        "call close 5",
        "call close 5",
        "accept 3",
        "call renumber 4 3",
        "accept 3",
        "write 3 third",
        "call close 3",
    ])
    .await;
    let (first, second) = (guest.connect().await, guest.connect().await);
    guest
        .answers(&[
            "accepted 4",
            "accepted 5",
            "done",
            "wrote 5",
            "errno 8",
            "errno 8",
            "done",
            "done",
            "errno 8",
        ])
        .await;
    assert_eq!(hear(&first).await, b"first");
    assert_eq!(hear(&second).await, b"");
    let third = guest.connect().await;
    // The listener is closed by what takes its number.
    guest
        .answers(&["accepted 4", "done", "errno 28", "wrote 5", "done"])
        .await;
    assert_eq!(hear(&third).await, b"third");
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_no_file() {
    let mut guest = Guest::play(&[
        "call seek 3 0",
        "call sync 3",
        "call list 3",
        "call mkdir 3",
        "read 3 8",
        "write 3 x",
        "call shutdown 3 1",
        "accept 3",
        "call seek 4 0",
        "call list 4",
        "call mkdir 4",
        "accept 77",
        "read 77 1",
    ])
    .await;
    guest
        .answers(&[
            "errno 70", "errno 28", "errno 54", "errno 54", "errno 53", "errno 53", "errno 53",
        ])
        .await;
    let _stream = guest.connect().await;
    guest
        .answers(&[
            "accepted 4",
            "errno 70",
            "errno 54",
            "errno 54",
            "errno 8",
            "errno 8",
        ])
        .await;
    guest.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_end_is_its_connections_end() {
    let mut guest = Guest::play(&["accept 3", "accept 3", "call flags 3 0", "read 4 8"]).await;
    let (accepted, also) = (guest.connect().await, guest.connect().await);
    guest.answers(&["accepted 4", "accepted 5", "done"]).await;
    let waiting = guest.connect().await;
    assert!(!guest.running.handles_termination());
    guest.running.terminate(Duration::from_secs(30));
    assert_eq!(ended(&guest.running).await, Exit::Terminated);
    // As components' are: closed in order where they were accepted, reset where they were not.
    assert_eq!(hear(&accepted).await, b"");
    assert_eq!(hear(&also).await, b"");
    assert_eq!(waiting.reader.read(1).await, Err(Broken::Reset));
    // Its port is free again.
    let (mut workload, stdout) = script(&guest.bench.acceptor().await, &["env LISTEN_FDS"]);
    workload.net = Some(guest.pod.clone());
    workload.serve = vec![80.into()];
    assert_eq!(run(&guest.bench, workload).await, Exit::Code(0));
    assert_eq!(stdout.text(), "1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_cannot_be_had_is_named() {
    let guest = Guest::play(&["accept 3"]).await;
    let module = guest.bench.acceptor().await;
    let start = |port: u16| {
        let mut workload = Workload::new(module.clone());
        workload.net = Some(guest.pod.clone());
        workload.serve = vec![port.into()];
        guest.bench.runtime.start(workload)
    };
    let taken = start(80).unwrap_err();
    assert!(matches!(taken, StartError::Listen { port: 80, .. }));
    assert_eq!(
        taken.to_string(),
        "cannot listen at port 80: address in use"
    );
    assert!(matches!(start(0), Err(StartError::Invalid(_))));
    assert_eq!(guest.bench.runtime.metrics().running, 1);
}

/// Where there is nothing to listen at, and where a module does not accept: nothing is opened.
#[tokio::test(flavor = "multi_thread")]
async fn without_ports_there_are_no_listeners() {
    let mut guest = Guest::play_with(&["accept 3", "env LISTEN_FDS"], |_, workload| {
        workload.serve = Vec::new();
    })
    .await;
    guest
        .answers(&["errno 8", "environment variable not found"])
        .await;
    guest.ends().await;
    let mut guest = Guest::play_with(&["accept 3", "cat /file"], |_, workload| {
        workload.net = None
    })
    .await;
    guest.answers(&["errno 8", "NotFound"]).await;
    let root = guest.bench.directory("root");
    std::fs::write(root.join("file"), "text").unwrap();
    for kind in [Player::Core, Player::Draining] {
        let module = guest.bench.player(kind).await;
        let (mut workload, stdout) = script(&module, &["env", "cat /file"]);
        workload.net = Some(guest.pod.clone());
        workload.serve = vec![80.into()];
        workload.mounts = vec![Mount {
            host: root.clone().into(),
            beneath: String::new(),
            guest: "/".into(),
            read_only: false,
        }];
        assert_eq!(run(&guest.bench, workload).await, Exit::Code(0));
        assert_eq!(stdout.text(), "text\n", "{kind:?}");
    }
}
