//! Endpoints: the addresses behind a service, all in one object.

use super::Hooks;
use super::field::{children, default_text, root};

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 Endpoints",
    default: |endpoints| {
        let Some(endpoints) = root(endpoints) else {
            return;
        };
        for subset in children(endpoints, "subsets") {
            for port in children(subset, "ports") {
                default_text(port, "protocol", "TCP");
            }
        }
    },
    ..Hooks::NONE
};
