//! Carries out single writes through the client.

use api::resource::{self, Resource};
use client::{Client, DeleteOptions, Error, Key, ListOptions, Patch, Propagation, Untyped};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use crate::owner::target;
use crate::plan::{Target, Write};
use crate::storage_protection;

/// Which object a write left behind, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// `Pod`, …
    pub(crate) kind: String,
    /// Namespace and name.
    pub(crate) key: Key,
    /// The object's own.
    pub(crate) uid: String,
    /// The revision that it has now; 0 where it was deleted.
    pub(crate) revision: u64,
}

/// What a write came to.
pub(crate) enum Outcome {
    /// The object was made; its name may have been generated.
    Created(Mark),
    /// The object is now at this revision.
    Written(Mark),
    /// The object is gone, or going.
    Deleted(Mark),
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
                    Ok(created) => Ok(Outcome::Created(mark(&created))),
                    Err(error) => Err(error),
                }
            }
            Write::Status { target, patch } => self.patch(target, patch, Some("status")).await,
            Write::Patch { target, patch } => self.patch(target, patch, None).await,
            Write::LetGo { claim, patch } => {
                let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
                let pods = self.client.of::<Pod>();
                let pods = pods.list(&ListOptions::namespace(namespace)).await?.items;
                match pods.iter().any(|pod| storage_protection::uses(pod, claim)) {
                    // It comes into view, and so does its end.
                    true => Ok(Outcome::Nothing),
                    false => self.patch(&target(&**claim), patch, None).await,
                }
            }
            Write::Release {
                volume,
                claim,
                patch,
            } => match self.exists(claim).await? {
                // It comes into view, and the volume is looked at again.
                true => Ok(Outcome::Nothing),
                false => self.patch(volume, patch, Some("status")).await,
            },
            Write::Delete {
                target,
                force,
                foreground,
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
                let propagation = match foreground {
                    true => Propagation::Foreground,
                    false => Propagation::Background,
                };
                let mut options = DeleteOptions::uid(target.uid.clone()).propagation(propagation);
                if *force {
                    options = options.grace_period_seconds(0);
                }
                match access
                    .delete(&target.key.namespace, &target.key.name, &options)
                    .await
                {
                    Ok(()) => Ok(Outcome::Deleted(Mark {
                        kind: target.kind.clone(),
                        key: target.key.clone(),
                        uid: target.uid.clone(),
                        revision: 0,
                    })),
                    Err(error) if error.is_not_found() || error.is_conflict() => {
                        Ok(Outcome::Nothing)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    async fn patch(
        &self,
        target: &Target,
        patch: &Value,
        subresource: Option<&str>,
    ) -> Result<Outcome, Error> {
        let access = self
            .client
            .untyped(resource(&target.api_version, &target.kind)?);
        // The uid makes a patch meant for a deleted namesake a conflict.
        let mut patch = patch.clone();
        patch["metadata"]["uid"] = target.uid.clone().into();
        let (namespace, name) = (&target.key.namespace, &target.key.name);
        let patch = Patch::Merge(patch);
        match access.patch(namespace, name, &patch, subresource).await {
            Ok(object) => Ok(Outcome::Written(mark(&object))),
            Err(error) if error.is_not_found() => Ok(Outcome::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Whether this very object is there, asked of the API.
    pub(crate) async fn exists(&self, target: &Target) -> Result<bool, Error> {
        let resource = resource(&target.api_version, &target.kind).ok();
        let Some(resource) = resource.filter(|r| !r.is_virtual) else {
            // A kind that is not served, or of which nothing is stored: nobody can tell, so nothing may be concluded.
            return Ok(true);
        };
        let access = self.client.resource::<client::PartialObject>(resource);
        let found = access.find(&target.key.namespace, &target.key.name).await?;
        let uid = |o: client::PartialObject| o.metadata.uid.unwrap_or_default();
        Ok(found.is_some_and(|o| target.uid.is_empty() || uid(o) == target.uid))
    }
}

impl Writer {
    /// Uid and revision of the object that `mark` names, as the API has it now.
    pub(crate) async fn version(&self, mark: &Mark) -> Result<Option<(String, u64)>, Error> {
        let Some(resource) = resource::all().iter().find(|r| r.kind == mark.kind) else {
            return Ok(None);
        };
        let access = self.client.resource::<client::PartialObject>(resource);
        let found = access.find(&mark.key.namespace, &mark.key.name).await?;
        Ok(found.map(|o| {
            let uid = client::Object::uid(&o).to_owned();
            (uid, client::Object::revision(&o))
        }))
    }
}

fn mark(object: &Untyped) -> Mark {
    Mark {
        kind: object.0["kind"].as_str().unwrap_or_default().to_owned(),
        key: Key::of(object),
        uid: client::Object::uid(object).to_owned(),
        revision: client::Object::revision(object),
    }
}

fn resource_of(object: &Value) -> Result<&'static Resource, Error> {
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
