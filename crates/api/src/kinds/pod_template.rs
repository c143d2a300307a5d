//! PodTemplates: a template on its own.

use super::field::root;
use super::{Hooks, template};
use crate::status::FieldPath;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 PodTemplate",
    default: |holder| {
        if let Some(holder) = root(holder) {
            template::fill(holder);
        }
    },
    validate: |holder, _, errors| {
        template::validate(&holder["template"], &FieldPath::new("template"), errors);
    },
    ..Hooks::NONE
};
