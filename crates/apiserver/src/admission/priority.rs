//! A new pod's priority: that of its PriorityClass, or of the one that is everybody's.

use api::priority::of_system;
use api::{Resource, Status};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::Deserialize;
use serde_json::Value;

use super::admit::{all, find, refused, writes};
use crate::dispatch::Call;

const PREEMPT: &str = "PreemptLowerPriority";

/// What of a PriorityClass counts here.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Class {
    metadata: Metadata,
    value: i64,
    #[serde(default)]
    global_default: bool,
    #[serde(default)]
    preemption_policy: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Metadata {
    name: String,
}

/// Whether a class needs no looking for.
pub(super) fn is_known(name: &str) -> bool {
    name.is_empty() || of_system(name).is_some()
}

/// The plugin.
pub(super) fn admit(call: &Call, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
    if !writes(call, "", "pods") {
        return Ok(());
    }
    if let Some(old) = old {
        keep(&old["spec"], &mut new["spec"]);
        return Ok(());
    }
    let class = class_of(call, &new["spec"]).map_err(|why| refused(call, new, &why))?;
    fill(&mut new["spec"], &class).map_err(|why| refused(call, new, &why))
}

/// What an update leaves out stays as it was set at birth.
fn keep(old: &Value, new: &mut Value) {
    for field in ["priority", "preemptionPolicy"] {
        if new[field].is_null() && !old[field].is_null() {
            new[field] = old[field].clone();
        }
    }
}

fn class_of(call: &Call, spec: &Value) -> Result<Class, String> {
    let name = spec["priorityClassName"].as_str().unwrap_or_default();
    let built_in = |name: &str, value: i64| Class {
        metadata: Metadata {
            name: name.to_owned(),
        },
        value,
        global_default: false,
        preemption_policy: None,
    };
    if name.is_empty() {
        return Ok(default_class(call).unwrap_or_else(|| built_in("", 0)));
    }
    if let Some(value) = of_system(name) {
        return Ok(built_in(name, value.into()));
    }
    find(call, Resource::of::<PriorityClass>(), None, name)
        .ok_or_else(|| format!("no PriorityClass with name {name} was found"))
}

/// Of several the one of the lowest value, as in Kubernetes.
fn default_class(call: &Call) -> Option<Class> {
    let classes: Vec<Class> = all(call, Resource::of::<PriorityClass>(), None);
    classes
        .into_iter()
        .filter(|class| class.global_default)
        .min_by_key(|class| class.value)
}

/// Gives the pod what follows from its class, or says what it may not say itself.
fn fill(spec: &mut Value, class: &Class) -> Result<(), String> {
    let computed = class.value;
    if let Some(given) = spec["priority"].as_i64().filter(|given| *given != computed) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
        ));
    }
    let policy = class.preemption_policy.as_deref().unwrap_or(PREEMPT);
    let given = spec["preemptionPolicy"].as_str();
    if let Some(given) = given.filter(|given| !given.is_empty() && *given != policy) {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    if !class.metadata.name.is_empty() {
        spec["priorityClassName"] = class.metadata.name.as_str().into();
    }
    spec["priority"] = computed.into();
    spec["preemptionPolicy"] = policy.into();
    Ok(())
}

/// Refuses a second class that is everybody's.
pub(super) fn judge(call: &Call, new: &Value) -> Result<(), Status> {
    if !writes(call, "scheduling.k8s.io", "priorityclasses") || new["globalDefault"] != true {
        return Ok(());
    }
    match default_class(call).map(|class| class.metadata.name) {
        Some(other) if new["metadata"]["name"] != other.as_str() => {
            let why = format!(
                "PriorityClass {other} is already marked as default. Only one default can exist"
            );
            Err(refused(call, new, &why))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn class(name: &str, value: i64, policy: Option<&str>) -> Class {
        let class = json!({"metadata": {"name": name}, "value": value, "preemptionPolicy": policy});
        serde_json::from_value(class).unwrap()
    }

    #[test]
    fn what_follows_from_the_class() {
        let filled = |name: Option<&str>, priority: i64, policy: &str| {
            let mut spec = json!({"priority": priority, "preemptionPolicy": policy});
            if let Some(name) = name {
                spec["priorityClassName"] = name.into();
            }
            Ok(spec)
        };
        let number = |given: i64, computed: i64| {
            Err(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
            ))
        };
        let text = |given: &str, computed: &str| {
            Err(format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
            ))
        };
        for (given, class, want) in [
            (json!({}), class("", 0, None), filled(None, 0, PREEMPT)),
            (
                json!({}),
                class("high", 9, Some("Never")),
                filled(Some("high"), 9, "Never"),
            ),
            (
                json!({"priority": 9}),
                class("high", 9, None),
                filled(Some("high"), 9, PREEMPT),
            ),
            (json!({"priority": 8}), class("high", 9, None), number(8, 9)),
            (json!({"priority": -1}), class("", 0, None), number(-1, 0)),
            (
                json!({"preemptionPolicy": "Never"}),
                class("", 0, None),
                text("Never", PREEMPT),
            ),
            (
                json!({"preemptionPolicy": PREEMPT}),
                class("n", 1, Some("Never")),
                text(PREEMPT, "Never"),
            ),
        ] {
            let mut spec = given.clone();
            let made = fill(&mut spec, &class).map(|()| spec);
            assert_eq!(made, want, "{given}");
        }
    }

    #[test]
    fn an_update_keeps_what_it_leaves_out() {
        let old = json!({"priority": 5, "preemptionPolicy": "Never"});
        let mut new = json!({});
        keep(&old, &mut new);
        assert_eq!(new, old);
        // What it changes is the validation's to refuse.
        let mut new = json!({"priority": 6});
        keep(&old, &mut new);
        assert_eq!(new, json!({"priority": 6, "preemptionPolicy": "Never"}));
    }
}
