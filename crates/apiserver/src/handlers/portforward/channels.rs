//! Port-forward over the channels of one WebSocket: of each port the bytes have an even channel and what went wrong the
//! odd one after it. Both begin with the port's number.
//!
//! In Kubernetes' protocol no channel ends before the WebSocket does. In `v5.portforward.carob.dev` the message
//! `[255, CHANNEL]` ends one, in either direction, as in the fifth version of attach's; what ends without it has broken
//! off. The channel for what went wrong is the last of the two to end.

use std::time::Duration;

use api::Status;
use bytes::{BufMut, Bytes, BytesMut};
use client::channels::CLOSE;
use futures::stream::SplitStream;
use futures::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{CutOff, Door, both, port};
use crate::handlers::tunnel::{FromPod, ToPod};
use crate::handlers::websocket::{FAREWELL, Socket, breach, close};

/// The most ports of one WebSocket: a channel's number is one byte.
const MOST_PORTS: usize = 127;
/// Messages that wait for a pod, or for the client.
const WAITING: usize = 8;
/// How long pods have to read what came before the client closed the connection.
const DRAIN: Duration = Duration::from_secs(2);

/// The ports that the query names: one each time, or several with commas between them.
pub(super) fn ports<'a>(values: impl Iterator<Item = &'a str>) -> Result<Vec<u16>, Status> {
    let all: Option<Vec<u16>> = values.flat_map(|v| v.split(',')).map(port).collect();
    match all {
        Some(ports) if (1..=MOST_PORTS).contains(&ports.len()) => Ok(ports),
        Some(ports) if ports.is_empty() => {
            Err(Status::bad_request("query parameter \"ports\" is required"))
        }
        Some(_) => Err(Status::bad_request(format!(
            "at most {MOST_PORTS} ports can be forwarded at once"
        ))),
        None => Err(Status::bad_request("ports must be between 1 and 65535")),
    }
}

/// How long a pod that has ended its direction may take to read the end of the other.
const GRACE: Duration = Duration::from_secs(1);

/// Whether channels end before the WebSocket does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    Alone,
    WithTheSocket,
}

/// What comes for a pod.
enum Input {
    Data(Bytes),
    End,
}

