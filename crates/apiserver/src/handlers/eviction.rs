//! `pods/eviction`: a deletion that disruption budgets will be asked about once they are kept.

use api::Status;
use api::codec::{Decoded, Expected};
use http::StatusCode;

use super::{delete, write};
use crate::body::Response;
use crate::dispatch::Call;
use crate::options::WriteOptions;
use crate::respond;

/// Answers the creation of an eviction.
pub(crate) async fn evict(call: &Call) -> Result<Response, Status> {
    let options = WriteOptions::read("CreateOptions", &call.query, &call.headers)?;
    let sub = call.resource.subresource("eviction");
    let sub = sub.ok_or_else(Status::no_such_resource)?;
    let expected = Expected::subresource(call.resource, sub);
    let Decoded { value, warnings } = write::decode(call, expected)?;
    let name = write::metadata(&value, "name");
    if !name.is_empty() && name != call.name() {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let mut delete = delete::from_value(&value["deleteOptions"])?;
    delete.dry_run |= options.dry_run;
    delete::remove(call, call.name(), &delete).await?;
    let response = respond::value(StatusCode::CREATED, call.form.media, &Status::created())?;
    Ok(respond::warn(response, &warnings))
}
