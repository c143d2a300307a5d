//! ResourceQuotas.

use super::Hooks;
use serde_json::json;

pub(super) const HOOKS: Hooks = Hooks {
    kind: "v1 ResourceQuota",
    prepare: |quota, old, _| {
        if old.is_none() {
            quota["status"] = json!({});
        }
    },
    ..Hooks::NONE
};
