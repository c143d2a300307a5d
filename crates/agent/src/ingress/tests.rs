//! From objects to an open port, against a simulated server.

use std::net::SocketAddrV4;

use async_trait::async_trait;
use client::DeleteOptions;
use client::simulated::Simulated;
use k8s_openapi::api::core::v1::Event;
use network::descriptors::Place;
use network::entrance::Unreached;
use network::{Network, Stream};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::proxy::Connector;
use super::rules::Backend;
use super::*;

/// Behind no Service is anybody.
pub(super) struct Nobody;

#[async_trait]
impl Connector for Nobody {
    async fn connect(&self, _: SocketAddrV4, _: &Backend) -> Result<Stream, Unreached> {
        Err(Unreached::NoEndpoints)
    }

    fn place(&self) -> Option<Place> {
        None
    }
}

fn of<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("an object")
}

/// Waits until a copy of objects is as it should be.
async fn until<T: Object + Send + Sync + 'static>(
    informer: &Informer<T>,
    is_so: impl Fn(&client::View<T>) -> bool,
) {
    let mut changes = informer.subscribe();
    let wait = async {
        while !is_so(&informer.view()) {
            changes.next().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    waited.expect("it comes to be");
}

fn said(nodes: &client::View<Node>) -> Option<String> {
    let node = nodes.get(&Key::new("", "n"))?;
    node.metadata.annotations.as_ref()?.get(PORTS).cloned()
}

async fn free() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    listener.local_addr().expect("its address").port()
}

fn ingress() -> Ingress {
    let resource = json!({"resource": {"kind": "Bucket", "name": "b"}});
    let paths = [json!({"path": "/", "pathType": "Prefix", "backend": resource})];
    of(
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"namespace": "d", "name": "i"},
        "spec": {"ingressClassName": "carob", "tls": [{"secretName": "s"}], "rules": [{"host": "x", "http": {"paths": paths}}]}}),
    )
}

#[test]
fn what_changed_is_looked_at_once() {
    let view = |ingress: Ingress| -> Views {
        let all = [(Key::of(&ingress), Arc::new(ingress))];
        (all.into_iter().collect(), View::default())
    };
    let first = view(ingress());
    let mut seen = None;
    assert!(is_news(&mut seen, first.clone()));
    assert!(!is_news(&mut seen, first.clone()));
    let mut told = ingress();
    told.status = Some(of(
        json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}),
    ));
    let second = view(told);
    assert_eq!(first.0.diff(&second.0).count(), 1);
    assert!(!is_news(&mut seen, second.clone()), "no more than a status");
    let of_next = |seen: &Option<Views>| seen.as_ref().map(|seen| seen.0.diff(&second.0).count());
    assert_eq!(of_next(&seen), Some(0), "it is compared with what is now");
    let mut other = ingress();
    other.spec = None;
    assert!(is_news(&mut seen, view(other)));
}

#[tokio::test]
async fn ports_are_open_while_there_is_an_ingress() {
    let server = Simulated::new();
    let client = server.client("test");
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "annotations": {PORTS: "http=1"}}});
    let node: Node = of(node);
    client.of::<Node>().create(&node).await.expect("made");
    let class = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": {"name": "carob"}, "spec": {"controller": api::ingress::CONTROLLER}});
    let classes = client.of::<IngressClass>();
    classes.create(&of(class)).await.expect("made");
    let nodes = Informer::<Node>::start(client.of(), ListOptions::default());
    let events = Informer::<Event>::start(client.of(), ListOptions::default());
    let network = Network::new("10.128.0.0/24".parse().expect("a range"));
    let gateway = network.join("gateway").expect("an address");
    let (http, https) = (free().await, free().await);
    let setup = Setup {
        node: "n".to_owned(),
        address: Ipv4Addr::LOCALHOST,
        ports: Ports {
            http: Some(http),
            https: Some(https),
        },
        recorder: Recorder::start(client.clone(), "kubelet", "n"),
        client: client.clone(),
        entrance: Entrance::new(network, gateway),
        nodes: nodes.clone(),
    };
    let _following = AbortOnDropHandle::new(tokio::spawn(follow(setup)));
    // What an agent before this one said is true no more.
    until(&nodes, |nodes| !nodes.is_empty() && said(nodes).is_none()).await;
    assert!(
        TcpStream::connect((Ipv4Addr::LOCALHOST, http))
            .await
            .is_err()
    );

    client
        .of::<Ingress>()
        .create(&ingress())
        .await
        .expect("made");
    let due = format!("http={http},https={https}");
    until(&nodes, |nodes| said(nodes).as_ref() == Some(&due)).await;
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, http))
        .await
        .expect("a connection");
    let asked = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    socket.write_all(asked).await.expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    until(&events, |events| {
        let reasons: BTreeSet<_> = events
            .iter()
            .filter_map(|(_, e)| e.reason.as_deref())
            .collect();
        reasons == BTreeSet::from(["CertificateNotUsed", "RuleIgnored"])
    })
    .await;

    // A Node that is deleted and made again is told again, whatever the one before it heard.
    let all = client.of::<Node>();
    let gone = all.delete("", "n", &DeleteOptions::default()).await;
    gone.expect("deleted");
    all.create(&node).await.expect("made again");
    until(&nodes, |nodes| said(nodes).as_ref() == Some(&due)).await;

    let ingresses = client.of::<Ingress>();
    let gone = ingresses.delete("d", "i", &DeleteOptions::default()).await;
    gone.expect("deleted");
    until(&nodes, |nodes| said(nodes).is_none()).await;
    TcpListener::bind((Ipv4Addr::LOCALHOST, http))
        .await
        .expect("free again");
}
