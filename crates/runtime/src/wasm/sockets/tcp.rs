//! `wasi:sockets/tcp`: a socket's states, and its streams.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use network::pipe::{Reader, Writer};
use network::{Bound, Connecting, Family, Listener, PodNet, Stream, StreamPort};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Network,
};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, Pollable, SocketError, subscribe,
};

use super::bindings::tcp::{Host, HostTcpSocket, ShutdownType};
use super::stream::{Input, Output};
use super::{View, bindings, code, family, of, remote, unicast, wasi, wasi_family};

/// A TCP socket of the guest.
pub struct TcpSocket {
    net: PodNet,
    family: Family,
    state: State,
    options: Options,
}

/// Where the socket stands; `Starting` are begun and not yet finished, as WASI asks for in pairs.
enum State {
    Fresh,
    Binding(Arc<Bound>),
    Bound(Arc<Bound>),
    Connecting(Connecting),
    /// The attempt is over, and waits for the guest to ask how it went.
    Tried(Option<Result<Stream, network::SocketError>>),
    Connected(Connection),
    StartingToListen(Arc<Bound>),
    Listening(Listener),
    Failed,
}

struct Connection {
    local: SocketAddr,
    remote: SocketAddr,
    reader: Arc<Reader>,
    writer: Arc<Writer>,
    _port: StreamPort,
}

/// Options that a real TCP stack would follow. The virtual network loses nothing and has no hops,
/// so that they are only kept, for a guest that reads back what it set.
#[derive(Clone, Copy)]
struct Options {
    backlog: usize,
    keep_alive: bool,
    keep_alive_idle: u64,
    keep_alive_interval: u64,
    keep_alive_count: u32,
    hop_limit: u8,
    receive_buffer: u64,
    send_buffer: u64,
}

impl Default for Options {
    fn default() -> Self {
        // Linux's defaults, but for the buffers, which are the pipes' real size.
        Self {
            backlog: 128,
            keep_alive: false,
            keep_alive_idle: 7_200_000_000_000,
            keep_alive_interval: 75_000_000_000,
            keep_alive_count: 9,
            hop_limit: 64,
            receive_buffer: network::BUFFER as u64,
            send_buffer: network::BUFFER as u64,
        }
    }
}

impl TcpSocket {
    fn new(net: PodNet, family: Family) -> Self {
        Self {
            net,
            family,
            state: State::Fresh,
            options: Options::default(),
        }
    }

    fn is_busy(&self) -> bool {
        matches!(
            self.state,
            State::Binding(_) | State::Connecting(_) | State::Tried(_) | State::StartingToListen(_)
        )
    }

    /// Drives a connection attempt; `Tried` afterwards, unless it is still under way.
    fn poll_connect(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Connecting(connecting) = &mut self.state {
            match connecting.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(tried) => self.state = State::Tried(Some(tried)),
            }
        }
        Poll::Ready(())
    }

    fn connection(&mut self, stream: Stream) -> (DynInputStream, DynOutputStream) {
        let (local, remote) = (stream.local(), stream.remote());
        let (reader, writer, port) = stream.into_parts();
        let connection = Connection {
            local,
            remote,
            reader: Arc::new(reader),
            writer: Arc::new(writer),
            _port: port,
        };
        let input = Box::new(Input(connection.reader.clone()));
        let output = Box::new(Output::new(connection.writer.clone()));
        self.state = State::Connected(connection);
        (input, output)
    }
}

#[async_trait]
impl Pollable for TcpSocket {
    async fn ready(&mut self) {
        match &self.state {
            State::Connecting(_) => poll_fn(|cx| self.poll_connect(cx)).await,
            State::Listening(listener) => poll_fn(|cx| listener.poll_ready(cx)).await,
            _ => {}
        }
    }
}

impl bindings::tcp_create_socket::Host for View<'_> {
    fn create_tcp_socket(
        &mut self,
        address_family: IpAddressFamily,
    ) -> Result<Resource<TcpSocket>, SocketError> {
        let socket = TcpSocket::new(self.open()?, family(address_family));
        Ok(self.table.push(socket)?)
    }
}

impl Host for View<'_> {}

type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

