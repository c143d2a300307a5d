//! What an agent's token does not give: a server's names and addresses, and the place of a node that lives.

use std::net::IpAddr;

use api::status::Subject;
use api::{Resource, Status};
use client::join::Request;
use http::Uri;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use serde_json::Value;

use crate::ApiServer;
use crate::authz::NODE_LEASES;

impl ApiServer {
    /// Refuses an agent that would pass for a server or for a node that is there already. A token is
    /// shared by many machines: none of them may take another's place.
    pub(super) async fn judge_agent(&self, request: &Request) -> Result<(), Status> {
        let members = self.inner.store.members();
        let refuse = |why: String| Err(refusal(&request.node_name, &why));
        if members.iter().any(|m| m.name == request.node_name) {
            return refuse("this is the name of a server".to_owned());
        }
        let urls = self.servers();
        let servers: Vec<IpAddr> = urls
            .iter()
            .filter_map(|url| host(url))
            .chain(members.iter().map(|m| m.address.ip()))
            .collect();
        if let Some(address) = request.addresses.iter().find(|a| servers.contains(a)) {
            return refuse(format!("{address} is the address of a server"));
        }
        if self.is_alive(&request.node_name).await? {
            return refuse(
                "a node of this name is alive: stop it and wait until it is NotReady, or delete the Node"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Whether there is a node of this name that has renewed its Lease in time.
    async fn is_alive(&self, name: &str) -> Result<bool, Status> {
        let node = Resource::of::<Node>().key(None, name);
        if self.read(node.as_bytes()).await?.is_none() {
            return Ok(false);
        }
        let lease = Resource::of::<Lease>().key(Some(NODE_LEASES), name);
        let lease = self.local(lease.as_bytes());
        let lease = lease.and_then(|entry| serde_json::from_slice(&entry.value).ok());
        Ok(lease.is_some_and(|lease| is_fresh(&lease, Timestamp::now())))
    }
}

fn refusal(name: &str, why: &str) -> Status {
    let subject = Subject {
        group: "",
        name: "nodes",
    };
    Status::forbidden(subject, name, why)
}

/// The address in a server's URL, if it is no DNS name.
fn host(url: &str) -> Option<IpAddr> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?;
    host.trim_matches(['[', ']']).parse().ok()
}

/// Whether a Lease was renewed less than its duration ago.
fn is_fresh(lease: &Value, now: Timestamp) -> bool {
    let spec = &lease["spec"];
    let renewed = spec["renewTime"].as_str().and_then(|t| t.parse().ok());
    let seconds = spec["leaseDurationSeconds"].as_i64().unwrap_or(0);
    renewed.is_some_and(|renewed: Timestamp| {
        now.duration_since(renewed) < SignedDuration::from_secs(seconds)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_lease_is_fresh_for_its_duration() {
        let now: Timestamp = "2025-01-01T00:00:40Z".parse().unwrap();
        for (renewed, seconds, fresh) in [
            (json!("2025-01-01T00:00:01.000000Z"), json!(40), true),
            (json!("2025-01-01T00:00:00.000000Z"), json!(40), false),
            (json!("2025-01-01T00:00:30.000000Z"), Value::Null, false),
            (Value::Null, json!(40), false),
            (json!("soon"), json!(40), false),
        ] {
            let lease = json!({"spec": {"renewTime": renewed, "leaseDurationSeconds": seconds}});
            assert_eq!(is_fresh(&lease, now), fresh, "{lease}");
        }
    }

    #[test]
    fn hosts_of_urls() {
        assert_eq!(host("https://127.0.0.1:6443"), Some([127, 0, 0, 1].into()));
        assert_eq!(host("https://[::1]:6443"), Some("::1".parse().unwrap()));
        assert_eq!(host("https://server:6443"), None);
    }
}
