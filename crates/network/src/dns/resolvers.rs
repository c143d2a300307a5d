//! Resolvers outside, asked as any stub resolver asks them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::{Forward, Over};

/// How long one of them may take, before the next is asked.
const WITHIN: Duration = Duration::from_secs(2);
/// As many are asked as resolv.conf(5) lets there be.
const MOST: usize = 3;

/// Those of a host.
pub(super) struct Resolvers(Vec<SocketAddr>);

impl Resolvers {
    pub(super) fn new(mut all: Vec<SocketAddr>) -> Self {
        all.truncate(MOST);
        Self(all)
    }

    /// The reply that the first resolver's answer becomes which gives one: none where none does.
    pub(super) async fn ask(&self, forward: &Forward, over: Over) -> Option<Vec<u8>> {
        for resolver in &self.0 {
            let asked = async {
                match over {
                    Over::Udp => by_datagram(*resolver, forward).await,
                    Over::Tcp => by_stream(*resolver, forward).await,
                }
            };
            match timeout(WITHIN, asked).await {
                Ok(Ok(reply)) => return Some(reply),
                Ok(Err(error)) => tracing::debug!(%resolver, %error, "a resolver cannot be asked"),
                Err(_) => tracing::debug!(%resolver, "a resolver is silent"),
            }
        }
        None
    }
}

async fn by_datagram(resolver: SocketAddr, forward: &Forward) -> io::Result<Vec<u8>> {
    let any: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port of its own for each question: with the number it is what a forger has to guess.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    let id = rand::random();
    socket.send(&forward.query(id)).await?;
    let mut answer = vec![0; usize::from(super::EDNS_SIZE)];
    loop {
        let length = socket.recv(&mut answer).await?;
        // Anything else is somebody's attempt, and the true answer may still come.
        if let Some(reply) = forward.reply(id, &answer[..length]) {
            return Ok(reply);
        }
    }
}

async fn by_stream(resolver: SocketAddr, forward: &Forward) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let id = rand::random();
    let query = forward.query(id);
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_u16(length).await?;
    stream.write_all(&query).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    let reply = forward.reply(id, &answer);
    reply.ok_or_else(|| io::Error::other("the answer is to another question"))
}
