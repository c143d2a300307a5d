//! How machines become part of the cluster: certificates for a token, raft membership for servers.

mod agent;

use std::net::IpAddr;

use api::status::Subject;
use api::{Resource, Status};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
pub(crate) use client::join::{JOIN_PATH, MEMBERS_PATH};
use client::join::{Member, Members, NewMember, Request, Response, Role};
use http::request::Parts;
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use store::{Command, Op, When, Written};
use tracing::info;

use crate::ApiServer;
use crate::body;
use crate::ca::{Profile, SERVER_NAMES, SERVER_USER};
use crate::identity::Identity;
use crate::registry::unavailable;

/// Where agents and servers learn every server's URL.
pub(crate) const SERVERS_PATH: &str = "/carob/v1/servers";
/// The store's key of the last raft id that was given out. Ids are never given twice: a member that
/// comes back with an empty disk must not be taken for the one that voted.
const LAST_MEMBER: &[u8] = b"/carob/members/last";
const TOKEN_TYPE: &str = "bootstrap.kubernetes.io/token";

/// Whether a path is one of these.
pub(crate) fn serves(path: &str) -> bool {
    [JOIN_PATH, MEMBERS_PATH, SERVERS_PATH].contains(&path)
}

impl ApiServer {
    pub(crate) async fn join_request(
        &self,
        identity: &Identity,
        head: &Parts,
        body: Bytes,
    ) -> Result<body::Response, Status> {
        let path = head.uri.path();
        match (&head.method, path) {
            (&Method::POST, JOIN_PATH) => answer(&self.join(head, &body).await?),
            (&Method::GET, SERVERS_PATH) if !identity.is_anonymous() => {
                answer(&json!({"servers": self.servers()}))
            }
            (&Method::GET, MEMBERS_PATH) if identity.is_superuser() => answer(&Members {
                members: self.members(),
                leader: self.leader(),
            }),
            (&Method::POST, MEMBERS_PATH) if identity.is_superuser() => {
                let member: NewMember = parse(&body)?;
                let own = format!("{SERVER_USER}{}", member.name);
                if identity.is_server() && identity.user != own {
                    return Err(Status::forbidden(
                        Subject {
                            group: "",
                            name: "members",
                        },
                        &member.name,
                        &format!("the certificate is that of {:?}", identity.user),
                    ));
                }
                answer(&self.add_member(member).await?)
            }
            (&Method::GET | &Method::POST, _) => {
                Err(crate::respond::forbidden_path(identity, &head.method, path))
            }
            _ => Err(Status::method_not_allowed()),
        }
    }

    /// Signs a certificate for who shows a valid token.
    async fn join(&self, head: &Parts, body: &[u8]) -> Result<Response, Status> {
        let bearer = head
            .headers
            .get(http::header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.strip_prefix("Bearer "))
            .ok_or_else(|| Status::unauthorized("a join token is needed"))?;
        let role = self.token_role(bearer).await?;
        same_version(head)?;
        let request: Request = parse(body)?;
        if request.role == Role::Server && role != Role::Server {
            return Err(Status {
                message: "this token is for agents; a server needs one made with --role server"
                    .to_owned(),
                ..Status::forbidden(tokens(), "", "")
            });
        }
        check_name(&request.node_name)?;
        if role == Role::Agent {
            self.judge_agent(&request).await?;
        }
        let certificate = self
            .inner
            .config
            .ca
            .sign(&request.csr, &profile(&request))
            .map_err(|e| Status::bad_request(format!("csr: {e}")))?;
        info!(node = request.node_name, role = %request.role, "a machine joins");
        let mut response = Response {
            ca: self.ca_certificate().to_owned(),
            certificate,
            servers: self.servers(),
            ca_key: None,
            member_id: None,
            members: Vec::new(),
        };
        if request.role == Role::Server {
            response.ca_key = Some(self.inner.config.ca.key());
            response.member_id = Some(self.new_member_id().await?);
            response.members = self.members();
        }
        Ok(response)
    }