impl View<'_> {
    fn socket(&mut self, this: &Resource<TcpSocket>) -> Result<&mut TcpSocket, SocketError> {
        Ok(self.table.get_mut(this)?)
    }

    fn idle_socket(&mut self, this: &Resource<TcpSocket>) -> Result<&mut TcpSocket, SocketError> {
        let socket = self.socket(this)?;
        if socket.is_busy() {
            return Err(ErrorCode::ConcurrencyConflict.into());
        }
        Ok(socket)
    }

    fn push_streams(
        &mut self,
        this: &Resource<TcpSocket>,
        (input, output): (DynInputStream, DynOutputStream),
    ) -> Result<Streams, SocketError> {
        let input = self.table.push_child(input, this)?;
        let output = self.table.push_child(output, this)?;
        Ok((input, output))
    }

    fn set(
        &mut self,
        this: &Resource<TcpSocket>,
        set: impl FnOnce(&mut Options),
    ) -> Result<(), SocketError> {
        set(&mut self.socket(this)?.options);
        Ok(())
    }

    fn options(&mut self, this: &Resource<TcpSocket>) -> Result<Options, SocketError> {
        Ok(self.socket(this)?.options)
    }
}

/// A value that must not be 0.
fn positive<T: Default + PartialEq>(value: T) -> Result<T, SocketError> {
    if value == T::default() {
        return Err(ErrorCode::InvalidArgument.into());
    }
    Ok(value)
}

