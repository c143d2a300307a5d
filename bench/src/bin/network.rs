//! The pods' network, without guests: what a stream costs on one node beside the system's loopback, between two nodes
//! beside a plain proxy over loopback, what many Services and pods do to a connection, and what a node full of pods costs.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use carob_bench::{Conditions, Part, Process, Samples, figure, memory};
use network::link::{ALPN, Accept, Links};
use network::nodes::Node;
use network::services::{Endpoint, Name, Place, Service, ServicePort, Slice};
use network::{Listener, Network, PodNet, Protocol, Stream, Table};
use rand::Rng;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const ROUND_TRIPS: usize = 20_000;
const SMALL: usize = 32;
const CHUNK: usize = 64 << 10;
const SENT: usize = 1 << 30;
const CONNECTS: usize = 20_000;
const SERVICES: u32 = 1_000;
const PODS: u32 = 10_000;
const STORM: usize = 2_000;
/// What a node has room for.
const FULL: usize = 16_000;

fn main() -> ExitCode {
    carob_bench::main(bench())
}

async fn bench() -> Result<()> {
    let conditions = Conditions {
        nodes: 2,
        runs: ROUND_TRIPS,
        more: "no guests, both nodes in this process".to_owned(),
    };
    conditions.print();
    let loopback = system().await?;
    let proxy = proxied().await?;
    let near = virtual_pair(&one_node()).await?;
    report("network-near", &near, &loopback, "the system's loopback");
    let nodes = two_nodes().await?;
    let far = virtual_pair(&nodes).await?;
    report("network-far", &far, &proxy, "a TCP proxy over loopback");
    connects(&nodes).await?;
    storm(&nodes).await?;
    full().await
}

/// What one kind of connection does.
struct Measured {
    round_trip: Duration,
    /// Bytes a second.
    rate: f64,
}

fn report(name: &str, of: &Measured, peer: &Measured, peers: &str) {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let (ours, theirs) = (micros(of.round_trip), micros(peer.round_trip));
    let ratio = ours / theirs;
    figure(
        &format!("{name}-round-trip"),
        format!("{ours:.1}"),
        &format!("µs ({ratio:.2} × {peers}, {theirs:.1} µs)"),
    );
    let gibs = |rate: f64| rate / (1 << 30) as f64;
    let ratio = of.rate / peer.rate;
    figure(
        &format!("{name}-stream"),
        format!("{:.2}", gibs(of.rate)),
        &format!("GiB/s ({ratio:.2} × {peers}, {:.2} GiB/s)", gibs(peer.rate)),
    );
}

/// Two pods, and how the second reaches the first.
struct Pods {
    network: Network,
    server: PodNet,
    client: PodNet,
}

fn one_node() -> Pods {
    let network = Network::new(range(0));
    Pods {
        server: network.join("server").expect("a free address"),
        client: network.join("client").expect("a free address"),
        network,
    }
}

fn range(node: u8) -> network::Cidr {
    let text = format!("10.{}.0.0/16", 128 + node);
    text.parse().expect("a range")
}

fn node(name: &str, pods: network::Cidr, link: Option<SocketAddr>) -> Node {
    Node {
        name: name.to_owned(),
        pods: Some(pods),
        link,
        addresses: Vec::new(),
    }
}

/// Two nodes; the client's dials links to the server's.
async fn two_nodes() -> Result<Pods> {
    let (ours, theirs) = (Network::new(range(0)), Network::new(range(1)));
    let (client, server) = certificates()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let accepting = theirs.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (server, accept) = (
                server.clone(),
                Arc::new(accepting.clone()) as Arc<dyn Accept>,
            );
            tokio::spawn(async move {
                let _ = socket.set_nodelay(true);
                if let Ok(tls) = server.accept(socket).await {
                    // However it ends: what was measured on it says so.
                    let _ = network::link::serve(tls, "ours".to_owned(), accept).await;
                }
            });
        }
    });
    for network in [&ours, &theirs] {
        network.update(|table| {
            *table = Table::new(Place::default());
            table.nodes.set("ours", Some(node("ours", range(0), None)));
            table
                .nodes
                .set("theirs", Some(node("theirs", range(1), Some(address))));
        });
    }
    ours.link(Links::new(&client, Box::new(|_, _| true)));
    Ok(Pods {
        client: ours.join("client")?,
        server: theirs.join("server")?,
        network: ours,
    })
}

fn certificates() -> Result<(rustls::ClientConfig, TlsAcceptor)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];
    let chain: Vec<CertificateDer<'static>> = vec![params.signed_by(&key, &issuer)?.der().clone()];
    let key = || PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone())?;
    let client = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.clone(), key()?)?;
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key()?)?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    Ok((client, TlsAcceptor::from(Arc::new(server))))
}

