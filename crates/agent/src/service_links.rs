//! Services as a container's environment tells of them: in Kubernetes' own variables, and in those that Docker's links had.

use std::collections::BTreeMap;

use client::{Key, View};
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort, ServiceSpec};

use crate::pod::PodView as _;

/// The API server's Service, which every container is told of.
const API: (&str, &str) = ("default", "kubernetes");

/// What a pod's containers that start now are told: of all Services in its namespace that have an address, unless
/// `enableServiceLinks` is false, and of the API server's.
pub(crate) fn variables(pod: &Pod, services: &View<Service>) -> Vec<(String, String)> {
    let mut told: BTreeMap<&str, &ServiceSpec> = BTreeMap::new();
    if let Some(api) = services.get(&Key::new(API.0, API.1)) {
        told.extend(api.spec.as_ref().map(|spec| (API.1, spec)));
    }
    let enabled = pod.pod_spec().and_then(|spec| spec.enable_service_links);
    if enabled != Some(false) {
        let namespace = pod.namespace();
        let from = services.range(Key::new(namespace, "")..);
        let own = from.take_while(|(key, _)| key.namespace == namespace);
        let own =
            own.filter_map(|(key, service)| Some((key.name.as_str(), service.spec.as_ref()?)));
        // One of the API server's name stands in its place.
        told.extend(own.filter(|(_, spec)| address(spec).is_some()));
    }
    let mut all = Vec::new();
    for (name, spec) in told {
        if let Some(address) = address(spec) {
            tell(&mut all, &variable(name), address, spec.ports.as_deref());
        }
    }
    all
}

/// A Service's own address; headless ones and mere names have none.
fn address(spec: &ServiceSpec) -> Option<&str> {
    let address = spec.cluster_ip.as_deref()?;
    (!address.is_empty() && address != "None").then_some(address)
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

fn tell(all: &mut Vec<(String, String)>, name: &str, address: &str, ports: Option<&[ServicePort]>) {
    let Some(ports @ [first, ..]) = ports else {
        return;
    };
    let mut set = |end: String, value: String| all.push((format!("{name}_{end}"), value));
    set("SERVICE_HOST".to_owned(), address.to_owned());
    set("SERVICE_PORT".to_owned(), first.port.to_string());
    for port in ports {
        if let Some(called) = port.name.as_deref().filter(|called| !called.is_empty()) {
            let end = format!("SERVICE_PORT_{}", variable(called));
            set(end, port.port.to_string());
        }
    }
    set("PORT".to_owned(), url(address, first));
    for port in ports {
        let end = format!("PORT_{}_{}", port.port, protocol(port));
        set(end.clone(), url(address, port));
        set(format!("{end}_PROTO"), protocol(port).to_lowercase());
        set(format!("{end}_PORT"), port.port.to_string());
        set(format!("{end}_ADDR"), address.to_owned());
    }
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn url(address: &str, port: &ServicePort) -> String {
    let scheme = protocol(port).to_lowercase();
    match address.contains(':') {
        true => format!("{scheme}://[{address}]:{}", port.port),
        false => format!("{scheme}://{address}:{}", port.port),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use serde_json::{Value, json};

    fn services(all: &[(&str, &str, Value)]) -> View<Service> {
        let one = |(namespace, name, spec): &(&str, &str, Value)| {
            let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
            let service: Service = serde_json::from_value(object).unwrap();
            (Key::new(*namespace, *name), Arc::new(service))
        };
        all.iter().map(one).collect()
    }

    fn told(spec: Value, services: &View<Service>) -> Vec<String> {
        let pod = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec});
        let all = variables(&serde_json::from_value(pod).unwrap(), services);
        all.into_iter().map(|(n, v)| format!("{n}={v}")).collect()
    }

    fn hosts(spec: Value, services: &View<Service>) -> Vec<String> {
        let mut all = told(spec, services);
        all.retain(|line| line.contains("_SERVICE_HOST="));
        all
    }

    #[test]
    fn a_service_is_told_as_kubernetes_and_docker_did() {
        let ports = json!([
            {"name": "u-d-p", "port": 8081, "protocol": "UDP"},
            {"name": "8082", "port": 8082, "protocol": "TCP"},
        ]);
        let one = services(&[(
            "shop",
            "abc-123",
            json!({"clusterIP": "5.6.7.8", "ports": ports}),
        )]);
        let want = [
            "ABC_123_SERVICE_HOST=5.6.7.8",
            "ABC_123_SERVICE_PORT=8081",
            "ABC_123_SERVICE_PORT_U_D_P=8081",
            "ABC_123_SERVICE_PORT_8082=8082",
            "ABC_123_PORT=udp://5.6.7.8:8081",
            "ABC_123_PORT_8081_UDP=udp://5.6.7.8:8081",
            "ABC_123_PORT_8081_UDP_PROTO=udp",
            "ABC_123_PORT_8081_UDP_PORT=8081",
            "ABC_123_PORT_8081_UDP_ADDR=5.6.7.8",
            "ABC_123_PORT_8082_TCP=tcp://5.6.7.8:8082",
            "ABC_123_PORT_8082_TCP_PROTO=tcp",
            "ABC_123_PORT_8082_TCP_PORT=8082",
            "ABC_123_PORT_8082_TCP_ADDR=5.6.7.8",
        ];
        assert_eq!(told(json!({"containers": []}), &one), want);
        let unnamed = services(&[(
            "shop",
            "x",
            json!({"clusterIP": "fd00::1", "ports": [{"port": 80}]}),
        )]);
        let want = [
            "X_SERVICE_HOST=fd00::1",
            "X_SERVICE_PORT=80",
            "X_PORT=tcp://[fd00::1]:80",
            "X_PORT_80_TCP=tcp://[fd00::1]:80",
            "X_PORT_80_TCP_PROTO=tcp",
            "X_PORT_80_TCP_PORT=80",
            "X_PORT_80_TCP_ADDR=fd00::1",
        ];
        assert_eq!(told(json!({"containers": []}), &unnamed), want);
    }

    #[test]
    fn of_which_services_a_pod_hears() {
        let spec = |address: &str| json!({"clusterIP": address, "ports": [{"port": 80}]});
        let all = services(&[
            ("default", "kubernetes", spec("10.96.0.1")),
            ("default", "other", spec("10.96.0.2")),
            ("shop", "web", spec("10.96.0.3")),
            ("shop", "headless", spec("None")),
            ("shop", "late", json!({"ports": [{"port": 80}]})),
            (
                "shop",
                "alias",
                json!({"type": "ExternalName", "externalName": "x.dev"}),
            ),
            ("shopping", "cart", spec("10.96.0.4")),
        ]);
        let api = "KUBERNETES_SERVICE_HOST=10.96.0.1";
        let web = "WEB_SERVICE_HOST=10.96.0.3";
        assert_eq!(hosts(json!({"containers": []}), &all), [api, web]);
        let links = |enabled: bool| json!({"containers": [], "enableServiceLinks": enabled});
        assert_eq!(hosts(links(true), &all), [api, web]);
        assert_eq!(hosts(links(false), &all), [api]);

        let mut own = all.clone();
        own.extend(services(&[("shop", "kubernetes", spec("10.96.0.5"))]));
        assert_eq!(
            hosts(links(true), &own),
            ["KUBERNETES_SERVICE_HOST=10.96.0.5", web]
        );
        assert_eq!(hosts(links(false), &own), [api]);
        let mut headless = all.clone();
        headless.extend(services(&[("shop", "kubernetes", spec("None"))]));
        assert_eq!(hosts(links(true), &headless), [api, web]);
    }
}
