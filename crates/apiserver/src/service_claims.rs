//! Service addresses and node ports: given out at creation, each held by a key of its own so that no
//! two Services can have the same one, on whichever servers they are made.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use api::status::{FieldError, FieldPath};
use bytes::Bytes;
use serde_json::{Value, json};
use store::{Op, State, When};

use crate::registry::Also;

/// The service network, 10.96.0.0/12.
const NETWORK: u32 = u32::from_be_bytes([10, 96, 0, 0]);
const HOST_BITS: u32 = 20;
/// The part of the network that is drawn from; the rest is for addresses that users choose.
const DRAWN: std::ops::Range<u32> = 256..(1 << HOST_BITS) - 1;
/// Kubernetes' default range of node ports.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;
/// How often a free one is drawn before the range counts as full.
const DRAWS: usize = 4096;

/// Which fields of a Service name what it holds.
fn has_cluster_ip(service: &Value) -> bool {
    service.pointer("/spec/type").and_then(Value::as_str) != Some("ExternalName")
}

fn has_node_ports(service: &Value) -> bool {
    matches!(
        service.pointer("/spec/type").and_then(Value::as_str),
        Some("NodePort" | "LoadBalancer")
    ) && service
        .pointer("/spec/allocateLoadBalancerNodePorts")
        .and_then(Value::as_bool)
        != Some(false)
}

fn kubernetes_address() -> String {
    Ipv4Addr::from(crate::ca::KUBERNETES_SERVICE_IP).to_string()
}

/// Whether it is the Service by which pods reach the API.
fn is_kubernetes(service: &Value) -> bool {
    let metadata = &service["metadata"];
    metadata["namespace"] == "default" && metadata["name"] == "kubernetes"
}

/// The keys that a Service holds.
fn claims(service: &Value) -> BTreeSet<Bytes> {
    let mut keys = BTreeSet::new();
    let addresses = service
        .pointer("/spec/clusterIPs")
        .and_then(Value::as_array);
    for address in addresses.into_iter().flatten().filter_map(Value::as_str) {
        if address.parse::<Ipv4Addr>().is_ok() {
            keys.insert(address_key(address));
        }
    }
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    for port in ports.into_iter().flatten() {
        if let Some(number) = port
            .get("nodePort")
            .and_then(Value::as_u64)
            .filter(|n| *n != 0)
        {
            keys.insert(port_key(number));
        }
    }
    keys
}

fn address_key(address: &str) -> Bytes {
    format!("/carob/service-addresses/{address}").into()
}

fn port_key(port: u64) -> Bytes {
    format!("/carob/node-ports/{port}").into()
}

/// What a write from `old` to `new` claims and gives up. `owner` is for people who look at the store.
pub(crate) fn changes(old: Option<&Value>, new: Option<&Value>, owner: &str) -> Also {
    let before = old.map(claims).unwrap_or_default();
    let after = new.map(claims).unwrap_or_default();
    let mut also = Also::default();
    for key in after.difference(&before) {
        also.when.push(When::Revision {
            key: key.clone(),
            is: 0,
        });
        also.ops.push(Op::Put {
            key: key.clone(),
            value: Bytes::copy_from_slice(owner.as_bytes()),
            lease: None,
        });
    }
    for key in before.difference(&after) {
        also.ops.push(Op::Delete { key: key.clone() });
    }
    also
}

/// Fills in the addresses and ports that a Service wants and does not have, from those that are
/// free in `state`, and checks those that it asks for. `draw` gives a random number below its argument.
pub(crate) fn allocate(
    service: &mut Value,
    old: Option<&Value>,
    state: &State,
    mut draw: impl FnMut(u32) -> u32,
) -> Result<(), Vec<FieldError>> {
    let held = old.map(claims).unwrap_or_default();
    // Kept for its Service also while that is away.
    let reserved = (!is_kubernetes(service)).then(|| address_key(&kubernetes_address()));
    let free = |key: &Bytes| {
        held.contains(key) || (state.get(key).is_none() && reserved.as_ref() != Some(key))
    };
    if has_cluster_ip(service) {
        cluster_ip(service, &free, &mut draw)?;
    }
    if has_node_ports(service) {
        node_ports(service, &free, &mut draw)?;
    }
    Ok(())
}

