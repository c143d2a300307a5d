//! As whom a request is judged, and whether that user may.

use std::collections::BTreeMap;

use api::selector::FieldSelector;
use api::status::Subject;
use api::{Resource, Status, storage};
use http::{HeaderMap, Method};
use k8s_openapi::api::core::v1::PersistentVolume;
use serde::Deserialize;
use tracing::Span;

use crate::authz::{self, Allowed, Attributes, Decision};
use crate::identity::{BadImpersonation, Identity, Impersonation};
use crate::node_index::Referent;
use crate::request::{Query, ResourcePath, Verb};
use crate::{ApiServer, handlers, rbac, respond};

/// The part of a volume by which a node may read it.
#[derive(Deserialize)]
struct Volume {
    spec: VolumeSpec,
    metadata: VolumeMeta,
}

#[derive(Deserialize)]
struct VolumeMeta {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeSpec {
    claim_ref: Option<ClaimReference>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ClaimReference {
    namespace: String,
    name: String,
}

impl ApiServer {
    /// Whom the request is to be judged as: who asks, or whom they may impersonate and want to.
    pub(crate) async fn identify(
        &self,
        identity: &Identity,
        headers: &HeaderMap,
    ) -> Result<Identity, Status> {
        let identity = self.authenticate(identity, headers).await?;
        let asked = Identity::impersonation(headers).map_err(|bad| match bad {
            BadImpersonation::Incomplete => {
                Status::bad_request("requested impersonation without impersonating a user")
            }
            BadImpersonation::Unreadable => {
                Status::bad_request("impersonation headers must be UTF-8")
            }
        })?;
        let Some(Impersonation {
            identity: other,
            asks,
        }) = asked
        else {
            return Ok(identity);
        };
        Span::current().record("as", &other.user);
        if identity.is_superuser() {
            return Ok(other);
        }
        self.knows_rights().await?;
        for ask in &asks {
            let asked = ask.attributes();
            let decision = self.decide(&identity, &asked, Allowed::Bare);
            if !decision.allowed {
                return Err(forbidden(&identity, &asked, asked.name, &decision));
            }
        }
        Ok(other)
    }

    /// Whether the user may, as far as this server knows. Holds its locks only as long as it takes.
    pub(crate) fn decide(
        &self,
        identity: &Identity,
        asked: &Attributes<'_>,
        allowed: Allowed,
    ) -> Decision {
        let cache = &self.inner.cache;
        let volume = identity.node().and_then(|_| self.volume(asked));
        let claim = volume.as_ref().and_then(|v| v.spec.claim_ref.as_ref());
        let disk = volume
            .as_ref()
            .and_then(|v| v.metadata.labels.get(storage::NODE));
        let asked = &Attributes {
            claim: claim.map(|of| (of.namespace.as_str(), of.name.as_str())),
            disk: disk.map(String::as_str).or(asked.disk),
            ..asked.clone()
        };
        let (nodes, rights) = (cache.nodes.read(), cache.rights.read());
        authz::decide(identity, asked, &nodes, &rights, allowed)
    }

    /// The volume that is asked for by its name.
    fn volume(&self, asked: &Attributes<'_>) -> Option<Volume> {
        let volumes = Resource::of::<PersistentVolume>();
        let (group, plural) = (asked.group, asked.resource);
        let by_name = matches!(asked.verb, "get" | "update" | "patch") && !asked.name.is_empty();
        if !by_name || group != volumes.group || plural != volumes.plural {
            return None;
        }
        let volume = self.inner.cache.get(volumes, None, asked.name)?;
        volume.view::<Volume>().ok()
    }

    /// The same of a path that is no resource's.
    pub(crate) fn decide_path(
        &self,
        identity: &Identity,
        verb: &str,
        path: &str,
        allowed: Allowed,
    ) -> Decision {
        authz::decide_path(
            identity,
            verb,
            path,
            &self.inner.cache.rights.read(),
            allowed,
        )
    }

