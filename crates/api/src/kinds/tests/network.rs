//! Rules of ingresses, policies, endpoints and addresses.

use super::*;

#[test]
fn ingresses_are_judged() {
    let ingress = |spec: Value| {
        causes(create(
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "i"}, "spec": spec}),
        ))
    };
    assert_eq!(
        ingress(json!({})),
        ["spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"]
    );
    let service = json!({"service": {"name": "s", "port": {"number": 80}}});
    assert_eq!(
        ingress(json!({"rules": [{"host": "127.0.0.1", "http": {"paths": [
            {"path": "a", "pathType": "Prefix", "backend": service},
            {"path": "/", "pathType": "Exact", "backend": {}}]}}]})),
        [
            "spec.rules[0].host: Invalid value: \"127.0.0.1\": must be a DNS name, not an IP address",
            "spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path",
            "spec.rules[0].http.paths[1].backend: Invalid value: \"\": resource or service backend is required",
        ]
    );
}

fn service(more: Value) -> Value {
    let mut body = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"ports": [{"port": 80}]}});
    merge(&mut body["spec"], more);
    body
}

#[test]
fn services_are_judged() {
    let balancer = |more: Value| {
        let mut body = service(json!({"type": "LoadBalancer"}));
        merge(&mut body["spec"], more);
        body
    };
    let mut noted = balancer(json!({}));
    noted["metadata"]["annotations"] =
        json!({"service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8, 11.0.0.0/8"});
    accepted([
        service(json!({"type": "ExternalName", "externalName": "example.com.", "ports": null})),
        service(json!({"externalIPs": ["10.1.2.3"], "externalTrafficPolicy": "Local"})),
        service(
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86_400}}}),
        ),
        service(json!({"trafficDistribution": "PreferSameNode"})),
        service(json!({"ports": [{"port": 80, "appProtocol": "kubernetes.io/h2c"}]})),
        balancer(
            json!({"loadBalancerClass": "example.com/x", "loadBalancerSourceRanges": [" 10.0.0.0/8 "]}),
        ),
        balancer(json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 30_000})),
        noted,
    ]);
    let one = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}});
    refused_text([
        (
            service(one),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400",
        ),
        (
            service(json!({"externalTrafficPolicy": "Local"})),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ),
        (
            service(json!({"externalIPs": ["127.0.0.1"]})),
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            service(json!({"externalIPs": ["x"]})),
            "spec.externalIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            service(json!({"loadBalancerSourceRanges": ["x"]})),
            "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            balancer(json!({"loadBalancerSourceRanges": ["x"]})),
            "spec.LoadBalancerSourceRanges[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ),
        (
            service(json!({"loadBalancerClass": "a/b"})),
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            service(json!({"allocateLoadBalancerNodePorts": true})),
            "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            service(json!({"healthCheckNodePort": 3})),
            "spec.healthCheckNodePort: Invalid value: 3: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ),
        (
            service(json!({"ports": [{"port": 80, "appProtocol": "A!"}]})),
            "spec.ports[0].appProtocol: Invalid value: \"A!\": name part must consist *",
        ),
        (
            service(json!({"trafficDistribution": "X"})),
            "spec.trafficDistribution: Unsupported value: \"X\": supported values: \"PreferClose\", \"PreferSameNode\", \"PreferSameZone\"",
        ),
        (
            service(json!({"type": "ExternalName", "externalName": "a.b", "ipFamilies": ["IPv4"]})),
            "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
        ),
        (
            service(json!({"ipFamilies": ["IPv4", "IPv4"]})),
            "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
        ),
    ]);
}

#[test]
fn what_goes_with_a_type_goes_when_the_type_does() {
    let old = create(service(
        json!({"type": "LoadBalancer", "loadBalancerClass": "a/b"}),
    ))
    .expect("valid");
    assert_eq!(old["spec"]["allocateLoadBalancerNodePorts"], true);
    let mut new = old.clone();
    new["spec"]["type"] = "ClusterIP".into();
    let made = update(&old, new).expect("valid");
    for field in [
        "loadBalancerClass",
        "allocateLoadBalancerNodePorts",
        "externalTrafficPolicy",
    ] {
        assert_eq!(made["spec"].get(field), None, "{field}");
    }
    let mut new = old.clone();
    new["spec"]["loadBalancerClass"] = "a/c".into();
    assert_eq!(
        causes(update(&old, new)),
        ["spec.loadBalancerClass: Invalid value: \"a/c\": may not change once set"]
    );
}

#[test]
fn only_the_api_servers_are_on_loopback_addresses() {
    let endpoints = |namespace: &str, name: &str| {
        json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"namespace": namespace, "name": name}, "subsets": [{"addresses": [{"ip": "127.0.0.2"}]}]})
    };
    let slice = |namespace: &str, service: &str| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": "s", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.2"]}]})
    };
    accepted([
        endpoints("default", "kubernetes"),
        slice("default", "kubernetes"),
    ]);
    for (namespace, name) in [
        ("default", "web"),
        ("default", "kubernetes-1"),
        ("other", "kubernetes"),
    ] {
        for object in [endpoints(namespace, name), slice(namespace, name)] {
            let found = causes(create(object));
            assert!(
                found.iter().all(|cause| cause.contains("loopback")),
                "{found:?}"
            );
            assert!(!found.is_empty(), "{namespace}/{name}");
        }
    }
}

