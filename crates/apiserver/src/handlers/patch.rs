//! PATCH in its four forms.

use api::codec::{self, Expected, Format};
use api::patch::PatchType;
use api::{Object, Status, patch};
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
    let patch = codec::decode_untyped(&call.body, Format::Json)?;
    let context = write::context(call, &options);
    let (mut warnings, mut told) = (Vec::new(), Vec::new());
    let done = call
        .server
        .write(&call.key(), options.dry_run, |old| {
            let old = old.ok_or_else(|| call.not_found())?;
            let decoded = patched(call, kind, old, &patch, &options)?;
            warnings = decoded.warnings;
            let mut new = decoded.value;
            write::place(call, &mut new)?;
            write::replace(call, old, new, &context, &mut told)
        })
        .await?;
    warnings.append(&mut told);
    write::answer(call, StatusCode::OK, &done, &warnings)
}

/// The stored object with the patch applied, in the schema's types.
pub(super) fn patched(
    call: &Call,
    kind: PatchType,
    old: &Object,
    changes: &Value,
    options: &WriteOptions,
) -> Result<codec::Decoded, Status> {
    let expected = Expected::from(call.resource);
    let mut tree = write::tree(call.resource, old)?;
    let tree = match kind {
        PatchType::Json => patch::json(tree, changes)?,
        PatchType::Merge => {
            patch::merge(&mut tree, changes.clone());
            tree
        }
        PatchType::Strategic => patch::strategic(expected.ty, tree, changes.clone())?,
        PatchType::Apply => return Err(Status::unsupported_patch_type()),
    };
    codec::conform(tree, expected, options.validation)
}
