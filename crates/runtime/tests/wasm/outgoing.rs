//! Requests that guests make.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use network::{Listener, Network, PodNet};
use runtime::{Exit, Runtime, Workload};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::Client;
use crate::support::{Bench, Web, named, run, script};

fn node() -> Network {
    Network::new("10.128.0.0/24".parse().unwrap())
}

/// What a process in this pod is answered from these URLs. It knows the pod `web`.
async fn fetch(bench: &Bench, pod: Option<&PodNet>, web: Ipv4Addr, urls: &[&str]) -> String {
    let module = bench.web(Web::Client).await;
    let (mut workload, stdout) = script(&module, urls);
    workload.net = pod.cloned();
    workload.names = named("web", web);
    assert_eq!(run(bench, workload).await, Exit::Code(0));
    stdout.text()
}

async fn listen(pod: &PodNet, port: u16) -> Listener {
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    Listener::new(Arc::new(pod.bind_stream(any).unwrap()), 16)
}

#[tokio::test(flavor = "multi_thread")]
async fn to_another_pods_server() {
    let bench = Bench::new();
    let node = node();
    let (server, other) = (node.join("one").unwrap(), node.join("two").unwrap());
    let mut workload = Workload::new(bench.web(Web::Server).await);
    workload.net = Some(server.clone());
    workload.names = named("web", server.address());
    let _running = bench.runtime.start(workload).unwrap();
    let web = server.address();
    let urls = [
        &format!("http://{web}:8080/hello"),
        "http://web:8080/hello",
        "http://web:8080/missing",
        &format!("http://{web}/"),
        "http://web:8081/",
        "http://localhost/",
        "http://nobody/",
        "http://10.128.0.99/",
    ];
    let answers = fetch(&bench, Some(&other), web, &urls).await;
    let expected = [
        "200 hello\n",
        "200 hello\n",
        "404 not found",
        "ErrorCode::ConnectionRefused",
        "ErrorCode::ConnectionRefused",
        "ErrorCode::ConnectionRefused",
        "ErrorCode::DnsError(DnsErrorPayload { rcode: Some(\"NXDOMAIN\"), info-code: None })",
        "ErrorCode::DestinationIpUnroutable",
    ];
    assert_eq!(answers, expected.join("\n") + "\n");
    let none = fetch(&bench, None, web, &["http://web/"]).await;
    assert_eq!(none, "ErrorCode::HttpRequestDenied\n");
    // A server asks itself, while it answers.
    let mut client = Client::connect(&other, SocketAddrV4::new(web, 8080)).await;
    let path = "/fetch?http://web:8080/fetch?http://localhost:8080/hello";
    assert_eq!(client.get(path).await, (200, "hello\n".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn timeouts_and_ends() {
    let bench = Bench::new();
    let node = node();
    let (server, client) = (node.join("one").unwrap(), node.join("two").unwrap());
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
    let long = format!(
        "HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n",
        "x".repeat(20 << 10)
    );
    for (said, closes, answer) in [
        ("", false, "ErrorCode::ConnectionReadTimeout"),
        ("", true, "ErrorCode::HttpResponseIncomplete"),
        ("SSH-2.0-x\r\n", false, "ErrorCode::HttpProtocolError"),
        (head, false, "after 5 bytes"),
        (head, true, "after 5 bytes"),
        ("HTTP/1.1 200 OK\r\n\r\nall", true, "200 all"),
        (&long, true, "ErrorCode::HttpResponseHeaderSectionSize"),
    ] {
        let bytes = said.to_owned();
        let listener = listen(&server, 80).await;
        let serving = tokio::spawn(async move {
            let mut io = listener.accept().await.into_io();
            // The request's head comes in one piece.
            let _ = io.read(&mut [0; 4096]).await.unwrap();
            io.write_all(bytes.as_bytes()).await.unwrap();
            if !closes {
                std::future::pending().await
            }
        });
        let got = fetch(
            &bench,
            Some(&client),
            server.address(),
            &["http://web/#hurry"],
        )
        .await;
        assert!(got.contains(answer), "{said:?}, {closes}: {got}");
        serving.abort();
        let _ = serving.await;
    }
}

/// Answers TLS connections for `web` by a certificate of its own, which it gives.
async fn https(pod: &PodNet) -> rustls::pki_types::CertificateDer<'static> {
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
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = listen(pod, 443).await;
    tokio::spawn(async move {
        loop {
            let Ok(mut tls) = acceptor.accept(listener.accept().await.into_io()).await else {
                continue;
            };
            let _ = tls.read(&mut [0; 4096]).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret";
            let _ = tls.write_all(answer).await;
            let _ = tls.shutdown().await;
        }
    });
    certificate
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_tls_trusts() {
    let node = node();
    let (server, client) = (node.join("one").unwrap(), node.join("two").unwrap());
    let certificate = https(&server).await;
    let web = server.address();
    let by_address = format!("https://{web}/");
    let urls = ["https://web/", &by_address];
    let stranger = Bench::new();
    let refused = fetch(&stranger, Some(&client), web, &urls).await;
    let error = "ErrorCode::TlsCertificateError\n";
    assert_eq!(refused, error.repeat(2));
    let friend = Bench::with(|config| config.roots = vec![certificate]);
    // The certificate is for the name.
    let answers = fetch(&friend, Some(&client), web, &urls).await;
    assert_eq!(answers, format!("200 secret\n{error}"));
    let plain = listen(&server, 80).await;
    let accepting = tokio::spawn(async move {
        let mut io = plain.accept().await.into_io();
        io.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
        // Until the client goes: what it says first would else meet an end, or not.
        let _ = tokio::io::copy(&mut io, &mut tokio::io::sink()).await;
        std::io::Result::Ok(())
    });
    let answer = fetch(&friend, Some(&client), web, &["https://web:80/"]).await;
    assert_eq!(answer, "ErrorCode::TlsProtocolError\n");
    accepting.await.unwrap().unwrap();
}
