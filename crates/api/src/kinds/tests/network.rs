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
            "spec.rules[0].http.paths[1].backend: Required value: resource or service backend is required",
        ]
    );
}