    /// What a bearer token `<id>.<secret>` is for.
    async fn token_role(&self, bearer: &str) -> Result<Role, Status> {
        let unknown = || Status::unauthorized("the join token is unknown or has expired");
        let (id, secret) = bearer.split_once('.').ok_or_else(unknown)?;
        if !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(unknown());
        }
        let key =
            Resource::of::<Secret>().key(Some("kube-system"), &format!("bootstrap-token-{id}"));
        let object = self.read(key.as_bytes()).await?.ok_or_else(unknown)?;
        let object = object
            .value()
            .map_err(|e| Status::internal(e.to_string()))?;
        let data = |name: &str| {
            let text = object.get("data")?.get(name)?.as_str()?;
            String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()
        };
        let expired = match data("expiration") {
            None => false,
            Some(time) => time
                .parse::<jiff::Timestamp>()
                .map_or(true, |end| end <= jiff::Timestamp::now()),
        };
        let right = data("token-secret").is_some_and(|s| same(s.as_bytes(), secret.as_bytes()));
        if object["type"] != TOKEN_TYPE || !right || expired {
            return Err(unknown());
        }
        match data("usage-carob-role").as_deref() {
            Some("server") => Ok(Role::Server),
            Some("agent") => Ok(Role::Agent),
            _ => Err(unknown()),
        }
    }

    fn members(&self) -> Vec<Member> {
        let members = self.inner.store.members();
        members
            .into_iter()
            .map(|m| Member {
                id: m.id,
                name: m.name,
                address: m.address,
                voter: m.voter,
            })
            .collect()
    }

    fn leader(&self) -> Option<u64> {
        self.inner.store.leadership().borrow().leader
    }

    /// A raft id that was never given before. A machine that asks twice gets another: `unavailable` may
    /// say of this write, too, that it can be repeated.
    async fn new_member_id(&self) -> Result<u64, Status> {
        let key = Bytes::from_static(LAST_MEMBER);
        loop {
            self.fresh().await?;
            let entry = self.local(&key);
            let given = entry
                .as_ref()
                .and_then(|e| std::str::from_utf8(&e.value).ok()?.parse::<u64>().ok())
                .unwrap_or(0);
            let known = self.inner.store.members().iter().map(|m| m.id).max();
            let next = given.max(known.unwrap_or(0)) + 1;
            let command = Command {
                when: vec![When::Revision {
                    key: key.clone(),
                    is: entry.map_or(0, |e| e.modified),
                }],
                ops: vec![Op::Put {
                    key: key.clone(),
                    value: next.to_string().into(),
                    lease: None,
                }],
            };
            let written = self.inner.store.write(command).await.map_err(unavailable)?;
            if let Written::Applied { .. } = written {
                return Ok(next);
            }
        }
    }

    /// Takes a server's store into the raft group, in place of an earlier one of its name.
    async fn add_member(&self, new: NewMember) -> Result<Members, Status> {
        let members = self.inner.store.members();
        for old in &members {
            if old.name == new.name && old.id != new.id {
                info!(name = new.name, id = old.id, "a member is replaced");
                self.inner
                    .store
                    .remove_member(old.id)
                    .await
                    .map_err(membership)?;
            }
        }
        if !members.iter().any(|m| m.id == new.id && m.voter) {
            let member = store::Member {
                id: new.id,
                name: new.name,
                address: new.address,
                voter: true,
            };
            self.inner
                .store
                .add_member(member)
                .await
                .map_err(membership)?;
        }
        Ok(Members {
            members: self.members(),
            leader: self.leader(),
        })
    }
}

fn tokens() -> Subject<'static> {
    Subject {
        group: "",
        name: "tokens",
    }
}

/// Adding or removing a member that is added or removed already is harmless: so is asking again.
fn membership(error: store::Error) -> Status {
    match error {
        store::Error::Membership(why) => Status::conflict(
            Subject {
                group: "",
                name: "members",
            },
            "",
            &why,
        ),
        other => unavailable(other),
    }
}

/// What the certificate is for. Loopback and unspecified addresses are taken as they come: on one
/// machine nodes live on loopback addresses.
fn profile(request: &Request) -> Profile {
    let name = request.node_name.clone();
    let addresses: Vec<IpAddr> = request
        .addresses
        .iter()
        .copied()
        .filter(|a| !a.is_unspecified() && !a.is_multicast())
        .collect();
    match request.role {
        Role::Server => Profile::Server { name, addresses },
        Role::Agent => Profile::Node { name, addresses },
    }
}

/// The joining program names its version in its user agent, `NAME/VERSION`. Another one is refused
/// before it writes anything in a format of its own.
fn same_version(head: &Parts) -> Result<(), Status> {
    let agent = head
        .headers
        .get(http::header::USER_AGENT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let theirs = agent
        .split(' ')
        .next()
        .and_then(|product| product.split_once('/'))
        .map(|(_, version)| version);
    let ours = env!("CARGO_PKG_VERSION");
    match theirs {
        Some(theirs) if theirs != ours => Err(Status::bad_request(format!(
            "this cluster runs carob {ours}, the joining machine carob {theirs}: install carob {ours} there"
        ))),
        _ => Ok(()),
    }
}

/// Node names become parts of certificates and objects: only those that an object may have.
fn check_name(name: &str) -> Result<(), Status> {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |part: &str| {
        let bytes = part.as_bytes();
        matches!((bytes.first(), bytes.last()), (Some(a), Some(z)) if letter(*a) && letter(*z))
            && bytes.iter().all(|b| letter(*b) || *b == b'-')
    };
    if SERVER_NAMES.contains(&name) {
        return Err(Status::bad_request(format!(
            "node_name {name:?}: servers are reached by this name"
        )));
    }
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "node_name {name:?}: a node's name consists of lower case letters, digits, '-' and '.'"
    )))
}

/// Compares without telling by its time where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

/// A JSON body.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Status> {
    serde_json::from_slice(body).map_err(|e| Status::bad_request(e.to_string()))
}

/// A JSON answer.
pub(crate) fn answer(value: &impl Serialize) -> Result<body::Response, Status> {
    let json = serde_json::to_vec(value).map_err(|e| Status::internal(e.to_string()))?;
    Ok(body::answer(
        StatusCode::OK,
        "application/json",
        client::full(json),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["n1", "carob-1", "a.b"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "A",
            "-a",
            "a-",
            "a..b",
            "a/b",
            "system:node",
            "kubernetes",
            "localhost",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_versions_are_refused() {
        let with = |agent: &str| {
            let request = http::Request::builder()
                .header("user-agent", agent)
                .body(());
            same_version(&request.unwrap().into_parts().0)
        };
        assert!(with(concat!("carob/", env!("CARGO_PKG_VERSION"))).is_ok());
        let refused = with("carob/0.0.1").unwrap_err();
        assert!(
            refused.message.contains("joining machine carob 0.0.1"),
            "{refused}"
        );
    }
}
