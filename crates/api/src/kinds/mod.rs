//! What single kinds add to the schema: defaults that need code, fields that the server sets,
//! rules. One file a kind and one line in [`ALL`].

use serde_json::Value;

use crate::resource::Resource;
use crate::status::FieldError;
use crate::write::Context;

/// What a kind adds to the write path. Each function gets the object after the schema's types
/// were checked: a field that is there has its type, but any field may be missing.
pub struct Hooks {
    /// `apps/v1 Deployment`: apiVersion and kind.
    pub kind: &'static str,
    /// Fills what the schema's plain defaults cannot express. Runs after them, on create, update
    /// and patch, and must not change an object that it has filled before.
    pub default: fn(&mut Value),
    /// Sets what only the server may set; `old` is the stored object on update. Runs after
    /// `default`. The write path has already kept `status` on an update of the spec and everything
    /// but `status` on an update of the status.
    pub prepare: fn(&mut Value, Option<&Value>, &Context),
    /// Judges the object; `old` is the stored object on update.
    pub validate: fn(&Value, Option<&Value>, &mut Vec<FieldError>),
}

impl Hooks {
    /// A kind with nothing special.
    pub const NONE: Self = Self {
        kind: "",
        default: |_| {},
        prepare: |_, _, _| {},
        validate: |_, _, _| {},
    };
}

/// Every kind with hooks, sorted by `kind`.
static ALL: &[Hooks] = &[];

/// The hooks of a resource; those that do nothing if it has none.
pub fn hooks(resource: &Resource) -> &'static Hooks {
    static NONE: Hooks = Hooks::NONE;
    let kind = format!("{} {}", resource.api_version, resource.kind);
    match ALL.binary_search_by(|hooks| hooks.kind.cmp(kind.as_str())) {
        Ok(at) => &ALL[at],
        Err(_) => &NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted() {
        assert!(ALL.is_sorted_by_key(|hooks| hooks.kind));
    }
}
