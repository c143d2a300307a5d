//! What the simulated server keeps.

use std::collections::{BTreeMap, BTreeSet};

use api::status::{Status, Subject};
use serde_json::{Value, json};

use super::request::{Selection, Target};

/// All objects and their history.
#[derive(Debug)]
pub(super) struct Objects {
    revision: u64,
    by_key: BTreeMap<String, Value>,
    /// All objects as they were at `compacted`.
    baseline: BTreeMap<String, Value>,
    /// Every change since `compacted`.
    history: Vec<Change>,
    compacted: u64,
    /// For uids and generated names.
    counter: u64,
}

#[derive(Debug)]
struct Change {
    revision: u64,
    key: String,
    /// The last state, with the deletion's revision, when it was deleted.
    object: Value,
    deleted: bool,
}

/// What became of a request.
pub(super) enum Outcome {
    Created(Value),
    Changed(Value),
    Same(Value),
    Bound,
    /// Answered as created, but kept nowhere.
    Issued(Value),
}

impl Default for Objects {
    fn default() -> Self {
        Objects {
            revision: 1,
            by_key: BTreeMap::new(),
            baseline: BTreeMap::new(),
            history: Vec::new(),
            compacted: 0,
            counter: 0,
        }
    }
}

impl Objects {
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn compact(&mut self) {
        self.history.clear();
        self.baseline.clone_from(&self.by_key);
        self.compacted = self.revision;
    }

    pub(super) fn check_history(&self, from: u64) -> Result<(), Status> {
        if from < self.compacted {
            return Err(Status::expired(format!(
                "too old resource version: {from} ({})",
                self.compacted
            )));
        }
        Ok(())
    }

    pub(super) fn get(&self, target: &Target) -> Result<Value, Status> {
        self.by_key
            .get(&target.key())
            .cloned()
            .ok_or_else(|| Status::not_found(subject(target), name(target)))
    }

    pub(super) fn list(&self, target: &Target, selection: &Selection) -> Value {
        let prefix = target.prefix();
        let mut selected = self
            .by_key
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .filter(|(key, object)| **key > selection.after && selection.takes(object));
        let mut items = Vec::new();
        let mut next = "";
        while let Some((key, object)) = selected.next() {
            items.push(object.clone());
            if items.len() == selection.limit {
                next = if selected.next().is_some() { key } else { "" };
                break;
            }
        }
        json!({
            "kind": "List",
            "apiVersion": target.api_version,
            "metadata": { "resourceVersion": self.revision.to_string(), "continue": next },
            "items": items,
        })
    }

    pub(super) fn create(&mut self, target: &Target, mut object: Value) -> Result<Outcome, Status> {
        self.counter += 1;
        let metadata = &mut object["metadata"];
        if metadata["name"].as_str().unwrap_or_default().is_empty() {
            let prefix = metadata["generateName"].as_str().unwrap_or_default();
            metadata["name"] = format!("{prefix}{:05}", self.counter).into();
        }
        metadata["uid"] = format!("uid-{}", self.counter).into();
        metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        if !target.namespace.is_empty() {
            metadata["namespace"] = target.namespace.as_str().into();
        }
        let target = Target {
            name: metadata["name"].as_str().map(str::to_owned),
            ..target.clone()
        };
        if self.by_key.contains_key(&target.key()) {
            return Err(Status::already_exists(subject(&target), name(&target)));
        }
        Ok(Outcome::Created(self.put(target.key(), object)))
    }

    pub(super) fn update(&mut self, target: &Target, new: Value) -> Result<Outcome, Status> {
        let old = self.get(target)?;
        let version = new["metadata"]["resourceVersion"].as_str();
        if version.is_some_and(|version| old["metadata"]["resourceVersion"] != version) {
            return Err(Status::modified(subject(target), name(target)));
        }
        let (mut object, other) = match target.subresource {
            Some(_) => (old.clone(), &new),
            None => (new.clone(), &old),
        };
        if let Some(status) = other.get("status") {
            object["status"] = status.clone();
        }
        for field in ["uid", "creationTimestamp"] {
            object["metadata"][field] = old["metadata"][field].clone();
        }
        Ok(self.put_changed(target, &old, object))
    }

    pub(super) fn patch(&mut self, target: &Target, patch: Value) -> Result<Outcome, Status> {
        let old = self.get(target)?;
        let uid = &patch["metadata"]["uid"];
        if !uid.is_null() && *uid != old["metadata"]["uid"] {
            return Err(Status::conflict(
                subject(target),
                name(target),
                "the object has another uid",
            ));
        }
        let mut object = old.clone();
        merge(&mut object, patch);
        Ok(self.put_changed(target, &old, object))
    }

