//! Probes of servers that answer, and of those that do not.

mod grpc;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use network::{Listener, Network, PodNet, Stream};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::task::AbortOnDropHandle;

use serde_json::json;

use super::*;

#[test]
fn ports_have_numbers_or_names() {
    let spec: Container = serde_json::from_value(json!({
        "name": "c", "ports": [{"name": "http", "containerPort": 8080}],
    }))
    .unwrap();
    let name = |name: &str| IntOrString::String(name.to_owned());
    for (port, due) in [
        (IntOrString::Int(80), Ok(80)),
        (name("http"), Ok(8080)),
        (name("81"), Ok(81)),
        (
            name("https"),
            Err("strconv.Atoi: parsing \"https\": invalid syntax"),
        ),
        (IntOrString::Int(0), Err("invalid port number: 0")),
        (IntOrString::Int(65_536), Err("invalid port number: 65536")),
    ] {
        assert_eq!(port_of(&spec, &port), due.map_err(str::to_owned));
    }
}

#[test]
fn outcomes_are_told_in_the_kubelets_words() {
    let why = || "why".to_owned();
    for (outcome, found, reason, message) in [
        (
            Outcome::Warning(why()),
            Found::Success,
            "ProbeWarning",
            "Readiness probe warning: why",
        ),
        (
            Outcome::Failure(why()),
            Found::Failure,
            "Unhealthy",
            "Readiness probe failed: why",
        ),
        (
            Outcome::Error(why()),
            Found::Nothing,
            "Unhealthy",
            "Readiness probe errored and resulted in unknown state: why",
        ),
    ] {
        let event = Some((reason, message.to_owned()));
        assert_eq!(judge(ProbeKind::Readiness, outcome), (found, event));
    }
    assert_eq!(
        judge(ProbeKind::Liveness, Outcome::Success),
        (Found::Success, None)
    );
}

fn pod() -> (Network, PodNet) {
    let network = Network::new("10.128.0.0/24".parse().unwrap());
    let pod = network.join("uid").unwrap();
    (network, pod)
}

fn listen(pod: &PodNet, ip: Ipv4Addr, port: u16) -> Listener {
    let at = SocketAddrV4::new(ip, port);
    Listener::new(Arc::new(pod.bind_stream(at).unwrap()), 8)
}

/// Hands each connection to a port of the pod to `serve`.
fn server<F>(
    pod: &PodNet,
    port: u16,
    serve: impl Fn(Stream) -> F + Send + 'static,
) -> AbortOnDropHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = listen(pod, Ipv4Addr::UNSPECIFIED, port);
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let stream = listener.accept().await;
            tokio::spawn(serve(stream));
        }
    }))
}

async fn outcome(
    network: &Network,
    pod: &PodNet,
    awaits: bool,
    probe: serde_json::Value,
) -> Outcome {
    let room = Room::of_pod();
    outcome_in(&room, network, pod, awaits, probe).await
}

async fn outcome_in(
    room: &Room,
    network: &Network,
    pod: &PodNet,
    awaits: bool,
    probe: serde_json::Value,
) -> Outcome {
    let dialer = Dialer {
        network,
        address: pod.address(),
        rooms: Rooms {
            pod: room,
            node: &Room::of_node(),
        },
    };
    let spec = serde_json::from_value(json!({"name": "c"})).unwrap();
    let probe = serde_json::from_value(probe).unwrap();
    make(&probe, &spec, &dialer, awaits).await
}

fn failure(why: &str) -> Outcome {
    Outcome::Failure(why.to_owned())
}

