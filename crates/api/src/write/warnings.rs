//! What is allowed and hardly meant: clients are told of it, and the write goes on.
//!
//! The rules and the words are those of Kubernetes' `pkg/api/pod/warnings.go`, `pkg/api/node` and the
//! kinds' strategies; those of [`without_effect`] and [`support`] are carob's own.

mod without_effect;

use k8s_openapi::api::core::v1::PodSpec;
use serde::Deserialize as _;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

use crate::kinds::field::{int, items, map, present, text};
use crate::kinds::names;
use crate::quantity::Quantity;
use crate::resource::Resource;
use crate::status::FieldPath;
use crate::support;

/// Labels of nodes that have new names.
const OLD_LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    (
        "beta.kubernetes.io/instance-type",
        "v1.17",
        "node.kubernetes.io/instance-type",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "v1.17",
        "topology.kubernetes.io/region",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "v1.17",
        "topology.kubernetes.io/zone",
    ),
];

/// Annotations of pods that a field has taken the place of.
const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

/// Kinds of volumes that no Kubernetes serves for long.
const OLD_VOLUMES: [(&str, &str); 9] = [
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("gitRepo", "deprecated in v1.11"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    (
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
];

/// How many faults are told of, and how many ports of one number are compared: a hostile pod may have
/// tens of thousands.
const MOST: usize = 64;

/// What the writer of an object is warned of. `old` is what was stored before, none for a create.
pub fn warnings(resource: &Resource, old: Option<&Value>, new: &Value) -> Vec<String> {
    let (place, of_names) = match (resource.group, resource.plural) {
        // Pods are changed often, and by programs.
        ("", "pods") if old.is_some() => return Vec::new(),
        ("", "pods") => (&[][..], Some("the Pod's hostname")),
        ("", "podtemplates") => (&["template"][..], None),
        ("apps", "deployments" | "replicasets") | ("", "replicationcontrollers") => {
            (&["spec", "template"][..], Some("Pod names and hostnames"))
        }
        ("batch", "jobs") => (&["spec", "template"][..], Some("Pod names and hostnames")),
        ("batch", "cronjobs") => (
            &["spec", "jobTemplate", "spec", "template"][..],
            Some("Pod names and hostnames"),
        ),
        ("apps", "daemonsets" | "statefulsets") => (&["spec", "template"][..], None),
        _ => return Vec::new(),
    };
    let generation = |object: &Value| int(object, "/metadata/generation");
    if old.is_some_and(|old| generation(old) == generation(new)) {
        return Vec::new();
    }
    let mut told = Vec::new();
    if let Some(use_of) = of_names.filter(|_| old.is_none()) {
        let faults = names::dns_label(text(new, "/metadata/name"));
        if !faults.is_empty() {
            told.push(format!(
                "metadata.name: this is used in {use_of}, which can result in surprising behavior; a DNS label is recommended: [{}]",
                faults.join(" ")
            ));
        }
    }
    let mut path = FieldPath::root();
    let mut template = new;
    for field in place {
        path = path.child(field);
        template = &template[*field];
    }
    // Whoever made the template of a controller's pods has been told.
    if items(new, "/metadata/ownerReferences").is_empty() {
        told.extend(refusal(&template["spec"], &path.child("spec")));
    }
    of_pod(template, &path, &mut told);
    told.truncate(MOST);
    told
}

/// What keeps pods of this spec from starting.
fn refusal(spec: &Value, at: &FieldPath) -> Option<String> {
    let spec = PodSpec::deserialize(spec).ok()?;
    let why = support::refusal(&spec, &at.to_string())?;
    Some(format!("{why}: no node starts a pod that asks for it"))
}

fn of_pod(pod: &Value, path: &FieldPath, told: &mut Vec<String>) {
    let spec = &pod["spec"];
    let at = path.child("spec");
    node_labels(spec, &at, told);
    annotations(pod, path, told);
    volumes(spec, &at, told);
    for (list, field, what) in [
        ("hostAliases", "ip", "ip"),
        ("imagePullSecrets", "name", "name"),
    ] {
        let at = at.child(list);
        for (index, value) in repeated(spec, list, field) {
            told.push(format!(
                "{}: duplicate {what} {value:?}",
                at.index(index).child(field)
            ));
        }
    }
    if int(spec, "/terminationGracePeriodSeconds") < 0 {
        let at = at.child("terminationGracePeriodSeconds");
        told.push(format!(
            "{at}: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    without_effect::of_pod(spec, &at, told);
    let mut ports = Ports::default();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, container) in items(spec, &format!("/{list}")).iter().enumerate() {
            let at = at.child(list).index(index);
            fractions(container, &at, told);
            environment(container, &at, told);
            ports.of(container, &at, told);
            without_effect::of_container(container, &at, told);
        }
    }
}

/// Items whose field says what an earlier one's does.
fn repeated<'a>(spec: &'a Value, list: &str, field: &str) -> Vec<(usize, &'a str)> {
    let mut seen = BTreeSet::new();
    items(spec, &format!("/{list}"))
        .iter()
        .enumerate()
        .map(|(index, item)| (index, item[field].as_str().unwrap_or_default()))
        .filter(|(_, value)| !seen.insert(*value))
        .collect()
}

fn old_label(label: &str) -> Option<String> {
    let (_, since, new) = OLD_LABELS.iter().find(|(old, ..)| *old == label)?;
    Some(format!("deprecated since {since}; use {new:?} instead"))
}

fn node_labels(spec: &Value, at: &FieldPath, told: &mut Vec<String>) {
    for label in map(spec, "/nodeSelector")
        .into_iter()
        .flat_map(|held| held.keys())
    {
        if let Some(why) = old_label(label) {
            told.push(format!("{}: {why}", at.child("nodeSelector").key(label)));
        }
    }
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let affinity = &spec["affinity"]["nodeAffinity"];
    let place = at.child("affinity").child("nodeAffinity");
    let terms = place.child(required).child("nodeSelectorTerms");
    for (index, term) in items(affinity, &format!("/{required}/nodeSelectorTerms"))
        .iter()
        .enumerate()
    {
        term_labels(term, &terms.index(index), told);
    }
    for (index, term) in items(affinity, &format!("/{preferred}")).iter().enumerate() {
        let at = place.child(preferred).index(index).child("preference");
        term_labels(&term["preference"], &at, told);
    }
    for (index, constraint) in items(spec, "/topologySpreadConstraints").iter().enumerate() {
        let at = at.child("topologySpreadConstraints").index(index);
        let key = text(constraint, "/topologyKey");
        if let Some(why) = old_label(key) {
            told.push(format!("{}: {key} is {why}", at.child("topologyKey")));
        }
        if present(constraint, "/labelSelector").is_none() {
            let at = at.child("labelSelector");
            told.push(format!(
                "{at}: a null labelSelector results in matching no pod"
            ));
        }
    }
}

fn term_labels(term: &Value, at: &FieldPath, told: &mut Vec<String>) {
    for (index, expression) in items(term, "/matchExpressions").iter().enumerate() {
        let key = text(expression, "/key");
        if let Some(why) = old_label(key) {
            let at = at.child("matchExpressions").index(index).child("key");
            told.push(format!("{at}: {key} is {why}"));
        }
    }
}

fn annotations(pod: &Value, path: &FieldPath, told: &mut Vec<String>) {
    let Some(held) = map(pod, "/metadata/annotations") else {
        return;
    };
    let at = path.child("metadata").child("annotations");
    for (key, why) in OLD_ANNOTATIONS {
        if held.contains_key(key) {
            told.push(format!("{}: {why}", at.key(key)));
        }
    }
}

fn volumes(spec: &Value, at: &FieldPath, told: &mut Vec<String>) {
    for (index, volume) in items(spec, "/volumes").iter().enumerate() {
        for (kind, why) in OLD_VOLUMES {
            if present(volume, &format!("/{kind}")).is_some() {
                told.push(format!(
                    "{}: {why}",
                    at.child("volumes").index(index).child(kind)
                ));
            }
        }
    }
}

/// Bytes are whole.
fn fractions(container: &Value, at: &FieldPath, told: &mut Vec<String>) {
    for resource in ["memory", "ephemeral-storage"] {
        for list in ["limits", "requests"] {
            let given = container["resources"][list][resource].as_str();
            let Some(amount) = given.and_then(|text| Quantity::parse(text).ok()) else {
                continue;
            };
            if amount.milli() % 1000 != 0 {
                let given = amount.to_string();
                let at = at.child("resources").child(list).key(resource);
                told.push(format!(
                    "{at}: fractional byte value {given:?} is invalid, must be an integer"
                ));
            }
        }
    }
}

/// A variable that is set twice is fine where the second value is made of the first.
fn environment(container: &Value, at: &FieldPath, told: &mut Vec<String>) {
    let variables = items(container, "/env");
    for (index, name) in repeated(container, "env", "name") {
        let itself = format!("$({name})");
        let value = text(&variables[index], "/value");
        let builds_on = value != itself && value.contains(&itself);
        if present(&variables[index], "/valueFrom").is_some() || !builds_on {
            let at = at.child("env").index(index);
            told.push(format!(
                "{at}: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

/// Where a port is declared, with its address and port on the host.
type Declared<'a> = (FieldPath, &'a str, i64);

/// The ports of the containers looked at so far, by number and protocol.
#[derive(Default)]
struct Ports<'a>(BTreeMap<(i64, &'a str), Vec<Declared<'a>>>);

impl<'a> Ports<'a> {
    fn of(&mut self, container: &'a Value, at: &FieldPath, told: &mut Vec<String>) {
        for (index, port) in items(container, "/ports").iter().enumerate() {
            let at = at.child("ports").index(index);
            let (ip, host) = (text(port, "/hostIP"), int(port, "/hostPort"));
            let same = (int(port, "/containerPort"), text(port, "/protocol"));
            let others = self.0.entry(same).or_default();
            let compared = if told.len() < MOST { others.len() } else { 0 };
            for (other, other_ip, other_host) in &others[..compared] {
                if (ip, host) == (*other_ip, *other_host) {
                    told.push(format!("{at}: duplicate port definition with {other}"));
                } else if host == 0 || *other_host == 0 {
                    told.push(format!("{at}: overlapping port definition with {other}"));
                } else if host == *other_host && (ip.is_empty() || other_ip.is_empty()) {
                    told.push(format!(
                        "{at}: dangerously ambiguous port definition with {other}"
                    ));
                }
            }
            if others.len() < MOST {
                others.push((at, ip, host));
            }
        }
    }
}

#[cfg(test)]
mod tests;
