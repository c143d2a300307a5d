//! A server's certificates: found, made with a new cluster, or asked for with a token.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use apiserver::ca::{Ca, Issued, Profile};
use client::join::{Request, Role};
use client::tls::{self, Identity};
use serde::{Deserialize, Serialize};

use super::{Args, Node, store_dir};
use crate::local::layout::{make_private_dir, read_json, write_json, write_private};
use crate::version::VERSION;

/// How long the cluster may take to answer one that joins: it may be starting itself.
const JOIN_WITHIN: Duration = Duration::from_secs(60);
/// The pause between two attempts to reach it.
const JOIN_PAUSE: Duration = Duration::from_millis(100);

/// This server's place in the cluster.
pub(super) struct Membership {
    /// Its id among the store's members.
    pub(super) id: u64,
    /// Its certificate.
    pub(super) identity: Identity,
    /// The cluster's CA, to sign for those who join here.
    pub(super) ca: Arc<Ca>,
    /// What is left to do before it is a member.
    pub(super) pending: Option<Pending>,
}

/// What a server must still do to become a member of its cluster: begin it or be taken in. Kept on
/// disk until it is done, for a server that was stopped in between and then began a cluster of its
/// own would share a CA and an address with the one that it was to join.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Pending {
    /// It begins a new cluster.
    Founding,
    /// These servers take it in.
    Joining(Vec<String>),
}

/// `server/member.json`.
#[derive(Serialize, Deserialize)]
struct Member {
    id: u64,
    version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<Pending>,
}

impl Member {
    const FILE: &str = "member.json";

    fn write(node: &Node, id: u64, pending: Option<Pending>) -> Result<()> {
        let member = Member {
            id,
            version: VERSION.into(),
            pending,
        };
        write_json(&node.dir.join(Self::FILE), &member)
    }
}

/// Notes that the server is a member, and nothing is pending any more.
pub(super) fn settle(node: &Node, membership: &Membership) -> Result<()> {
    match membership.pending {
        Some(_) => Member::write(node, membership.id, None),
        None => Ok(()),
    }
}

/// Finds this server's certificates, or gets them.
pub(super) async fn obtain(args: &Args, node: &Node) -> Result<Membership> {
    let pki = node.dir.join("pki");
    make_private_dir(&pki)?;
    let member: Option<Member> = read_json(&node.dir.join(Member::FILE))?;
    if let Some(member) = &member {
        crate::version::check_data(&member.version, &node.dir)?;
    }
    let has_store = store_dir(&node.dir).exists();
    match (member, &args.join) {
        (Some(member), _) if has_store => load(&pki, member),
        (None, _) if has_store => bail!(
            "{} holds a store but not whose it is: member.json is missing",
            node.dir.display()
        ),
        // A server that lost its store must come as another member: the old one has promised its
        // peers to remember what it acknowledged.
        (_, Some(url)) => {
            let token = args.token.as_ref().with_context(|| {
                format!(
                    "--join {url} needs a --token, made there by `carob token create --role server`"
                )
            })?;
            join(url, token, node, &pki).await
        }
        (Some(Member { pending: None, .. }), None) => bail!(
            "this server was a member of a cluster and has lost its store: take it in anew with --join and --token, or remove {} to begin another cluster",
            node.dir.display()
        ),
        (_, None) => found(node, &pki),
    }
}

/// A new cluster's first server.
fn found(node: &Node, pki: &Path) -> Result<Membership> {
    let ca = match (
        fs::read_to_string(pki.join("ca.crt")),
        fs::read_to_string(pki.join("ca.key")),
    ) {
        (Ok(certificate), Ok(key)) => Ca::load(&certificate, &key)?,
        _ => Ca::create()?,
    };
    let server = ca.issue(&server_profile(node))?;
    let identity = keep(&ca, server, pki)?;
    let pending = Some(Pending::Founding);
    Member::write(node, 1, pending.clone())?;
    Ok(Membership {
        id: 1,
        identity,
        ca: Arc::new(ca),
        pending,
    })
}

