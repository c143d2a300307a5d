//! One LimitRange on one object.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde_json::{Map, Value};

/// Tells what was set.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// A pod's lists of containers, with what one is called, in the order in which they are told of.
const CONTAINERS: [(&str, &str); 2] = [
    ("containers", "container"),
    ("initContainers", "init container"),
];

/// Amounts by resource.
type Amounts = BTreeMap<String, Quantity>;

fn amounts(list: Option<&BTreeMap<String, Text>>) -> Amounts {
    list.into_iter()
        .flatten()
        .filter_map(|(name, text)| Some((name.clone(), Quantity::parse(&text.0).ok()?)))
        .collect()
}

fn amounts_in(resources: &Value, list: &str) -> Amounts {
    let list = resources[list].as_object();
    list.into_iter()
        .flatten()
        .filter_map(|(name, text)| Some((name.clone(), Quantity::parse(text.as_str()?).ok()?)))
        .collect()
}

fn limits<'a>(range: &'a LimitRange, kind: &str) -> impl Iterator<Item = &'a LimitRangeItem> {
    let items = range.spec.as_ref().map(|spec| spec.limits.as_slice());
    items
        .unwrap_or_default()
        .iter()
        .filter(move |item| item.type_ == kind)
}

/// How many amounts the range has for an object: those of containers once for each of its containers.
pub(super) fn amounts_for(object: &Value, range: &LimitRange) -> usize {
    let containers = CONTAINERS.iter().map(|(list, _)| &object["spec"][*list]);
    let containers: usize = containers.filter_map(Value::as_array).map(Vec::len).sum();
    let items = range.spec.as_ref().map(|spec| spec.limits.as_slice());
    let items = items.unwrap_or_default().iter().map(|item| {
        let lists = [
            &item.min,
            &item.max,
            &item.default,
            &item.default_request,
            &item.max_limit_request_ratio,
        ];
        let amounts: usize = lists.into_iter().flatten().map(BTreeMap::len).sum();
        match item.type_.as_str() {
            "Container" => amounts.saturating_mul(containers),
            _ => amounts,
        }
    });
    items.fold(0, usize::saturating_add)
}