    /// Waits until roles and bindings were read once: before, nobody would have any rights.
    async fn knows_rights(&self) -> Result<(), Status> {
        if self.inner.cache.revision() > 0 {
            return Ok(());
        }
        handlers::catch_up(self).await
    }

    /// Refuses what the user may not do.
    pub(crate) async fn authorize(
        &self,
        identity: &Identity,
        verb: Verb,
        path: &ResourcePath,
        query: &Query,
        resource: Option<&'static Resource>,
    ) -> Result<(), Status> {
        if identity.is_superuser() {
            return Ok(());
        }
        // Read as the handlers read it, so that nobody is let in by what they understand otherwise.
        let text = query.text("fieldSelector");
        let followed = Referent::followed(&path.group, &path.plural, text.unwrap_or_default());
        let selector = resource
            .zip(text)
            .and_then(|(resource, text)| FieldSelector::parse(resource, text).ok())
            .unwrap_or_default();
        let demands = |field: &str| selector.exact(field);
        let name = match &path.name {
            Some(name) => name.as_str(),
            None if authz::takes_name_from_selector(verb) => {
                demands("metadata.name").unwrap_or_default()
            }
            None => "",
        };
        let mut asked = Attributes {
            verb: verb.as_str(),
            group: &path.group,
            resource: &path.plural,
            subresource: path.subresource.as_deref().unwrap_or_default(),
            namespace: path.namespace.as_deref().unwrap_or_default(),
            name,
            node_name: demands("spec.nodeName").or(followed.map(|(_, node)| node)),
            absent: false,
            claim: None,
            disk: disk(verb, query),
        };
        self.knows_rights().await?;
        let mut decision = self.decide(identity, &asked, Allowed::Bare);
        if decision.allowed && path.group == rbac::GROUP && verb.writes() {
            // Judged by what the writer and the role have now, wherever that was written. Only for
            // whom may write at all: others must not make servers talk to each other.
            handlers::catch_up(self).await?;
            decision = self.decide(identity, &asked, Allowed::Bare);
        }
        if decision.allowed {
            return Ok(());
        }
        if identity.node().is_some() {
            // It may know of a binding through another server before this one does.
            handlers::catch_up(self).await?;
            let pods = Resource::of::<k8s_openapi::api::core::v1::Pod>();
            let pod = self
                .inner
                .cache
                .get(pods, path.namespace.as_deref(), asked.name);
            asked.absent = pod.is_none();
            decision = self.decide(identity, &asked, Allowed::Bare);
            if decision.allowed {
                return Ok(());
            }
        }
        let name = path.name.as_deref().unwrap_or_default();
        Err(forbidden(identity, &asked, name, &decision))
    }

    /// Refuses a path that is no resource's to those who may not see it.
    pub(crate) async fn authorize_path(
        &self,
        identity: &Identity,
        method: &Method,
        path: &str,
    ) -> Result<(), Status> {
        let verb = authz::path_verb(method);
        if !identity.is_superuser() && !authz::is_open(&verb, path) {
            self.knows_rights().await?;
        }
        let decision = self.decide_path(identity, &verb, path, Allowed::Bare);
        if decision.allowed {
            return Ok(());
        }
        let mut status = respond::forbidden_path(identity, method, path);
        status.message = decision.explain(status.message);
        Err(status)
    }
}

/// The node whose volumes a list or watch asks for, as nodes spell that.
fn disk(verb: Verb, query: &Query) -> Option<&str> {
    let selector = query.text("labelSelector")?;
    let of = selector.strip_prefix(storage::NODE)?.strip_prefix('=')?;
    authz::takes_name_from_selector(verb).then_some(of)
}

/// 403 for a resource, in Kubernetes' words.
fn forbidden(
    identity: &Identity,
    asked: &Attributes<'_>,
    name: &str,
    decision: &Decision,
) -> Status {
    let subject = Subject {
        group: asked.group,
        name: asked.resource,
    };
    let why = decision.explain(authz::refusal(identity, asked));
    Status::forbidden(subject, name, &why)
}
