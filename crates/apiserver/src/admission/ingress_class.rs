//! The class of a new Ingress that asks for none.

use api::ingress::{ELDER, IS_DEFAULT};
use api::{Resource, Status};
use k8s_openapi::api::networking::v1::IngressClass;
use serde_json::Value;

use super::admit::{all, writes};
use super::default_class::default_of;
use crate::dispatch::Call;

/// The plugin.
pub(super) fn admit(call: &Call, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
    if old.is_some() || !writes(call, "networking.k8s.io", "ingresses") || has_class(new) {
        return Ok(());
    }
    let classes: Vec<IngressClass> = all(call, Resource::of::<IngressClass>(), None);
    if let Some(name) = default_of(classes, &[IS_DEFAULT]) {
        new["spec"]["ingressClassName"] = name.into();
    }
    Ok(())
}

/// Whether an Ingress asks for a class, be it by the annotation of old.
fn has_class(ingress: &Value) -> bool {
    ingress["spec"]["ingressClassName"].is_string()
        || ingress["metadata"]["annotations"][ELDER].is_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_asks_for_one() {
        assert!(!has_class(&json!({"spec": {}})));
        assert!(has_class(&json!({"spec": {"ingressClassName": "a"}})));
        assert!(has_class(
            &json!({"spec": {}, "metadata": {"annotations": {ELDER: ""}}})
        ));
    }
}
