//! Components that serve HTTP.

use std::net::SocketAddrV4;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use network::{Network, PodNet, SocketError};
use runtime::output::Capture;
use runtime::{Exit, Mount, Running, Runtime, Served, StartError, Workload};
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use crate::client::{self, Client, empty, full, request, whole};
use crate::support::{Bench, Player, Web, ended, run, script, until};

/// A server on a pod of its own, and a pod beside it.
struct Serving {
    bench: Bench,
    running: Running,
    pod: PodNet,
    other: PodNet,
    at: SocketAddrV4,
    stdout: Capture,
    stderr: Capture,
}

impl Serving {
    async fn start(change: impl FnOnce(&mut Workload)) -> Self {
        // One server's requests have a ninth of them.
        let bench = Bench::with(|config| config.instances = 1_000);
        Self::start_on(bench, change).await
    }

    async fn start_on(bench: Bench, change: impl FnOnce(&mut Workload)) -> Self {
        let node = Network::new("10.128.0.0/24".parse().unwrap());
        let (pod, other) = (node.join("one").unwrap(), node.join("two").unwrap());
        let (stdout, stderr) = (Capture::new(1 << 20), Capture::new(1 << 20));
        let mut workload = Workload::new(bench.web(Web::Server).await);
        workload.net = Some(pod.clone());
        workload.stdout = Box::new(stdout.clone());
        workload.stderr = Box::new(stderr.clone());
        change(&mut workload);
        let port = workload.serve.first().map_or(8080, |port| port.number);
        let running = bench.runtime.start(workload).unwrap();
        let at = SocketAddrV4::new(pod.address(), port);
        Self {
            bench,
            running,
            pod,
            other,
            at,
            stdout,
            stderr,
        }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.other, self.at).await
    }

    async fn get(&self, path: &str) -> (u16, Bytes) {
        self.client().await.get(path).await
    }

    /// Waits until no instance is left.
    async fn idle(&self) {
        until("instances remain", || self.running.usage().memory == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_answers_until_it_is_ended() {
    let serving =
        Serving::start(|workload| workload.serve = [80, 9090, 80].map(Served::from).into()).await;
    assert_eq!(serving.bench.runtime.metrics().running, 1);
    assert!(serving.running.handles_termination());
    let mut client = serving.client().await;
    for _ in 0..3 {
        assert_eq!(client.get("/hello").await, (200, "hello\n".into()));
    }
    assert_eq!(client.get("/what").await.0, 404);
    let second = SocketAddrV4::new(serving.pod.address(), 9090);
    let mut local = Client::connect(&serving.pod, second).await;
    assert_eq!(local.get("/hello").await.0, 200);
    serving.idle().await;
    assert!(serving.running.usage().cpu > Duration::ZERO);
    serving.running.terminate(Duration::from_secs(60));
    assert_eq!(ended(&serving.running).await, Exit::Code(0));
    assert_eq!(serving.bench.runtime.metrics().running, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_see_what_a_process_would() {
    let bench = Bench::new();
    let data = bench.directory("data");
    std::fs::write(data.join("file"), "a file").unwrap();
    let serving = Serving::start_on(bench, |workload| {
        workload.argv = vec!["web".into(), "--flag".into()];
        workload.env = vec![("COLOUR".into(), "blue".into())];
        workload.working_dir = "/data".into();
        workload.mounts = vec![Mount {
            host: data.into(),
            beneath: String::new(),
            guest: "/data".into(),
            read_only: true,
        }];
    })
    .await;
    let told = r#"["web", "--flag"] Ok("blue") Ok("a file")"#;
    for file in ["file", "/data/file"] {
        let answer = serving.get(&format!("/world?{file}")).await;
        assert_eq!(answer, (200, told.into()));
    }
    assert_eq!(serving.stderr.text(), "told\ntold\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_http() {
    let serving = Serving::start(|_| ()).await;
    let mut sender = client::http2(&serving.other, serving.at).await;
    let uri = "http://web/hello";
    let asked = (0..20).map(|_| sender.send_request(request(uri, empty())));
    for answered in futures::future::join_all(asked).await {
        let answer = whole(answered.unwrap()).await.unwrap();
        assert_eq!(answer, (200, "hello\n".into()));
    }
    for (said, answered) in [
        (&b"GET /hello HTTP/1.0\r\n\r\n"[..], "HTTP/1.0 200 OK"),
        (
            b"GET /hello HTTP/1.1\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 400 Bad",
        ),
        (b"PRI HTTP\r\n\r\n", "HTTP/1.1 400 Bad"),
        (b"nonsense\r\n\r\n", "HTTP/1.1 400 Bad"),
    ] {
        let mut io = client::raw(&serving.other, serving.at, said).await;
        let mut text = String::new();
        io.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with(answered), "{text}");
    }
    for (length, status) in [(15 << 10, 200), (17 << 10, 431), (100 << 10, 431)] {
        let mut long = serving.client().await;
        let mut request = request("/hello", empty());
        let value = "x".repeat(length).parse().unwrap();
        request.headers_mut().insert("x-long", value);
        assert_eq!(long.send(request).await.status(), status, "{length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways() {
    let serving = Serving::start(|_| ()).await;
    let (mut sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, hyper::Error>>(0);
    let mut client = serving.client().await;
    let body = http_body_util::BodyExt::boxed(StreamBody::new(receiver));
    let chunk = |number: u8| Ok(Frame::data(Bytes::from(vec![number; 100_000])));
    sender.feed(chunk(0)).await.unwrap();
    let mut answer = client.send(request("/echo", body)).await.into_body();
    for number in 0..20 {
        // What was sent comes back before more is sent.
        let mut got = 0;
        while got < 100_000 {
            let data = answer.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(data.iter().all(|&byte| byte == number));
            got += data.len();
        }
        sender.send(chunk(number + 1)).await.unwrap();
    }
    drop(sender);
    assert_eq!(answer.collect().await.unwrap().to_bytes().len(), 100_000);
    let big = vec![9; 20 << 20];
    let answer = client.send(request("/echo", full(big.clone()))).await;
    assert_eq!(whole(answer).await.unwrap(), (200, big.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_takes_its_instance_along() {
    let serving = Serving::start(|_| ()).await;
    let mut client = serving.client().await;
    let mut answer = client.send(request("/infinite", empty())).await.into_body();
    let mut got = 0;
    while got < 5 << 20 {
        got += answer
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap()
            .len();
    }
    assert!(serving.running.usage().memory > 0);
    drop((client, answer));
    serving.idle().await;
    for said in [
        &b"GET /sleep?3600000 HTTP/1.1\r\nhost: web\r\n\r\n"[..],
        // Most of its body is never read.
        b"POST /sleep?3600000 HTTP/1.1\r\nhost: web\r\ncontent-length: 9999\r\n\r\nbegin",
        b"GET /spin?3600000 HTTP/1.1\r\nhost: web\r\n\r\n",
    ] {
        let io = client::raw(&serving.other, serving.at, said).await;
        until("it runs", || serving.running.usage().memory > 0).await;
        drop(io);
        serving.idle().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_the_answer_is_done() {
    let serving = Serving::start(|_| ()).await;
    assert_eq!(
        serving.get("/afterwards?100").await,
        (200, "answered".into())
    );
    until("nothing comes", || serving.stdout.text() == "afterwards\n").await;
    serving.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_fails_and_others_do_not() {
    let limit = 16 << 20;
    let serving = Serving::start(|workload| workload.limits.memory = Some(limit)).await;
    for (path, line) in [
        ("/trap", "GET /trap: error while executing"),
        (
            "/allocate?99000000",
            "GET /allocate: out of memory: the limit is 16777216 bytes",
        ),
        ("/fields?1100", "GET /fields: error while executing"),
        ("/none", "GET /none: the handler returned without an answer"),
        ("/exit", "GET /exit: the handler exited with code 1"),
        (
            "/refuse",
            "GET /refuse: answered with ErrorCode::LoopDetected",
        ),
    ] {
        let mut client = serving.client().await;
        assert_eq!(client.get(path).await.0, 500, "{path}");
        let printed = serving.stderr.text();
        assert!(printed.contains(line), "{path}: {printed}");
        assert_eq!(client.get("/hello").await.0, 200, "after {path}");
    }
    for (path, answer) in [("/allocate?9000000", "9000000"), ("/fields?900", "900")] {
        assert_eq!(serving.get(path).await, (200, answer.into()), "{path}");
    }
    // A few bytes may not be sent yet when the handler fails, so that it is a 500; of many some are. The client learns of it
    // before the body or within it: never does the answer seem whole.
    for path in ["/trap-late?10", "/trap-late?1000000"] {
        let mut client = serving.client().await;
        let sent = client.try_send(request(path, empty())).await;
        let Ok(response) = sent else { continue };
        let status = response.status();
        match whole(response).await {
            Ok(_) => assert_eq!(status, 500, "{path}"),
            Err(broken) => {
                let cause = std::error::Error::source(&broken)
                    .and_then(|cause| cause.downcast_ref::<std::io::Error>());
                let ended =
                    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::UnexpectedEof);
                assert!(broken.is_incomplete_message() || ended, "{broken:?}");
            }
        }
    }
    serving.idle().await;
    assert_eq!(serving.running.exit(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_share_their_quota() {
    let serving = Serving::start(|workload| workload.limits.cpu_quota = Some(0.2)).await;
    let mut kept = Vec::new();
    let begun = Instant::now();
    for _ in 0..4 {
        let said = b"GET /spin?3600000 HTTP/1.1\r\nhost: web\r\n\r\n";
        kept.push(client::raw(&serving.other, serving.at, said).await);
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (used, elapsed) = (serving.running.usage().cpu, begun.elapsed());
    // What was saved up before counts for another 20 ms, and a slice may be late.
    let due = elapsed.mul_f64(0.2) + Duration::from_millis(40);
    assert!(
        used < due && used > elapsed.mul_f64(0.1),
        "{used:?} in {elapsed:?}"
    );
    assert_eq!(serving.stdout.text(), "spins\n".repeat(4));
    let killed = Instant::now();
    serving.running.kill();
    assert_eq!(ended(&serving.running).await, Exit::Killed);
    assert!(killed.elapsed() < Duration::from_millis(500));
    assert_eq!(serving.running.usage().memory, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_memory_and_not_for_ever() {
    let limit = 4 << 20;
    let serving = Serving::start(|workload| workload.limits.memory = Some(limit)).await;
    let short = (0..20).map(|_| serving.get("/sleep?20"));
    for (status, _) in futures::future::join_all(short).await {
        assert_eq!(status, 200);
    }
    let said = b"GET /sleep?3600000 HTTP/1.1\r\nhost: web\r\n\r\n";
    let mut kept: Vec<_> = futures::stream::iter(0..1_000)
        .map(|_| client::raw(&serving.other, serving.at, said))
        .buffered(100)
        .collect()
        .await;
    // Some of them run, as many as fit. A thousand wait, and no more.
    loop {
        let mut io = client::raw(&serving.other, serving.at, said).await;
        let mut status = [0; 12];
        tokio::select! {
            biased;
            read = io.read_exact(&mut status) => {
                read.unwrap();
                assert_eq!(&status, b"HTTP/1.1 503");
                break;
            }
            () = tokio::time::sleep(Duration::from_millis(300)) => kept.push(io),
        }
        assert!(kept.len() < 1_010);
    }
    assert!(serving.running.usage().memory <= limit);
    drop(kept);
    assert_eq!(serving.get("/hello").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_leaves_places_to_others() {
    let bench = Bench::with(|config| config.instances = 40);
    let serving = Serving::start_on(bench, |_| ()).await;
    let mut slow = Vec::new();
    // One has the server's own place, and the others are a ninth of what is left.
    for _ in 0..5 {
        let mut client = serving.client().await;
        slow.push(tokio::spawn(
            async move { client.get("/sleep?3600000").await },
        ));
    }
    let asleep = "asleep\n".repeat(5);
    until("all run", || serving.stdout.text() == asleep).await;
    let full = (503, "the node is full\n".into());
    assert_eq!(serving.get("/hello").await, full);
    let module = serving.bench.player(Player::Core).await;
    let start = || serving.bench.runtime.start(script(&module, &["forever"]).0);
    let _others: Vec<_> = (0..35).map(|_| start().unwrap()).collect();
    assert!(matches!(start(), Err(StartError::Exhausted(_))));
    for request in slow {
        request.abort();
    }
    // Its own place is free again, though there is no other.
    let answered = async { while serving.get("/hello").await != (200, "hello\n".into()) {} };
    let soon = tokio::time::timeout(Duration::from_secs(30), answered);
    soon.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_have_their_grace() {
    let serving = Serving::start(|_| ()).await;
    let mut idle = serving.client().await;
    idle.get("/hello").await;
    let silent = client::raw(&serving.other, serving.at, b"").await;
    let mut busy = serving.client().await;
    let slow = tokio::spawn(async move { busy.get("/sleep?1000").await });
    until("it runs", || serving.stdout.text() == "asleep\n").await;
    serving.running.terminate(Duration::from_secs(30));
    idle.closed().await;
    drop(silent);
    until("nobody listens", || {
        let connecting = serving.other.connect(serving.at);
        let refused = futures::FutureExt::now_or_never(connecting);
        matches!(refused, Some(Err(SocketError::Refused)))
    })
    .await;
    assert_eq!(serving.running.exit(), None);
    assert_eq!(slow.await.unwrap(), (200, "slept".into()));
    assert_eq!(ended(&serving.running).await, Exit::Code(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn grace_has_an_end() {
    let serving = Serving::start(|_| ()).await;
    let said = b"GET /sleep?3600000 HTTP/1.1\r\nhost: web\r\n\r\n";
    let _io = client::raw(&serving.other, serving.at, said).await;
    until("it runs", || serving.stdout.text() == "asleep\n").await;
    serving.running.terminate(Duration::from_millis(100));
    assert_eq!(ended(&serving.running).await, Exit::Killed);
    assert_eq!(serving.running.usage().memory, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_serve() {
    let serving = Serving::start(|_| ()).await;
    let module = serving.bench.web(Web::Server).await;
    let (mut second, stderr) = (Workload::new(module.clone()), Capture::new(1 << 10));
    second.net = Some(serving.pod.clone());
    second.stderr = Box::new(stderr.clone());
    assert_eq!(run(&serving.bench, second).await, Exit::Code(1));
    assert_eq!(
        stderr.text(),
        "cannot listen at port 8080: address in use\n"
    );
    let mut zero = Workload::new(module.clone());
    (zero.net, zero.serve) = (Some(serving.pod.clone()), vec![0.into()]);
    for (workload, named) in [(Workload::new(module), "a network"), (zero, "port 0")] {
        match serving.bench.runtime.start(workload) {
            Err(StartError::Invalid(why)) => assert!(why.contains(named), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(serving.bench.runtime.metrics().running, 1);
}
