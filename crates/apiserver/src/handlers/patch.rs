//! PATCH in its four forms.

use std::collections::BTreeMap;

use api::codec::{self, Decoded, Expected, Format};
use api::patch::PatchType;
use api::{Status, patch};
use http::StatusCode;
use serde_json::Value;

use super::{apply, write};
use crate::body::Response;
use crate::dispatch::Call;
use crate::negotiate;
use crate::options::WriteOptions;

/// Answers a patch.
pub(crate) async fn patch(call: &Call) -> Result<Response, Status> {
    let kind = PatchType::of_content_type(negotiate::content_type(&call.headers))?;
    let options = WriteOptions::read("PatchOptions", &call.query, &call.headers)?;
    if kind == PatchType::Apply {
        return apply::apply(call, &options).await;
    }
    apply::refuse_force(call)?;
    let patch = Patch::read(call, kind)?;
    let context = write::context(call, &options);
    let (mut warnings, mut told) = (Vec::new(), Vec::new());
    let done = call
        .server
        .write(&call.key(), options.dry_run, |old| {
            let old = old.ok_or_else(|| call.not_found())?;
            let tree = || write::tree(call.resource, old);
            let decoded = patch.apply(tree, Expected::from(call.resource), &options)?;
            call.unread.lock().clone_from(&decoded.warnings);
            warnings = decoded.warnings;
            let mut new = decoded.value;
            write::place(call, &mut new)?;
            write::replace(call, old, new, &context, &mut told)
        })
        .await?;
    warnings.append(&mut told);
    write::answer(call, StatusCode::OK, &done, &warnings)
}

/// A patch as it was sent.
pub(super) struct Patch {
    kind: PatchType,
    changes: Value,
    /// What strict validation has against it.
    faults: Vec<String>,
}

impl Patch {
    pub(super) fn read(call: &Call, kind: PatchType) -> Result<Patch, Status> {
        let Decoded {
            value: changes,
            warnings: mut faults,
        } = codec::decode_untyped(&call.body, Format::Json)?;
        if kind == PatchType::Json {
            faults.extend(patch::json::unknown_members(&changes));
            for fault in &mut faults {
                fault.insert_str(0, "json patch ");
            }
        }
        Ok(Patch {
            kind,
            changes,
            faults,
        })
    }

    /// What the patch makes of an object or a part of one, in the schema's types. Without faults `tree` is asked once.
    pub(super) fn apply(
        &self,
        tree: impl Fn() -> Result<Value, Status>,
        expected: Expected<'_>,
        options: &WriteOptions,
    ) -> Result<Decoded, Status> {
        let shown = || match self.kind {
            PatchType::Strategic => go_text(&self.changes),
            _ => tree()
                .and_then(|tree| self.merged(tree, expected))
                .map(|new| new.to_string())
                .unwrap_or_default(),
        };
        let new = self.merged(tree()?, expected)?;
        codec::conform_patched(
            new,
            expected,
            self.faults.clone(),
            options.validation,
            shown,
        )
    }

    fn merged(&self, mut tree: Value, expected: Expected<'_>) -> Result<Value, Status> {
        match self.kind {
            PatchType::Json => patch::json(tree, &self.changes),
            PatchType::Merge => {
                patch::merge(&mut tree, self.changes.clone());
                Ok(tree)
            }
            PatchType::Strategic => patch::strategic(expected.ty, tree, self.changes.clone()),
            PatchType::Apply => Err(Status::unsupported_patch_type()),
        }
    }
}

/// A value as Go prints it, in which errors show strategic patches: `map[spec:map[replicas:x]]`.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_text).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let fields: Vec<String> = sorted
                .into_iter()
                .map(|(name, value)| format!("{name}:{}", go_text(value)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
        scalar => scalar.to_string(),
    }
}
