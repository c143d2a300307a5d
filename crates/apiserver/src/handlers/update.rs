//! PUT of an object or of a part of it.

use api::Status;
use api::codec::Expected;
use http::StatusCode;

use super::write;
use crate::admission;
use crate::body::Response;
use crate::dispatch::Call;
use crate::options::WriteOptions;

/// Answers an update.
pub(crate) async fn update(call: &Call) -> Result<Response, Status> {
    let options = WriteOptions::read("UpdateOptions", &call.query, &call.headers)?;
    let decoded = write::decode(call, Expected::from(call.resource))?;
    let mut object = decoded.value;
    write::place(call, &mut object)?;
    admission::node_restriction(call, &object)?;
    let context = write::context(call, &options);
    let done = call
        .server
        .write(&call.key(), options.dry_run, |old| {
            let old = old.ok_or_else(|| call.not_found())?;
            write::replace(call, old, object.clone(), &context)
        })
        .await?;
    write::answer(call, StatusCode::OK, &done, &decoded.warnings)
}
