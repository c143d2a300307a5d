//! Users with certificates of their own: `/carob/v1/users`.
//!
//! The store has a record of each. A certificate names its record, and is worth what the record says: without it,
//! nothing. So taking a user back takes one write, and each server ends that user's connections when it sees it.

use api::Status;
use api::status::Subject;
use bytes::Bytes;
use client::users::{Certificate, NewUser, USERS_PATH, User, Users};
use http::Method;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use store::{Command, Op, When, Written};
use tracing::info;

use crate::ApiServer;
use crate::body::Response;
use crate::ca::{MASTERS, Profile};
use crate::identity::Identity;
use crate::join::{answer, parse};
use crate::registry::unavailable;

/// What the store's keys of users start with; the name follows.
pub(crate) const PREFIX: &str = "/carob/users/";
/// What the organisational unit of a user's certificate starts with; the record's id follows.
pub(crate) const UNIT: &str = "carob-user:";
const MOST_GROUPS: usize = 32;

/// What is kept of a user, as JSON.
#[derive(Serialize, Deserialize)]
struct Record {
    /// What the certificate names: a user who is made again under an old name has another.
    id: String,
    groups: Vec<String>,
    created: String,
}

/// The user that a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertifiedUser {
    name: String,
    id: String,
}

impl CertifiedUser {
    /// The user of a verified certificate, if it is a user's.
    pub(crate) fn of(subject: &client::tls::Subject) -> Option<CertifiedUser> {
        let unit = subject.units.first()?;
        Some(CertifiedUser {
            name: subject.common_name.clone(),
            id: unit.strip_prefix(UNIT)?.to_owned(),
        })
    }
}

/// Whether a path is one of these.
pub(crate) fn serves(path: &str) -> bool {
    path.strip_prefix(USERS_PATH)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn key(name: &str) -> Bytes {
    format!("{PREFIX}{name}").into()
}

fn subject() -> Subject<'static> {
    Subject {
        group: "",
        name: "users",
    }
}

impl ApiServer {
    /// Answers a request for users, of those whose roles allow the path.
    pub(crate) async fn user_request(
        &self,
        identity: &Identity,
        head: &Parts,
        body: Bytes,
    ) -> Result<Response, Status> {
        let path = head.uri.path();
        self.authorize_path(identity, &head.method, path).await?;
        let name = path[USERS_PATH.len()..].trim_start_matches('/');
        match (&head.method, name) {
            (&Method::GET, "") => answer(&self.users().await?),
            (&Method::POST, "") => answer(&self.add_user(parse(&body)?).await?),
            (&Method::DELETE, name) if !name.is_empty() => answer(&self.revoke(name).await?),
            _ => Err(Status::method_not_allowed()),
        }
    }

    async fn users(&self) -> Result<Users, Status> {
        self.fresh().await?;
        let state = self.inner.store.state();
        let users = state.range(PREFIX.as_bytes()).map(|(key, entry)| {
            let name = String::from_utf8_lossy(&key[PREFIX.len()..]).into_owned();
            Ok(shown(&name, read(&entry.value)?))
        });
        Ok(Users {
            users: users.collect::<Result<_, Status>>()?,
        })
    }

    async fn add_user(&self, new: NewUser) -> Result<Certificate, Status> {
        check(&new).map_err(Status::bad_request)?;
        let record = Record {
            id: uuid::Uuid::new_v4().to_string(),
            groups: new.groups,
            created: crate::handlers::now().to_string(),
        };
        let profile = Profile::User {
            name: new.name.clone(),
            unit: format!("{UNIT}{}", record.id),
        };
        let certificate = self.inner.config.ca.sign(&new.csr, &profile);
        let certificate = certificate.map_err(|e| Status::bad_request(format!("csr: {e}")))?;
        let value = serde_json::to_vec(&record).map_err(|e| Status::internal(e.to_string()))?;
        let key = key(&new.name);
        let command = Command {
            when: vec![When::Revision {
                key: key.clone(),
                is: 0,
            }],
            ops: vec![Op::Put {
                key,
                value: value.into(),
                lease: None,
            }],
        };
        match self.inner.store.write(command).await.map_err(unavailable)? {
            Written::Applied { .. } => {
                info!(user = new.name, "a user is made");
                Ok(Certificate { certificate })
            }
            Written::Refused { .. } => Err(Status::already_exists(subject(), &new.name)),
        }
    }

