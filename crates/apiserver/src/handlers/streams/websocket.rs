//! Streams as channels of one WebSocket.
//!
//! Each message, of bytes or of text, begins with its channel's number: 0 standard input, 1 output, 2 errors, 3 the `Status` by which it
//! ends, 4 the terminal's size. In version 5 of the protocol the message `[255, 0]` says that the input has ended; in
//! version 4 only the connection's end does.

use std::time::Duration;

use api::Status;
use bytes::{BufMut, Bytes, BytesMut};
use client::channels::{CLOSE, SIZE, STATUS, STDERR, STDIN, STDOUT};
use futures::stream::{BoxStream, SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::size::Sizes;
use super::{Container, End, LINGER, Output, Stdin, Wanted};
use crate::dispatch::Call;
use crate::handlers::websocket::{FAREWELL, Handshake, Socket, breach, close, none_spoken};

/// The versions of the protocol that are spoken, the best first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// How long a client that was sent everything may say nothing, neither its own end nor that it still is there, as kubectl
/// does every few seconds.
const SILENCE: Duration = Duration::from_secs(30);

/// Reads the opening. The first version of all, of clients that name none, is not spoken.
pub(super) fn read(call: &Call) -> Result<Handshake, Status> {
    let handshake = Handshake::read(call, &PROTOCOLS)?;
    match handshake.protocol {
        Some(_) => Ok(handshake),
        None => Err(none_spoken(&PROTOCOLS)),
    }
}

/// Carries everything until the container has ended, or the client is gone.
pub(super) async fn serve(socket: Socket, wanted: Wanted, mut container: Container) {
    let (mut to, mut from) = socket.split();
    // The channels are there with the socket.
    let (stdin, sizes) = container.start(wanted).await;
    // A guest that does not read must not hold back what it prints: each direction goes on alone.
    let ended = tokio::select! {
        broken = receive(&mut from, stdin, sizes) => Err(broken),
        end = send(&mut to, &mut container.outputs) => Ok(end),
    };
    // Of the container nothing is needed any more, whatever the client does now.
    drop(container);
    let breach = match ended {
        Ok(Some(end)) => {
            let _ = tokio::time::timeout(LINGER, tell(&mut to, &mut from, &end)).await;
            None
        }
        Ok(None) => None,
        Err(breach) => breach,
    };
    let farewell = async {
        if let Some(code) = breach {
            let _ = to.send(close(code)).await;
        }
        // A client that closes waits for the same from here.
        let _ = to.close().await;
        if let Ok(mut socket) = to.reunite(from) {
            let _ = socket.get_mut().shutdown().await;
        }
    };
    // Who does not read is not waited for.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// Passes on what the container prints, until it has ended: how. None where the client takes no more.
async fn send(
    to: &mut SplitSink<Socket, Message>,
    outputs: &mut BoxStream<'static, Output>,
) -> Option<End> {
    while let Some(output) = outputs.next().await {
        let message = match output {
            Output::Stdout(bytes) => message(STDOUT, &bytes),
            Output::Stderr(bytes) => message(STDERR, &bytes),
            Output::End(end) => return Some(end),
        };
        to.send(message).await.ok()?;
    }
    None
}

/// Says how it has ended, and waits until the client has closed the connection, too. What it says before is of no use any
/// more. Once all is on its way to it, one that says nothing at all is not waited for long.
async fn tell(to: &mut SplitSink<Socket, Message>, from: &mut SplitStream<Socket>, end: &End) {
    let last = async {
        to.send(message(STATUS, end.to_value().to_string().as_bytes()))
            .await?;
        to.send(close(CloseCode::Normal)).await
    };
    tokio::select! {
        told = last => if told.is_err() {
            // A client that is gone needs no farewell.
            return;
        },
        () = closed(from) => return,
    }
    while let Ok(Some(Ok(message))) = tokio::time::timeout(SILENCE, from.next()).await {
        if message.is_close() {
            return;
        }
    }
}

/// Passes on what the client sends, until it closes the connection, or breaks the protocol: then it is told how.
async fn receive(
    from: &mut SplitStream<Socket>,
    mut stdin: Stdin,
    mut sizes: Sizes,
) -> Option<CloseCode> {
    while let Some(message) = from.next().await {
        let mut data = match message {
            Ok(Message::Binary(data)) => data,
            // The Python client's, where what it is given is text.
            Ok(Message::Text(text)) => Bytes::from(text),
            Ok(Message::Close(_)) => return None,
            Ok(_) => continue,
            Err(error) => return breach(&error),
        };
        if data.is_empty() {
            continue;
        }
        match (data.split_to(1)[0], &*data) {
            (STDIN, _) => stdin.send(data).await,
            (SIZE, _) => sizes.take(&data).await,
            (CLOSE, [STDIN]) => stdin.end().await,
            _ => {}
        }
    }
    None
}

/// Waits until the client has closed the connection.
async fn closed(from: &mut SplitStream<Socket>) {
    while let Some(Ok(message)) = from.next().await {
        if message.is_close() {
            return;
        }
    }
}

fn message(channel: u8, data: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(1 + data.len());
    bytes.put_u8(channel);
    bytes.put_slice(data);
    Message::Binary(Bytes::from(bytes))
}
