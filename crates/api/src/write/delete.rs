//! Deletion: at once, or marked and finished by those who must know of it first.

use jiff::SignedDuration;
use serde_json::{Map, Value};

use super::{Context, bump_generation, child_mut, metadata_mut, text};
use crate::resource::Resource;
use crate::status::{FieldError, FieldPath, Status, Subject};
use crate::time;

/// `metav1.DeleteOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds that a pod has to end; none: its own.
    pub grace_period_seconds: Option<i64>,
    /// What happens to dependents.
    pub propagation: Option<Propagation>,
    /// The object must have this uid.
    pub uid: Option<String>,
    /// The object must have this resourceVersion.
    pub resource_version: Option<String>,
    /// Nothing is to be done but to answer.
    pub dry_run: bool,
}

/// What a deletion does to the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
    /// They stay.
    Orphan,
}

impl DeleteOptions {
    /// Reads a decoded body.
    ///
    /// # Errors
    ///
    /// 422 when a value is none of those allowed, or two say what happens to dependents.
    pub fn from_value(body: &Value) -> Result<Self, Status> {
        let get = |value: &Value, field: &str| {
            value.get(field).and_then(Value::as_str).map(str::to_owned)
        };
        let policy = body.get("propagationPolicy").and_then(Value::as_str);
        let policy = policy.filter(|text| !text.is_empty());
        let orphan = body.get("orphanDependents").and_then(Value::as_bool);
        let faults = propagation_faults(policy, orphan);
        if !faults.is_empty() {
            return Err(Status::invalid_kind(
                "meta.k8s.io",
                "DeleteOptions",
                "",
                faults,
            ));
        }
        let implied = orphan.map(|orphan| match orphan {
            true => Propagation::Orphan,
            false => Propagation::Background,
        });
        let preconditions = &body["preconditions"];
        Ok(Self {
            grace_period_seconds: body.get("gracePeriodSeconds").and_then(Value::as_i64),
            propagation: policy.and_then(Propagation::parse).or(implied),
            uid: get(preconditions, "uid"),
            resource_version: get(preconditions, "resourceVersion"),
            dry_run: body["dryRun"].as_array().is_some_and(|d| !d.is_empty()),
        })
    }
}

fn propagation_faults(policy: Option<&str>, orphan: Option<bool>) -> Vec<FieldError> {
    let path = FieldPath::new("propagationPolicy");
    let mut faults = Vec::new();
    let Some(policy) = policy else { return faults };
    if orphan.is_some() {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        faults.push(FieldError::invalid(&path, policy, why));
    }
    if Propagation::parse(policy).is_none() {
        let known = ["Foreground", "Background", "Orphan", "nil"];
        faults.push(FieldError::not_supported(&path, policy, &known));
    }
    faults
}

impl Propagation {
    /// Reads `Background`, `Foreground` or `Orphan`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "Background" => Some(Self::Background),
            "Foreground" => Some(Self::Foreground),
            "Orphan" => Some(Self::Orphan),
            _ => None,
        }
    }
}

/// What a deletion comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Deletion {
    /// The object goes now; this is its last state.
    Now(Value),
    /// The object stays, in this state, until finalizers or the grace period are over. Equal to
    /// the old state when it was marked before.
    Mark(Value),
}

/// Judges a deletion of `old`, which is at `revision`.
///
/// # Errors
///
/// 409 when a precondition does not hold.
pub fn delete(
    resource: &Resource,
    old: &Value,
    revision: u64,
    options: &DeleteOptions,
    context: &Context,
) -> Result<Deletion, Status> {
    check_preconditions(resource, old, revision, options)?;
    let mut object = old.clone();
    let pod = (resource.group, resource.plural) == ("", "pods");
    let propagation = options.propagation.or_else(|| implied(resource, old));
    set_propagation(&mut object, propagation);
    if (resource.group, resource.plural) == ("", "namespaces") {
        return Ok(namespace(object, context));
    }
    let grace = if pod { pod_grace(old, options) } else { 0 };
    mark(
        &mut object,
        grace,
        pod && options.grace_period_seconds.is_some(),
        context,
    );
    let metadata = metadata_mut(&mut object);
    let held = has_finalizers(metadata);
    // A grace period that was given before still runs, unless it was cut to nothing now.
    let pending = metadata
        .get("deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
        > Some(0);
    Ok(if held || pending {
        Deletion::Mark(object)
    } else {
        Deletion::Now(object)
    })
}

/// Whether dependents stay where nobody says what becomes of them: so it was with the first version of these kinds, and
/// clients rely on it.
fn orphans_by_default(resource: &Resource) -> bool {
    matches!(
        (resource.group, resource.plural),
        ("batch", "jobs") | ("", "replicationcontrollers")
    )
}

/// What becomes of dependents where the request does not say. A finalizer that says it is stronger than the kind's default.
fn implied(resource: &Resource, old: &Value) -> Option<Propagation> {
    let finalizers = old["metadata"]["finalizers"].as_array();
    let mut said = finalizers.into_iter().flatten().filter_map(Value::as_str);
    let decided = said.any(|f| matches!(f, "orphan" | "foregroundDeletion"));
    (orphans_by_default(resource) && !decided).then_some(Propagation::Orphan)
}

fn check_preconditions(
    resource: &Resource,
    old: &Value,
    revision: u64,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    let subject = Subject {
        group: resource.group,
        name: resource.kind,
    };
    let uid = old["metadata"]["uid"].as_str().unwrap_or_default();
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(subject, name, &why));
    }
    let current = revision.to_string();
    if let Some(wanted) = options
        .resource_version
        .as_deref()
        .filter(|w| *w != current)
    {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({current}). The object might have been modified"
        );
        return Err(Status::conflict(subject, name, &why));
    }
    Ok(())
}

