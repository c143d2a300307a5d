//! `imagePullSecrets`: what a pod may show to other registries.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::Client;
use k8s_openapi::api::core::v1::{Pod, Secret};
use serde_json::Value;

use super::remote::Login;
use crate::pod::PodView as _;

/// Logins by registry host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys(BTreeMap<String, Login>);

impl Keys {
    /// Reads a pod's pull secrets. One that is missing or unreadable is left out, as the kubelet does.
    pub(crate) async fn of(client: &Client, pod: &Pod) -> Self {
        let mut all = Self::default();
        for name in pod
            .pod_spec()
            .iter()
            .flat_map(|s| s.image_pull_secrets.iter().flatten())
            .map(|r| &r.name)
        {
            match client.of::<Secret>().find(pod.namespace(), name).await {
                Ok(Some(secret)) => all.add(&secret),
                Ok(None) => tracing::debug!(secret = name, "a pull secret is missing"),
                Err(error) => tracing::warn!(secret = name, %error, "a pull secret cannot be read"),
            }
        }
        all
    }

    /// The login at a registry, if any.
    pub(super) fn get(&self, host: &str) -> Option<Login> {
        // Docker's own registry is stored under its oldest name.
        let old = (host == "docker.io").then_some("index.docker.io");
        self.0.get(host).or_else(|| self.0.get(old?)).cloned()
    }

    fn add(&mut self, secret: &Secret) {
        let data = secret.data.as_ref();
        let bytes = data.and_then(|d| d.get(".dockerconfigjson").or_else(|| d.get(".dockercfg")));
        let Some(config) = bytes.and_then(|b| serde_json::from_slice::<Value>(&b.0).ok()) else {
            return;
        };
        // The older form has no `auths` around the hosts.
        let hosts = config.get("auths").unwrap_or(&config);
        for (host, entry) in hosts.as_object().into_iter().flatten() {
            let host = host
                .trim_start_matches("https://")
                .trim_start_matches("http://");
            let host = host.split('/').next().unwrap_or_default();
            if let Some(login) = login(entry) {
                self.0.insert(host.to_owned(), login);
            }
        }
    }
}

fn login(entry: &Value) -> Option<Login> {
    let field = |name: &str| entry[name].as_str().map(str::to_owned);
    if let (Some(user), Some(password)) = (field("username"), field("password")) {
        return Some((user, password));
    }
    let decoded = String::from_utf8(STANDARD.decode(field("auth")?).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_secrets_are_read() {
        let mut keys = Keys::default();
        let config = serde_json::json!({"auths": {
            "ghcr.io": {"auth": STANDARD.encode("me:pa:ss")},
            "https://index.docker.io/v1/": {"username": "u", "password": "p"},
            "broken.io": {"auth": "!"},
        }});
        let data = BTreeMap::from([(
            ".dockerconfigjson".to_owned(),
            k8s_openapi::ByteString(config.to_string().into()),
        )]);
        keys.add(&Secret {
            data: Some(data),
            ..Secret::default()
        });
        assert_eq!(
            keys.get("ghcr.io"),
            Some(("me".to_owned(), "pa:ss".to_owned()))
        );
        assert_eq!(
            keys.get("docker.io"),
            Some(("u".to_owned(), "p".to_owned()))
        );
        assert_eq!(keys.get("broken.io"), None);
    }
}
