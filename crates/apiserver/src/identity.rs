//! Who asks: the user of a certificate or a token, whom impersonation headers name, or nobody.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use client::tls::Subject;
use http::HeaderMap;
use http::header::HeaderValue;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

use crate::authz::Attributes;
use crate::ca;

/// What the user name of a service account begins with; its namespace, a colon and its name follow.
pub(crate) const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// The group of all service accounts; with a colon and a namespace, of those there.
pub(crate) const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// Under what in a user's extra it is said by which credential they were known.
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// The user behind a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user name: a certificate's common name, or a service account's.
    pub user: String,
    /// The groups: a certificate's organisations, what the cluster keeps of a user, or an account's; and
    /// `system:authenticated`.
    pub groups: Vec<String>,
    /// What tells apart users of one name; empty where the authenticator knows none.
    pub uid: String,
    /// What else the authenticator knows: values by key.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What impersonation headers ask for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Impersonation {
    /// As whom to act.
    pub(crate) identity: Identity,
    /// What the user must be allowed to impersonate for it.
    pub(crate) asks: Vec<Ask>,
}

/// One thing to be impersonated.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask {
    group: &'static str,
    resource: &'static str,
    subresource: String,
    namespace: String,
    name: String,
}

/// Impersonation headers that mean nothing; nobody is asked for by them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadImpersonation {
    /// Groups, a uid or more without a user.
    Incomplete,
    /// A value that is no text.
    Unreadable,
}

impl Ask {
    /// As what the authorizer judges it.
    pub(crate) fn attributes(&self) -> Attributes<'_> {
        Attributes {
            verb: "impersonate",
            group: self.group,
            resource: self.resource,
            subresource: &self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            ..Attributes::default()
        }
    }
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
    pub(crate) fn of_service_account(namespace: &str, name: &str) -> Identity {
        let user = format!("{SERVICE_ACCOUNT}{namespace}:{name}");
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

    /// The same user, known by this certificate (its DER); nobody is known by any.
    pub(crate) fn by_certificate(mut self, der: &[u8]) -> Identity {
        if !self.is_anonymous() {
            let id = format!("X509SHA256={}", hex::encode(Sha256::digest(der)));
            self.extra.insert(CREDENTIAL_ID.to_owned(), vec![id]);
        }
        self
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

    /// The namespace and name of the service account that this is.
    fn service_account(&self) -> Option<(&str, &str)> {
        let (namespace, name) = self.user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
        let is_name = |text: &str| {
            let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            text.starts_with(letter)
                && text.ends_with(letter)
                && text.chars().all(|c| letter(c) || c == '-' || c == '.')
        };
        (is_name(namespace) && is_name(name)).then_some((namespace, name))
    }

    /// What the `Impersonate-*` headers ask for, if there are any. Whether this user may is for the
    /// caller to judge.
    ///
    /// # Errors
    ///
    /// They say not whom to impersonate.
    pub(crate) fn impersonation(
        headers: &HeaderMap,
    ) -> Result<Option<Impersonation>, BadImpersonation> {
        let all = |name: &str| -> Result<Vec<String>, BadImpersonation> {
            headers.get_all(name).iter().map(text).collect()
        };
        let user = all("impersonate-user")?.into_iter().next();
        let mut identity = Identity {
            user: user.unwrap_or_default(),
            groups: all("impersonate-group")?,
            uid: all("impersonate-uid")?
                .into_iter()
                .next()
                .unwrap_or_default(),
            extra: BTreeMap::new(),
        };
        for name in headers.keys() {
            if let Some(key) = name.as_str().strip_prefix("impersonate-extra-") {
                let key = percent_decode_str(key).decode_utf8();
                let key = key.map_err(|_| BadImpersonation::Unreadable)?;
                identity.extra.insert(key.into_owned(), all(name.as_str())?);
            }
        }
        if identity.user.is_empty() {
            return if identity == Identity::default() {
                Ok(None)
            } else {
                Err(BadImpersonation::Incomplete)
            };
        }
        let asks = identity.asks();
        identity.complete();
        Ok(Some(Impersonation { identity, asks }))
    }

    /// What must be allowed to whoever wants to be this one.
    fn asks(&self) -> Vec<Ask> {
        const GROUP: &str = "authentication.k8s.io";
        let whom = match self.service_account() {
            Some((namespace, name)) => Ask {
                resource: "serviceaccounts",
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                ..Ask::default()
            },
            None => Ask {
                resource: "users",
                name: self.user.clone(),
                ..Ask::default()
            },
        };
        let groups = self.groups.iter().map(|group| Ask {
            resource: "groups",
            name: group.clone(),
            ..Ask::default()
        });
        let values = |(key, values): (&String, &Vec<String>)| -> Vec<Ask> {
            let value = |name: &String| Ask {
                group: GROUP,
                resource: "userextras",
                subresource: key.clone(),
                name: name.clone(),
                ..Ask::default()
            };
            values.iter().map(value).collect()
        };
        let uid = (!self.uid.is_empty()).then(|| Ask {
            group: GROUP,
            resource: "uids",
            name: self.uid.clone(),
            ..Ask::default()
        });
        let extra = self.extra.iter().flat_map(values);
        std::iter::once(whom)
            .chain(groups)
            .chain(extra)
            .chain(uid)
            .collect()
    }

    /// Adds the groups that an impersonated user has without being asked for.
    fn complete(&mut self) {
        if self.groups.is_empty()
            && let Some((namespace, _)) = self.service_account()
        {
            let own = format!("{SERVICE_ACCOUNTS}:{namespace}");
            self.groups = vec![SERVICE_ACCOUNTS.to_owned(), own];
        }
        let known = self.is_in(AUTHENTICATED) && self.user != ANONYMOUS;
        if known || self.is_in(UNAUTHENTICATED) {
            return;
        }
        let group = if self.user == ANONYMOUS {
            UNAUTHENTICATED
        } else {
            AUTHENTICATED
        };
        self.groups.push(group.to_owned());
    }
}

fn text(value: &HeaderValue) -> Result<String, BadImpersonation> {
    let text = std::str::from_utf8(value.as_bytes());
    text.map(str::to_owned)
        .map_err(|_| BadImpersonation::Unreadable)
}
