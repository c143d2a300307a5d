//! The serving end of a link.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tracing::debug;

use super::request::{self, Asked};
use super::{Accept, LinkError, Open, datagrams, life, pump};
use crate::SocketError;

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
const ACCEPT_WITHIN: Duration = Duration::from_secs(10);

/// Serves a link that the node `peer` has dialed, until it ends. Dropping the future resets every
/// connection on it.
///
/// # Errors
/// When the link broke; an end that the other node chose is none.
pub async fn serve(
    connection: impl AsyncRead + AsyncWrite + Unpin + Send,
    peer: String,
    accept: Arc<dyn Accept>,
) -> Result<(), LinkError> {
    let handshake = life::server().handshake::<_, Bytes>(connection);
    let mut connection = timeout(HANDSHAKE_WITHIN, handshake)
        .await
        .map_err(|_| LinkError::Slow)??;
    let mut pings = connection.ping_pong();
    let mut silent = pin!(async {
        match &mut pings {
            Some(pings) => life::silent(pings).await,
            None => std::future::pending().await,
        }
    });
    let peer: Arc<str> = peer.into();
    loop {
        let next = tokio::select! {
            next = connection.accept() => next,
            () = &mut silent => return Err(LinkError::Silent),
        };
        let Some(next) = next else {
            return Ok(());
        };
        let (request, respond) = next?;
        tokio::spawn(respond_to(request, respond, peer.clone(), accept.clone()));
    }
}

async fn respond_to(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    peer: Arc<str>,
    accept: Arc<dyn Accept>,
) {
    let (parts, body) = request.into_parts();
    // Where an answer cannot be sent the link is gone, and with it whoever asked.
    match request::decode(&parts) {
        Err(status) => {
            debug!(%peer, %status, "malformed request on a link");
            let _ = respond.send_response(request::answer(status, "malformed"), true);
        }
        Ok(Asked::Datagrams) => {
            let ok = request::answer(StatusCode::OK, "");
            if let Ok(_open) = respond.send_response(ok, false) {
                datagrams::receive(body, |packet| accept.datagram(&peer, packet)).await;
            }
        }
        Ok(Asked::Stream(open)) => connect(open, body, respond, &peer, &*accept).await,
    }
}

async fn connect(
    open: Open,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
    peer: &str,
    accept: &dyn Accept,
) {
    let connected = tokio::select! {
        connected = timeout(ACCEPT_WITHIN, accept.connect(peer, open)) => connected,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    match connected.unwrap_or(Err(SocketError::Unreachable)) {
        Ok(stream) => match respond.send_response(request::answer(StatusCode::OK, ""), false) {
            Ok(send) => pump::pump(stream, send, body).await,
            Err(_) => stream.reset(),
        },
        Err(error) => {
            let _ = respond.send_response(request::failure(error), true);
        }
    }
}
