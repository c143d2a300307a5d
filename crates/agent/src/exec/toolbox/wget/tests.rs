//! Requests to a server in the pod's network.

use std::net::Ipv4Addr;
use std::sync::Arc;

use network::names::search::{Hosts, Search};
use network::{Listener, Network, Stream};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::super::tests::{Container, Ran, fails, said};

/// A container whose pod knows another one as `web`, which answers at port 8080.
fn container() -> (Container, AbortOnDropHandle<()>) {
    serving(8080, |stream| {
        tokio::spawn(answer(stream.into_io()));
    })
}

/// A container whose pod knows another one as `web`, which serves at this port.
fn serving(
    port: u16,
    serve: impl Fn(Stream) + Send + 'static,
) -> (Container, AbortOnDropHandle<()>) {
    let network = Network::new("10.128.0.0/24".parse().unwrap());
    let (pod, server) = (
        network.join("pod").unwrap(),
        network.join("server").unwrap(),
    );
    let bound = server.bind_stream((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    let listener = Listener::new(Arc::new(bound), 8);
    let mut hosts = Hosts::new();
    hosts.add("web", server.address());
    let mut container = Container::with(&[]);
    container.view.net = Some(pod);
    container.view.names = Arc::new(Search::none(hosts));
    let serving = tokio::spawn(async move {
        // Its address is taken for as long as it is held.
        let _server = server;
        loop {
            let stream = listener.accept().await;
            serve(stream);
        }
    });
    (container, AbortOnDropHandle::new(serving))
}

/// Answers each path in its own way.
async fn answer(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match io.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map_or("", |(_, value)| value)
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    io.read_exact(&mut body).await.unwrap();
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let moved =
        |to: &str| format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
    let text = match path {
        "/ok" if method == "HEAD" => "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n".to_owned(),
        "/ok" | "/" => "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nx-a: b\r\n\r\nhello\n".to_owned(),
        "/moved" => moved("/echo"),
        "/away" => moved("http://web:8080/echo"),
        "/loop" => moved("/loop"),
        "/ftp" => moved("ftp://web/"),
        "/cut" => "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhel".to_owned(),
        "/noise" => "SSH-2.0-OpenSSH\r\n".to_owned(),
        "/silent" => return std::future::pending().await,
        path if path.starts_with("/echo") => {
            let body = String::from_utf8(body).unwrap();
            let names = ["host", "user-agent", "authorization", "x-a"];
            let said = names.map(header).join("|");
            let body = format!("{method} {path}|{said}|{body}\n");
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        }
        _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nno\n".to_owned(),
    };
    let _ = io.write_all(text.as_bytes()).await;
    let _ = io.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_answered() {
    let (container, _server) = container();
    let error = |why: &str| fails(1, &format!("wget: {why}\n"));
    for (words, due) in [
        ("-qO- http://web:8080/ok", said("hello\n")),
        ("-q -O - web:8080", said("hello\n")),
        ("-qO- http://10.128.0.2:8080/ok", said("hello\n")),
        (
            "-qO- http://web:8080/echo?a=b%20c",
            said("GET /echo?a=b%20c|web:8080|Wget|||\n"),
        ),
        (
            "-qO- web:8080/echo?u=http://a/b",
            said("GET /echo?u=http://a/b|web:8080|Wget|||\n"),
        ),
        (
            "-qO- --header X-A:b -U me web:8080/echo",
            said("GET /echo|web:8080|me||b|\n"),
        ),
        (
            "-qO- --post-data=a=b web:8080/echo",
            said("POST /echo|web:8080|Wget|||a=b\n"),
        ),
        (
            "-qO- http://me:p%40ss@web:8080/echo",
            said("GET /echo|web:8080|Wget|Basic bWU6cEBzcw==||\n"),
        ),
        (
            "-qO- --post-data=a=b web:8080/moved",
            said("GET /echo|web:8080|Wget|||\n"),
        ),
        (
            "-qO- --header Authorization:s 10.128.0.2:8080/away",
            said("GET /echo|web:8080|Wget|||\n"),
        ),
        ("-q --spider web:8080/ok", said("")),
        (
            "-q --spider web:8080/nope",
            error("server returned error: HTTP/1.1 404 Not Found"),
        ),
        (
            "-qO- web:8080/nope",
            error("server returned error: HTTP/1.1 404 Not Found"),
        ),
        ("-qO- web:8080/loop", error("too many redirections")),
        ("-qO- web:8080/ftp", error("not an http or https url: ftp")),
        ("-qO- -T1 web:8080/silent", error("download timed out")),
        (
            "-qO- web:8080/cut",
            Ran::of("hel", "wget: connection closed prematurely\n", 1),
        ),
        (
            "-qO- web:81",
            error("can't connect to remote host (10.128.0.2): Connection refused"),
        ),
        (
            "-qO- 10.128.0.9:81",
            error("can't connect to remote host (10.128.0.9): No route to host"),
        ),
        (
            "-qO- nobody.cluster.local",
            error("bad address 'nobody.cluster.local'"),
        ),
        ("-q http://", error("bad address 'http://'")),
        ("-q ftp://web/", error("not an http or https url: ftp")),
        ("-q", error("missing URL")),
        ("-q a b", error("more than one URL is not supported: b")),
        ("-c a", error("unrecognized option: -c")),
        ("-p a", error("unrecognized option: -p")),
        ("-T0 a", error("invalid number of -T")),
        ("--header a web", error("invalid header")),
    ] {
        let words: Vec<&str> = ["wget"].into_iter().chain(words.split(' ')).collect();
        assert_eq!(container.run(&words, "").await, due, "{words:?}");
    }
    let noise = container.run(&["wget", "-qO-", "web:8080/noise"], "").await;
    assert_eq!((noise.code, noise.stdout), (1, Vec::new()));
    assert!(
        noise.stderr.starts_with("wget: error getting response"),
        "{}",
        noise.stderr
    );
}

#[tokio::test]
async fn what_is_said_and_saved() {
    let (container, _server) = container();
    let connecting = "Connecting to web:8080 (10.128.0.2:8080)\n";
    let saved = |name: &str| format!("{connecting}saving to '{name}'\n'{name}' saved\n");
    let head = "  HTTP/1.1 200 OK\n  content-length: 6\n  x-a: b\n";
    for (line, due) in [
        ("wget web:8080/ok", fails(0, &saved("ok"))),
        (
            "wget -q web:8080/ok",
            fails(1, "wget: can't open 'ok': File exists\n"),
        ),
        ("wget web:8080", fails(0, &saved("index.html"))),
        ("wget -O ok web:8080/ok", fails(0, &saved("ok"))),
        (
            "wget -q -O /no/where web:8080/ok",
            fails(
                1,
                "wget: can't open '/no/where': No such file or directory\n",
            ),
        ),
        ("wget -qSO- web:8080/ok", Ran::of("hello\n", head, 0)),
        (
            "wget --spider web:8080/ok",
            fails(0, &format!("{connecting}remote file exists\n")),
        ),
        (
            "wget -O- web:8080/ok",
            Ran::of(
                "hello\n",
                &format!("{connecting}writing to stdout\nwritten to stdout\n"),
                0,
            ),
        ),
        ("cat ok index.html", said("hello\nhello\n")),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(container.run(&words, "").await, due, "{line}");
    }
}

#[tokio::test]
async fn names_mean_what_they_mean_to_guests() {
    let (mut container, _server) = container();
    let nobody = "** server can't find nobody.cluster.local: NXDOMAIN\n";
    container
        .all(&[
            (
                "nslookup web",
                "",
                said("Name:\tweb\nAddress: 10.128.0.2\n"),
            ),
            (
                "nslookup WEB.",
                "",
                said("Name:\tWEB.\nAddress: 10.128.0.2\n"),
            ),
            (
                "nslookup localhost",
                "",
                said("Name:\tlocalhost\nAddress: 127.0.0.1\nAddress: ::1\n"),
            ),
            ("nslookup nobody.cluster.local", "", Ran::of(nobody, "", 1)),
            (
                "nslookup 10.0.0.1",
                "",
                fails(
                    1,
                    "nslookup: names of addresses are not supported: 10.0.0.1\n",
                ),
            ),
            (
                "nslookup web 10.0.0.1",
                "",
                fails(
                    1,
                    "nslookup: asking another server is not supported: 10.0.0.1\n",
                ),
            ),
            (
                "nslookup -type=a web",
                "",
                fails(1, "nslookup: unrecognized option: -t\n"),
            ),
            (
                "nslookup",
                "",
                fails(1, "nslookup: interactive mode is not supported\n"),
            ),
        ])
        .await;
    container.view.net = None;
    container
        .all(&[
            (
                "nslookup web",
                "",
                fails(1, "nslookup: there is no network\n"),
            ),
            ("wget -q web", "", fails(1, "wget: there is no network\n")),
        ])
        .await;
}

#[tokio::test]
async fn whom_https_trusts() {
    let made = rcgen::generate_simple_self_signed(["web".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (mut container, _server) = serving(8443, move |stream| {
        let accepting = acceptor.accept(stream.into_io());
        tokio::spawn(async move {
            if let Ok(tls) = accepting.await {
                answer(tls).await;
            }
        });
    });
    let url = "https://web:8443/ok";
    let refused = container.run(&["wget", "-qO-", url], "").await;
    assert_eq!((refused.code, refused.stdout), (1, Vec::new()));
    let why = "wget: TLS error from peer: ";
    assert!(refused.stderr.starts_with(why), "{}", refused.stderr);
    let anybody = ["wget", "-qO-", "--no-check-certificate", url];
    assert_eq!(container.run(&anybody, "").await, said("hello\n"));
    container.view.tls = runtime::tls::trusting_authorities(&[certificate]).unwrap();
    let trusting = container.run(&["wget", "-qO-", url], "").await;
    assert_eq!(trusting, said("hello\n"));
}
