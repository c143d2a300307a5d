//! What names mean inside a pod.

use std::net::IpAddr;
use std::sync::Arc;

use network::PodNet;
use network::names::search::Search;

/// The longest name that can be asked for, in characters.
const LONGEST: usize = 253;

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wasm) enum ResolveError {
    /// There is no network to ask in.
    NoNetwork,
    /// It is no name at all.
    Invalid,
    /// Nobody knows it.
    Unknown,
    /// Nobody who might know it can be asked.
    Unanswered,
}

/// Resolves names for one pod. Clones are handles to the same one.
#[derive(Clone)]
pub(in crate::wasm) struct Resolver {
    net: Option<PodNet>,
    names: Arc<Search>,
}

impl Resolver {
    /// A resolver that asks in this network, as `names` says.
    pub(in crate::wasm) fn new(net: Option<PodNet>, names: Arc<Search>) -> Self {
        Self { net, names }
    }

    /// The addresses of a name, the best first; those of an address are itself.
    ///
    /// All that guests resolve comes through here, whatever they do with it.
    pub(in crate::wasm) async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let net = self.net.as_ref().ok_or(ResolveError::NoNetwork)?;
        let bare = name.strip_suffix('.').unwrap_or(name);
        if bare.is_empty() || bare.len() > LONGEST || bare.contains(char::is_whitespace) {
            return Err(ResolveError::Invalid);
        }
        let found = net.resolve(&self.names, name).await;
        found.map_err(|error| match error {
            network::ResolveError::Unknown => ResolveError::Unknown,
            network::ResolveError::Unanswered => ResolveError::Unanswered,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use network::Network;
    use network::names::search::Hosts;

    use super::*;

    #[tokio::test]
    async fn names_and_what_they_mean() {
        let [web, other] = [7, 9].map(|last| IpAddr::from([10, 0, 0, last]));
        let own: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let mut hosts = Hosts::new();
        hosts.add("web", web);
        let names = Arc::new(Search::none(hosts));
        let network = Network::new("10.128.0.0/24".parse().expect("a range"));
        let net = network.join("pod").expect("an address");
        let resolver = Resolver::new(Some(net), names.clone());
        let long = "a".repeat(254);
        for (name, means) in [
            ("web", Ok(vec![web])),
            ("WEB.", Ok(vec![web])),
            ("10.0.0.9", Ok(vec![other])),
            ("localhost", Ok(own.clone())),
            ("a.localhost", Ok(own.clone())),
            ("ip6-localhost", Ok(own[1..].to_vec())),
            ("::1", Ok(own[1..].to_vec())),
            (
                "2001:DB8::1",
                Ok(vec!["2001:db8::1".parse().expect("an address")]),
            ),
            ("nobody.cluster.local", Err(ResolveError::Unknown)),
            ("", Err(ResolveError::Invalid)),
            ("a b", Err(ResolveError::Invalid)),
            (long.as_str(), Err(ResolveError::Invalid)),
        ] {
            assert_eq!(resolver.resolve(name).await, means, "{name:?}");
        }
        let alone = Resolver::new(None, names);
        assert_eq!(alone.resolve("web").await, Err(ResolveError::NoNetwork));
    }
}
