//! Who asks: from a client certificate, impersonation headers, or nobody.

use std::collections::BTreeMap;

use client::tls::Subject;
use http::HeaderMap;

use crate::ca;

const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATED: &str = "system:authenticated";
/// The group of all service accounts; that of a namespace's has its name after a colon.
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// The user behind a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user name: a certificate's common name.
    pub user: String,
    /// The groups: a certificate's organisations and `system:authenticated`.
    pub groups: Vec<String>,
    /// What tells apart users of one name; empty where the authenticator knows none.
    pub uid: String,
    /// What else the authenticator knows: values by key.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Why impersonation headers are not followed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Impersonation {
    /// There are none.
    None,
    /// Act as this one.
    As(Identity),
    /// Groups without a user: Kubernetes calls that a server error's worth of nonsense.
    Incomplete,
    /// A uid or extra attributes, which no user has here: whoever asks would be taken for another.
    Unsupported,
}

impl Identity {
    /// A known user. `system:authenticated` is added.
    pub fn new(
        user: impl Into<String>,
        groups: impl IntoIterator<Item = impl Into<String>>,
    ) -> Identity {
        let mut groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        if !groups.iter().any(|g| g == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Identity {
            user: user.into(),
            groups,
            ..Identity::default()
        }
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> Identity {
        let user = format!("system:serviceaccount:{namespace}:{name}");
        let of_namespace = format!("{SERVICE_ACCOUNTS}:{namespace}");
        Identity::new(user, [SERVICE_ACCOUNTS, &of_namespace])
    }

    /// Somebody without a certificate.
    pub fn anonymous() -> Identity {
        Identity {
            user: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Identity::default()
        }
    }

    /// The user that a verified client certificate names: CN is the user, each O a group. A
    /// certificate without a CN is nobody's.
    pub(crate) fn of_subject(subject: Subject) -> Identity {
        if subject.common_name.is_empty() {
            return Identity::anonymous();
        }
        Identity::new(subject.common_name, subject.organizations)
    }

    /// Whether the user is of a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// An administrator or one of the cluster's servers: may do everything.
    pub fn is_superuser(&self) -> bool {
        self.is_in(ca::MASTERS) || self.is_in(ca::SERVERS)
    }

    /// One of the cluster's own servers.
    pub fn is_server(&self) -> bool {
        self.is_in(ca::SERVERS)
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        self.user == ANONYMOUS
    }

    /// The node whose agent this is.
    pub fn node(&self) -> Option<&str> {
        if !self.is_in(ca::NODES) {
            return None;
        }
        self.user
            .strip_prefix(ca::NODE_USER)
            .filter(|name| !name.is_empty())
    }

    /// What the `Impersonate-*` headers ask for. Whether this user may is for the caller to judge.
    pub(crate) fn impersonation(headers: &HeaderMap) -> Impersonation {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let groups: Vec<&str> = headers
            .get_all("impersonate-group")
            .iter()
            .filter_map(|v| v.to_str().ok())
            .collect();
        let more = headers
            .keys()
            .any(|k| k.as_str().starts_with("impersonate-extra-") || k == "impersonate-uid");
        match text("impersonate-user") {
            _ if more => Impersonation::Unsupported,
            None if groups.is_empty() => Impersonation::None,
            None => Impersonation::Incomplete,
            Some(ANONYMOUS) => Impersonation::As(Identity::anonymous()),
            Some(user) => Impersonation::As(Identity::new(
                user,
                groups
                    .into_iter()
                    .filter(|g| *g != AUTHENTICATED)
                    .map(str::to_owned),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::{Ca, Profile};

    #[test]
    fn certificates_name_user_and_group() {
        let ca = Ca::create().unwrap();
        let issued = ca
            .issue(&Profile::Node {
                name: "n1".to_owned(),
                addresses: vec![],
            })
            .unwrap();
        let chain = client::tls::certificates(&issued.certificate).unwrap();
        let identity = Identity::of_subject(Subject::of(&chain[0]).unwrap());
        assert_eq!(identity.user, "system:node:n1");
        assert_eq!(identity.groups, ["system:nodes", "system:authenticated"]);
        assert_eq!(identity.node(), Some("n1"));
        assert!(!identity.is_superuser());
    }

    #[test]
    fn impersonation_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(Identity::impersonation(&headers), Impersonation::None);
        headers.append("impersonate-group", "dev".parse().unwrap());
        assert_eq!(Identity::impersonation(&headers), Impersonation::Incomplete);
        headers.append("impersonate-user", "jane".parse().unwrap());
        assert_eq!(
            Identity::impersonation(&headers),
            Impersonation::As(Identity::new("jane", ["dev"]))
        );
        headers.append("impersonate-extra-scopes", "x".parse().unwrap());
        assert_eq!(
            Identity::impersonation(&headers),
            Impersonation::Unsupported
        );
    }
}
