//! `wasi:sockets/udp`: datagram sockets and their two directions.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use network::{Bound, Datagrams, Family, PodNet};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Network,
};
use wasmtime_wasi::p2::{DynPollable, Pollable, SocketError, subscribe};

use super::bindings::udp::{
    Host, HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, IncomingDatagram,
    OutgoingDatagram,
};
use super::{View, bindings, code, family, of, remote, wasi, wasi_family};

/// Datagrams that move in one call.
const BATCH: usize = 64;

/// A UDP socket of the guest.
pub struct UdpSocket {
    net: PodNet,
    family: Family,
    state: State,
    peer: Option<SocketAddr>,
    hop_limit: u8,
    receive_buffer: u64,
    send_buffer: u64,
}

enum State {
    Fresh,
    Binding(Arc<Bound>),
    Open(Arc<Datagrams>),
}

/// The direction that receives.
pub struct Incoming {
    datagrams: Arc<Datagrams>,
    peer: Option<SocketAddr>,
}

/// The direction that sends.
pub struct Outgoing {
    datagrams: Arc<Datagrams>,
    family: Family,
    peer: Option<SocketAddr>,
    /// How many the last `check-send` permitted.
    permit: usize,
}

#[async_trait]
impl Pollable for UdpSocket {
    /// Nothing about the socket itself is ever waited for.
    async fn ready(&mut self) {}
}

#[async_trait]
impl Pollable for Incoming {
    async fn ready(&mut self) {
        poll_fn(|cx| self.datagrams.poll_ready(cx)).await;
    }
}

#[async_trait]
impl Pollable for Outgoing {
    /// Sending never waits: what finds no room at its receiver is lost.
    async fn ready(&mut self) {}
}

impl bindings::udp_create_socket::Host for View<'_> {
    fn create_udp_socket(
        &mut self,
        address_family: IpAddressFamily,
    ) -> Result<Resource<UdpSocket>, SocketError> {
        let socket = UdpSocket {
            net: self.open()?,
            family: family(address_family),
            state: State::Fresh,
            peer: None,
            hop_limit: 64,
            receive_buffer: network::BUFFER as u64,
            send_buffer: network::BUFFER as u64,
        };
        Ok(self.table.push(socket)?)
    }
}

impl Host for View<'_> {}

impl View<'_> {
    fn udp(&mut self, this: &Resource<UdpSocket>) -> Result<&mut UdpSocket, SocketError> {
        Ok(self.table.get_mut(this)?)
    }
}

