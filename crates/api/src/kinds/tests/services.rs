//! Services and what their types give them.

use super::*;

#[test]
fn services_keep_the_address_they_were_given() {
    let body = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.7", "ports": [{"port": 80, "nodePort": 30080}]}});
    let old = create(body).expect("valid");
    let mut new = old.clone();
    for field in ["clusterIP", "clusterIPs"] {
        new["spec"].as_object_mut().map(|held| held.remove(field));
    }
    new["spec"]["ports"] = json!([{"port": 80}]);
    let made = update(&old, new).expect("valid");
    assert_eq!(made["spec"]["clusterIPs"], json!(["10.96.0.7"]));
    assert_eq!(made["spec"]["ports"][0]["nodePort"], 30080);
    let mut new = old.clone();
    new["spec"]["clusterIP"] = "10.96.0.8".into();
    new["spec"]["clusterIPs"] = json!(["10.96.0.8"]);
    assert_eq!(
        causes(update(&old, new)),
        ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.8\"]: may not change once set"]
    );
}

#[test]
fn a_service_gives_back_what_its_new_type_has_no_use_for() {
    let body = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.7", "ports": [{"port": 80, "nodePort": 30080}]}});
    let old = create(body).expect("valid");
    let mut inner = old.clone();
    inner["spec"]["type"] = "ClusterIP".into();
    let made = update(&old, inner.clone()).expect("valid");
    assert_eq!(made["spec"]["ports"][0].get("nodePort"), None);
    assert_eq!(made["spec"]["clusterIP"], "10.96.0.7");
    // Another number is a wish that cannot be met.
    inner["spec"]["ports"][0]["nodePort"] = 30081.into();
    assert_eq!(
        causes(update(&old, inner)),
        ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]
    );
    let mut external = old.clone();
    external["spec"]["type"] = "ExternalName".into();
    external["spec"]["externalName"] = "example.com".into();
    let made = update(&old, external).expect("valid");
    assert_eq!(made["spec"].get("clusterIP"), None);
    assert_eq!(made["spec"].get("clusterIPs"), None);
    assert_eq!(made["spec"]["ports"][0].get("nodePort"), None);
}

#[test]
fn the_cluster_has_addresses_of_one_family() {
    let service = |more: Value| {
        let mut spec = json!({"ports": [{"port": 80}]});
        merge(&mut spec, more);
        object("v1", "Service", json!({"spec": spec}))
    };
    accepted([
        service(json!({"ipFamilyPolicy": "PreferDualStack"})),
        service(json!({"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"})),
        service(
            json!({"clusterIP": "None", "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}),
        ),
    ]);
    refused_text([
        (
            service(json!({"ipFamilies": ["IPv6"]})),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            service(json!({"ipFamilyPolicy": "RequireDualStack"})),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            service(json!({"clusterIP": "None", "selector": {"a": "b"}, "ipFamilies": ["IPv6"]})),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
    ]);
}
