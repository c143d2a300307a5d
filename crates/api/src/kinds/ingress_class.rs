//! IngressClasses: who serves an ingress.

use super::Hooks;
use super::field::{child, default_text, root};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "networking.k8s.io/v1 IngressClass",
    default: |class| {
        if let Some(parameters) = root(class)
            .and_then(|class| child(class, "spec"))
            .and_then(|spec| child(spec, "parameters"))
        {
            default_text(parameters, "scope", "Cluster");
        }
    },
    ..Hooks::NONE
};
