//! WebSockets (RFC 6455): the change of protocol, and how one ends.

use std::time::Duration;

use api::Status;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use crate::body::{Response, joined};
use crate::dispatch::Call;

/// The largest message that a client may send; kubectl sends 32 KiB.
const LARGEST: usize = 1 << 20;
/// How long a client has to take the connection's end.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A WebSocket that is asked for.
pub(super) struct Handshake {
    upgrade: OnUpgrade,
    accepted: http::response::Builder,
    /// What is spoken in it; none where the client does not say what it would like.
    pub(super) protocol: Option<&'static str>,
}

impl Handshake {
    /// Reads the opening: of the protocols, the best first, one that the client offers.
    pub(super) fn read(call: &Call, protocols: &[&'static str]) -> Result<Self, Status> {
        let (protocol, accepted) = accept(&call.headers, protocols)?;
        let only = || Status::bad_request("this needs a WebSocket: Upgrade: websocket");
        Ok(Self {
            upgrade: call.upgrade.clone().ok_or_else(only)?,
            accepted,
            protocol,
        })
    }

    /// Answers with the change of protocol, after which the socket is served until it is done or the server stops.
    pub(super) fn serve<F: Future<Output = ()> + Send>(
        self,
        call: &Call,
        serve: impl FnOnce(Socket) -> F + Send + 'static,
    ) -> Result<Response, Status> {
        let upgraded = async move |upgraded| {
            let config = WebSocketConfig::default()
                .max_message_size(Some(LARGEST))
                .max_frame_size(Some(LARGEST));
            let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config));
            serve(socket.await).await;
        };
        super::upgrade::serve(call, self.upgrade, upgraded);
        let answer = self.accepted.body(joined([]));
        answer.map_err(|e| Status::internal(e.to_string()))
    }
}

/// 400 for who offers none of the protocols.
pub(super) fn none_spoken(protocols: &[&str]) -> Status {
    Status::bad_request(format!(
        "unable to upgrade: none of the protocols {} was offered",
        protocols.join(", ")
    ))
}

/// The answer to a WebSocket's opening.
fn accept(
    headers: &HeaderMap,
    protocols: &[&'static str],
) -> Result<(Option<&'static str>, http::response::Builder), Status> {
    let asked = super::upgrade::asked_for(headers).and_then(|v| v.to_str().ok());
    let websocket = asked.is_some_and(|v| v.eq_ignore_ascii_case("websocket"));
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| websocket);
    let key = key.ok_or_else(|| {
        Status::bad_request("only WebSockets are spoken here: Upgrade: websocket, with its key")
    })?;
    let offers = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    let offered: Vec<&str> = offers
        .flat_map(|offer| offer.to_str().unwrap_or_default().split(','))
        .map(str::trim)
        .filter(|offer| !offer.is_empty())
        .collect();
    let protocol = protocols.iter().find(|p| offered.contains(p)).copied();
    if protocol.is_none() && !offered.is_empty() {
        return Err(none_spoken(protocols));
    }
    let mut accepted = http::Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()));
    if let Some(protocol) = protocol {
        accepted = accepted.header(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok((protocol, accepted))
}

/// The last message, which says why.
pub(super) fn close(code: CloseCode) -> Message {
    Message::Close(Some(CloseFrame {
        code,
        reason: Utf8Bytes::default(),
    }))
}

/// How the client broke the protocol (RFC 6455, 7.4.1); none, where only the connection broke.
pub(super) fn breach(error: &tungstenite::Error) -> Option<CloseCode> {
    match error {
        tungstenite::Error::Capacity(_) => Some(CloseCode::Size),
        tungstenite::Error::Utf8(_) => Some(CloseCode::Invalid),
        tungstenite::Error::Protocol(_) | tungstenite::Error::AttackAttempt => {
            Some(CloseCode::Protocol)
        }
        _ => None,
    }
}