    /// Takes a user back: the certificate is worth nothing on any server that has seen the write.
    async fn revoke(&self, name: &str) -> Result<User, Status> {
        let key = key(name);
        loop {
            self.fresh().await?;
            let entry = self.local(&key);
            let entry = entry.ok_or_else(|| Status::not_found(subject(), name))?;
            let command = Command {
                when: vec![When::Revision {
                    key: key.clone(),
                    is: entry.modified,
                }],
                ops: vec![Op::Delete { key: key.clone() }],
            };
            let written = self.inner.store.write(command).await.map_err(unavailable)?;
            if let Written::Applied { .. } = written {
                info!(user = name, "a user is revoked");
                return Ok(shown(name, read(&entry.value)?));
            }
        }
    }

    fn record(&self, user: &CertifiedUser) -> Option<Record> {
        let record = read(&self.local(&key(&user.name))?.value).ok()?;
        (record.id == user.id).then_some(record)
    }

    /// Who a user's certificate speaks for: nobody, if the cluster does not know the user any more.
    ///
    /// # Errors
    /// It cannot be known now.
    pub(crate) async fn certified(&self, user: &CertifiedUser) -> Result<Identity, Status> {
        if self.record(user).is_none() {
            // Made a moment ago through another server, or not there.
            self.fresh().await?;
        }
        Ok(match self.record(user) {
            Some(record) => Identity::new(&user.name, record.groups),
            None => Identity::anonymous(),
        })
    }

    /// Waits until this server sees that the user is revoked.
    pub(crate) async fn revoked(&self, user: &CertifiedUser) {
        let mut changes = self.inner.cache.users.subscribe();
        while self.record(user).is_some() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

fn read(value: &[u8]) -> Result<Record, Status> {
    serde_json::from_slice(value)
        .map_err(|e| Status::internal(format!("a user cannot be read: {e}")))
}

fn shown(name: &str, record: Record) -> User {
    User {
        name: name.to_owned(),
        groups: record.groups,
        created: record.created,
    }
}

/// Whether the name and the groups can be a user's. What begins with `system:` is the cluster's own.
fn check(user: &NewUser) -> Result<(), String> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-@".contains(&b);
    let name = &user.name;
    // A common name has at most 64 characters.
    if name.is_empty() || name.len() > 63 || !name.bytes().all(known) {
        return Err(format!(
            "user name {name:?}: 1 to 63 letters, digits, '.', '_', '-' or '@' are needed"
        ));
    }
    if user.groups.len() > MOST_GROUPS {
        return Err(format!("a user can be in {MOST_GROUPS} groups at most"));
    }
    for group in &user.groups {
        if group.is_empty() || group.len() > 253 || group.contains(char::is_control) {
            return Err(format!(
                "group {group:?}: 1 to 253 printable characters are needed"
            ));
        }
        if group.starts_with("system:") && group != MASTERS {
            return Err(format!(
                "group {group:?}: of the cluster's own groups only {MASTERS} can be given"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_groups() {
        let user = |name: &str, groups: &[&str]| NewUser {
            name: name.to_owned(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            csr: String::new(),
        };
        let long = "x".repeat(64);
        for (name, groups) in [
            ("jane", &[][..]),
            ("jane.doe@example.com", &["dev", "team a", MASTERS]),
            (&long[1..], &[]),
        ] {
            assert_eq!(check(&user(name, groups)), Ok(()), "{name}");
        }
        for (name, groups) in [
            ("", &[][..]),
            (&long, &[]),
            ("system:admin", &[]),
            ("a/b", &[]),
            ("a b", &[]),
            ("jane", &[""]),
            ("jane", &["a\nb"]),
            ("jane", &["system:nodes"]),
            ("jane", &["system:carob:servers"]),
            ("jane", &["x"; MOST_GROUPS + 1]),
        ] {
            assert!(check(&user(name, groups)).is_err(), "{name} {groups:?}");
        }
    }

    #[test]
    fn paths() {
        assert!(serves("/carob/v1/users") && serves("/carob/v1/users/jane"));
        assert!(!serves("/carob/v1/usersx") && !serves("/carob/v1/members"));
    }
}
