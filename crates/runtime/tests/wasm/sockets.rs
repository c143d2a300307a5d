//! Components' `std::net` on the virtual network.

use std::net::{Ipv4Addr, TcpListener};

use crate::support::{Bench, Player, named, run, script};
use network::pipe::{Reader, pipe};
use network::{Network, PodNet};
use runtime::output::Capture;
use runtime::{Exit, Module, Running, Runtime};

/// Starts a guest that listens, and returns once it does.
async fn serving(bench: &Bench, module: &Module, pod: &PodNet, step: &str) -> (Running, Reader) {
    let (mut workload, _) = script(module, &[step]);
    let (writer, reader) = pipe(1024);
    workload.stdout = Box::new(writer);
    workload.net = Some(pod.clone());
    let running = bench.runtime.start(workload).unwrap();
    let line = reader.read(1024).await.unwrap().expect("a first line");
    assert!(line.starts_with(b"listening on "), "{line:?}");
    (running, reader)
}

async fn play(bench: &Bench, module: &Module, pod: Option<&PodNet>, steps: &[&str]) -> String {
    let (mut workload, stdout): (_, Capture) = script(module, steps);
    workload.net = pod.cloned();
    let own = pod.map_or(Ipv4Addr::LOCALHOST, PodNet::address);
    workload.names = named("web-0", own);
    assert_eq!(run(bench, workload).await, Exit::Code(0));
    stdout.text()
}

fn node() -> Network {
    Network::new("10.128.0.0/24".parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_within_and_between_pods() {
    let bench = Bench::new();
    let module = bench.player(Player::Component).await;
    let node = node();
    let (server, other) = (node.join("one").unwrap(), node.join("two").unwrap());
    let (running, _output) = serving(&bench, &module, &server, "serve 0.0.0.0:8080").await;
    let (local, remote) = (
        "call 127.0.0.1:8080 5",
        format!("call {}:8080 3000000", server.address()),
    );
    let by_name = "call localhost:8080 1";
    assert_eq!(
        play(&bench, &module, Some(&server), &[local, by_name]).await,
        "5\n1\n"
    );
    assert_eq!(
        play(&bench, &module, Some(&other), &[&remote]).await,
        "3000000\n"
    );
    let refused = [
        "call 127.0.0.1:8080 1",
        &format!("call {}:81 1", server.address()),
    ];
    let refusals = play(&bench, &module, Some(&other), &refused).await;
    assert_eq!(refusals, "ConnectionRefused\nConnectionRefused\n");
    let taken = play(&bench, &module, Some(&server), &["serve 127.0.0.1:8080"]).await;
    assert_eq!(taken, "AddrInUse\n");
    running.kill();
    running.wait().await;
    // Its port is free again, though it never closed it.
    serving(&bench, &module, &server, "serve 0.0.0.0:8080").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_between_pods() {
    let bench = Bench::new();
    let module = bench.player(Player::Component).await;
    let node = node();
    let (server, other) = (node.join("one").unwrap(), node.join("two").unwrap());
    let _serving = serving(&bench, &module, &server, "echo-datagrams 0.0.0.0:53").await;
    let step = format!("send-datagram {}:53 who?", server.address());
    assert_eq!(
        play(&bench, &module, Some(&other), &[&step]).await,
        "who?\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_within_a_pod() {
    let bench = Bench::new();
    let module = bench.player(Player::Component).await;
    let node = node();
    let (pod, other) = (node.join("one").unwrap(), node.join("two").unwrap());
    let (running, _output) = serving(&bench, &module, &pod, "serve [::1]:8080").await;
    // By name too, although IPv4 comes first: whoever refuses there is not asked again.
    let steps = ["call [::1]:8080 3000000", "call localhost:8080 5"];
    assert_eq!(
        play(&bench, &module, Some(&pod), &steps).await,
        "3000000\n5\n"
    );
    let steps = ["call 127.0.0.1:8080 1", "call [::ffff:127.0.0.1]:8080 1"];
    let refused = play(&bench, &module, Some(&pod), &steps).await;
    assert_eq!(refused, "ConnectionRefused\nInvalidInput\n");
    let refused = play(&bench, &module, Some(&other), &["call [::1]:8080 1"]).await;
    assert_eq!(refused, "ConnectionRefused\n", "another pod's loopback");
    // The port is free in IPv4 alone.
    let taken = [
        "serve [::]:8080",
        "serve [::ffff:127.0.0.1]:81",
        "serve [2001:db8::1]:81",
    ];
    let taken = play(&bench, &module, Some(&pod), &taken).await;
    assert_eq!(taken, "AddrInUse\nInvalidInput\nAddrNotAvailable\n");
    serving(&bench, &module, &pod, "serve 0.0.0.0:8080").await;
    running.kill();
    running.wait().await;
    serving(&bench, &module, &pod, "serve [::]:0").await;
    let _echo = serving(&bench, &module, &pod, "echo-datagrams [::]:53").await;
    let heard = play(
        &bench,
        &module,
        Some(&pod),
        &["send-datagram [::1]:53 who?"],
    )
    .await;
    assert_eq!(heard, "who?\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_the_pod_itself() {
    let bench = Bench::new();
    let module = bench.player(Player::Component).await;
    let pod = node().join("uid").unwrap();
    let steps = ["resolve localhost", "resolve WEB-0", "resolve 192.0.2.7"];
    let expected =
        "IntoIter([127.0.0.1:0, [::1]:0])\nIntoIter([10.128.0.1:0])\nIntoIter([192.0.2.7:0])\n";
    assert_eq!(play(&bench, &module, Some(&pod), &steps).await, expected);
    let literal = play(&bench, &module, Some(&pod), &["resolve 2001:db8::7"]).await;
    assert_eq!(literal, "IntoIter([[2001:db8::7]:0])\n");
    let unknown = play(&bench, &module, Some(&pod), &["resolve example.com"]).await;
    assert!(!unknown.contains("IntoIter"), "{unknown}");
}

/// The host's own network is never within reach, with a pod network or without.
#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_sockets_are_out_of_reach() {
    let bench = Bench::new();
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let call = format!("call {} 1", host.local_addr().unwrap());
    let pod = node().join("uid").unwrap();
    let component = bench.player(Player::Component).await;
    let refused = play(
        &bench,
        &component,
        Some(&pod),
        &[&call, "call 192.0.2.1:80 1", "call [2001:db8::1]:80 1"],
    )
    .await;
    assert_eq!(
        refused,
        "ConnectionRefused\nHostUnreachable\nHostUnreachable\n"
    );
    let denied = play(&bench, &component, None, &[&call, "serve 127.0.0.1:1"]).await;
    assert_eq!(denied, "PermissionDenied\nPermissionDenied\n");
    let core = bench.player(Player::Core).await;
    let unsupported = play(&bench, &core, Some(&pod), &[&call]).await;
    assert_eq!(unsupported, "Unsupported\n");
}
