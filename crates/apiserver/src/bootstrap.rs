//! The objects that every cluster has from its birth, and the list of its servers.

mod endpoints;
mod rights;

use std::sync::Weak;
use std::time::Duration;

use api::Resource;
use client::{Client, Patch};
use futures::{FutureExt as _, TryFutureExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::IngressClass;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::warn;

use crate::ApiServer;
use crate::ca::MASTERS;
use crate::server::Inner;
use endpoints::Keeper;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// How long until what could not be restored is tried again, at first and at last.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_AT_LAST: Duration = Duration::from_secs(60);
/// How long nothing is looked at after it was.
const BREATH: Duration = Duration::from_millis(100);
/// The ConfigMap in which each server keeps its URL under its name.
pub(crate) const SERVERS: (&str, &str) = ("kube-system", "carob-servers");

/// Puts there what is missing. May run on every server at once, any number of times.
pub(crate) async fn run(server: &ApiServer) -> Result<(), client::Error> {
    let client = Client::new(
        server.transport("system:apiserver", [MASTERS]),
        "carob-apiserver",
    );
    let rights = rights::restore(server).map_err(|status| client::Error::Status(Box::new(status)));
    futures::try_join!(objects(server, &client), rights)?;
    Ok(())
}

/// The Services that every cluster has: by which pods reach the API, and names.
const SERVICES: [(&str, &str); 2] = [("default", "kubernetes"), ("kube-system", "kube-dns")];

/// Puts a Service or a namespace there again when it goes: `kubectl delete all --all` takes the Service with it by which pods
/// reach the API. Keeps that one's endpoints, too.
pub(crate) async fn keep(server: Weak<Inner>, mut ready: watch::Receiver<bool>) {
    let watched = {
        let Some(inner) = server.upgrade() else {
            return;
        };
        let kinds = [
            Resource::of::<Service>(),
            Resource::of::<Namespace>(),
            Resource::of::<ConfigMap>(),
            Resource::of::<Node>(),
            Resource::of::<Endpoints>(),
            Resource::of::<EndpointSlice>(),
        ];
        let shelf = |resource| inner.cache.shelf(resource).map(|shelf| shelf.subscribe());
        kinds.map(shelf).into_iter().collect::<Option<Vec<_>>>()
    };
    let Some(mut watched) = watched else {
        return;
    };
    let mut keeper = Keeper::default();
    let mut pause = RETRY;
    loop {
        if ready.wait_for(|ready| *ready).await.is_err() {
            return;
        }
        // Marked as seen before looking: what comes after is noticed.
        for kind in &mut watched {
            kind.borrow_and_update();
        }
        let Some(inner) = server.upgrade() else {
            return;
        };
        let done = complete(&ApiServer { inner }, &mut keeper).await;
        if let Err(error) = done {
            warn!(%error, "one of the cluster's first objects is gone and could not be restored yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_AT_LAST);
            continue;
        }
        pause = RETRY;
        // What follows each other closely is looked at once.
        tokio::time::sleep(BREATH).await;
        let changes = watched.iter_mut().map(|kind| kind.changed().boxed());
        if futures::future::select_all(changes).await.0.is_err() {
            return;
        }
    }
}

async fn complete(server: &ApiServer, keeper: &mut Keeper) -> Result<(), client::Error> {
    let cache = &server.inner.cache;
    let there = |resource, namespace, name| cache.get(resource, namespace, name).is_some();
    let transport = server.transport("system:apiserver", [MASTERS]);
    let client = Client::new(transport, "carob-apiserver");
    let service = Resource::of::<Service>();
    let mut services = SERVICES.iter();
    let mut namespaces = NAMESPACES.iter();
    if !services.all(|(namespace, name)| there(service, Some(namespace), name))
        || !namespaces.all(|name| there(Resource::of::<Namespace>(), None, name))
    {
        objects(server, &client).await?;
    }
    keeper.keep(server, &client).await
}

async fn objects(server: &ApiServer, client: &Client) -> Result<(), client::Error> {
    for name in NAMESPACES {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        create(client, Resource::of::<Namespace>(), "", name, namespace).await?;
    }
    for (name, value) in api::priority::SYSTEM_CLASSES {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
        });
        create(client, Resource::of::<PriorityClass>(), "", name, class).await?;
    }
    for (service, (namespace, name)) in [kubernetes_service(), dns_service()]
        .into_iter()
        .zip(SERVICES)
    {
        create(client, Resource::of::<Service>(), namespace, name, service).await?;
    }
    for name in RUNTIME_CLASSES {
        let class = json!({
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": name},
            "handler": name,
        });
        create(client, Resource::of::<RuntimeClass>(), "", name, class).await?;
    }
    let class = ingress_class();
    create(
        client,
        Resource::of::<IngressClass>(),
        "",
        INGRESS_CLASS,
        class,
    )
    .await?;
    let class = storage_class();
    let classes = Resource::of::<StorageClass>();
    create(client, classes, "", api::storage::CLASS, class).await?;
    publish(server, client).await
}

