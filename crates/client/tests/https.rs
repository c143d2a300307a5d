//! The HTTPS transport, against servers that carry its requests on to a simulated cluster.

mod authority;
mod server;

use std::{sync::Arc, time::Duration};

use authority::Authority;
use client::{
    Client, Error, Key, ListOptions, Object, Untyped, conformance,
    https::HttpsTransport,
    simulated::Simulated,
    tls::{self, Identity},
    token::{self, Token},
};
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::ConfigMap;
use server::{Behaviour, Server};
use tokio::time::Instant;

fn map(name: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map.metadata.namespace = Some("default".to_owned());
    map
}

fn transport(servers: &[&Server], identity: &Identity) -> Arc<HttpsTransport> {
    let urls = servers.iter().map(|server| server.url());
    Arc::new(HttpsTransport::new(urls, identity.client_config().unwrap()).unwrap())
}

async fn create(client: &Client, name: &str) -> Result<ConfigMap, Error> {
    client.of::<ConfigMap>().create(&map(name)).await
}

#[tokio::test]
async fn conforms() {
    let ca = Authority::new();
    let cluster = Simulated::new();
    let server = Server::start(&ca, &cluster).await;
    let client = Client::new(transport(&[&server], &ca.identity("admin")), "test");
    conformance::suite(&client, "default").await.unwrap();
}

