//! Carries out single writes through the client.

use api::resource::{self, Resource};
use client::{Client, DeleteOptions, Error, Patch, Propagation, Untyped};

use crate::plan::{Target, Write};

/// What a write came to.
pub(crate) enum Outcome {
    /// The object was made.
    Created {
        /// Its kind.
        kind: String,
        /// Its name, which may have been generated.
        name: String,
        /// Its revision.
        revision: u64,
    },
    /// The object of this kind is now at this revision.
    Written {
        /// The kind.
        kind: String,
        /// Its revision.
        revision: u64,
    },
    /// It was so already, or the object is gone.
    Nothing,
}

/// Performs [`Write`]s.
#[derive(Clone)]
pub(crate) struct Writer {
    client: Client,
}

impl Writer {
    pub(crate) fn new(client: Client) -> Self {
        Writer { client }
    }

    /// Performs one write. A conflict is an error: the caller looks again.
    pub(crate) async fn write(&self, write: &Write) -> Result<Outcome, Error> {
        match write {
            Write::Create { object, .. } => {
                let access = self.client.untyped(resource_of(object)?);
                match access.create(&Untyped(object.clone())).await {
                    Ok(created) => Ok(Outcome::Created {
                        kind: created.0["kind"].as_str().unwrap_or_default().to_owned(),
                        name: client::Object::name(&created).to_owned(),
                        revision: client::Object::revision(&created),
                    }),
                    Err(error) if error.is_already_exists() => Ok(Outcome::Nothing),
                    Err(error) => Err(error),
                }
            }
            Write::Update { object } => {
                let access = self.client.untyped(resource_of(object)?);
                access
                    .update(&Untyped(object.clone()))
                    .await
                    .map(|o| written(&o))
            }
            Write::Status { object } => {
                let access = self.client.untyped(resource_of(object)?);
                gone_is_done(access.update_status(&Untyped(object.clone())).await)
            }
            Write::Patch {
                target,
                subresource,
                patch,
            } => {
                let access = self
                    .client
                    .untyped(resource(&target.api_version, &target.kind)?);
                // The uid makes a patch meant for a deleted namesake a conflict.
                let mut patch = patch.clone();
                patch["metadata"]["uid"] = target.uid.clone().into();
                let (namespace, name) = (&target.key.namespace, &target.key.name);
                gone_is_done(
                    access
                        .patch(namespace, name, &Patch::Merge(patch), *subresource)
                        .await,
                )
            }
            Write::Delete {
                target,
                force,
                unless,
            } => {
                for other in unless {
                    if self.exists(other).await? {
                        return Ok(Outcome::Nothing);
                    }
                }
                let access = self
                    .client
                    .untyped(resource(&target.api_version, &target.kind)?);
                let mut options =
                    DeleteOptions::uid(target.uid.clone()).propagation(Propagation::Background);
                if *force {
                    options = options.grace_period_seconds(0);
                }
                match access
                    .delete(&target.key.namespace, &target.key.name, &options)
                    .await
                {
                    Ok(()) => Ok(Outcome::Nothing),
                    Err(error) if error.is_not_found() || error.is_conflict() => {
                        Ok(Outcome::Nothing)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Whether this very object is there, asked of the API.
    pub(crate) async fn exists(&self, target: &Target) -> Result<bool, Error> {
        let Ok(resource) = resource(&target.api_version, &target.kind) else {
            // A kind that is not served: nobody can tell, so nothing may be concluded.
            return Ok(true);
        };
        let access = self.client.resource::<client::PartialObject>(resource);
        let found = access.find(&target.key.namespace, &target.key.name).await?;
        let uid = |o: client::PartialObject| o.metadata.uid.unwrap_or_default();
        Ok(found.is_some_and(|o| target.uid.is_empty() || uid(o) == target.uid))
    }
}

fn gone_is_done(result: Result<Untyped, Error>) -> Result<Outcome, Error> {
    match result {
        Ok(object) => Ok(written(&object)),
        Err(error) if error.is_not_found() => Ok(Outcome::Nothing),
        Err(error) => Err(error),
    }
}

fn written(object: &Untyped) -> Outcome {
    let kind = object.0["kind"].as_str().unwrap_or_default().to_owned();
    Outcome::Written {
        kind,
        revision: client::Object::revision(object),
    }
}

fn resource_of(object: &serde_json::Value) -> Result<&'static Resource, Error> {
    resource(
        object["apiVersion"].as_str().unwrap_or_default(),
        object["kind"].as_str().unwrap_or_default(),
    )
}

fn resource(api_version: &str, kind: &str) -> Result<&'static Resource, Error> {
    resource::by_kind(api_version, kind).ok_or_else(|| {
        Error::decode(
            format!("{api_version} {kind}"),
            std::io::Error::other("no such kind is served"),
        )
    })
}
