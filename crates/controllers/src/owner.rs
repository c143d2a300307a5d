//! Owner references, label selectors and the other small print that controllers share.

use std::collections::BTreeMap;

use client::{Key, Kind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, ObjectMeta, OwnerReference, Time,
};
use serde_json::Value;

use crate::plan::Target;

/// The reference by which `owner` controls what it creates.
pub(crate) fn controller_ref<T: Kind>(owner: &T) -> OwnerReference {
    OwnerReference {
        api_version: T::API_VERSION.to_owned(),
        kind: T::KIND.to_owned(),
        name: owner.metadata().name.clone().unwrap_or_default(),
        uid: uid(owner).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The owner that is marked as the controller.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .as_deref()
        .unwrap_or_default()
        .iter()
        .find(|o| o.controller == Some(true))
}

/// An object's uid.
pub(crate) fn uid<T: Kind>(object: &T) -> &str {
    object.metadata().uid.as_deref().unwrap_or_default()
}

/// An object's namespace and name.
pub(crate) fn key_of<T: Kind>(object: &T) -> Key {
    let meta = object.metadata();
    Key::new(
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

/// Namespace and name of an object, borrowed.
pub(crate) struct Named<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// An object's namespace and name.
pub(crate) fn named<T: Kind>(object: &T) -> Named<'_> {
    let meta = object.metadata();
    Named {
        namespace: meta.namespace.as_deref().unwrap_or_default(),
        name: meta.name.as_deref().unwrap_or_default(),
    }
}

/// What a write on exactly this object is aimed at.
pub(crate) fn target<T: Kind>(object: &T) -> Target {
    Target {
        api_version: T::API_VERSION.to_owned(),
        kind: T::KIND.to_owned(),
        key: key_of(object),
        uid: uid(object).to_owned(),
    }
}

/// An object as the JSON that goes over the wire.
pub(crate) fn to_value<T: Kind>(object: &T) -> Value {
    serde_json::to_value(object).expect("API types have string keys and finite numbers")
}

/// Whether deletion has begun.
pub(crate) fn is_deleting<T: Kind>(object: &T) -> bool {
    object.metadata().deletion_timestamp.is_some()
}

/// When the object was made.
pub(crate) fn created<T: Kind>(object: &T) -> Option<jiff::Timestamp> {
    object
        .metadata()
        .creation_timestamp
        .as_ref()
        .map(|Time(t)| *t)
}

/// Whether `selector` chooses these labels. An empty selector chooses everything; so does
/// Kubernetes' own for the kinds that have one.
pub(crate) fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &str| labels.and_then(|l| l.get(key));
    let exact = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(k, v)| value(k) == Some(v));
    exact
        && selector.match_expressions.iter().flatten().all(|e| {
            let listed = |v: &String| e.values.as_deref().unwrap_or_default().contains(v);
            match e.operator.as_str() {
                "In" => value(&e.key).is_some_and(listed),
                "NotIn" => !value(&e.key).is_some_and(listed),
                "Exists" => value(&e.key).is_some(),
                "DoesNotExist" => value(&e.key).is_none(),
                // The API lets no other operator in; what cannot be judged chooses nothing.
                _ => false,
            }
        })
}
