//! `wasi:sockets/ip-name-lookup`, by the pod's own names, the cluster's, and the host's resolver.

use std::net::{IpAddr, Ipv4Addr};

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use network::ResolveError;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError, subscribe};

use super::View;
use super::bindings::ip_name_lookup::{Host, HostResolveAddressStream};

/// The longest name that can be asked for, in characters.
const LONGEST: usize = 253;

/// The addresses that a name has: still asked for, or not yet all handed out.
pub enum Addresses {
    Asked(BoxFuture<'static, Found>),
    Known(Result<std::vec::IntoIter<Ipv4Addr>, ErrorCode>),
}

type Found = Result<Vec<Ipv4Addr>, ResolveError>;

impl Addresses {
    fn new(mut asked: BoxFuture<'static, Found>) -> Self {
        // Most are known here, at once.
        match (&mut asked).now_or_never() {
            Some(found) => Self::known(found),
            None => Self::Asked(asked),
        }
    }

    fn known(found: Found) -> Self {
        Self::Known(found.map(Vec::into_iter).map_err(|error| match error {
            ResolveError::Unknown => ErrorCode::NameUnresolvable,
            ResolveError::Unanswered => ErrorCode::TemporaryResolverFailure,
        }))
    }
}

#[async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {
        if let Self::Asked(asked) = self {
            let found = asked.await;
            *self = Self::known(found);
        }
    }
}

impl View<'_> {
    fn resolve(&self, name: String) -> Result<Addresses, ErrorCode> {
        let net = self.sockets.net.clone().ok_or(ErrorCode::AccessDenied)?;
        let bare = name.strip_suffix('.').unwrap_or(&name);
        if bare.is_empty() || bare.len() > LONGEST || bare.contains(char::is_whitespace) {
            return Err(ErrorCode::InvalidArgument);
        }
        let names = self.sockets.names.clone();
        let asked = async move { net.resolve(&names, &name).await };
        Ok(Addresses::new(asked.boxed()))
    }
}

impl Host for View<'_> {
    fn resolve_addresses(
        &mut self,
        _network: Resource<Network>,
        name: String,
    ) -> Result<Resource<Addresses>, SocketError> {
        let addresses = self.resolve(name)?;
        Ok(self.table.push(addresses)?)
    }
}

impl HostResolveAddressStream for View<'_> {
    fn resolve_next_address(
        &mut self,
        this: Resource<Addresses>,
    ) -> Result<Option<IpAddress>, SocketError> {
        match self.table.get_mut(&this)? {
            Addresses::Asked(_) => Err(ErrorCode::WouldBlock.into()),
            Addresses::Known(Ok(addresses)) => {
                let next = addresses.next();
                Ok(next.map(|address| IpAddr::V4(address).into()))
            }
            Addresses::Known(Err(error)) => Err((*error).into()),
        }
    }

    fn subscribe(&mut self, this: Resource<Addresses>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<Addresses>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
