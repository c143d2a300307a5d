//! Whom a proxied request goes to: `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`, a pod or one that is behind a Service.

use api::{Resource, Status, ports};
use client::node::{PortForwardFrom, PortForwardTarget};
use k8s_openapi::api::core::v1::{Pod, PodSpec, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use rand::seq::IteratorRandom;

use crate::cache::Selection;
use crate::dispatch::{Call, record_uid};
use crate::handlers::agents::Purpose;
use crate::handlers::container::Agent;
use crate::request::Query;

/// What is spoken to the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// A port of a pod, and the agent that leads there.
pub(super) struct Place {
    pub(super) scheme: Scheme,
    pub(super) agent: Agent,
    pub(super) target: PortForwardTarget,
}

/// What stands in the path where other requests have a name.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::handlers) struct Asked<'a> {
    scheme: Scheme,
    pub(in crate::handlers) name: &'a str,
    /// A number or a name; empty where none is said.
    port: &'a str,
}

impl<'a> Asked<'a> {
    pub(in crate::handlers) fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        let scheme = match scheme {
            "" | "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { scheme, name, port })
    }
}

impl Place {
    pub(super) async fn of(call: &Call) -> Result<Self, Status> {
        let (text, plural) = (call.name(), call.resource.plural);
        let kind = plural.trim_end_matches('s');
        let asked = Asked::parse(text)
            .ok_or_else(|| Status::bad_request(format!("invalid {kind} request {text:?}")))?;
        match plural {
            "services" => Self::behind(call, &asked).await,
            _ => {
                Self::pod(call, asked.name, asked.scheme, |spec| {
                    let port = number(asked.port, asked.scheme, spec);
                    port.ok_or_else(|| {
                        Status::bad_request(format!("invalid pod request {text:?}: no such port"))
                    })
                })
                .await
            }
        }
    }

    /// A port of a pod's own address.
    async fn pod(
        call: &Call,
        name: &str,
        scheme: Scheme,
        port: impl FnOnce(&PodSpec) -> Result<u16, Status>,
    ) -> Result<Self, Status> {
        let (resource, namespace) = (Resource::of::<Pod>(), call.namespace());
        let key = resource.key(namespace, name);
        let pod = call.server.read(key.as_bytes());
        let pod = pod
            .await?
            .ok_or_else(|| Status::not_found(resource, name))?;
        record_uid(pod.uid());
        let uid = pod.uid().to_owned();
        let pod: Pod = pod.view().map_err(|e| Status::internal(e.to_string()))?;
        let spec = pod.spec.unwrap_or_default();
        let port = port(&spec)?;
        let node = spec.node_name.filter(|node| !node.is_empty());
        let node = node.ok_or_else(|| {
            Status::bad_request(format!("pod {name} does not have a host assigned"))
        })?;
        let target = PortForwardTarget {
            namespace: namespace.unwrap_or_default().to_owned(),
            pod: name.to_owned(),
            uid,
            port: port.into(),
            from: PortForwardFrom::Node.into(),
            ..PortForwardTarget::default()
        };
        Ok(Self {
            scheme,
            agent: Agent::of(&call.server, &node, Purpose::Connections).await?,
            target,
        })
    }

    /// One of the ready endpoints of a Service, any of them.
    async fn behind(call: &Call, asked: &Asked<'_>) -> Result<Self, Status> {
        let Asked { scheme, name, port } = *asked;
        let (resource, namespace) = (Resource::of::<Service>(), call.namespace());
        let key = resource.key(namespace, name);
        let service = call.server.read(key.as_bytes());
        let service = service
            .await?
            .ok_or_else(|| Status::not_found(resource, name))?;
        let service: Service = service
            .view()
            .map_err(|e| Status::internal(e.to_string()))?;
        let port = port_name(&service, port).ok_or_else(|| {
            Status::service_unavailable(format!(
                "no service port {port} found for service {name:?}"
            ))
        })?;
        // Drawn at once: nothing that is not to be shared is kept over an await.
        let chosen = ready(call, name, &port)?
            .into_iter()
            .choose(&mut rand::rng());
        let (pod, number) = chosen.ok_or_else(|| {
            Status::service_unavailable(format!(
                "no endpoints available for service {:?}",
                call.name()
            ))
        })?;
        Self::pod(call, &pod, scheme, |_| Ok(number)).await
    }
}

/// A pod's port: a number, the name of one that a container declares, or, where nothing is said, the first that is
/// declared, else the scheme's own.
fn number(port: &str, scheme: Scheme, spec: &PodSpec) -> Option<u16> {
    let usual = match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    let found = match (port, port.parse::<u16>()) {
        ("", _) => ports::declared(spec)
            .next()
            .map_or(usual, |port| port.container_port),
        (_, Ok(number)) => number.into(),
        (name, Err(_)) => ports::named(spec, name, "TCP")?,
    };
    u16::try_from(found).ok().filter(|number| *number != 0)
}

/// What a Service calls a port: of a number, its name; a name, and nothing, are names themselves.
fn port_name(service: &Service, port: &str) -> Option<String> {
    let Ok(number) = port.parse::<i32>() else {
        return Some(port.to_owned());
    };
    let mut ports = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    let found = ports.find(|port| port.port == number)?;
    Some(found.name.clone().unwrap_or_default())
}

