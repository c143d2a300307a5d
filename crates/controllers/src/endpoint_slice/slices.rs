//! The slices that one maker has for one Service.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Key;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use super::placing::{Endpoints, place};
use crate::owner::{self, target};
use crate::plan::{Plan, Write, difference};
use crate::view::View;

/// Which Service a slice is of.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Pods have addresses of this kind only.
const ADDRESS_TYPE: &str = "IPv4";

/// What slices are made from.
pub(super) struct Origin {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) owner: OwnerReference,
}

/// Endpoints by the ports that they have.
pub(super) type Wanted = Vec<(Vec<EndpointPort>, Endpoints)>;

/// Brings the slices that `manager` has made for the Service at `key` up to what is wanted; none where
/// nothing is.
pub(super) fn keep(
    key: &Key,
    manager: &str,
    wanted: Option<(Origin, Wanted)>,
    view: &View,
    plan: &mut Plan,
) {
    let slices = view
        .endpoint_slices
        .labelled(&key.namespace, (SERVICE_NAME, &key.name))
        .filter(|slice| {
            let labels = slice.metadata.labels.as_ref();
            labels.and_then(|l| Some(l.get(MANAGED_BY)?.as_str())) == Some(manager)
        });
    let Some((origin, wanted)) = wanted else {
        plan.writes
            .extend(slices.map(|slice| Write::delete(target(&**slice))));
        return;
    };
    let mut labels = origin.labels;
    labels.insert(SERVICE_NAME.to_owned(), key.name.clone());
    labels.insert(MANAGED_BY.to_owned(), manager.to_owned());
    let mut keeper = Keeper {
        key,
        labels,
        owner: origin.owner,
        spare: Vec::new(),
        writes: Vec::new(),
        deletions: Vec::new(),
    };
    let mut groups: BTreeMap<String, Group<'_>> = BTreeMap::new();
    for (ports, endpoints) in wanted {
        let slices = Vec::new();
        groups.insert(
            text(&ports),
            Group {
                ports,
                endpoints,
                slices,
            },
        );
    }
    for slice in slices {
        let mut owners = slice.metadata.owner_references.iter().flatten();
        let is_owned = owners.any(|of| of.uid == keeper.owner.uid);
        // What a slice's addresses are is never changed; and one of a namesake that is gone goes with that.
        if slice.address_type != ADDRESS_TYPE || !is_owned {
            keeper.deletions.push(Write::delete(target(&**slice)));
            continue;
        }
        match groups.get_mut(&text(slice.ports.as_deref().unwrap_or_default())) {
            Some(group) => group.slices.push(slice),
            None => keeper.spare.push(slice),
        }
    }
    for group in groups.into_values() {
        keeper.write(group);
    }
    keeper.finish(plan);
}

/// Ports as something that has an order.
pub(super) fn text(ports: &[EndpointPort]) -> String {
    let mut texts: Vec<_> = ports.iter().map(|port| json!(port).to_string()).collect();
    texts.sort();
    texts.concat()
}

/// Endpoints with the same ports, and the slices that have these.
struct Group<'a> {
    ports: Vec<EndpointPort>,
    endpoints: Endpoints,
    slices: Vec<&'a Arc<EndpointSlice>>,
}

/// What is to be written, and how.
struct Keeper<'a> {
    key: &'a Key,
    labels: BTreeMap<String, String>,
    owner: OwnerReference,
    /// Slices with ports that nobody has any more: they are taken before new ones are made.
    spare: Vec<&'a Arc<EndpointSlice>>,
    writes: Vec<Write>,
    deletions: Vec<Write>,
}

impl<'a> Keeper<'a> {
    fn write(&mut self, group: Group<'a>) {
        let Group {
            ports,
            endpoints,
            slices,
        } = group;
        let empty = endpoints.is_empty();
        let held: Vec<&[Endpoint]> = slices.iter().map(|s| held(s)).collect();
        let mut placed = place(endpoints, &held);
        if placed.is_empty() {
            placed.push(Vec::new());
        }
        let mut slices = slices.into_iter();
        // One empty slice is kept where nothing is behind the Service.
        let mut spared = empty;
        for endpoints in placed {
            let needed = !endpoints.is_empty() || std::mem::take(&mut spared);
            let old = slices.next();
            let old = match needed {
                true => old.or_else(|| self.spare.pop()),
                false => old,
            };
            match old {
                Some(old) if needed => self.update(old, &ports, endpoints),
                Some(old) => self.deletions.push(Write::delete(target(&**old))),
                None if needed => self.create(&ports, endpoints),
                None => {}
            }
        }
    }

    fn create(&mut self, ports: &[EndpointPort], endpoints: Vec<Endpoint>) {
        let slice = EndpointSlice {
            metadata: ObjectMeta {
                namespace: Some(self.key.namespace.clone()),
                generate_name: Some(format!("{}-", self.key.name)),
                labels: Some(self.labels.clone()),
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            address_type: ADDRESS_TYPE.to_owned(),
            endpoints: Some(endpoints),
            ports: Some(ports.to_vec()),
        };
        self.writes.push(Write::Create {
            namespace: self.key.namespace.clone(),
            object: owner::to_value(&slice),
        });
    }

    fn update(&mut self, old: &EndpointSlice, ports: &[EndpointPort], endpoints: Vec<Endpoint>) {
        let same_ports = text(old.ports.as_deref().unwrap_or_default()) == text(ports);
        let same_labels = old.metadata.labels.as_ref() == Some(&self.labels);
        if held(old) == endpoints && same_ports && same_labels {
            return;
        }
        let labels = difference(&json!(old.metadata.labels), &json!(self.labels));
        self.writes.push(Write::Patch {
            target: target(old),
            patch: json!({
                "metadata": {"labels": labels, "resourceVersion": old.metadata.resource_version},
                "endpoints": endpoints,
                "ports": ports,
            }),
        });
    }

    /// What is new is there before what is old goes: nobody is without endpoints in between.
    fn finish(self, plan: &mut Plan) {
        let spare = self
            .spare
            .iter()
            .map(|slice| Write::delete(target(&***slice)));
        plan.writes.extend(self.writes);
        plan.writes.extend(self.deletions.into_iter().chain(spare));
    }
}

fn held(slice: &EndpointSlice) -> &[Endpoint] {
    slice.endpoints.as_deref().unwrap_or_default()
}