/// Asks `url` for a certificate, and for the CA's key, since any server may be asked to sign.
async fn join(
    url: &str,
    token: &client::token::Token,
    node: &Node,
    pki: &Path,
) -> Result<Membership> {
    let name = format!("{}{}", apiserver::ca::SERVER_USER, node.name);
    let request = tls::request(&name, apiserver::ca::SERVERS, &[node.advertise])?;
    let ask = Request {
        role: Role::Server,
        node_name: node.name.clone(),
        addresses: vec![node.advertise],
        csr: request.csr_pem.clone(),
        raft_address: Some((node.advertise, node.ports.raft).into()),
    };
    let answer =
        crate::joining::ask(&[url.to_owned()], token, &ask, JOIN_WITHIN, JOIN_PAUSE).await?;
    let (Some(key), Some(id)) = (answer.ca_key, answer.member_id) else {
        bail!(
            "{url} gave no CA key: is this a token for servers (`carob token create --role server`)?"
        );
    };
    let ca = Ca::load(&answer.ca, &key).context("the cluster sent a CA that cannot be used")?;
    let identity = keep(
        &ca,
        Issued {
            certificate: answer.certificate,
            key: request.key_pem,
        },
        pki,
    )?;
    let servers = if answer.servers.is_empty() {
        vec![url.to_owned()]
    } else {
        answer.servers
    };
    let pending = Some(Pending::Joining(servers));
    Member::write(node, id, pending.clone())?;
    Ok(Membership {
        id,
        identity,
        ca: Arc::new(ca),
        pending,
    })
}

/// Writes everything below `pki`; the certificate last but one, for its presence says the rest.
fn keep(ca: &Ca, server: Issued, pki: &Path) -> Result<Identity> {
    let admin = ca.issue(&Profile::Admin)?;
    let files: [(&str, &str); 6] = [
        ("ca.key", &ca.key()),
        ("ca.crt", ca.certificate()),
        ("admin.key", &admin.key),
        ("admin.crt", &admin.certificate),
        ("server.key", &server.key),
        ("server.crt", &server.certificate),
    ];
    for (name, contents) in files {
        write_private(&pki.join(name), contents.as_bytes())?;
    }
    Ok(Identity {
        cert_pem: server.certificate,
        key_pem: server.key,
        ca_pem: ca.certificate().to_owned(),
    })
}

fn load(pki: &Path, member: Member) -> Result<Membership> {
    let read = |name: &str| {
        fs::read_to_string(pki.join(name))
            .with_context(|| format!("cannot read {}", pki.join(name).display()))
    };
    let ca = Ca::load(&read("ca.crt")?, &read("ca.key")?)?;
    let identity = Identity {
        cert_pem: read("server.crt")?,
        key_pem: read("server.key")?,
        ca_pem: read("ca.crt")?,
    };
    Ok(Membership {
        id: member.id,
        identity,
        ca: Arc::new(ca),
        pending: member.pending,
    })
}

fn server_profile(node: &Node) -> Profile {
    Profile::Server {
        name: node.name.clone(),
        addresses: vec![node.advertise],
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use clap::Parser;

    use super::*;
    use crate::local::layout::ServerPorts;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[tokio::test]
    async fn a_member_never_begins_a_cluster_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let node = Node {
            name: "n".into(),
            advertise: Ipv4Addr::LOCALHOST.into(),
            ports: ServerPorts { api: 1, raft: 2 },
            dir: dir.path().to_owned(),
        };
        let args = Line::parse_from(["server", "--data-dir", "/d"]).args;
        let first = obtain(&args, &node).await.unwrap();
        assert!(matches!(first.pending, Some(Pending::Founding)));
        // Stopped before the store was begun, and after.
        for _ in 0..2 {
            let again = obtain(&args, &node).await.unwrap();
            assert!(matches!(again.pending, Some(Pending::Founding)));
            fs::create_dir_all(store_dir(&node.dir)).unwrap();
        }
        settle(&node, &first).unwrap();
        assert!(obtain(&args, &node).await.unwrap().pending.is_none());
        fs::remove_dir(store_dir(&node.dir)).unwrap();
        let refused = obtain(&args, &node).await.err().unwrap().to_string();
        assert!(refused.contains("--join"), "{refused}");
        // One that joins goes on with that.
        let joining = Some(Pending::Joining(vec!["https://10.0.0.1:1".into()]));
        Member::write(&node, 4, joining).unwrap();
        fs::create_dir_all(store_dir(&node.dir)).unwrap();
        let joining = obtain(&args, &node).await.unwrap();
        assert_eq!(joining.id, 4);
        assert!(matches!(joining.pending, Some(Pending::Joining(_))));
    }
}