fn listen(pod: &PodNet) -> Result<(Listener, SocketAddrV4)> {
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    let listener = Listener::new(Arc::new(pod.bind_stream(any)?), 1_024);
    let at = SocketAddrV4::new(pod.address(), listener.address().port());
    Ok((listener, at))
}

async fn virtual_pair(pods: &Pods) -> Result<Measured> {
    let (listener, at) = listen(&pods.server)?;
    let client = pods.client.connect(at).await?;
    let server = listener.accept().await;
    let (echo, client) = (tokio::spawn(echo(server)), client);
    let mut took = Samples::default();
    for _ in 0..ROUND_TRIPS {
        let begun = Instant::now();
        client.writer.write(Bytes::from_static(&[7; SMALL]))?;
        let mut got = 0;
        while got < SMALL {
            got += client.reader.read(SMALL).await?.context("an answer")?.len();
        }
        took.push(begun.elapsed());
    }
    client.writer.close();
    echo.await?;
    let client = pods.client.connect(at).await?;
    let server = listener.accept().await;
    let begun = Instant::now();
    let sending = tokio::spawn(async move {
        let chunk = Bytes::from(vec![7; CHUNK]);
        for _ in 0..SENT / CHUNK {
            std::future::poll_fn(|cx| client.writer.poll_room(cx)).await?;
            client.writer.write(chunk.clone())?;
        }
        client.writer.close();
        // Kept until all of it was read.
        client.reader.read(1).await
    });
    let mut got = 0;
    while let Some(chunk) = server.reader.read(CHUNK).await? {
        got += chunk.len();
    }
    let took_all = begun.elapsed();
    drop(server);
    sending.await?.ok();
    if got != SENT {
        bail!("{got} of {SENT} bytes came");
    }
    Ok(measured(&took, took_all))
}

fn measured(round_trips: &Samples, stream: Duration) -> Measured {
    Measured {
        round_trip: round_trips.quantile(0.5),
        rate: SENT as f64 / stream.as_secs_f64(),
    }
}

async fn echo(stream: Stream) {
    while let Ok(Some(chunk)) = stream.reader.read(CHUNK).await {
        if stream.writer.write(chunk).is_err() {
            return;
        }
    }
}

/// The system's loopback.
async fn system() -> Result<Measured> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    tcp(listener, at).await
}

/// Loopback with a proxy in between, as plain as can be.
async fn proxied() -> Result<Measured> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let behind = listener.local_addr()?;
    let front = TcpListener::bind("127.0.0.1:0").await?;
    let at = front.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = front.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(behind).await?;
                client.set_nodelay(true)?;
                server.set_nodelay(true)?;
                tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, CHUNK, CHUNK)
                    .await
            });
        }
    });
    tcp(listener, at).await
}

async fn tcp(listener: TcpListener, at: SocketAddr) -> Result<Measured> {
    let mut client = TcpStream::connect(at).await?;
    let (mut server, _) = listener.accept().await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let echoing = tokio::spawn(async move {
        let mut buffer = [0; SMALL];
        while server.read_exact(&mut buffer).await.is_ok() {
            if server.write_all(&buffer).await.is_err() {
                return;
            }
        }
    });
    let mut took = Samples::default();
    let mut buffer = [7; SMALL];
    for _ in 0..ROUND_TRIPS {
        let begun = Instant::now();
        client.write_all(&buffer).await?;
        client.read_exact(&mut buffer).await?;
        took.push(begun.elapsed());
    }
    drop(client);
    echoing.await?;
    let mut client = TcpStream::connect(at).await?;
    let (mut server, _) = listener.accept().await?;
    let begun = Instant::now();
    let sending = tokio::spawn(async move {
        let chunk = vec![7; CHUNK];
        for _ in 0..SENT / CHUNK {
            client.write_all(&chunk).await?;
        }
        client.shutdown().await
    });
    let mut buffer = vec![0; CHUNK];
    while server.read(&mut buffer).await? > 0 {}
    let took_all = begun.elapsed();
    sending.await??;
    Ok(measured(&took, took_all))
}