/// Gives a pod's containers the range's defaults where they say nothing, and notes it.
pub(super) fn fill(pod: &mut Value, range: &LimitRange) {
    let (mut requests, mut most) = (Map::new(), Map::new());
    for item in limits(range, "Container") {
        for (into, from) in [
            (&mut requests, &item.default_request),
            (&mut most, &item.default),
        ] {
            let entries = from.iter().flatten();
            into.extend(entries.map(|(name, text)| (name.clone(), text.0.as_str().into())));
        }
    }
    let mut notes = Vec::new();
    for (list, called) in CONTAINERS {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            let kinds = [
                ("requests", &requests, "request"),
                ("limits", &most, "limit"),
            ];
            for (list, defaults, what) in kinds {
                let set = merge(&mut container["resources"], list, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {what} for {called} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod["metadata"]["annotations"][ANNOTATION] = note.into();
    }
}

/// Puts the defaults there that are missing; their names, sorted.
fn merge(resources: &mut Value, list: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let held = resources[list].as_object();
    let missing = |name: &String| held.is_none_or(|held| !held.contains_key(name));
    let mut set: Vec<String> = defaults
        .keys()
        .filter(|name| missing(name))
        .cloned()
        .collect();
    set.sort();
    for name in &set {
        resources[list][name.as_str()] = defaults[name].clone();
    }
    set
}

/// What a pod asks that the range does not allow.
pub(super) fn pod_faults(pod: &Value, range: &LimitRange) -> Vec<String> {
    let mut faults = Vec::new();
    let spec = &pod["spec"];
    for item in limits(range, "Container") {
        for (list, _) in CONTAINERS {
            for container in spec[list].as_array().into_iter().flatten() {
                let resources = &container["resources"];
                let asked = amounts_in(resources, "requests");
                bounds(item, &asked, &amounts_in(resources, "limits"), &mut faults);
            }
        }
    }
    for item in limits(range, "Pod") {
        let (asked, most) = (whole(spec, "requests"), whole(spec, "limits"));
        bounds(item, &asked, &most, &mut faults);
    }
    faults
}

/// What a claim asks that the range does not allow; only requests count.
pub(super) fn claim_faults(claim: &Value, range: &LimitRange) -> Vec<String> {
    let mut faults = Vec::new();
    let asked = amounts_in(&claim["spec"]["resources"], "requests");
    for item in limits(range, "PersistentVolumeClaim") {
        for (name, least) in amounts(item.min.as_ref()) {
            let place = Place {
                kind: &item.type_,
                name: &name,
            };
            faults.extend(place.minimum(&least, asked.get(&name), None));
        }
        for (name, most) in amounts(item.max.as_ref()) {
            let place = Place {
                kind: &item.type_,
                name: &name,
            };
            faults.extend(place.maximum_request(&most, asked.get(&name)));
        }
    }
    faults
}

fn bounds(item: &LimitRangeItem, asked: &Amounts, most: &Amounts, faults: &mut Vec<String>) {
    let place = |name| Place {
        kind: &item.type_,
        name,
    };
    let (min, max) = (amounts(item.min.as_ref()), amounts(item.max.as_ref()));
    let ratios = amounts(item.max_limit_request_ratio.as_ref());
    for (name, least) in &min {
        faults.extend(place(name).minimum(least, asked.get(name), most.get(name)));
    }
    for (name, largest) in &max {
        faults.extend(place(name).maximum(largest, asked.get(name), most.get(name)));
    }
    for (name, ratio) in &ratios {
        faults.extend(place(name).ratio(ratio, asked.get(name), most.get(name)));
    }
}

/// Of what a rule speaks: a resource of a kind of thing.
struct Place<'a> {
    kind: &'a str,
    name: &'a str,
}

impl Place<'_> {
    fn minimum(
        &self,
        least: &Quantity,
        asked: Option<&Quantity>,
        limit: Option<&Quantity>,
    ) -> Option<String> {
        let rule = format!("minimum {} usage per {} is {least}", self.name, self.kind);
        match (asked, limit) {
            (None, _) => Some(format!("{rule}.  No request is specified")),
            (Some(asked), _) if asked < least => Some(format!("{rule}, but request is {asked}")),
            (_, Some(limit)) if limit < least => Some(format!("{rule}, but limit is {limit}")),
            _ => None,
        }
    }

    fn maximum(
        &self,
        most: &Quantity,
        asked: Option<&Quantity>,
        limit: Option<&Quantity>,
    ) -> Option<String> {
        let rule = format!("maximum {} usage per {} is {most}", self.name, self.kind);
        match (limit, asked) {
            (None, _) => Some(format!("{rule}.  No limit is specified")),
            (Some(limit), _) if limit > most => Some(format!("{rule}, but limit is {limit}")),
            (_, Some(asked)) if asked > most => Some(format!("{rule}, but request is {asked}")),
            _ => None,
        }
    }

    fn maximum_request(&self, most: &Quantity, asked: Option<&Quantity>) -> Option<String> {
        let rule = format!("maximum {} usage per {} is {most}", self.name, self.kind);
        match asked {
            None => Some(format!("{rule}.  No request is specified")),
            Some(asked) if asked > most => Some(format!("{rule}, but request is {asked}")),
            _ => None,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio is compared and shown as Kubernetes does it, by doubles"
    )]
    fn ratio(
        &self,
        most: &Quantity,
        asked: Option<&Quantity>,
        limit: Option<&Quantity>,
    ) -> Option<String> {
        let rule = format!(
            "{} max limit to request ratio per {} is {most}",
            self.name, self.kind
        );
        let given = |amount: Option<&Quantity>| amount.copied().filter(|amount| !amount.is_zero());
        let Some(asked) = given(asked) else {
            return Some(format!(
                "{rule}, but no request is specified or request is 0"
            ));
        };
        let Some(limit) = given(limit) else {
            return Some(format!("{rule}, but no limit is specified or limit is 0"));
        };
        // Whole units where thousandths would not fit.
        let fine = [asked, limit]
            .iter()
            .all(|amount| amount.value() <= i64::MAX / 1000);
        let ratio = if fine {
            limit.milli() as f64 / asked.milli() as f64
        } else {
            limit.value() as f64 / asked.value() as f64
        };
        let over = ratio * 1000.0 > most.milli() as f64;
        over.then(|| format!("{rule}, but provided ratio is {ratio:.6}"))
    }
}

/// What a whole pod asks: the sum of what runs together, or what its start takes if that is more. An
/// init container that is restarted runs beside all that come after it. What the pod says of itself
/// as a whole is above that.
fn whole(spec: &Value, list: &str) -> Amounts {
    let mut sum = Amounts::new();
    for container in spec["containers"].as_array().into_iter().flatten() {
        add(&mut sum, &amounts_in(&container["resources"], list));
    }
    let (mut beside, mut start) = (Amounts::new(), Amounts::new());
    for container in spec["initContainers"].as_array().into_iter().flatten() {
        let mut own = amounts_in(&container["resources"], list);
        if container["restartPolicy"] == "Always" {
            add(&mut sum, &own);
            add(&mut beside, &own);
            own = beside.clone();
        } else {
            add(&mut own, &beside);
        }
        raise(&mut start, &own);
    }
    raise(&mut sum, &start);
    sum.extend(amounts_in(&spec["resources"], list));
    sum
}

fn add(into: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let held = into.entry(name.clone()).or_insert(Quantity::ZERO);
        *held = held.plus(amount);
    }
}

fn raise(into: &mut Amounts, to: &Amounts) {
    for (name, amount) in to {
        let held = into.entry(name.clone()).or_insert(*amount);
        *held = (*held).max(*amount);
    }
}

#[cfg(test)]
mod tests;
