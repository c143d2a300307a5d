//! What names mean inside a pod: its `/etc/hosts`. Other names are not yet resolved.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wasm) enum ResolveError {
    /// It is no name at all.
    Invalid,
    /// Nobody knows it.
    Unknown,
}

/// Resolves names for one pod. Clones are handles to the same one.
#[derive(Clone)]
pub(in crate::wasm) struct Resolver {
    hosts: Arc<[(String, Ipv4Addr)]>,
}

impl Resolver {
    /// A resolver that knows these names.
    pub(in crate::wasm) fn new(hosts: Vec<(String, Ipv4Addr)>) -> Self {
        let hosts = hosts.into();
        Self { hosts }
    }

    /// The addresses of a name, the best first; those of an address are itself.
    ///
    /// All that guests resolve comes through here, whatever they do with it.
    pub(in crate::wasm) async fn resolve(&self, name: &str) -> Result<Vec<Ipv4Addr>, ResolveError> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() || name.len() > 253 || name.contains(char::is_whitespace) {
            return Err(ResolveError::Invalid);
        }
        match name.parse() {
            Ok(IpAddr::V4(address)) => return Ok(vec![address]),
            // Pods have none.
            Ok(IpAddr::V6(_)) => return Err(ResolveError::Unknown),
            Err(_) => {}
        }
        let lower = name.to_ascii_lowercase();
        if lower == "localhost" || lower.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST]);
        }
        let hosts = self.hosts.iter();
        let found = hosts.filter(|(host, _)| host.eq_ignore_ascii_case(name));
        let found: Vec<_> = found.map(|(_, address)| *address).collect();
        match found.is_empty() {
            true => Err(ResolveError::Unknown),
            false => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_and_what_they_mean() {
        let web = Ipv4Addr::new(10, 0, 0, 7);
        let hosts = vec![("web".to_owned(), web), ("other".to_owned(), web)];
        let resolver = Resolver::new(hosts);
        let long = "a".repeat(254);
        for (name, means) in [
            ("web", Ok(vec![web])),
            ("WEB.", Ok(vec![web])),
            ("10.0.0.9", Ok(vec![Ipv4Addr::new(10, 0, 0, 9)])),
            ("localhost", Ok(vec![Ipv4Addr::LOCALHOST])),
            ("a.localhost", Ok(vec![Ipv4Addr::LOCALHOST])),
            ("::1", Err(ResolveError::Unknown)),
            ("nobody", Err(ResolveError::Unknown)),
            ("", Err(ResolveError::Invalid)),
            ("a b", Err(ResolveError::Invalid)),
            (long.as_str(), Err(ResolveError::Invalid)),
        ] {
            assert_eq!(resolver.resolve(name).await, means, "{name:?}");
        }
    }
}