#[test]
fn endpoints_are_judged() {
    let endpoints = |subset: Value| json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "e"}, "subsets": [subset]});
    let slice = |kind: &str, more: Value| {
        let mut body = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "e"},
            "addressType": kind, "endpoints": [{"addresses": ["10.0.0.1"]}]});
        merge(&mut body, more);
        body
    };
    let at = |address: &str| json!({"endpoints": [{"addresses": [address]}]});
    accepted([
        endpoints(json!({"addresses": [{"ip": "10.0.0.1"}]})),
        endpoints(json!({"notReadyAddresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1}]})),
        slice(
            "IPv4",
            json!({"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}),
        ),
        slice("IPv6", at("2001:db8::1")),
        slice("FQDN", at("example.com.")),
    ]);
    refused_text([
        (
            endpoints(json!({})),
            "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
        ),
        (
            endpoints(json!({"addresses": [{"ip": "x"}]})),
            "subsets[0].addresses[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            endpoints(json!({"addresses": [{"ip": "127.0.0.1"}]})),
            "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            endpoints(
                json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1}, {"port": 2}]}),
            ),
            "subsets[0].ports[0].name: Required value",
        ),
        (
            slice("IPv4", at("2001:db8::1")),
            "endpoints[0].addresses[0]: Invalid value: \"2001:db8::1\": must be a valid IPv4 address",
        ),
        (
            slice("IPv6", json!({})),
            "endpoints[0].addresses[0]: Invalid value: \"10.0.0.1\": must be a valid IPv6 address",
        ),
        (
            slice("FQDN", at("a")),
            "endpoints[0].addresses[0]: Invalid value: \"a\": should be a domain with at least two segments separated by dots",
        ),
        (
            slice("IPv4", json!({"ports": [{"port": 1}, {"port": 2}]})),
            "ports[1].name: Duplicate value: \"\"",
        ),
        (
            slice(
                "IPv4",
                json!({"endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": "a"}, {"name": "a"}]}}]}),
            ),
            "endpoints[0].hints.forZones[1].name: Duplicate value: \"a\"",
        ),
    ]);
}

#[test]
fn ingresses_and_their_classes() {
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    let ingress = |more: Value| {
        let mut spec = json!({"defaultBackend": backend});
        merge(&mut spec, more);
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i"}, "spec": spec})
    };
    let path = |at: &str| {
        ingress(
            json!({"rules": [{"http": {"paths": [{"path": at, "pathType": "Exact", "backend": backend}]}}]}),
        )
    };
    let class = |spec: Value| json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "c"}, "spec": spec});
    let with =
        |parameters: Value| class(json!({"controller": "example.com/c", "parameters": parameters}));
    accepted([
        ingress(
            json!({"tls": [{"hosts": ["*.example.com", "a.b"], "secretName": "s"}], "ingressClassName": "c"}),
        ),
        ingress(json!({"rules": [{"host": "*.example.com"}]})),
        path("/a/b"),
        class(json!({"controller": "example.com/c"})),
        with(json!({"kind": "K", "name": "n"})),
        with(json!({"kind": "K", "name": "n", "scope": "Namespace", "namespace": "x"})),
    ]);
    refused_text([
        (
            ingress(json!({"tls": [{"hosts": ["A_"]}]})),
            "spec.tls[0].hosts[0]: Invalid value: \"A_\": a lowercase RFC 1123 subdomain *",
        ),
        (
            ingress(json!({"tls": [{"hosts": ["a.*"]}]})),
            "spec.tls[0].hosts[0]: Invalid value: \"a.*\": a wildcard DNS-1123 subdomain *",
        ),
        (
            path("/a//b"),
            "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'",
        ),
        (
            path("/a/.."),
            "spec.rules[0].http.paths[0].path: Invalid value: \"/a/..\": cannot end with '/..'",
        ),
        (
            ingress(json!({"defaultBackend": {"service": {"port": {"name": "x"}}}})),
            "spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number",
        ),
        (
            class(json!({"controller": "x"})),
            "spec.controller: Invalid value: \"x\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
        (
            with(json!({"kind": "", "name": "n"})),
            "spec.parameters.kind: Required value: kind is required",
        ),
        (
            with(json!({"kind": "K", "name": "n", "scope": "Namespace"})),
            "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
        ),
        (
            with(json!({"kind": "K", "name": "n", "namespace": "x"})),
            "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
        ),
    ]);
    let old = create(class(json!({"controller": "example.com/c"}))).expect("valid");
    let mut new = old.clone();
    new["spec"]["controller"] = "example.com/d".into();
    assert_eq!(
        causes(update(&old, new)),
        ["spec.controller: Invalid value: \"example.com/d\": field is immutable"]
    );
}