#[tokio::test]
async fn simulated_conforms() {
    let cluster = Simulated::new();
    conformance::suite(&cluster.client("test"), "default")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_dead_server_is_passed_over() {
    let ca = Authority::new();
    let cluster = Simulated::new();
    let first = Server::start(&ca, &cluster).await;
    let second = Server::start(&ca, &cluster).await;
    let client = Client::new(transport(&[&first, &second], &ca.identity("admin")), "test");
    create(&client, "a").await.unwrap();
    first.stop().await;
    let began = Instant::now();
    // What was on an open connection may fail; what had none yet goes to the next server.
    if create(&client, "b").await.is_err() {
        create(&client, "b").await.unwrap();
    }
    client.of::<ConfigMap>().get("default", "a").await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_passed_over() {
    let ca = Authority::new();
    let cluster = Simulated::new();
    let first = Server::start(&ca, &cluster).await;
    let second = Server::start(&ca, &cluster).await;
    first.behave(Behaviour::NotReady);
    let client = Client::new(transport(&[&first, &second], &ca.identity("admin")), "test");
    create(&client, "a").await.unwrap();
    assert_eq!((first.taken(), second.taken()), (1, 1));
    // The one that answered is asked first from now on.
    create(&client, "b").await.unwrap();
    assert_eq!((first.taken(), second.taken()), (1, 2));
    second.behave(Behaviour::NotReady);
    let error = create(&client, "c").await.unwrap_err();
    assert_eq!(error.code(), Some(503), "{error}");
    assert_eq!((first.taken(), second.taken()), (2, 3), "both were asked");
}

#[tokio::test]
async fn what_may_have_been_taken_is_not_sent_again() {
    let ca = Authority::new();
    let cluster = Simulated::new();
    let first = Server::start(&ca, &cluster).await;
    let second = Server::start(&ca, &cluster).await;
    let client = Client::new(transport(&[&first, &second], &ca.identity("admin")), "test");
    first.behave(Behaviour::Vanish);
    let error = create(&client, "a").await.unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error}");
    assert_eq!((first.taken(), second.taken()), (1, 0));
    // A read goes on to the next server, whichever it begins with.
    second.behave(Behaviour::Vanish);
    first.behave(Behaviour::Serve);
    client
        .of::<ConfigMap>()
        .list(&ListOptions::default())
        .await
        .unwrap();
    assert_eq!((first.taken(), second.taken()), (2, 1));
}

#[tokio::test]
async fn a_server_that_hangs_is_left() {
    let ca = Authority::new();
    let cluster = Simulated::new();
    let first = Server::start(&ca, &cluster).await;
    let second = Server::start(&ca, &cluster).await;
    let client = Client::new(transport(&[&first, &second], &ca.identity("admin")), "test");
    first.behave(Behaviour::Hang);
    let hasty = client.clone().with_timeout(Duration::from_millis(100));
    assert!(create(&hasty, "a").await.is_err());
    // Who gave up has left it for all that come after.
    create(&client, "b").await.unwrap();
    assert_eq!((first.taken(), second.taken()), (1, 1));
    // A read goes on by itself.
    second.behave(Behaviour::Hang);
    first.behave(Behaviour::Serve);
    client.of::<ConfigMap>().get("default", "b").await.unwrap();
    assert_eq!((first.taken(), second.taken()), (2, 2));
}

#[tokio::test]
async fn servers_are_replaced_while_it_runs() {
    let ca = Authority::new();
    let cluster = Simulated::new();
    let first = Server::start(&ca, &cluster).await;
    let second = Server::start(&ca, &cluster).await;
    let transport = transport(&[&first], &ca.identity("admin"));
    let client = Client::new(transport.clone(), "test");
    create(&client, "a").await.unwrap();
    transport.set_servers([second.url()]).unwrap();
    create(&client, "b").await.unwrap();
    assert_eq!((first.taken(), second.taken()), (1, 1));
    assert!(transport.set_servers(Vec::<String>::new()).is_err());
    assert_eq!(transport.servers(), [second.url()]);
}

#[tokio::test]
async fn only_the_clusters_own_ca_is_trusted() {
    let ca = Authority::new();
    let other = Authority::new();
    let cluster = Simulated::new();
    let server = Server::start(&other, &cluster).await;
    let mut identity = ca.identity("admin");
    let client = Client::new(transport(&[&server], &identity), "test");
    let error = create(&client, "a").await.unwrap_err().to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
    // Nor does the server take a certificate of another cluster.
    identity.ca_pem = other.ca_pem();
    let client = Client::new(transport(&[&server], &identity), "test");
    assert!(create(&client, "a").await.is_err());
    assert_eq!(server.taken(), 0);
}

#[tokio::test]
async fn a_certificate_must_carry_the_address() {
    let ca = Authority::new();
    let cluster = Simulated::new();
    let server = Server::start(&ca, &cluster).await;
    let url = server.url().replace("127.0.0.1", "localhost");
    let config = ca.identity("admin").client_config().unwrap();
    let client = Client::new(
        Arc::new(HttpsTransport::new([url], config).unwrap()),
        "test",
    );
    let error = create(&client, "a").await.unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_token_pins_the_ca() {
    let ca = Authority::new();
    let cluster = Simulated::new();
    let server = Server::start(&ca, &cluster).await;
    let der = tls::certificates(&ca.ca_pem()).unwrap();
    let token = Token::new("abcdef", "0123456789abcdef", &der[0]).unwrap();
    let with = |digest| {
        let config = tls::pinned_config(digest).unwrap();
        let transport = HttpsTransport::new([server.url()], config).unwrap();
        Client::new(Arc::new(transport), "joiner")
    };
    create(&with(*token.ca_digest()), "a").await.unwrap();
    let error = create(&with(token::digest(b"another CA")), "b").await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("not the one that the token was made for"),
        "{error}"
    );
}

#[tokio::test]
async fn a_pinned_ca_does_not_vouch_for_a_stranger() {
    // The stranger shows the right CA, but its own certificate is of another.
    let ca = Authority::new();
    let stranger = Authority::new();
    let cluster = Simulated::new();
    let mut identity = stranger.identity_of("system:carob:server:s1", tls::SERVERS);
    identity.cert_pem.push_str(&ca.ca_pem());
    let server = Server::start_as(&identity, &cluster).await;
    let der = tls::certificates(&ca.ca_pem()).unwrap();
    let config = tls::pinned_config(token::digest(&der[0])).unwrap();
    let transport = HttpsTransport::new([server.url()], config).unwrap();
    let client = Client::new(Arc::new(transport), "joiner");
    assert!(create(&client, "a").await.is_err());
    assert_eq!(server.taken(), 0);
}

#[tokio::test]
async fn a_node_is_not_taken_for_a_server() {
    let ca = Authority::new();
    let cluster = Simulated::new();
    // A node's certificate that carries the server's address.
    let mut node = ca.identity("system:node:n1");
    node.cert_pem.push_str(&ca.ca_pem());
    let server = Server::start_as(&node, &cluster).await;
    let der = tls::certificates(&ca.ca_pem()).unwrap();
    for config in [
        ca.identity("admin").client_config().unwrap(),
        tls::anonymous_config(&ca.ca_pem()).unwrap(),
        tls::pinned_config(token::digest(&der[0])).unwrap(),
    ] {
        let transport = HttpsTransport::new([server.url()], config).unwrap();
        let client = Client::new(Arc::new(transport), "test");
        let error = create(&client, "a").await.unwrap_err().to_string();
        assert!(error.contains("no server of the cluster"), "{error}");
    }
    assert_eq!(server.taken(), 0);
}

#[tokio::test]
async fn an_answer_that_never_comes_times_out() {
    let ca = Authority::new();
    let cluster = Simulated::new();
    cluster.set_latency(Duration::from_secs(30));
    let server = Server::start(&ca, &cluster).await;
    let client = Client::new(transport(&[&server], &ca.identity("admin")), "test")
        .with_timeout(Duration::from_millis(100));
    let error = create(&client, "a").await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn requests_go_out_as_they_are() {
    let cluster = Simulated::new();
    let client = cluster.client("tester");
    create(&client, "a b/c").await.unwrap();
    let configmaps = api::resource::by_path("", "v1", "configmaps").unwrap();
    let untyped = client.untyped(configmaps);
    let read: Untyped = untyped.get("default", "a b/c").await.unwrap();
    assert_eq!(Key::of(&read), Key::new("default", "a b/c"));
    assert!(untyped.get("default", "").await.is_err());
    let options = ListOptions::namespace("default")
        .labels("app=web,tier!=x y")
        .fields("metadata.name=a");
    assert_eq!(untyped.list(&options).await.unwrap().items.len(), 0);
    assert_eq!(
        cluster.requests(),
        [
            "POST /api/v1/namespaces/default/configmaps?fieldManager=tester",
            "GET /api/v1/namespaces/default/configmaps/a%20b%2Fc",
            "GET /api/v1/namespaces/default/configmaps?labelSelector=app%3Dweb%2Ctier%21%3Dx%20y\
             &fieldSelector=metadata.name%3Da&limit=1000",
        ]
    );
    let raw = http::Request::builder()
        .method(Method::GET)
        .uri("/healthz")
        .body(bytes::Bytes::new())
        .unwrap();
    let error = client.raw(raw).await.unwrap_err();
    assert_eq!(error.code(), Some(StatusCode::NOT_FOUND.as_u16()));
    assert!(read.revision() > 0);
}