impl HostTcpSocket for View<'_> {
    fn start_bind(
        &mut self,
        this: Resource<TcpSocket>,
        _network: Resource<Network>,
        local: IpSocketAddress,
    ) -> Result<(), SocketError> {
        let socket = self.idle_socket(&this)?;
        let local = unicast(of(socket.family, local)?)?;
        let State::Fresh = socket.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        let bound = socket.net.bind_stream(local).map_err(code)?;
        socket.state = State::Binding(Arc::new(bound));
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<TcpSocket>) -> Result<(), SocketError> {
        let socket = self.socket(&this)?;
        let State::Binding(bound) = &socket.state else {
            return Err(ErrorCode::NotInProgress.into());
        };
        socket.state = State::Bound(bound.clone());
        Ok(())
    }

    fn start_connect(
        &mut self,
        this: Resource<TcpSocket>,
        _network: Resource<Network>,
        address: IpSocketAddress,
    ) -> Result<(), SocketError> {
        let socket = self.idle_socket(&this)?;
        let address = unicast(remote(socket.family, address)?)?;
        let bound = match &socket.state {
            State::Fresh => Arc::new(socket.net.bind_stream(socket.family.any()).map_err(code)?),
            State::Bound(bound) => bound.clone(),
            _ => return Err(ErrorCode::InvalidState.into()),
        };
        let connecting = socket.net.connect_from(bound, address);
        socket.state = State::Connecting(connecting);
        Ok(())
    }

    fn finish_connect(&mut self, this: Resource<TcpSocket>) -> Result<Streams, SocketError> {
        let socket = self.socket(&this)?;
        if socket
            .poll_connect(&mut Context::from_waker(Waker::noop()))
            .is_pending()
        {
            return Err(ErrorCode::WouldBlock.into());
        }
        let State::Tried(tried) = &mut socket.state else {
            return Err(ErrorCode::NotInProgress.into());
        };
        match tried.take() {
            Some(Ok(stream)) => {
                let streams = socket.connection(stream);
                self.push_streams(&this, streams)
            }
            Some(Err(error)) => {
                socket.state = State::Failed;
                Err(code(error).into())
            }
            None => Err(ErrorCode::NotInProgress.into()),
        }
    }

    fn start_listen(&mut self, this: Resource<TcpSocket>) -> Result<(), SocketError> {
        let socket = self.idle_socket(&this)?;
        let State::Bound(bound) = &socket.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        socket.state = State::StartingToListen(bound.clone());
        Ok(())
    }

    fn finish_listen(&mut self, this: Resource<TcpSocket>) -> Result<(), SocketError> {
        let socket = self.socket(&this)?;
        let State::StartingToListen(bound) = &socket.state else {
            return Err(ErrorCode::NotInProgress.into());
        };
        let listener = Listener::new(bound.clone(), socket.options.backlog);
        socket.state = State::Listening(listener);
        Ok(())
    }

    fn accept(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> Result<
        (
            Resource<TcpSocket>,
            Resource<DynInputStream>,
            Resource<DynOutputStream>,
        ),
        SocketError,
    > {
        let socket = self.socket(&this)?;
        let State::Listening(listener) = &socket.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        let stream = listener.try_accept().ok_or(ErrorCode::WouldBlock)?;
        let mut accepted = TcpSocket::new(socket.net.clone(), socket.family);
        accepted.options = socket.options;
        let streams = accepted.connection(stream);
        let accepted = self.table.push(accepted)?;
        let (input, output) = self.push_streams(&accepted, streams)?;
        Ok((accepted, input, output))
    }

    fn local_address(&mut self, this: Resource<TcpSocket>) -> Result<IpSocketAddress, SocketError> {
        match &self.socket(&this)?.state {
            State::Bound(bound) | State::StartingToListen(bound) => Ok(wasi(bound.address())),
            State::Connected(connection) => Ok(wasi(connection.local)),
            State::Listening(listener) => Ok(wasi(listener.address())),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn remote_address(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> Result<IpSocketAddress, SocketError> {
        match &self.socket(&this)?.state {
            State::Connected(connection) => Ok(wasi(connection.remote)),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    fn is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        let socket = self.table.get(&this)?;
        Ok(matches!(socket.state, State::Listening(_)))
    }

    fn address_family(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(wasi_family(self.table.get(&this)?.family))
    }

    fn set_listen_backlog_size(
        &mut self,
        this: Resource<TcpSocket>,
        value: u64,
    ) -> Result<(), SocketError> {
        let value = positive(value)?;
        let socket = self.socket(&this)?;
        match socket.state {
            State::Connected(_) | State::Connecting(_) | State::Tried(_) => {
                Err(ErrorCode::InvalidState.into())
            }
            // A listener's bound is what it was when it began.
            State::Listening(_) => Err(ErrorCode::NotSupported.into()),
            _ => {
                let most = network::MOST_WAITING;
                socket.options.backlog = usize::try_from(value).map_or(most, |n| n.min(most));
                Ok(())
            }
        }
    }

    fn keep_alive_enabled(&mut self, this: Resource<TcpSocket>) -> Result<bool, SocketError> {
        Ok(self.options(&this)?.keep_alive)
    }

    fn set_keep_alive_enabled(
        &mut self,
        this: Resource<TcpSocket>,
        value: bool,
    ) -> Result<(), SocketError> {
        self.set(&this, |options| options.keep_alive = value)
    }

    fn keep_alive_idle_time(&mut self, this: Resource<TcpSocket>) -> Result<u64, SocketError> {
        Ok(self.options(&this)?.keep_alive_idle)
    }

    fn set_keep_alive_idle_time(
        &mut self,
        this: Resource<TcpSocket>,
        value: u64,
    ) -> Result<(), SocketError> {
        let value = positive(value)?;
        self.set(&this, |options| options.keep_alive_idle = value)
    }

    fn keep_alive_interval(&mut self, this: Resource<TcpSocket>) -> Result<u64, SocketError> {
        Ok(self.options(&this)?.keep_alive_interval)
    }

    fn set_keep_alive_interval(
        &mut self,
        this: Resource<TcpSocket>,
        value: u64,
    ) -> Result<(), SocketError> {
        let value = positive(value)?;
        self.set(&this, |options| options.keep_alive_interval = value)
    }

    fn keep_alive_count(&mut self, this: Resource<TcpSocket>) -> Result<u32, SocketError> {
        Ok(self.options(&this)?.keep_alive_count)
    }

    fn set_keep_alive_count(
        &mut self,
        this: Resource<TcpSocket>,
        value: u32,
    ) -> Result<(), SocketError> {
        let value = positive(value)?;
        self.set(&this, |options| options.keep_alive_count = value)
    }

    fn hop_limit(&mut self, this: Resource<TcpSocket>) -> Result<u8, SocketError> {
        Ok(self.options(&this)?.hop_limit)
    }

    fn set_hop_limit(&mut self, this: Resource<TcpSocket>, value: u8) -> Result<(), SocketError> {
        let value = positive(value)?;
        self.set(&this, |options| options.hop_limit = value)
    }

    fn receive_buffer_size(&mut self, this: Resource<TcpSocket>) -> Result<u64, SocketError> {
        Ok(self.options(&this)?.receive_buffer)
    }

    fn set_receive_buffer_size(
        &mut self,
        this: Resource<TcpSocket>,
        value: u64,
    ) -> Result<(), SocketError> {
        let value = positive(value)?;
        self.set(&this, |options| options.receive_buffer = value)
    }

    fn send_buffer_size(&mut self, this: Resource<TcpSocket>) -> Result<u64, SocketError> {
        Ok(self.options(&this)?.send_buffer)
    }

    fn set_send_buffer_size(
        &mut self,
        this: Resource<TcpSocket>,
        value: u64,
    ) -> Result<(), SocketError> {
        let value = positive(value)?;
        self.set(&this, |options| options.send_buffer = value)
    }

    fn subscribe(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn shutdown(
        &mut self,
        this: Resource<TcpSocket>,
        direction: ShutdownType,
    ) -> Result<(), SocketError> {
        let State::Connected(connection) = &self.socket(&this)?.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        if direction != ShutdownType::Send {
            connection.reader.close();
        }
        if direction != ShutdownType::Receive {
            connection.writer.close();
        }
        Ok(())
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