/// A request's head, whole.
async fn head(io: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match io.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Answers each path in its own way.
async fn answer(mut io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    let head = head(&mut io).await;
    let path = head.split(' ').nth(1).unwrap_or_default();
    let redirect =
        |to: &str| format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 4\r\n\r\nbody");
    let text = match path {
        "/" | "/ok" | "/a%20b?q=1" => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        "/none" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "/broken" => "HTTP/1.1 503 Service Unavailable\r\n\r\n".to_owned(),
        "/here" => redirect("/ok"),
        "/port" => redirect("http://10.128.0.1:81/"),
        "/there" => redirect("http://10.128.0.2/ok"),
        "/loop" => redirect("/loop"),
        "/nowhere" => "HTTP/1.1 301 Moved\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "/noise" => "SSH-2.0-OpenSSH\r\n".to_owned(),
        "/endless" => return endless(io, "HTTP/1.1 200 OK\r\n\r\n", "more").await,
        "/heads" => return endless(io, "HTTP/1.1 200 OK\r\n", "a: b\r\n").await,
        "/silent" => return std::future::pending().await,
        _ => String::new(),
    };
    let _ = io.write_all(text.as_bytes()).await;
    let _ = io.shutdown().await;
}

async fn endless(mut io: impl tokio::io::AsyncWrite + Unpin, first: &str, then: &str) {
    let mut text = first.as_bytes().to_vec();
    while io.write_all(&text).await.is_ok() {
        text = then.repeat(1000).into_bytes();
    }
}

#[tokio::test(start_paused = true)]
async fn http_answers_are_judged() {
    let (network, pod) = pod();
    let _server = server(&pod, 80, |stream| answer(stream.into_io()));
    let _other = server(&pod, 81, |stream| answer(stream.into_io()));
    let warning =
        |body: &str| Outcome::Warning(format!("Probe terminated redirects, Response body: {body}"));
    let silent = "Get \"http://10.128.0.1:80/silent\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    for (path, due) in [
        ("", Outcome::Success),
        ("ok", Outcome::Success),
        ("/a b?q=1", Outcome::Success),
        ("/none", Outcome::Success),
        ("/broken", failure("HTTP probe failed with statuscode: 503")),
        ("/here", Outcome::Success),
        ("/port", Outcome::Success),
        ("/there", warning("body")),
        ("/nowhere", warning("")),
        (
            "/loop",
            failure("Get \"http://10.128.0.1:80/loop\": stopped after 10 redirects"),
        ),
        (
            "/closes",
            failure("Get \"http://10.128.0.1:80/closes\": EOF"),
        ),
        ("/endless", Outcome::Success),
        ("/silent", failure(silent)),
    ] {
        let probe = json!({"httpGet": {"path": path, "port": 80}});
        assert_eq!(outcome(&network, &pod, false, probe).await, due, "{path}");
    }
    for path in ["/noise", "/heads"] {
        let probe = json!({"httpGet": {"path": path, "port": 80}});
        let found = outcome(&network, &pod, false, probe).await;
        assert!(matches!(found, Outcome::Failure(_)), "{path}: {found:?}");
    }
}

#[tokio::test]
async fn requests_are_as_the_probe_says() {
    let (network, pod) = pod();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let _server = server(&pod, 8080, move |stream| {
        let seen = Arc::clone(&seen);
        async move {
            let mut io = stream.into_io();
            let head = head(&mut io).await;
            seen.lock().push(head);
            let _ = io.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        }
    });
    for extra in [
        json!([]),
        json!([
            {"name": "Host", "value": "shop.example"}, {"name": "X-A", "value": "1"}, {"name": "x-a", "value": "2"},
            {"name": "User-Agent", "value": "mine"}, {"name": "accept", "value": ""},
        ]),
    ] {
        let probe = json!({"httpGet": {"path": "/x", "port": 8080, "httpHeaders": extra}});
        assert_eq!(
            outcome(&network, &pod, false, probe).await,
            Outcome::Success
        );
    }
    let sorted = |head: &str| {
        let mut lines: Vec<_> = head
            .lines()
            .filter(|l| !l.is_empty())
            .map(str::to_owned)
            .collect();
        lines[1..].sort();
        lines
    };
    let heads: Vec<_> = heads.lock().iter().map(|head| sorted(head)).collect();
    let first = [
        "GET /x HTTP/1.1",
        "accept: */*",
        "connection: close",
        "host: 10.128.0.1:8080",
        "user-agent: kube-probe/1.36",
    ];
    let second = [
        "GET /x HTTP/1.1",
        "connection: close",
        "host: shop.example",
        "user-agent: mine",
        "x-a: 1",
        "x-a: 2",
    ];
    assert_eq!(heads, [first.to_vec(), second.to_vec()]);
    let bad = json!({"httpGet": {"port": 8080, "httpHeaders": [{"name": "a b", "value": ""}]}});
    let found = outcome(&network, &pod, false, bad).await;
    assert_eq!(
        found,
        failure("net/http: invalid header field name \"a b\"")
    );
}

