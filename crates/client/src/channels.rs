//! Streams over one WebSocket, as Kubernetes' attach and exec speak them for those of a container (`v5.channel.k8s.io`), and
//! as port-forward does ([`PORT_FORWARD`]): each message begins with the number of its channel.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{Sink, SinkExt, Stream, StreamExt};
use http::{HeaderValue, Uri, header};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::Error;
use crate::client::parse_status;
use crate::https;
use crate::kubeconfig::{Context, Credentials};

/// Standard input, from the client.
pub const STDIN: u8 = 0;
/// Standard output.
pub const STDOUT: u8 = 1;
/// Standard error.
pub const STDERR: u8 = 2;
/// The `Status` that says how it ended.
pub const STATUS: u8 = 3;
/// The sizes of the terminal, from the client: JSON objects such as `{"Width":80,"Height":24}`.
pub const SIZE: u8 = 4;

/// How port-forward is spoken where channels are to end alone: of each port the bytes have an even channel and what went
/// wrong the odd one after it, both of which begin with the port's number in two bytes, the lower one first. A channel
/// that ends without a word has broken off.
pub const PORT_FORWARD: &str = "v5.portforward.carob.dev";
/// In a message's first byte: the channel whose number follows has ended.
pub const CLOSE: u8 = 255;

const PROTOCOL: &str = "v5.channel.k8s.io";
/// How long the server may take for TCP, TLS and its first answer.
const CONNECT: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// An open WebSocket with channels.
pub struct Channels {
    socket: Socket,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A channel's number and bytes of it.
    Data(u8, Bytes),
    /// Nothing more comes on the channel of this number.
    End(u8),
}

/// The direction to the server.
#[derive(Debug)]
pub struct Sender {
    socket: SplitSink<Socket, Message>,
}

/// The direction from the server.
#[derive(Debug)]
pub struct Receiver {
    socket: SplitStream<Socket>,
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channels").finish_non_exhaustive()
    }
}

impl Channels {
    /// Opens `path` (with its query) of the context's server.
    ///
    /// # Errors
    /// When the server can't be reached, or refuses.
    pub async fn open(context: &Context, path: &str) -> Result<Self, Error> {
        Self::open_as(context, path, PROTOCOL).await
    }

    /// The same in another protocol that has channels, such as `v4.channel.k8s.io`.
    ///
    /// # Errors
    /// When the server can't be reached, or refuses.
    pub async fn open_as(
        context: &Context,
        path: &str,
        protocol: &'static str,
    ) -> Result<Self, Error> {
        let opening = Self::connect(context, path, protocol);
        match tokio::time::timeout(CONNECT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::Timeout {
                what: format!("GET {path}"),
                seconds: CONNECT.as_secs(),
            }),
        }
    }

    async fn connect(context: &Context, path: &str, protocol: &'static str) -> Result<Self, Error> {
        let server: Uri = context
            .server
            .parse()
            .map_err(|e| Error::Invalid(format!("{}: {e}", context.server)))?;
        let host = server.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|e| Error::Invalid(format!("{host}: {e}")))?;
        let tls = TlsConnector::from(std::sync::Arc::new(context.tls()?));
        // What a person types goes out as it is typed, and a server that vanishes while nobody types is missed.
        let tcp = tower::Service::call(&mut https::tcp(), server.clone()).await;
        let tcp = tcp.map_err(|e| Error::transport(&context.server, https::root_cause(e)))?;
        let stream = tls.connect(name, tcp.into_inner()).await;
        let stream = stream.map_err(|e| Error::transport(&context.server, e))?;
        let request = request(context, path, protocol)?;
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(tungstenite::Error::Http(answer)) => {
                let (head, body) = answer.into_parts();
                let body = body.unwrap_or_default();
                let status = parse_status(head.status.as_u16(), &body, path);
                Err(Error::Status(Box::new(status)))
            }
            Err(other) => Err(Error::transport(&context.server, other)),
        }
    }

    /// Sends bytes on a channel.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn send(&mut self, channel: u8, data: &[u8]) -> Result<(), Error> {
        send(&mut self.socket, channel, data).await
    }

    /// Says that nothing more comes on a channel.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn finish(&mut self, channel: u8) -> Result<(), Error> {
        send(&mut self.socket, CLOSE, &[channel]).await
    }

    /// What comes next: a channel's number and its bytes; `None` at the end. Ends of channels are left out.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> Result<Option<(u8, Bytes)>, Error> {
        loop {
            match next(&mut self.socket).await? {
                Some(Received::Data(channel, data)) => return Ok(Some((channel, data))),
                Some(Received::End(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// Parts the two directions, so that neither waits for the other.
    pub fn split(self) -> (Sender, Receiver) {
        let (to, from) = self.socket.split();
        (Sender { socket: to }, Receiver { socket: from })
    }
}

impl Sender {
    /// Sends bytes on a channel.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn send(&mut self, channel: u8, data: &[u8]) -> Result<(), Error> {
        send(&mut self.socket, channel, data).await
    }

    /// Says that nothing more comes on a channel.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn finish(&mut self, channel: u8) -> Result<(), Error> {
        send(&mut self.socket, CLOSE, &[channel]).await
    }
}

impl Receiver {
    /// What comes next; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Received>, Error> {
        next(&mut self.socket).await
    }
}

async fn send(
    socket: &mut (impl Sink<Message, Error = tungstenite::Error> + Unpin),
    channel: u8,
    data: &[u8],
) -> Result<(), Error> {
    let mut message = BytesMut::with_capacity(1 + data.len());
    message.put_u8(channel);
    message.put_slice(data);
    let message = Message::Binary(message.freeze());
    socket.send(message).await.map_err(broken)
}

async fn next(
    socket: &mut (impl Stream<Item = tungstenite::Result<Message>> + Unpin),
) -> Result<Option<Received>, Error> {
    while let Some(message) = socket.next().await {
        match message.map_err(broken)? {
            Message::Binary(mut data) if !data.is_empty() => {
                let channel = data.split_to(1)[0];
                return Ok(Some(match (channel, &*data) {
                    (CLOSE, [ended]) => Received::End(*ended),
                    _ => Received::Data(channel, data),
                }));
            }
            Message::Close(_) => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}

fn broken(error: tungstenite::Error) -> Error {
    Error::transport("the streams of the pod", error)
}

fn request(
    context: &Context,
    path: &str,
    protocol: &'static str,
) -> Result<http::Request<()>, Error> {
    let invalid = |e: String| Error::Invalid(format!("{path}: {e}"));
    let server = context.server.trim_end_matches('/');
    let url = server.replacen("https://", "wss://", 1) + path;
    let mut request = url
        .into_client_request()
        .map_err(|e| invalid(e.to_string()))?;
    let headers = request.headers_mut();
    headers.insert(
        header::SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(protocol),
    );
    if let Credentials::Token(token) = &context.credentials {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|e| invalid(e.to_string()))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(request)
}