/// Seconds until a pod is gone: its own or the request's, none if it never ran or has ended.
fn pod_grace(pod: &Value, options: &DeleteOptions) -> i64 {
    let own = pod["spec"]["terminationGracePeriodSeconds"].as_i64();
    let unbound = pod["spec"]["nodeName"]
        .as_str()
        .unwrap_or_default()
        .is_empty();
    let ended = matches!(
        pod["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    );
    if unbound || ended {
        return 0;
    }
    match options.grace_period_seconds.or(own).unwrap_or(0) {
        grace if grace < 0 => 1,
        grace => grace,
    }
}

/// Puts the time of deletion there. A mark that is there already is only ever brought forward,
/// and only where the request asks for a grace period.
fn mark(object: &mut Value, grace: i64, shorten: bool, context: &Context) {
    let metadata = metadata_mut(object);
    let now = time::truncate(context.now);
    let marked = time::parse(text(metadata, "deletionTimestamp"));
    let running = metadata
        .get("deletionGracePeriodSeconds")
        .and_then(Value::as_i64);
    let at = match (marked, running) {
        (None, _) => later(now, grace),
        (Some(_), Some(running)) if !(shorten && grace < running) => return,
        (Some(marked), Some(running)) => later(marked, grace - running),
        (Some(marked), None) => marked,
    };
    metadata.insert("deletionTimestamp".into(), time::format(at).into());
    metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    if marked.is_none() && metadata.contains_key("generation") {
        bump_generation(object);
    }
}

fn later(at: jiff::Timestamp, seconds: i64) -> jiff::Timestamp {
    let end = at.checked_add(SignedDuration::from_secs(seconds));
    end.unwrap_or(jiff::Timestamp::MAX)
}

fn has_finalizers(metadata: &Map<String, Value>) -> bool {
    metadata
        .get("finalizers")
        .and_then(Value::as_array)
        .is_some_and(|f| !f.is_empty())
}

/// Dependents are dealt with by the garbage collector, which these finalizers make wait.
fn set_propagation(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else {
        return;
    };
    let metadata = metadata_mut(object);
    let finalizers = metadata.get("finalizers").and_then(Value::as_array);
    let mut finalizers: Vec<Value> = finalizers
        .into_iter()
        .flatten()
        .filter(|f| !matches!(f.as_str(), Some("orphan" | "foregroundDeletion")))
        .cloned()
        .collect();
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push("foregroundDeletion".into()),
        Propagation::Orphan => finalizers.push("orphan".into()),
    }
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.into());
    }
}

/// A namespace goes when its spec's finalizers are gone: its controller empties it before.
fn namespace(mut object: Value, context: &Context) -> Deletion {
    let metadata = metadata_mut(&mut object);
    if text(metadata, "deletionTimestamp").is_empty() {
        let now = time::format(context.now);
        metadata.insert("deletionTimestamp".into(), now.into());
    }
    let held = has_finalizers(metadata) || has_spec_finalizers(&object);
    child_mut(&mut object, "status").insert("phase".into(), "Terminating".into());
    if held {
        Deletion::Mark(object)
    } else {
        Deletion::Now(object)
    }
}

fn has_spec_finalizers(object: &Value) -> bool {
    object["spec"]["finalizers"]
        .as_array()
        .is_some_and(|f| !f.is_empty())
}

/// Whether an update took away the last thing that a deletion waited for: then the object goes,
/// and `new` is its last state.
pub fn should_delete(resource: &Resource, new: &Value) -> bool {
    let Some(metadata) = new["metadata"].as_object() else {
        return false;
    };
    if text(metadata, "deletionTimestamp").is_empty() || has_finalizers(metadata) {
        return false;
    }
    if (resource.group, resource.plural) == ("", "namespaces") {
        return !has_spec_finalizers(new);
    }
    let grace = metadata
        .get("deletionGracePeriodSeconds")
        .and_then(Value::as_i64);
    grace.unwrap_or(0) == 0
}

/// Whether a finished deletion is answered with the object instead of a `Status`.
pub fn returns_deleted(resource: &Resource) -> bool {
    match resource.group {
        "" => matches!(
            resource.plural,
            "persistentvolumeclaims"
                | "persistentvolumes"
                | "pods"
                | "podtemplates"
                | "resourcequotas"
                | "serviceaccounts"
                | "services"
        ),
        "storage.k8s.io" => true,
        _ => false,
    }
}
