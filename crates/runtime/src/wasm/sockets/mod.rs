//! `wasi:sockets` 0.2 on the pod's virtual network.
//!
//! wasmtime-wasi's sockets are the operating system's and are never linked; its types, error codes
//! and address conversions are used, and its `instance-network`, which opens nothing. Without a
//! network every socket is refused as access-denied.
//!
//! IPv6 sockets have a port space of their own and take no IPv4 traffic, as WASI has it: IPv4-mapped
//! addresses are invalid arguments. Pods have IPv4 addresses, so that an IPv6 socket reaches the
//! pod's own `::1` and what is outside. A flow's label and a scope are left out of account: the
//! network has neither.

#[expect(
    unreachable_pub,
    reason = "the generated bindings re-export its resources"
)]
mod lookup;
mod resolve;
mod stream;
#[expect(
    unreachable_pub,
    reason = "the generated bindings re-export its resources"
)]
mod tcp;
#[expect(
    unreachable_pub,
    reason = "the generated bindings re-export its resources"
)]
mod udp;

use std::net::{IpAddr, SocketAddr};

use network::{Family, PodNet};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::SocketError;
use wasmtime_wasi::p2::bindings::sockets::network as stock;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};

use super::guest::Component;
pub(in crate::wasm) use resolve::{ResolveError, Resolver};

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "wasi:sockets/pod-sockets",
        imports: { default: trappable },
        require_store_data_send: true,
        trappable_error_type: {
            "wasi:sockets/network.error-code" => wasmtime_wasi::p2::SocketError,
        },
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
            "wasi:sockets/network": wasmtime_wasi::p2::bindings::sockets::network,
            "wasi:sockets/tcp.tcp-socket": super::tcp::TcpSocket,
            "wasi:sockets/udp.udp-socket": super::udp::UdpSocket,
            "wasi:sockets/udp.incoming-datagram-stream": super::udp::Incoming,
            "wasi:sockets/udp.outgoing-datagram-stream": super::udp::Outgoing,
            "wasi:sockets/ip-name-lookup.resolve-address-stream": super::lookup::Addresses,
        },
    });
    pub(super) use wasi::sockets::*;
}

/// A guest's place in the network.
#[derive(Clone)]
pub(in crate::wasm) struct Sockets {
    pub(in crate::wasm) net: Option<PodNet>,
    pub(in crate::wasm) resolver: Resolver,
}

/// What the socket interfaces work on.
pub(in crate::wasm) struct View<'a> {
    sockets: &'a Sockets,
    table: &'a mut ResourceTable,
}

struct HasSockets;

impl HasData for HasSockets {
    type Data<'a> = View<'a>;
}

fn view(component: &mut Component) -> View<'_> {
    View {
        sockets: &component.outgoing.sockets,
        table: &mut component.table,
    }
}

pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    use wasmtime_wasi::p2::bindings::sockets::instance_network;
    let options = stock::LinkOptions::default();
    stock::add_to_linker::<_, HasSockets>(linker, &options, view)?;
    instance_network::add_to_linker::<_, WasiSockets>(linker, Component::sockets)?;
    bindings::tcp::add_to_linker::<_, HasSockets>(linker, view)?;
    bindings::tcp_create_socket::add_to_linker::<_, HasSockets>(linker, view)?;
    bindings::udp::add_to_linker::<_, HasSockets>(linker, view)?;
    bindings::udp_create_socket::add_to_linker::<_, HasSockets>(linker, view)?;
    bindings::ip_name_lookup::add_to_linker::<_, HasSockets>(linker, view)?;
    Ok(())
}

impl stock::Host for View<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table.get(&error)?;
        Ok(error.downcast_ref::<std::io::Error>().map(ErrorCode::from))
    }
}

impl stock::HostNetwork for View<'_> {
    fn drop(&mut self, this: Resource<stock::Network>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl View<'_> {
    /// The network that a new socket is opened in.
    fn open(&self) -> Result<PodNet, SocketError> {
        let net = self.sockets.net.clone();
        net.ok_or_else(|| ErrorCode::AccessDenied.into())
    }
}

fn family(family: IpAddressFamily) -> Family {
    match family {
        IpAddressFamily::Ipv4 => Family::V4,
        IpAddressFamily::Ipv6 => Family::V6,
    }
}

fn wasi_family(family: Family) -> IpAddressFamily {
    match family {
        Family::V4 => IpAddressFamily::Ipv4,
        Family::V6 => IpAddressFamily::Ipv6,
    }
}

fn code(error: network::SocketError) -> ErrorCode {
    match error {
        network::SocketError::AddressInUse | network::SocketError::PortsExhausted => {
            ErrorCode::AddressInUse
        }
        network::SocketError::NotBindable => ErrorCode::AddressNotBindable,
        network::SocketError::Refused => ErrorCode::ConnectionRefused,
        network::SocketError::Unreachable => ErrorCode::RemoteUnreachable,
        network::SocketError::TimedOut => ErrorCode::Timeout,
        network::SocketError::TooLarge => ErrorCode::DatagramTooLarge,
    }
}

/// An address that a socket of this family can have: no IPv4 address in IPv6's clothes, mapped or in
/// the deprecated way.
fn of(family: Family, address: IpSocketAddress) -> Result<SocketAddr, SocketError> {
    let address = SocketAddr::from(address);
    let bare = SocketAddr::new(address.ip(), address.port());
    let clothed = match address.ip() {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_loopback() && ip.to_ipv4().is_some(),
    };
    if Family::of(&address) != family || clothed {
        return Err(ErrorCode::InvalidArgument.into());
    }
    Ok(bare)
}

/// An address that something can be sent to.
fn remote(family: Family, address: IpSocketAddress) -> Result<SocketAddr, SocketError> {
    let address = of(family, address)?;
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err(ErrorCode::InvalidArgument.into());
    }
    Ok(address)
}

/// An address of one alone, as streams have it.
fn unicast(address: SocketAddr) -> Result<SocketAddr, SocketError> {
    let broadcast = matches!(address.ip(), IpAddr::V4(ip) if ip.is_broadcast());
    if broadcast || address.ip().is_multicast() {
        return Err(ErrorCode::InvalidArgument.into());
    }
    Ok(address)
}

fn wasi(address: SocketAddr) -> IpSocketAddress {
    address.into()
}