impl HostUdpSocket for View<'_> {
    fn start_bind(
        &mut self,
        this: Resource<UdpSocket>,
        _network: Resource<Network>,
        local: IpSocketAddress,
    ) -> Result<(), SocketError> {
        let socket = self.udp(&this)?;
        let local = of(socket.family, local)?;
        match socket.state {
            State::Fresh => {}
            State::Binding(_) => return Err(ErrorCode::ConcurrencyConflict.into()),
            State::Open(_) => return Err(ErrorCode::InvalidState.into()),
        }
        let bound = socket.net.bind_datagram(local).map_err(code)?;
        socket.state = State::Binding(Arc::new(bound));
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<UdpSocket>) -> Result<(), SocketError> {
        let socket = self.udp(&this)?;
        let State::Binding(bound) = &socket.state else {
            return Err(ErrorCode::NotInProgress.into());
        };
        socket.state = State::Open(Arc::new(Datagrams::new(bound.clone())));
        Ok(())
    }

    fn stream(
        &mut self,
        this: Resource<UdpSocket>,
        peer: Option<IpSocketAddress>,
    ) -> Result<(Resource<Incoming>, Resource<Outgoing>), SocketError> {
        let socket = self.udp(&this)?;
        let family = socket.family;
        let peer = peer.map(|peer| remote(family, peer)).transpose()?;
        let datagrams = match &socket.state {
            State::Open(datagrams) => datagrams.clone(),
            State::Binding(_) => return Err(ErrorCode::ConcurrencyConflict.into()),
            State::Fresh => {
                let bound = socket.net.bind_datagram(family.any()).map_err(code)?;
                let datagrams = Arc::new(Datagrams::new(Arc::new(bound)));
                socket.state = State::Open(datagrams.clone());
                datagrams
            }
        };
        socket.peer = peer;
        let incoming = Incoming {
            datagrams: datagrams.clone(),
            peer,
        };
        let outgoing = Outgoing {
            datagrams,
            family,
            peer,
            permit: 0,
        };
        let incoming = self.table.push_child(incoming, &this)?;
        let outgoing = self.table.push_child(outgoing, &this)?;
        Ok((incoming, outgoing))
    }

    fn local_address(&mut self, this: Resource<UdpSocket>) -> Result<IpSocketAddress, SocketError> {
        match &self.udp(&this)?.state {
            State::Open(datagrams) => Ok(wasi(datagrams.local())),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn remote_address(
        &mut self,
        this: Resource<UdpSocket>,
    ) -> Result<IpSocketAddress, SocketError> {
        let peer = self.udp(&this)?.peer.ok_or(ErrorCode::InvalidState)?;
        Ok(wasi(peer))
    }

    fn address_family(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(wasi_family(self.table.get(&this)?.family))
    }

    fn unicast_hop_limit(&mut self, this: Resource<UdpSocket>) -> Result<u8, SocketError> {
        Ok(self.udp(&this)?.hop_limit)
    }

    fn set_unicast_hop_limit(
        &mut self,
        this: Resource<UdpSocket>,
        value: u8,
    ) -> Result<(), SocketError> {
        if value == 0 {
            return Err(ErrorCode::InvalidArgument.into());
        }
        self.udp(&this)?.hop_limit = value;
        Ok(())
    }

    fn receive_buffer_size(&mut self, this: Resource<UdpSocket>) -> Result<u64, SocketError> {
        Ok(self.udp(&this)?.receive_buffer)
    }

    fn set_receive_buffer_size(
        &mut self,
        this: Resource<UdpSocket>,
        value: u64,
    ) -> Result<(), SocketError> {
        if value == 0 {
            return Err(ErrorCode::InvalidArgument.into());
        }
        self.udp(&this)?.receive_buffer = value;
        Ok(())
    }

    fn send_buffer_size(&mut self, this: Resource<UdpSocket>) -> Result<u64, SocketError> {
        Ok(self.udp(&this)?.send_buffer)
    }

    fn set_send_buffer_size(
        &mut self,
        this: Resource<UdpSocket>,
        value: u64,
    ) -> Result<(), SocketError> {
        if value == 0 {
            return Err(ErrorCode::InvalidArgument.into());
        }
        self.udp(&this)?.send_buffer = value;
        Ok(())
    }

    fn subscribe(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<UdpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl HostIncomingDatagramStream for View<'_> {
    fn receive(
        &mut self,
        this: Resource<Incoming>,
        most: u64,
    ) -> Result<Vec<IncomingDatagram>, SocketError> {
        let incoming = self.table.get(&this)?;
        let most = usize::try_from(most).map_or(BATCH, |most| most.min(BATCH));
        let mut received = Vec::new();
        while received.len() < most {
            let Some(datagram) = incoming.datagrams.try_receive() else {
                break;
            };
            // A connected socket hears its peer alone.
            if incoming.peer.is_none_or(|peer| peer == datagram.from) {
                received.push(IncomingDatagram {
                    data: datagram.bytes.into(),
                    remote_address: wasi(datagram.from),
                });
            }
        }
        Ok(received)
    }

    fn subscribe(&mut self, this: Resource<Incoming>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<Incoming>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl Outgoing {
    fn send(&self, datagram: OutgoingDatagram) -> Result<(), SocketError> {
        let address = datagram.remote_address;
        let address = address.map(|to| remote(self.family, to)).transpose()?;
        let to = match (self.peer, address) {
            (Some(peer), None) => peer,
            (Some(peer), Some(address)) if address == peer => peer,
            (None, Some(address)) => address,
            _ => return Err(ErrorCode::InvalidArgument.into()),
        };
        let sent = self.datagrams.send(datagram.data.into(), to);
        sent.map_err(|error| code(error).into())
    }
}

impl HostOutgoingDatagramStream for View<'_> {
    fn check_send(&mut self, this: Resource<Outgoing>) -> Result<u64, SocketError> {
        let outgoing = self.table.get_mut(&this)?;
        outgoing.permit = BATCH;
        Ok(BATCH as u64)
    }

    fn send(
        &mut self,
        this: Resource<Outgoing>,
        datagrams: Vec<OutgoingDatagram>,
    ) -> Result<u64, SocketError> {
        let outgoing = self.table.get_mut(&this)?;
        if datagrams.len() > outgoing.permit {
            let why = wasmtime::format_err!("more datagrams than check-send has permitted");
            return Err(SocketError::trap(why));
        }
        outgoing.permit -= datagrams.len();
        let mut sent = 0;
        for datagram in datagrams {
            match outgoing.send(datagram) {
                Ok(()) => sent += 1,
                // Those before it were sent: the guest learns why with its next call.
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn subscribe(&mut self, this: Resource<Outgoing>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<Outgoing>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
