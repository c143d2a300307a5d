//! `wasi:sockets/ip-name-lookup`, by the pod's [resolver](super::resolve).

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError, subscribe};

use super::View;
use super::bindings::ip_name_lookup::{Host, HostResolveAddressStream};
use super::resolve::ResolveError;

type Found = Result<Vec<IpAddr>, ResolveError>;

/// The addresses that a name has, not yet handed out.
pub enum Addresses {
    /// They are being looked up.
    Pending(Pin<Box<dyn Future<Output = Found> + Send>>),
    /// What was found.
    Known(std::vec::IntoIter<IpAddr>),
    /// Why nothing was.
    Failed(ErrorCode),
}

fn code(error: ResolveError) -> ErrorCode {
    match error {
        ResolveError::NoNetwork => ErrorCode::AccessDenied,
        ResolveError::Invalid => ErrorCode::InvalidArgument,
        ResolveError::Unknown => ErrorCode::NameUnresolvable,
        ResolveError::Unanswered => ErrorCode::TemporaryResolverFailure,
    }
}

impl Addresses {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Pending(lookup) = self {
            *self = match lookup.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(found)) => Self::Known(found.into_iter()),
                Poll::Ready(Err(error)) => Self::Failed(code(error)),
            };
        }
        Poll::Ready(())
    }

    /// Goes as far as it can without waiting.
    fn advance(&mut self) {
        let _ = self.poll(&mut Context::from_waker(Waker::noop()));
    }
}

#[async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }
}

impl Host for View<'_> {
    fn resolve_addresses(
        &mut self,
        _network: Resource<Network>,
        name: String,
    ) -> Result<Resource<Addresses>, SocketError> {
        let resolver = self.sockets.resolver.clone();
        let lookup = Box::pin(async move { resolver.resolve(&name).await });
        let mut addresses = Addresses::Pending(lookup);
        addresses.advance();
        match addresses {
            Addresses::Failed(code) => Err(code.into()),
            addresses => Ok(self.table.push(addresses)?),
        }
    }
}

impl HostResolveAddressStream for View<'_> {
    fn resolve_next_address(
        &mut self,
        this: Resource<Addresses>,
    ) -> Result<Option<IpAddress>, SocketError> {
        let addresses = self.table.get_mut(&this)?;
        addresses.advance();
        match addresses {
            Addresses::Pending(_) => Err(ErrorCode::WouldBlock.into()),
            Addresses::Failed(code) => Err((*code).into()),
            Addresses::Known(found) => Ok(found.next().map(IpAddress::from)),
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