#[test]
fn policies_are_judged() {
    let policy = |rule: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p"},
            "spec": {"podSelector": {}, "ingress": [rule]}})
    };
    let port = |port: Value| policy(json!({"ports": [port]}));
    let block = |block: Value| policy(json!({"from": [{"ipBlock": block}]}));
    accepted([
        port(json!({"port": 80, "endPort": 90})),
        port(json!({"port": "http"})),
        port(json!({"protocol": "UDP"})),
        block(json!({"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]})),
    ]);
    let at = "spec.ingress[0].ports[0]";
    let peer = "spec.ingress[0].from[0].ipBlock";
    refused([
        (
            port(json!({"port": 80, "endPort": 79})),
            format!("{at}.endPort: Invalid value: 80: must be greater than or equal to `port`"),
        ),
        (
            port(json!({"endPort": 79})),
            format!(
                "{at}.endPort: Invalid value: 79: may not be specified when `port` is not specified"
            ),
        ),
        (
            port(json!({"port": "http", "endPort": 79})),
            format!(
                "{at}.endPort: Invalid value: 79: may not be specified when `port` is non-numeric"
            ),
        ),
        (
            port(json!({"port": 0})),
            format!("{at}.port: Invalid value: 0: must be between 1 and 65535, inclusive"),
        ),
        (
            block(json!({"cidr": ""})),
            format!("{peer}.cidr: Required value"),
        ),
        (
            block(json!({"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]})),
            format!(
                "{peer}.except[0]: Invalid value: \"11.0.0.0/8\": must be a strict subset of `cidr`"
            ),
        ),
        (
            block(json!({"cidr": "10.0.0.0/8", "except": ["x"]})),
            format!("{peer}.except[0]: Invalid value: \"x\": must be a valid CIDR value, *"),
        ),
    ]);
}

#[test]
fn addresses_of_the_cluster() {
    let address = |name: &str, parent: Value| json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": name}, "spec": {"parentRef": parent}});
    let cidrs = |cidrs: Value| json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "c"}, "spec": {"cidrs": cidrs}});
    let parent = json!({"resource": "services", "name": "s", "namespace": "default"});
    accepted([
        address("10.0.0.1", parent.clone()),
        address("2001:db8::1", parent.clone()),
        cidrs(json!(["10.0.0.0/8", "fd00::/64"])),
    ]);
    refused_text([
        (
            address("x", parent.clone()),
            "metadata.name: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            address("2001:db8:0::1", parent.clone()),
            "metadata.name: Invalid value: \"2001:db8:0::1\": must be in canonical form (\"2001:db8::1\")",
        ),
        (
            address("10.0.0.1", Value::Null),
            "spec.parentRef: Required value",
        ),
        (
            address("10.0.0.1", json!({"name": "s"})),
            "spec.parentRef.resource: Required value",
        ),
        (
            cidrs(json!([])),
            "spec.cidrs: Required value: at least one CIDR required",
        ),
        (
            cidrs(json!(["x"])),
            "spec.cidrs[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ),
        (
            cidrs(json!(["10.0.0.0/8", "11.0.0.0/8"])),
            "spec.cidrs: Invalid value: {\"cidrs\":[\"10.0.0.0/8\",\"11.0.0.0/8\"]}: may specify no more than *",
        ),
    ]);
    for (old, path, change, fault) in [
        (
            address("10.0.0.1", parent),
            "/spec/parentRef/name",
            json!("t"),
            "spec.parentRef: Invalid value: {*",
        ),
        (
            cidrs(json!(["10.0.0.0/8"])),
            "/spec/cidrs",
            json!(["11.0.0.0/8"]),
            "spec.cidrs: Invalid value: [\"11.0.0.0/8\"]: field is immutable",
        ),
    ] {
        changed(old, path, change, fault);
    }
    let old = create(cidrs(json!(["10.0.0.0/8"]))).expect("valid");
    let mut new = old.clone();
    new["spec"]["cidrs"] = json!(["10.0.0.0/8", "fd00::/64"]);
    assert!(update(&old, new).is_ok());
}