/// Forwards the ports until all of their connections have ended, or the client closes the WebSocket.
pub(super) async fn serve(socket: Socket, door: Door, ports: Vec<u16>, ends: Ends) {
    let (mut to, mut from) = socket.split();
    let (out, mut messages) = mpsc::channel(WAITING);
    let mut forwarded = JoinSet::new();
    let mut inputs = Vec::new();
    for (n, port) in ports.into_iter().enumerate() {
        let (input, received) = mpsc::channel(WAITING);
        inputs.push(Some(input));
        let channels = Channels {
            data: n as u8 * 2,
            out: out.clone(),
            ends,
        };
        forwarded.spawn(forward(port, channels, received, door.clone()));
    }
    drop(out);
    let sending = async {
        while let Some(message) = messages.recv().await {
            if to.send(message).await.is_err() {
                return;
            }
        }
    };
    let code = tokio::select! {
        code = receive(&mut from, inputs, ends) => code,
        () = sending => Some(CloseCode::Normal),
    };
    let rest = async { while messages.recv().await.is_some() {} };
    // Who was sent something before the client closed may still read it.
    let _ = tokio::time::timeout(DRAIN, rest).await;
    forwarded.abort_all();
    let farewell = async {
        if let Some(code) = code {
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

/// Hands what comes to its connections, until the client closes the WebSocket, or breaks the protocol: then it is told
/// how. A pod that does not read holds up the others of this WebSocket.
async fn receive(
    from: &mut SplitStream<Socket>,
    mut inputs: Vec<Option<mpsc::Sender<Input>>>,
    ends: Ends,
) -> Option<CloseCode> {
    while let Some(message) = from.next().await {
        let mut data = match message {
            Ok(Message::Binary(data)) if !data.is_empty() => data,
            Ok(Message::Close(_)) => return None,
            Ok(_) => continue,
            Err(error) => return breach(&error),
        };
        let (channel, input) = match (data.split_to(1)[0], ends) {
            (CLOSE, Ends::Alone) => match *data {
                [channel] => (channel, Input::End),
                _ => return Some(CloseCode::Protocol),
            },
            (channel, _) => (channel, Input::Data(data)),
        };
        // Nobody has anything to say on the channels for errors.
        let found = inputs.get_mut(usize::from(channel / 2));
        let Some(open) = found.filter(|_| channel % 2 == 0) else {
            continue;
        };
        // Nothing comes after its end.
        let sender = match &input {
            Input::Data(_) => open.clone(),
            Input::End => open.take(),
        };
        if let Some(sender) = sender {
            // Where the connection has ended nobody reads it.
            let _ = sender.send(input).await;
        }
    }
    None
}

/// The two channels of a port.
struct Channels {
    data: u8,
    out: mpsc::Sender<Message>,
    ends: Ends,
}

impl Channels {
    async fn data(&self, bytes: &[u8]) -> Result<(), CutOff> {
        self.send(self.data, bytes).await
    }

    async fn error(&self, text: &str) -> Result<(), CutOff> {
        self.send(self.data + 1, text.as_bytes()).await
    }

    /// Says that nothing more comes on a channel, where that can be said.
    async fn end(&self, channel: u8) -> Result<(), CutOff> {
        match self.ends {
            Ends::Alone => self.send(CLOSE, &[channel]).await,
            Ends::WithTheSocket => Ok(()),
        }
    }

    async fn send(&self, channel: u8, bytes: &[u8]) -> Result<(), CutOff> {
        let mut message = BytesMut::with_capacity(1 + bytes.len());
        message.put_u8(channel);
        message.put_slice(bytes);
        let sent = self.out.send(Message::Binary(message.freeze())).await;
        sent.map_err(|_| CutOff)
    }

    async fn begin(&self, port: u16) -> Result<(), CutOff> {
        let number = port.to_le_bytes();
        self.send(self.data, &number).await?;
        self.send(self.data + 1, &number).await
    }
}

async fn forward(port: u16, channels: Channels, received: mpsc::Receiver<Input>, door: Door) {
    if channels.begin(port).await.is_err() {
        return;
    }
    // A client that is gone does not mind what it is not told.
    match door.open(port).await {
        Ok((from, to)) => {
            if carry(&channels, received, from, to).await.is_err() {
                let _ = channels.error("connection reset by peer").await;
            }
        }
        Err(why) => {
            let _ = channels.error(&why).await;
        }
    }
    let _ = channels.end(channels.data + 1).await;
}

/// Carries a connection until both of its directions have ended.
async fn carry(
    channels: &Channels,
    mut received: mpsc::Receiver<Input>,
    mut from: FromPod,
    mut to: ToPod,
) -> Result<(), CutOff> {
    let inward = async {
        loop {
            match received.recv().await {
                Some(Input::Data(bytes)) => to.send(bytes).await?,
                Some(Input::End) => break,
                None if channels.ends == Ends::WithTheSocket => break,
                None => return Err(CutOff),
            }
        }
        Ok::<_, CutOff>(to.finish().await?)
    };
    let outward = async {
        while let Some(bytes) = from.next().await? {
            channels.data(&bytes).await?;
        }
        channels.end(channels.data).await?;
        if channels.ends == Ends::Alone {
            from.over().await?;
        }
        Ok::<_, CutOff>(())
    };
    both(inward, outward).await?;
    if channels.ends == Ends::WithTheSocket {
        let ending = async {
            to.finish().await?;
            from.over().await
        };
        // The client does not know that its end is waited for, and a pod that goes on reading would wait for ever.
        let _ = tokio::time::timeout(GRACE, ending).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_a_query() {
        for (values, want) in [
            (&["80"][..], Some(vec![80])),
            (&["80", "90"], Some(vec![80, 90])),
            (&["80,90", "1"], Some(vec![80, 90, 1])),
            (&[], None),
            (&[""], None),
            (&["0"], None),
            (&["80,"], None),
            (&["65536"], None),
            (&["http"], None),
        ] {
            assert_eq!(ports(values.iter().copied()).ok(), want, "{values:?}");
        }
        assert!(ports(std::iter::repeat_n("1", 128)).is_err());
    }
}
