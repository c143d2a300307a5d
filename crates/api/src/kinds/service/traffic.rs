//! Rules of how traffic reaches a service.

use crate::kinds::address::{check_cidr, check_ip, check_not_special, ip};
use crate::kinds::field::{int, items, map, maybe_int, present, text};
use crate::kinds::names::{self, one_of};
use crate::status::{FieldError, FieldPath};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

const LONGEST_AFFINITY: i64 = 86_400;
const BALANCER_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";

/// Whether clients outside of the cluster can reach the service.
fn is_external(spec: &Value) -> bool {
    match text(spec, "/type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !items(spec, "/externalIPs").is_empty(),
        _ => false,
    }
}

/// Whether the service needs a port at which nodes say that they have endpoints of it.
fn has_health_check(spec: &Value) -> bool {
    is_balancer(spec) && text(spec, "/externalTrafficPolicy") == "Local"
}

fn is_balancer(spec: &Value) -> bool {
    text(spec, "/type") == "LoadBalancer"
}

/// A field, and whether a service has a use for it.
type Use = (&'static str, fn(&Value) -> bool);

/// Fields that go with the type that had a use for them, and who has.
pub(super) const BY_TYPE: [Use; 4] = [
    ("allocateLoadBalancerNodePorts", is_balancer),
    ("externalTrafficPolicy", is_external),
    ("healthCheckNodePort", has_health_check),
    ("loadBalancerClass", is_balancer),
];

/// Judges session affinity, traffic policies and what belongs to load balancers.
pub(super) fn validate(
    service: &Value,
    old: Option<&Value>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let spec = &service["spec"];
    affinity(spec, &path.child("sessionAffinityConfig"), errors);
    external_ips(spec, &path.child("externalIPs"), errors);
    source_ranges(service, path, errors);
    if present(spec, "/allocateLoadBalancerNodePorts").is_some() && !is_balancer(spec) {
        errors.push(FieldError::forbidden(
            &path.child("allocateLoadBalancerNodePorts"),
            BALANCER_ONLY,
        ));
    }
    balancer_class(spec, old.map(|old| &old["spec"]), path, errors);
    policies(spec, path, errors);
    if let Some(old) = old.map(|old| &old["spec"])
        && has_health_check(old)
        && has_health_check(spec)
        && int(old, "/healthCheckNodePort") != int(spec, "/healthCheckNodePort")
    {
        errors.push(FieldError::forbidden(
            &path.child("healthCheckNodePort"),
            "field is immutable",
        ));
    }
    let distributions = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    one_of(errors, spec, "trafficDistribution", path, &distributions);
}

fn affinity(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if text(spec, "/sessionAffinity") != "ClientIP" {
        return;
    }
    let seconds = maybe_int(spec, "/sessionAffinityConfig/clientIP/timeoutSeconds");
    if let Some(seconds) = seconds.filter(|held| !(1..=LONGEST_AFFINITY).contains(held)) {
        errors.push(FieldError::invalid(
            &path.child("clientIP").child("timeoutSeconds"),
            seconds,
            &format!("must be greater than 0 and less than {LONGEST_AFFINITY}"),
        ));
    }
}

fn external_ips(spec: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    for (index, address) in items(spec, "/externalIPs").iter().enumerate() {
        let (path, address) = (list.index(index), text(address, ""));
        if ip(address).is_some() {
            check_not_special(errors, &path, address);
        } else {
            check_ip(errors, &path, address);
        }
    }
}

fn source_ranges(service: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let spec = &service["spec"];
    let ranges = items(spec, "/loadBalancerSourceRanges");
    let key = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let annotations = map(service, "/metadata/annotations");
    let noted = annotations.and_then(|held| held.get(key)?.as_str());
    // The name of this field as Kubernetes tells it.
    let list = path.child("LoadBalancerSourceRanges");
    let annotation = FieldPath::new("metadata").child("annotations").key(key);
    let given = match (ranges, noted) {
        ([], None) => return,
        ([], Some(_)) => &annotation,
        _ => &list,
    };
    if !is_balancer(spec) {
        errors.push(FieldError::forbidden(given, BALANCER_ONLY));
    }
    for (index, range) in ranges.iter().enumerate() {
        check_cidr(errors, &list.index(index), text(range, "").trim());
    }
    let noted = noted.filter(|held| ranges.is_empty() && !held.trim().is_empty());
    for range in noted.into_iter().flat_map(|held| held.split(',')) {
        check_cidr(errors, &annotation, range.trim());
    }
}

fn balancer_class(
    spec: &Value,
    old: Option<&Value>,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let path = path.child("loadBalancerClass");
    let class = present(spec, "/loadBalancerClass");
    if is_balancer(spec)
        && let Some(old) = old.filter(|old| is_balancer(old))
        && present(old, "/loadBalancerClass") != class
    {
        let held = class.cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&path, held, "may not change once set"));
    }
    match class {
        Some(class) if is_balancer(spec) => {
            names::check(errors, &path, text(class, ""), names::qualified_name);
        }
        Some(_) => errors.push(FieldError::forbidden(&path, BALANCER_ONLY)),
        None => {}
    }
}

fn policies(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let field = "externalTrafficPolicy";
    let policy = text(spec, "/externalTrafficPolicy");
    if is_external(spec) {
        one_of(errors, spec, field, path, &["Cluster", "Local"]);
    } else if !policy.is_empty() {
        errors.push(FieldError::invalid(
            &path.child(field),
            policy,
            "may only be set for externally-accessible services",
        ));
    }
    let port = int(spec, "/healthCheckNodePort");
    let why = if port == 0 {
        None
    } else if has_health_check(spec) {
        names::port_number(port)
    } else {
        Some("may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'")
    };
    if let Some(why) = why {
        let path = path.child("healthCheckNodePort");
        errors.push(FieldError::invalid(&path, port, why));
    }
    one_of(
        errors,
        spec,
        "internalTrafficPolicy",
        path,
        &["Cluster", "Local"],
    );
}

/// Judges the families of a service's addresses.
pub(super) fn families(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if text(spec, "/type") == "ExternalName" {
        for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let held = present(spec, &format!("/{field}"));
            if held.is_some_and(|held| held.as_array().is_none_or(|list| !list.is_empty())) {
                errors.push(FieldError::forbidden(
                    &path.child(field),
                    "may not be set for ExternalName services",
                ));
            }
        }
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, family) in items(spec, "/ipFamilies").iter().enumerate() {
        let path = path.child("ipFamilies").index(index);
        let family = text(family, "");
        let families = ["IPv4", "IPv6"];
        if !families.contains(&family) {
            errors.push(FieldError::not_supported(&path, family, &families));
        }
        if !seen.insert(family) {
            errors.push(FieldError::duplicate(&path, family));
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    one_of(errors, spec, "ipFamilyPolicy", path, &policies);
    single_stack(spec, path, errors);
}

/// The cluster's addresses are of IPv4 alone. A service without addresses and without pods that it
/// selects may have any: whoever writes its endpoints knows where they are.
fn single_stack(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let headless = text(spec, "/clusterIP") == "None";
    if headless && map(spec, "/selector").is_none_or(Map::is_empty) {
        return;
    }
    for (index, family) in items(spec, "/ipFamilies").iter().enumerate() {
        if *family == "IPv6" {
            let path = path.child("ipFamilies").index(index);
            let why = "not configured on this cluster";
            errors.push(FieldError::invalid(&path, "IPv6", why));
        }
    }
    let policy = text(spec, "/ipFamilyPolicy");
    if policy == "RequireDualStack" {
        let path = path.child("ipFamilyPolicy");
        let why = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(&path, policy, why));
    }
}
