//! The endpoints of the Service by which pods reach the API: the cluster's servers, wherever they are.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use api::Resource;
use client::{Client, DeleteOptions, ListOptions, Patch, Untyped};
use k8s_openapi::api::core::v1::{Endpoints, Node};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use crate::ApiServer;

const NAMESPACE: &str = "default";
const SERVICE: &str = "kubernetes";
/// The port's name, in the Service too.
const PORT: &str = "https";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Endpoints with this label are not copied into slices: these have slices of their own.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";

/// A server as its Service sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Server {
    port: u16,
    address: Ipv4Addr,
    ready: bool,
}

/// Keeps the endpoints. May run on every server at once: all want the same.
#[derive(Default)]
pub(super) struct Keeper {
    /// Whose endpoints there are at most: all that others left was looked for then.
    last: Vec<Server>,
}

impl Keeper {
    /// Writes what is not as it should be.
    pub(super) async fn keep(
        &mut self,
        server: &ApiServer,
        client: &Client,
    ) -> Result<(), client::Error> {
        let published = server.published();
        let servers = servers(&published, |name| is_ready(server, name));
        if servers.is_empty() {
            return Ok(());
        }
        write(
            server,
            client,
            Resource::of::<Endpoints>(),
            endpoints(&servers),
        )
        .await?;
        let slices = slices(&servers);
        for slice in slices.values() {
            write(
                server,
                client,
                Resource::of::<EndpointSlice>(),
                slice.clone(),
            )
            .await?;
        }
        if self.last != servers {
            remove_others(client, &slices).await?;
            self.last = servers;
        }
        Ok(())
    }
}

/// A server whose node is not ready is not to be sent anything; one without a node can be judged by nothing.
fn is_ready(server: &ApiServer, name: &str) -> bool {
    let node = server.inner.cache.get(Resource::of::<Node>(), None, name);
    let Some(node) = node.and_then(|node| node.value().ok()) else {
        return true;
    };
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = conditions.into_iter().flatten();
    conditions.all(|c| c["type"] != "Ready" || c["status"] == "True")
}

/// Those with an IPv4 address. Where none of them is ready all are asked: one of them has just looked.
fn servers(published: &[(String, String)], is_ready: impl Fn(&str) -> bool) -> Vec<Server> {
    let found = published.iter().filter_map(|(name, url)| {
        let authority = url.strip_prefix("https://")?;
        let (address, port) = authority.trim_end_matches('/').rsplit_once(':')?;
        Some(Server {
            port: port.parse().ok()?,
            address: address.parse().ok()?,
            ready: is_ready(name),
        })
    });
    let mut found: Vec<_> = found.collect();
    if found.iter().all(|server| !server.ready) {
        found.iter_mut().for_each(|server| server.ready = true);
    }
    found.sort_unstable();
    found
}

fn by_port(servers: &[Server]) -> BTreeMap<u16, Vec<Server>> {
    let mut by_port = BTreeMap::<_, Vec<_>>::new();
    for server in servers {
        by_port.entry(server.port).or_default().push(*server);
    }
    by_port
}

fn endpoints(servers: &[Server]) -> Value {
    let subset = |(port, servers): (u16, Vec<Server>)| {
        let addresses = |ready: bool| {
            let those = servers.iter().filter(|server| server.ready == ready);
            those
                .map(|s| json!({"ip": s.address.to_string()}))
                .collect::<Vec<_>>()
        };
        let mut subset = json!({"ports": [{"name": PORT, "port": port, "protocol": "TCP"}]});
        for (list, addresses) in [
            ("addresses", addresses(true)),
            ("notReadyAddresses", addresses(false)),
        ] {
            if !addresses.is_empty() {
                subset[list] = addresses.into();
            }
        }
        subset
    };
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"namespace": NAMESPACE, "name": SERVICE, "labels": {SKIP_MIRROR: "true"}},
        "subsets": by_port(servers).into_iter().map(subset).collect::<Vec<_>>(),
    })
}

/// One slice for each port that servers have: local ones each have their own. By name.
fn slices(servers: &[Server]) -> BTreeMap<String, Value> {
    let slices = by_port(servers).into_iter().enumerate().map(|(at, (port, servers))| {
        let name = match at {
            0 => SERVICE.to_owned(),
            _ => format!("{SERVICE}-{port}"),
        };
        let endpoint = |s: &Server| {
            let conditions = json!({"ready": s.ready, "serving": s.ready, "terminating": false});
            json!({"addresses": [s.address.to_string()], "conditions": conditions})
        };
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"namespace": NAMESPACE, "name": name, "labels": {SERVICE_NAME: SERVICE}},
            "addressType": "IPv4",
            "endpoints": servers.iter().map(endpoint).collect::<Vec<_>>(),
            "ports": [{"name": PORT, "port": port, "protocol": "TCP"}],
        });
        (name, slice)
    });
    slices.collect()
}

