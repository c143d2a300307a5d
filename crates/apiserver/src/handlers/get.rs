//! GET of one object.

use api::Status;
use http::StatusCode;

use super::list;
use super::shape::Shaper;
use crate::body::Response;
use crate::dispatch::{Call, record_uid};
use crate::options::ListOptions;

/// Answers a get, of the object or of a subresource that shows it.
pub(crate) async fn get(call: &Call) -> Result<Response, Status> {
    let options = ListOptions::read(&call.query, false)?;
    let found = match options.version {
        // Whatever is there, fresh or not.
        Some(0) => {
            list::reach(&call.server, 0).await?;
            let cache = &call.server.inner.cache;
            cache.get(call.resource, call.namespace(), call.name())
        }
        version => {
            if let Some(version) = version {
                // Most often it is here already; one that nobody gave never comes.
                list::reach(&call.server, version).await?;
            }
            call.server.read(call.key().as_bytes()).await?
        }
    };
    let object = found.ok_or_else(|| call.not_found())?;
    record_uid(object.uid());
    Shaper::new(call).object(StatusCode::OK, &object)
}
