//! `pods/binding`: a pod gets its node.

use api::codec::{Decoded, Expected};
use api::{Resource, Status, write as engine};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;

use super::write;
use crate::admission;
use crate::body::Response;
use crate::dispatch::{Call, record_uid};
use crate::options::WriteOptions;
use crate::registry::{Also, Next};
use crate::respond;

/// Answers the creation of a binding, on the pod's own path or on that of bindings.
pub(crate) async fn bind(call: &Call) -> Result<Response, Status> {
    let options = WriteOptions::read("CreateOptions", &call.query, &call.headers)?;
    let expected = match call.resource.subresource("binding") {
        Some(sub) => Expected::subresource(call.resource, sub),
        None => Expected::from(call.resource),
    };
    let Decoded {
        value: binding,
        warnings,
    } = write::decode(call, expected)?;
    let pods = Resource::of::<Pod>();
    let name = match call.name() {
        "" => write::metadata(&binding, "name"),
        name => name,
    };
    admission::node_subresource(call, name, "binding")?;
    let context = write::context(call, &options);
    let done = call
        .server
        .write(&pods.key(call.namespace(), name), options.dry_run, |pod| {
            let pod = pod.ok_or_else(|| Status::not_found(pods, name))?;
            let tree = write::tree(pods, pod)?;
            let bound = engine::bind(pods, &tree, pod.revision(), &binding, &context)?;
            Ok(Next::Put {
                value: engine::encode(bound)?.into(),
                also: Also::default(),
            })
        })
        .await?;
    record_uid(done.object.uid());
    let response = respond::value(StatusCode::CREATED, call.form.media, &Status::created())?;
    Ok(respond::warn(response, &warnings))
}