    pub(super) fn bind(&mut self, target: &Target, binding: &Value) -> Result<Outcome, Status> {
        let mut pod = self.get(target)?;
        let conflict = |why: String| Status::conflict(subject(target), name(target), &why);
        let uid = &binding["metadata"]["uid"];
        if !uid.is_null() && *uid != pod["metadata"]["uid"] {
            return Err(conflict("the pod has another uid".to_owned()));
        }
        if let Some(node) = pod["spec"]["nodeName"].as_str() {
            let name = name(target);
            return Err(conflict(format!(
                "pod {name} is already assigned to node {node:?}"
            )));
        }
        pod["spec"]["nodeName"] = binding["target"]["name"].clone();
        let scheduled = json!({ "type": "PodScheduled", "status": "True" });
        merge(&mut pod, json!({ "status": { "conditions": [scheduled] } }));
        self.put(target.key(), pod);
        Ok(Outcome::Bound)
    }

    /// A token that says in plain text which one it is: its number, whose, and for which pod.
    pub(super) fn token(&mut self, target: &Target, mut request: Value) -> Result<Outcome, Status> {
        self.get(target)?;
        self.counter += 1;
        let pod = request["spec"]["boundObjectRef"]["name"].as_str();
        let token = format!(
            "token-{} of {} for {}",
            self.counter,
            name(target),
            pod.unwrap_or("anyone")
        );
        request["status"] =
            json!({ "token": token, "expirationTimestamp": "2026-01-01T01:00:00Z" });
        Ok(Outcome::Issued(request))
    }

    pub(super) fn delete(&mut self, target: &Target, options: &Value) -> Result<Outcome, Status> {
        let mut object = self.get(target)?;
        let uid = &options["preconditions"]["uid"];
        if !uid.is_null() && *uid != object["metadata"]["uid"] {
            return Err(Status::conflict(
                subject(target),
                name(target),
                "the object has another uid",
            ));
        }
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        self.by_key.remove(&target.key());
        self.history.push(Change {
            revision: self.revision,
            key: target.key(),
            object: object.clone(),
            deleted: true,
        });
        Ok(Outcome::Changed(object))
    }

    fn put_changed(&mut self, target: &Target, old: &Value, object: Value) -> Outcome {
        if *old == object {
            return Outcome::Same(object);
        }
        Outcome::Changed(self.put(target.key(), object))
    }

    fn put(&mut self, key: String, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        self.by_key.insert(key.clone(), object.clone());
        self.history.push(Change {
            revision: self.revision,
            key,
            object: object.clone(),
            deleted: false,
        });
        object
    }

    /// The keys that a list at `revision` would have shown.
    pub(super) fn shown_at(
        &self,
        target: &Target,
        selection: &Selection,
        revision: u64,
    ) -> BTreeSet<String> {
        let prefix = target.prefix();
        let mut shown: BTreeSet<String> = self
            .baseline
            .iter()
            .filter(|(key, object)| key.starts_with(&prefix) && selection.takes(object))
            .map(|(key, _)| key.clone())
            .collect();
        for change in self
            .history
            .iter()
            .filter(|change| change.revision <= revision && change.key.starts_with(&prefix))
        {
            if !change.deleted && selection.takes(&change.object) {
                shown.insert(change.key.clone());
            } else {
                shown.remove(&change.key);
            }
        }
        shown
    }

    /// The watch lines of everything after `from`.
    pub(super) fn events(
        &self,
        target: &Target,
        selection: &Selection,
        from: u64,
        shown: &mut BTreeSet<String>,
    ) -> Vec<Value> {
        let prefix = target.prefix();
        // What was before is not looked at: over days it is much.
        let news = self
            .history
            .partition_point(|change| change.revision <= from);
        self.history[news..]
            .iter()
            .filter(|change| change.key.starts_with(&prefix))
            .filter_map(|change| {
                let taken = !change.deleted && selection.takes(&change.object);
                let kind = match (shown.contains(&change.key), taken) {
                    (false, false) => return None,
                    (false, true) => "ADDED",
                    (true, true) => "MODIFIED",
                    (true, false) => "DELETED",
                };
                if taken {
                    shown.insert(change.key.clone());
                } else {
                    shown.remove(&change.key);
                }
                Some(json!({ "type": kind, "object": change.object }))
            })
            .collect()
    }
}

/// A JSON merge patch, but that `conditions` are merged by their types, as a strategic one does.
fn merge(into: &mut Value, patch: Value) {
    let Value::Object(fields) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            if let Some(object) = into.as_object_mut() {
                object.remove(&name);
            }
        } else if name == "conditions" && into[&name].is_array() {
            merge_conditions(&mut into[&name], value);
        } else {
            merge(&mut into[&name], value);
        }
    }
}

fn merge_conditions(into: &mut Value, patch: Value) {
    let (Value::Array(into), Value::Array(patch)) = (into, patch) else {
        return;
    };
    for condition in patch {
        if condition["$patch"] == "delete" {
            into.retain(|old| old["type"] != condition["type"]);
            continue;
        }
        match into.iter_mut().find(|old| old["type"] == condition["type"]) {
            Some(old) => merge(old, condition),
            None => into.push(condition),
        }
    }
}

fn subject(target: &Target) -> Subject<'_> {
    let group = target.api_version.split_once('/');
    Subject {
        group: group.map_or("", |(group, _)| group),
        name: &target.plural,
    }
}

fn name(target: &Target) -> &str {
    target.name.as_deref().unwrap_or_default()
}