/// Makes the object, or makes it say what `wanted` says.
async fn write(
    server: &ApiServer,
    client: &Client,
    resource: &'static Resource,
    wanted: Value,
) -> Result<(), client::Error> {
    let name = wanted["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let stored = server.inner.cache.get(resource, Some(NAMESPACE), &name);
    let access = client.untyped(resource);
    let Some(stored) = stored.and_then(|stored| stored.value().ok()) else {
        return match access.create(&Untyped(wanted)).await {
            // Another server was first.
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        };
    };
    if says(&stored, &wanted) {
        return Ok(());
    }
    let patched = access
        .patch(NAMESPACE, &name, &Patch::Merge(wanted), None)
        .await;
    match patched {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Whether all that `wanted` has is in `stored` as well.
fn says(stored: &Value, wanted: &Value) -> bool {
    match (stored, wanted) {
        (Value::Object(stored), Value::Object(wanted)) => {
            let mut wanted = wanted.iter();
            wanted.all(|(key, value)| stored.get(key).is_some_and(|stored| says(stored, value)))
        }
        _ => stored == wanted,
    }
}

/// Slices of servers that are gone.
async fn remove_others(
    client: &Client,
    wanted: &BTreeMap<String, Value>,
) -> Result<(), client::Error> {
    let access = client.of::<EndpointSlice>();
    let options = ListOptions::namespace(NAMESPACE).labels(format!("{SERVICE_NAME}={SERVICE}"));
    for slice in access.list(&options).await?.items {
        let meta = slice.metadata;
        let (Some(name), Some(uid)) = (meta.name, meta.uid) else {
            continue;
        };
        if wanted.contains_key(&name) {
            continue;
        }
        match access
            .delete(NAMESPACE, &name, &DeleteOptions::uid(uid))
            .await
        {
            Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(of: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, url): &(&str, &str)| ((*name).to_owned(), (*url).to_owned());
        of.iter().map(owned).collect()
    }

    #[test]
    fn servers_are_where_they_say_and_as_ready_as_their_nodes() {
        let three = published(&[
            ("c-1", "https://127.0.0.1:7001"),
            ("c-2", "https://127.0.0.2:6443/"),
            ("c-3", "https://127.0.0.3:6443"),
            ("six", "https://[::1]:6443"),
            ("none", "http://x"),
        ]);
        let found = servers(&three, |name| name != "c-3");
        let seen: Vec<_> = found
            .iter()
            .map(|s| format!("{}:{} {}", s.address, s.port, s.ready))
            .collect();
        assert_eq!(
            seen,
            [
                "127.0.0.2:6443 true",
                "127.0.0.3:6443 false",
                "127.0.0.1:7001 true"
            ]
        );
        let slices = slices(&found);
        assert_eq!(
            slices.keys().collect::<Vec<_>>(),
            ["kubernetes", "kubernetes-7001"]
        );
        assert_eq!(
            slices["kubernetes"]["endpoints"][1]["conditions"]["ready"],
            false
        );
        let subsets = &endpoints(&found)["subsets"];
        assert_eq!(subsets[0]["notReadyAddresses"][0]["ip"], "127.0.0.3");
        assert_eq!(
            subsets[1],
            json!({"ports": [{"name": "https", "port": 7001, "protocol": "TCP"}], "addresses": [{"ip": "127.0.0.1"}]})
        );
        assert!(
            servers(&three, |_| false).iter().all(|s| s.ready),
            "somebody has looked"
        );
    }

    #[test]
    fn what_others_added_stays() {
        let wanted = json!({"metadata": {"labels": {"a": "b"}}, "ports": [1]});
        assert!(says(
            &json!({"metadata": {"uid": "x", "labels": {"a": "b", "c": "d"}}, "ports": [1]}),
            &wanted
        ));
        for other in [
            json!({"metadata": {"labels": {}}, "ports": [1]}),
            json!({"metadata": {"labels": {"a": "b"}}, "ports": [1, 2]}),
        ] {
            assert!(!says(&other, &wanted), "{other}");
        }
    }
}