/// Connections by a Service, in a small cluster and in a large one.
async fn connects(pods: &Pods) -> Result<()> {
    let near = pods.network.join("near")?;
    let (listener, at) = listen(&near)?;
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    pods.network
        .update(|table| service(table, 0, &[*at.ip()], at.port()));
    let few = rate(&pods.client).await?;
    pods.network.update(|table| {
        for service_number in 1..SERVICES {
            let first = u32::from(Ipv4Addr::new(10, 129, 0, 1)) + service_number * 10 % PODS;
            let pods: Vec<_> = (first..first + 10).map(Ipv4Addr::from).collect();
            service(table, service_number, &pods, 80);
        }
        let pods = (0..PODS).map(|number| {
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 129, 0, 1)) + number);
            let policy = network::policy::PodPolicy {
                uid: number.to_string(),
                ..Default::default()
            };
            (address, Some(policy))
        });
        table.policies.update(pods);
    });
    let many = rate(&pods.client).await?;
    figure(
        "network-connects",
        format!("{few:.0}"),
        "connects/s by a Service",
    );
    figure(
        "network-connects-large",
        format!("{many:.0}"),
        &format!(
            "connects/s with {SERVICES} Services of 10 endpoints and {PODS} pods ({:.2} × one Service)",
            many / few
        ),
    );
    Ok(())
}

fn service(table: &mut Table, number: u32, pods: &[Ipv4Addr], port: u16) {
    let name = Name {
        namespace: "default".to_owned(),
        name: format!("s{number}"),
    };
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 1, 0)) + number);
    let service = Service {
        cluster: vec![address],
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        }],
        ..Service::default()
    };
    let endpoint = |address: &Ipv4Addr| Endpoint {
        address: Some(*address),
        ready: true,
        serving: true,
        ..Endpoint::default()
    };
    let slice = Slice {
        ports: vec![(String::new(), Protocol::Tcp, port)],
        endpoints: pods.iter().map(endpoint).collect(),
    };
    table.services.set_service(&name, Some(service));
    table.services.set_slice(&name, "slice", Some(slice));
}

async fn rate(client: &PodNet) -> Result<f64> {
    let to = SocketAddrV4::new(Ipv4Addr::new(10, 96, 1, 0), 80);
    let begun = Instant::now();
    for _ in 0..CONNECTS {
        client.connect(to).await?;
    }
    Ok(CONNECTS as f64 / begun.elapsed().as_secs_f64())
}

/// Everybody connects to the other node at once, as after a fault.
async fn storm(pods: &Pods) -> Result<()> {
    let (listener, at) = listen(&pods.server)?;
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await);
        }
    });
    let begun = Instant::now();
    let connecting: Vec<_> = (0..STORM)
        .map(|_| {
            let client = pods.client.clone();
            tokio::spawn(async move { client.connect(at).await })
        })
        .collect();
    let mut held = Vec::new();
    for connecting in connecting {
        held.push(connecting.await??);
    }
    let rate = STORM as f64 / begun.elapsed().as_secs_f64();
    figure(
        "network-storm",
        format!("{rate:.0}"),
        &format!("connects/s of {STORM} at once between two nodes"),
    );
    Ok(())
}

/// A node with as many pods as it has room for, each with a listener.
async fn full() -> Result<()> {
    let network = Network::new("10.128.0.0/18".parse()?);
    let before = held()?;
    let begun = Instant::now();
    let pods = (0..FULL)
        // As long as a pod's uid.
        .map(|number| network.join(&format!("{number:036}")))
        .collect::<Result<Vec<_>, _>>()?;
    let joins = FULL as f64 / begun.elapsed().as_secs_f64();
    let silent = held()?;
    let listeners = pods.iter().map(listen).collect::<Result<Vec<_>>>()?;
    let listening = held()?;
    let each = |bytes: u64| bytes.saturating_sub(before) / FULL as u64;
    let mut random = rand::rng();
    let begun = Instant::now();
    for _ in 0..CONNECTS {
        let client = &pods[random.random_range(0..FULL)];
        let (listener, at) = &listeners[random.random_range(0..FULL)];
        let connection = client.connect(*at).await?;
        drop((listener.accept().await, connection));
    }
    let rate = CONNECTS as f64 / begun.elapsed().as_secs_f64();
    figure(
        "network-full-memory",
        each(silent).to_string(),
        &format!(
            "bytes/pod of {FULL} on a node ({} with a listener)",
            each(listening)
        ),
    );
    figure(
        "network-full-joins",
        format!("{joins:.0}"),
        &format!("joins/s until a node has {FULL} pods"),
    );
    figure(
        "network-full-connects",
        format!("{rate:.0}"),
        &format!("connects/s between random pairs of {FULL} pods"),
    );
    Ok(())
}

/// What this process holds, in bytes.
fn held() -> Result<u64> {
    let own = Process {
        pid: std::process::id(),
        node: String::new(),
        part: Part::Agent,
        leads: false,
    };
    Ok(memory(&[own])?.anonymous)
}
