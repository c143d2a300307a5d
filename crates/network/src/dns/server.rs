//! The cluster's DNS server: what answers messages at port 53 of an address in the pods' network.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::resolvers::Resolvers;
use super::shares::Shares;
use super::{Answer, Forward, LONGEST_QUERY, Over, answer};
use crate::pipe::Reader;
use crate::{Datagram, Datagrams, Listener, PodNet, SocketError, Stream};

/// The port of DNS.
pub const PORT: u16 = 53;
/// Questions that resolvers outside have not answered yet; those that come then fail.
const MOST_FORWARDED: usize = 256;
/// Of these, one client's.
const FORWARDED_EACH: usize = 32;
/// Streams that questions come over.
const MOST_STREAMS: usize = 256;
/// Of these, one client's; further ones are reset.
const STREAMS_EACH: usize = 16;
/// How long a stream may say nothing (RFC 7766, section 6.2.3).
const IDLE: Duration = Duration::from_secs(10);

/// Answers with the names of the pod's network, and asks `resolvers` for all others, those in front first. It ends only
/// by failing: drop it.
///
/// # Errors
/// When the pod's port 53 is taken.
pub async fn serve(net: PodNet, resolvers: Vec<SocketAddr>) -> Result<(), SocketError> {
    let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT);
    let datagrams = Datagrams::new(Arc::new(net.bind_datagram(at)?));
    let listener = Listener::new(Arc::new(net.bind_stream(at)?), MOST_STREAMS);
    let server = Arc::new(Server {
        net,
        resolvers: Resolvers::new(resolvers),
        turn: AtomicUsize::new(0),
        forwarded: Semaphore::new(MOST_FORWARDED),
        forwarded_each: Shares::new(FORWARDED_EACH),
    });
    tokio::join!(
        server.clone().over_datagrams(Arc::new(datagrams)),
        server.over_streams(listener)
    );
    Ok(())
}

struct Server {
    net: PodNet,
    resolvers: Resolvers,
    turn: AtomicUsize,
    forwarded: Semaphore,
    forwarded_each: Arc<Shares>,
}

impl Server {
    fn answer(&self, query: &[u8], over: Over) -> Answer {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        answer(query, &self.net.pod().table().names, over, turn)
    }

    async fn over_datagrams(self: Arc<Self>, socket: Arc<Datagrams>) {
        let mut asking = JoinSet::new();
        loop {
            let Datagram { bytes, from } = socket.receive().await;
            while asking.try_join_next().is_some() {}
            match self.answer(&bytes, Over::Udp) {
                Answer::Ignore => {}
                Answer::Reply(reply) => send(&socket, reply, from),
                Answer::Forward(forward) => {
                    let (server, socket) = (self.clone(), socket.clone());
                    asking.spawn(async move {
                        let reply = server.forward(&forward, Over::Udp, from.ip()).await;
                        send(&socket, reply, from);
                    });
                }
            }
        }
    }

    async fn over_streams(self: Arc<Self>, listener: Listener) {
        let room = Arc::new(Semaphore::new(MOST_STREAMS));
        let each = Shares::new(STREAMS_EACH);
        let mut serving = JoinSet::new();
        loop {
            // Who finds no room waits in the listener's backlog.
            let Ok(permit) = room.clone().acquire_owned().await else {
                return;
            };
            let stream = listener.accept().await;
            while serving.try_join_next().is_some() {}
            let client = stream.remote().ip();
            let Some(share) = each.take(client) else {
                stream.reset();
                continue;
            };
            let server = self.clone();
            serving.spawn(async move {
                // However it ended: the client sees that it did.
                let _ = server.over_stream(stream).await;
                drop((permit, share));
            });
        }
    }

    /// Answers one question after the other until the client ends the stream, says nothing, or asks too much at once.
    async fn over_stream(&self, stream: Stream) -> io::Result<()> {
        while let Some(query) = timeout(IDLE, message(&stream.reader)).await?? {
            let reply = match self.answer(&query, Over::Tcp) {
                Answer::Ignore => return Ok(()),
                Answer::Reply(reply) => reply,
                Answer::Forward(forward) => {
                    let client = stream.remote().ip();
                    self.forward(&forward, Over::Tcp, client).await
                }
            };
            let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
            let mut framed = BytesMut::with_capacity(2 + reply.len());
            framed.extend_from_slice(&length.to_be_bytes());
            framed.extend_from_slice(&reply);
            let room = timeout(IDLE, std::future::poll_fn(|cx| stream.writer.poll_room(cx)));
            room.await?.map_err(io::Error::other)?;
            stream
                .writer
                .write(framed.freeze())
                .map_err(io::Error::other)?;
        }
        Ok(())
    }

    async fn forward(&self, forward: &Forward, over: Over, client: IpAddr) -> Vec<u8> {
        let share = self.forwarded_each.take(client);
        let (Some(_share), Ok(_permit)) = (share, self.forwarded.try_acquire()) else {
            return forward.failed();
        };
        let reply = self.resolvers.ask(forward, over).await;
        reply.unwrap_or_else(|| forward.failed())
    }
}

fn send(socket: &Datagrams, reply: Vec<u8>, to: SocketAddr) {
    // Who has gone meanwhile needs no answer.
    let _ = socket.send(Bytes::from(reply), to);
}

/// The next message of a stream: none at its end.
async fn message(reader: &Reader) -> io::Result<Option<BytesMut>> {
    let Some(length) = exactly(reader, 2).await? else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length > LONGEST_QUERY {
        return Err(io::Error::other("a query of that length"));
    }
    exactly(reader, length).await
}

async fn exactly(reader: &Reader, length: usize) -> io::Result<Option<BytesMut>> {
    let mut bytes = BytesMut::with_capacity(length);
    while bytes.len() < length {
        let more = reader.read(length - bytes.len()).await;
        match more.map_err(io::Error::other)? {
            Some(more) => bytes.extend_from_slice(&more),
            None if bytes.is_empty() => return Ok(None),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    Ok(Some(bytes))
}