#[tokio::test]
async fn https_trusts_whoever_answers() {
    let (network, pod) = pod();
    // Nobody vouches for it, and it is somebody else's.
    let made = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let _server = server(&pod, 443, move |stream| {
        let tls = tls.clone();
        async move { answer(tls.accept(stream.into_io()).await.unwrap()).await }
    });
    let get = |path: &str| json!({"httpGet": {"path": path, "port": 443, "scheme": "HTTPS"}});
    assert_eq!(
        outcome(&network, &pod, false, get("/ok")).await,
        Outcome::Success
    );
    let found = outcome(&network, &pod, false, get("/broken")).await;
    assert_eq!(found, failure("HTTP probe failed with statuscode: 503"));
    // A server that does not speak it.
    let _plain = server(&pod, 80, |stream| answer(stream.into_io()));
    let probe = json!({"httpGet": {"port": 80, "scheme": "HTTPS"}});
    let found = outcome(&network, &pod, false, probe).await;
    assert!(matches!(found, Outcome::Failure(_)), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn sockets_are_there_or_not() {
    let (network, pod) = pod();
    let socket = |port: u16| json!({"tcpSocket": {"port": port}, "timeoutSeconds": 3});
    let refused = failure("dial tcp 10.128.0.1:80: connect: connection refused");
    let local = listen(&pod, Ipv4Addr::LOCALHOST, 80);
    let began = Instant::now();
    assert_eq!(outcome(&network, &pod, false, socket(80)).await, refused);
    assert_eq!(began.elapsed(), Duration::ZERO);
    // The same words where it was waited for.
    assert_eq!(outcome(&network, &pod, true, socket(80)).await, refused);
    assert_eq!(began.elapsed().as_secs(), 3);
    drop(local);
    let waiting = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        listen(&pod, Ipv4Addr::UNSPECIFIED, 80)
    };
    let probe = outcome(&network, &pod, true, socket(80));
    let (found, _listener) = tokio::join!(probe, waiting);
    assert_eq!((found, began.elapsed().as_secs()), (Outcome::Success, 5));
    // Who accepts nothing is not met once its backlog is full.
    let stuck = Listener::new(
        Arc::new(
            pod.bind_stream(SocketAddrV4::new(pod.address(), 82))
                .unwrap(),
        ),
        1,
    );
    assert_eq!(
        outcome(&network, &pod, false, socket(82)).await,
        Outcome::Success
    );
    for awaits in [false, true] {
        let found = outcome(&network, &pod, awaits, socket(82)).await;
        assert_eq!(found, failure("dial tcp 10.128.0.1:82: i/o timeout"));
    }
    drop(stuck);
    let elsewhere = json!({"tcpSocket": {"host": "10.128.0.9", "port": 80}});
    assert_eq!(
        outcome(&network, &pod, false, elsewhere).await,
        failure("dial tcp 10.128.0.9:80: connect: no route to host")
    );
}

#[tokio::test(start_paused = true)]
async fn who_only_waits_takes_no_room() {
    let (network, pod) = pod();
    let (room, began) = (Room::new(1, 1), Instant::now());
    let probe = |awaits: bool, kind: &str, port: u16| {
        let probe = json!({kind: {"port": port}, "timeoutSeconds": 3});
        let made = outcome_in(&room, &network, &pod, awaits, probe);
        async move { (made.await, began.elapsed().as_secs()) }
    };
    let _open = listen(&pod, Ipv4Addr::UNSPECIFIED, 80);
    let _silent = listen(&pod, Ipv4Addr::UNSPECIFIED, 82);
    let (waiting, other) = tokio::join!(probe(true, "tcpSocket", 81), async {
        tokio::task::yield_now().await;
        probe(true, "tcpSocket", 80).await
    });
    assert_eq!(other, (Outcome::Success, 0));
    let refused = failure("dial tcp 10.128.0.1:81: connect: connection refused");
    assert_eq!(waiting, (refused, 3));
    // Who is not answered does, and what waits for that has its time all the same.
    let (unanswered, other) = tokio::join!(probe(false, "httpGet", 82), async {
        tokio::task::yield_now().await;
        probe(false, "tcpSocket", 80).await
    });
    assert!(
        matches!(unanswered, (Outcome::Failure(_), 6)),
        "{unanswered:?}"
    );
    assert_eq!(other, (Outcome::Success, 6));
}

#[tokio::test(start_paused = true)]
async fn so_many_names_are_looked_up_at_a_time() {
    let (network, pod) = pod();
    let none = Room::new(1, 0);
    let socket = |host: &str| json!({"tcpSocket": {"host": host, "port": 80}});
    let found = outcome_in(&none, &network, &pod, false, socket("name.example")).await;
    assert_eq!(found, failure("dial tcp name.example:80: i/o timeout"));
    let rooms = Rooms {
        pod: &none,
        node: &none,
    };
    // What is no name needs no looking up.
    for (address, due) in [
        ("192.0.2.1", "192.0.2.1:7"),
        ("2001:db8::1", "[2001:db8::1]:7"),
    ] {
        let found = rooms.look_up(address, 7).await.unwrap();
        assert_eq!(found, [due.parse::<SocketAddr>().unwrap()]);
    }
}

#[tokio::test]
async fn other_hosts_are_reached_as_by_the_nodes_own_processes() {
    let (network, pod) = pod();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost"] {
        let socket = json!({"tcpSocket": {"host": host, "port": port}});
        assert_eq!(
            outcome(&network, &pod, false, socket).await,
            Outcome::Success,
            "{host}"
        );
    }
    let _server = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket));
        }
    }));
    let get = json!({"httpGet": {"host": "127.0.0.1", "port": port, "path": "/none"}});
    assert_eq!(outcome(&network, &pod, false, get).await, Outcome::Success);
}
