//! Reading a Pod without the `Option`s: what is absent has Kubernetes' default.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};
use network::names::DOMAIN;
use sha2::{Digest as _, Sha256};

/// A container's identity in statuses: the same for the same start of the same container.
pub fn container_id(uid: &str, container: &str, attempt: u32) -> String {
    let hash = Sha256::digest(format!("{uid}/{container}/{attempt}"));
    format!("carob://{}", hex::encode(hash))
}

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It does its work before the next one begins.
    Init,
    /// It is started in its turn among the init containers, and runs for as long as the pod does.
    Sidecar,
    /// The pod is what it does.
    Main,
}

/// A Pod's fields with their defaults applied.
pub trait PodView {
    /// `metadata.name`.
    fn name(&self) -> &str;
    /// `metadata.namespace`.
    fn namespace(&self) -> &str;
    /// `metadata.uid`.
    fn uid(&self) -> &str;
    /// The spec, if the object has one (the API server lets no other in).
    fn pod_spec(&self) -> Option<&PodSpec>;
    /// `spec.containers`.
    fn containers(&self) -> &[Container];
    /// `spec.initContainers`.
    fn init_containers(&self) -> &[Container];
    /// All of them, in the order in which they begin.
    fn all_containers(&self) -> impl Iterator<Item = (Role, &Container)>;
    /// `spec.volumes`.
    fn volumes(&self) -> &[Volume];
    /// `spec.restartPolicy`, else `Always`.
    fn restart_policy(&self) -> &str;
    /// How long its containers have to end once it is being deleted; `None` if it is not.
    fn deletion_grace(&self) -> Option<SignedDuration>;
    /// `spec.terminationGracePeriodSeconds`, else 30 s.
    fn grace(&self) -> SignedDuration;
    /// The first part of the name by which the pod's guests know their host.
    fn hostname(&self) -> String;
    /// That name with the pod's domain, where it has one.
    fn fqdn(&self) -> Option<String>;
    /// What guests find as their host's name: the one or, with `spec.setHostnameAsFQDN`, the other.
    fn nodename(&self) -> String;
    /// `NAME_NAMESPACE(UID)`, as the kubelet writes it in messages.
    fn label(&self) -> String;
    /// The container of that name, whatever it is to the pod.
    fn container(&self, name: &str) -> Option<&Container>;
    /// Whether the API already says that the pod has ended (the agent itself, an eviction, a controller).
    fn ended_in_api(&self) -> bool;
}

impl PodView for Pod {
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn pod_spec(&self) -> Option<&PodSpec> {
        self.spec.as_ref()
    }

    fn containers(&self) -> &[Container] {
        self.pod_spec()
            .map(|s| s.containers.as_slice())
            .unwrap_or_default()
    }

    fn init_containers(&self) -> &[Container] {
        self.pod_spec()
            .and_then(|s| s.init_containers.as_deref())
            .unwrap_or_default()
    }

    fn all_containers(&self) -> impl Iterator<Item = (Role, &Container)> {
        let init = self.init_containers().iter().map(|c| {
            let stays = c.restart_policy.as_deref() == Some("Always");
            (if stays { Role::Sidecar } else { Role::Init }, c)
        });
        init.chain(self.containers().iter().map(|c| (Role::Main, c)))
    }

    fn volumes(&self) -> &[Volume] {
        self.pod_spec()
            .and_then(|s| s.volumes.as_deref())
            .unwrap_or_default()
    }

    fn restart_policy(&self) -> &str {
        self.pod_spec()
            .and_then(|s| s.restart_policy.as_deref())
            .unwrap_or("Always")
    }

    fn deletion_grace(&self) -> Option<SignedDuration> {
        self.metadata.deletion_timestamp.as_ref()?;
        let secs = self.metadata.deletion_grace_period_seconds;
        Some(secs.map_or_else(|| self.grace(), |s| SignedDuration::from_secs(s.max(0))))
    }

    fn grace(&self) -> SignedDuration {
        let secs = self
            .pod_spec()
            .and_then(|s| s.termination_grace_period_seconds);
        SignedDuration::from_secs(secs.unwrap_or(30).max(0))
    }

    fn hostname(&self) -> String {
        let spec = self.pod_spec();
        let chosen = spec.and_then(|s| s.hostname_override.clone().or_else(|| s.hostname.clone()));
        let mut name = chosen
            .filter(|h| !h.is_empty())
            .unwrap_or_else(|| self.name().to_owned());
        // As the kubelet does: a host name has at most 63 characters and no separator at its end.
        if name.len() > 63 && name.is_char_boundary(63) {
            name.truncate(63);
            name.truncate(name.trim_end_matches(['-', '.']).len());
        }
        name
    }

    fn fqdn(&self) -> Option<String> {
        let spec = self.pod_spec()?;
        // Who overrides the name has said all of it.
        let is_whole = spec
            .hostname_override
            .as_ref()
            .is_some_and(|n| !n.is_empty());
        let subdomain = spec.subdomain.as_deref();
        let subdomain = subdomain.filter(|s| !s.is_empty() && !is_whole)?;
        let (host, namespace) = (self.hostname(), self.namespace());
        Some(format!("{host}.{subdomain}.{namespace}.svc.{DOMAIN}"))
    }

    fn nodename(&self) -> String {
        let wants_all = |spec: &PodSpec| spec.set_hostname_as_fqdn == Some(true);
        let whole = self.pod_spec().is_some_and(wants_all);
        let fqdn = self.fqdn().filter(|_| whole);
        fqdn.unwrap_or_else(|| self.hostname())
    }

    fn label(&self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }

    fn container(&self, name: &str) -> Option<&Container> {
        let mut all = self.all_containers().map(|(_, c)| c);
        all.find(|c| c.name == name)
    }

    fn ended_in_api(&self) -> bool {
        let phase = self.status.as_ref().and_then(|s| s.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }
}
