//! `wasi:sockets/ip-name-lookup`: what `/etc/hosts` of the pod holds. Other names are not yet
//! resolved.

use std::net::{IpAddr, Ipv4Addr};

use async_trait::async_trait;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError, subscribe};

use super::View;
use super::bindings::ip_name_lookup::{Host, HostResolveAddressStream};

/// The addresses that a name has, not yet handed out.
pub struct Addresses(std::vec::IntoIter<Ipv4Addr>);

#[async_trait]
impl Pollable for Addresses {
    /// They are known at once.
    async fn ready(&mut self) {}
}

impl View<'_> {
    fn resolve(&self, name: &str) -> Result<Vec<Ipv4Addr>, SocketError> {
        if self.sockets.net.is_none() {
            return Err(ErrorCode::AccessDenied.into());
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() || name.len() > 253 || name.contains(char::is_whitespace) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        match name.parse() {
            Ok(IpAddr::V4(address)) => return Ok(vec![address]),
            // Pods have none.
            Ok(IpAddr::V6(_)) => return Err(ErrorCode::NameUnresolvable.into()),
            Err(_) => {}
        }
        let lower = name.to_ascii_lowercase();
        if lower == "localhost" || lower.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST]);
        }
        let hosts = self.sockets.hosts.iter();
        let found = hosts.filter(|(host, _)| host.eq_ignore_ascii_case(name));
        let found: Vec<_> = found.map(|(_, address)| *address).collect();
        if found.is_empty() {
            return Err(ErrorCode::NameUnresolvable.into());
        }
        Ok(found)
    }
}

impl Host for View<'_> {
    fn resolve_addresses(
        &mut self,
        _network: Resource<Network>,
        name: String,
    ) -> Result<Resource<Addresses>, SocketError> {
        let addresses = Addresses(self.resolve(&name)?.into_iter());
        Ok(self.table.push(addresses)?)
    }
}

impl HostResolveAddressStream for View<'_> {
    fn resolve_next_address(
        &mut self,
        this: Resource<Addresses>,
    ) -> Result<Option<IpAddress>, SocketError> {
        let next = self.table.get_mut(&this)?.0.next();
        Ok(next.map(|address| IpAddr::V4(address).into()))
    }

    fn subscribe(&mut self, this: Resource<Addresses>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<Addresses>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