fn cluster_ip(
    service: &mut Value,
    free: &impl Fn(&Bytes) -> bool,
    draw: &mut impl FnMut(u32) -> u32,
) -> Result<(), Vec<FieldError>> {
    let asked = service
        .pointer("/spec/clusterIP")
        .or_else(|| service.pointer("/spec/clusterIPs/0"))
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let address = match asked.as_str() {
        "None" => asked,
        "" => {
            let drawn = (0..DRAWS).find_map(|_| {
                let host = DRAWN.start + draw(DRAWN.end - DRAWN.start);
                let address = Ipv4Addr::from(NETWORK | host).to_string();
                free(&address_key(&address)).then_some(address)
            });
            drawn.ok_or_else(|| {
                vec![FieldError::internal(
                    &FieldPath::new("spec").child("clusterIP"),
                    "failed to allocate a serviceIP: range is full",
                )]
            })?
        }
        given => {
            let path = FieldPath::new("spec").child("clusterIPs");
            let fault = |why: String| vec![FieldError::invalid(&path, json!([given]), &why)];
            let Ok(ip) = given.parse::<Ipv4Addr>() else {
                // What is no IPv4 address is the validation's to refuse.
                return Ok(());
            };
            if u32::from(ip) >> HOST_BITS != NETWORK >> HOST_BITS {
                return Err(fault(format!(
                    "failed to allocate IP {given}: the provided IP ({given}) is not in the valid range. The range of valid IPs is 10.96.0.0/12"
                )));
            }
            if !free(&address_key(given)) {
                return Err(fault(format!(
                    "failed to allocate IP {given}: provided IP is already allocated"
                )));
            }
            asked
        }
    };
    if let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("clusterIP".into(), address.as_str().into());
        spec.insert("clusterIPs".into(), json!([address]));
    }
    Ok(())
}

fn node_ports(
    service: &mut Value,
    free: &impl Fn(&Bytes) -> bool,
    draw: &mut impl FnMut(u32) -> u32,
) -> Result<(), Vec<FieldError>> {
    let Some(ports) = service
        .pointer_mut("/spec/ports")
        .and_then(Value::as_array_mut)
    else {
        return Ok(());
    };
    let mut taken: BTreeSet<u64> = BTreeSet::new();
    let mut errors = Vec::new();
    for (i, port) in ports.iter_mut().enumerate() {
        let path = FieldPath::new("spec")
            .child("ports")
            .index(i)
            .child("nodePort");
        let asked = port.get("nodePort").and_then(Value::as_u64).unwrap_or(0);
        if asked != 0 {
            let in_range = u16::try_from(asked).is_ok_and(|p| NODE_PORTS.contains(&p));
            if !in_range {
                let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                errors.push(FieldError::invalid(&path, asked, why));
            } else if !free(&port_key(asked)) {
                errors.push(FieldError::invalid(
                    &path,
                    asked,
                    "provided port is already allocated",
                ));
            }
            taken.insert(asked);
            continue;
        }
        let span = u32::from(NODE_PORTS.end() - NODE_PORTS.start()) + 1;
        let drawn = (0..DRAWS).find_map(|_| {
            let number = u64::from(*NODE_PORTS.start()) + u64::from(draw(span));
            (free(&port_key(number)) && !taken.contains(&number)).then_some(number)
        });
        match (drawn, port.as_object_mut()) {
            (Some(number), Some(port)) => {
                taken.insert(number);
                port.insert("nodePort".into(), number.into());
            }
            _ => errors.push(FieldError::internal(
                &path,
                "failed to allocate a nodePort: range is full",
            )),
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_what_is_free_and_claims_it() {
        let ports = json!([{"port": 80}, {"port": 81}]);
        let two_ports = json!({"spec": {"type": "NodePort", "ports": ports}});
        // The second port cannot be the one that the first has drawn.
        let always_5 = allocate(&mut two_ports.clone(), None, &State::default(), |_| 5);
        assert_eq!(always_5.unwrap_err().len(), 1);
        let mut service = two_ports;
        let mut next = 0;
        allocate(&mut service, None, &State::default(), |_| {
            next += 1;
            next
        })
        .unwrap();
        assert_eq!(service["spec"]["clusterIP"], "10.96.1.1");
        assert_eq!(service["spec"]["ports"][1]["nodePort"], 30003);
        let claimed = changes(None, Some(&service), "ns/s");
        assert_eq!((claimed.when.len(), claimed.ops.len()), (3, 3));
        let gone = changes(Some(&service), None, "ns/s");
        assert!(gone.when.is_empty() && gone.ops.len() == 3);
        assert!(
            changes(Some(&service), Some(&service), "ns/s")
                .ops
                .is_empty()
        );
    }

    #[test]
    fn headless_and_external_services_claim_nothing() {
        for mut service in [
            json!({"spec": {"type": "ExternalName", "externalName": "x"}}),
            json!({"spec": {"clusterIP": "None"}}),
        ] {
            allocate(&mut service, None, &State::default(), |_| 0).unwrap();
            assert!(changes(None, Some(&service), "").ops.is_empty());
        }
    }

    #[test]
    fn what_is_asked_for_must_be_in_range() {
        let mut service = json!({"spec": {"clusterIP": "10.0.0.1"}});
        let errors = allocate(&mut service, None, &State::default(), |_| 0).unwrap_err();
        assert!(errors[0].message.contains("not in the valid range"));
        let mut service = json!({"spec": {"type": "NodePort", "ports": [{"nodePort": 80}]}});
        assert!(allocate(&mut service, None, &State::default(), |_| 0).is_err());
    }
}