/// The ways in which every node runs modules, each by the handler of its name. `carob` is also what pods without a class are
/// run by.
const RUNTIME_CLASSES: [&str; 2] = ["carob", "dense"];

/// The class of the Ingresses that the nodes serve.
const INGRESS_CLASS: &str = "carob";

fn ingress_class() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": INGRESS_CLASS, "annotations": {api::ingress::IS_DEFAULT: "true"}},
        "spec": {"controller": api::ingress::CONTROLLER},
    })
}

/// The class of volumes on the nodes' own disks.
fn storage_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": api::storage::CLASS,
            "annotations": {api::storage::IS_DEFAULT: "true"},
        },
        "provisioner": api::storage::PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

/// The Service by which pods reach the DNS server that each node has.
fn dns_service() -> Value {
    let address = std::net::Ipv4Addr::from(crate::ca::DNS_SERVICE_IP).to_string();
    let port = |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": 53, "targetPort": 53});
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": "kube-system",
            "name": "kube-dns",
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
        },
    })
}

/// The Service by which pods reach the API.
fn kubernetes_service() -> Value {
    let address = std::net::Ipv4Addr::from(crate::ca::KUBERNETES_SERVICE_IP).to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": "default",
            "name": "kubernetes",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443}],
        },
    })
}

async fn create(
    client: &Client,
    resource: &Resource,
    namespace: &str,
    name: &str,
    object: Value,
) -> Result<(), client::Error> {
    let access = client.untyped(resource);
    // Looked for first: on all but the first start it is there, and reading costs no raft entry.
    if access.find(namespace, name).await?.is_some() {
        return Ok(());
    }
    match access.create(&client::Untyped(object)).await {
        Err(error) if !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}

/// Writes this server's URL where the others and the agents find it.
async fn publish(server: &ApiServer, client: &Client) -> Result<(), client::Error> {
    let (namespace, name) = SERVERS;
    let own = json!({&server.inner.config.name: &server.inner.config.url});
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name},
        "data": own,
    });
    let resource = Resource::of::<ConfigMap>();
    create(client, resource, namespace, name, map).await?;
    let access = client.untyped(resource);
    let there = access.get(namespace, name).await?;
    let written = there
        .0
        .pointer("/data")
        .and_then(|d| d.get(&server.inner.config.name));
    if written.and_then(Value::as_str) == Some(server.inner.config.url.as_str()) {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"data": own}));
    access.patch(namespace, name, &patch, None).await.map(drop)
}

impl ApiServer {
    /// The name and URL of every server that has published it, in the order of their names, as far as this server knows.
    fn published(&self) -> Vec<(String, String)> {
        let (namespace, name) = SERVERS;
        let map = self
            .inner
            .cache
            .get(Resource::of::<ConfigMap>(), Some(namespace), name)
            .and_then(|object| object.value().ok());
        map.as_ref()
            .and_then(|m| m.get("data")?.as_object())
            .into_iter()
            .flatten()
            .filter_map(|(name, url)| Some((name.clone(), url.as_str()?.to_owned())))
            .collect()
    }

    /// The URL of every server, in the order of their names, as far as this server knows.
    pub(crate) fn servers(&self) -> Vec<String> {
        let published = self.published().into_iter();
        let mut servers: Vec<String> = published.map(|(_, url)| url).collect();
        if !servers.contains(&self.inner.config.url) {
            servers.push(self.inner.config.url.clone());
        }
        servers
    }
}