/// The ready pods behind a Service, with the number that a port of it has there.
fn ready(call: &Call, service: &str, port: &str) -> Result<Vec<(String, u16)>, Status> {
    let cache = &call.server.inner.cache;
    let slices = Resource::of::<EndpointSlice>();
    let Some(shelf) = cache.shelf(slices) else {
        return Ok(Vec::new());
    };
    let label = url::form_urlencoded::Serializer::new(String::new())
        .append_pair(
            "labelSelector",
            &format!("kubernetes.io/service-name={service}"),
        )
        .finish();
    let query = Query::parse(Some(&label));
    let selection = Selection::read(slices, call.namespace(), None, &query)?;
    let (snapshot, _) = cache.snapshot(shelf);
    let slices = selection
        .of(&snapshot)
        .filter_map(|o| o.view::<EndpointSlice>().ok());
    Ok(slices.flat_map(|slice| of_slice(&slice, port)).collect())
}

fn of_slice(slice: &EndpointSlice, name: &str) -> Vec<(String, u16)> {
    let mut ports = slice.ports.iter().flatten();
    let port = ports.find(|p| {
        p.name.as_deref().unwrap_or_default() == name
            && p.protocol.as_deref().unwrap_or("TCP") == "TCP"
    });
    let number = port
        .and_then(|p| u16::try_from(p.port?).ok())
        .filter(|n| *n != 0);
    let Some(number) = number else {
        return Vec::new();
    };
    let pods = slice.endpoints.iter().flatten().filter_map(ready_pod);
    pods.map(|pod| (pod, number)).collect()
}

/// The pod of an endpoint that is ready. Others are none of the cluster's, and nobody's to reach through this server.
fn ready_pod(endpoint: &Endpoint) -> Option<String> {
    let ready = endpoint.conditions.as_ref().and_then(|c| c.ready);
    let target = endpoint
        .target_ref
        .as_ref()
        .filter(|_| ready.unwrap_or(true))?;
    let pod = target.kind.as_deref() == Some("Pod");
    target.name.clone().filter(|_| pod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_asked_for() {
        use Scheme::{Http, Https};
        for (text, want) in [
            ("web", Some((Http, "web", ""))),
            ("web:80", Some((Http, "web", "80"))),
            ("web:", Some((Http, "web", ""))),
            ("http:web:", Some((Http, "web", ""))),
            ("https:web:tls", Some((Https, "web", "tls"))),
            (":web:80", Some((Http, "web", "80"))),
            ("ftp:web:21", None),
            ("a:b:c:d", None),
            (":80", None),
            ("", None),
        ] {
            let want = want.map(|(scheme, name, port)| Asked { scheme, name, port });
            assert_eq!(Asked::parse(text), want, "{text}");
        }
    }

    #[test]
    fn ports_of_pods() {
        let sidecar = json!({"name": "s", "restartPolicy": "Always", "ports": [
            {"containerPort": 9901, "name": "admin"},
            {"containerPort": 53, "name": "dns", "protocol": "UDP"},
        ]});
        let spec = |ports| {
            let containers = json!([{"name": "a"}, {"name": "b", "ports": ports}]);
            let spec = json!({"initContainers": [&sidecar], "containers": containers});
            serde_json::from_value(spec).unwrap()
        };
        let declared =
            spec(json!([{"containerPort": 8080, "name": "web"}, {"containerPort": 9090}]));
        let none = PodSpec::default();
        for (port, scheme, of, want) in [
            ("", Scheme::Http, &declared, Some(8080)),
            ("web", Scheme::Https, &declared, Some(8080)),
            ("9090", Scheme::Http, &declared, Some(9090)),
            ("1", Scheme::Http, &declared, Some(1)),
            ("admin", Scheme::Http, &declared, Some(9901)),
            ("dns", Scheme::Http, &declared, None),
            ("", Scheme::Http, &none, Some(80)),
            ("", Scheme::Https, &none, Some(443)),
            ("web", Scheme::Http, &none, None),
            ("0", Scheme::Http, &none, None),
            ("65536", Scheme::Http, &none, None),
        ] {
            assert_eq!(number(port, scheme, of), want, "{port}");
        }
    }

    #[test]
    fn pods_behind_services() {
        let slice = json!({
            "addressType": "IPv4",
            "metadata": {"name": "s"},
            "ports": [{"name": "web", "port": 8080}, {"port": 9}, {"name": "dns", "port": 53, "protocol": "UDP"}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "a"}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}, "targetRef": {"kind": "Pod", "name": "b"}},
                {"addresses": ["10.0.0.3"], "targetRef": {"kind": "Pod", "name": "c"}},
                {"addresses": ["10.0.0.4"]},
                {"addresses": ["10.0.0.5"], "targetRef": {"kind": "Node", "name": "n"}},
            ],
        });
        let slice = serde_json::from_value(slice).unwrap();
        let both = |number| vec![("a".to_owned(), number), ("c".to_owned(), number)];
        assert_eq!(of_slice(&slice, "web"), both(8080));
        assert_eq!(of_slice(&slice, ""), both(9));
        assert_eq!(of_slice(&slice, "dns"), []);
        assert_eq!(of_slice(&slice, "none"), []);
        let service = json!({"spec": {"ports": [{"name": "web", "port": 80}, {"port": 81}]}});
        let service = serde_json::from_value(service).unwrap();
        for (asked, want) in [
            ("80", Some("web")),
            ("81", Some("")),
            ("82", None),
            ("web", Some("web")),
            ("", Some("")),
        ] {
            assert_eq!(port_name(&service, asked).as_deref(), want, "{asked}");
        }
    }
}
