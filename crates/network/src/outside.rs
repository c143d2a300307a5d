//! Connections to what is no pod, by sockets of the operating system.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use crate::SocketError;
use crate::descriptors::Place;
use crate::node::Pod;
use crate::pipe::{Broken, Reader, Writer};
use crate::stream::{BUFFER, Stream};

/// How much is read from the operating system at once.
const CHUNK: usize = 64 << 10;

/// How many streams one pod has to the outside at a time, however many file descriptors the node has for them.
pub(crate) const MOST_STREAMS: usize = 2_048;
/// After how long a silence the other end is asked whether it is still there.
const STILL_THERE: Duration = Duration::from_secs(60);
/// How long the other end may take to read what a pod wrote before it went.
const LINGER: Duration = Duration::from_secs(60);

/// Whether an address can be one machine's out there, as it is said by a pod: not several machines' at once, and none that
/// has a meaning within one machine alone. An IPv6 address of one link means nothing without the link, and pods have none
/// of the node's. IPv4's 169.254.0.0/16 needs none and is reached, as in Kubernetes: whom that is not for a policy holds back.
pub(crate) fn is_possible(address: IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(address) => address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(local || address.is_multicast() || address.is_loopback() || address.is_unspecified())
}

/// Whether a Service's endpoint outside can have an address: a local cluster's API servers are on loopback, and nobody
/// else's slices are taken up with such.
pub(crate) fn is_possible_endpoint(address: Ipv4Addr) -> bool {
    address.is_loopback() || is_possible(address.into())
}

/// One of the streams that a pod may have to the outside.
///
/// # Errors
/// [`SocketError::PortsExhausted`] where the pod has too many already, or the node.
pub(crate) fn room(pod: &Pod) -> Result<(OwnedSemaphorePermit, Place), SocketError> {
    let room = pod.outside_streams.clone().try_acquire_owned().ok();
    let room = room.and_then(|room| Some((room, pod.sockets.take()?)));
    room.ok_or(SocketError::PortsExhausted)
}

/// Connects a stream to an address outside, and keeps what is `held` until it has ended. The other end sees the node's
/// address.
///
/// # Errors
/// What the system says.
pub(crate) async fn connect(
    near: Stream,
    far: Stream,
    to: SocketAddr,
    held: impl Send + 'static,
) -> Result<Stream, SocketError> {
    let socket = TcpStream::connect(to).await.map_err(|e| reason(&e))?;
    tokio::spawn(async move {
        carry(far, socket).await;
        drop(held);
    });
    Ok(near)
}

fn reason(error: &std::io::Error) -> SocketError {
    use std::io::ErrorKind;
    if let Some(Errno::MFILE | Errno::NFILE) = Errno::from_io_error(error) {
        return SocketError::PortsExhausted;
    }
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => SocketError::Refused,
        ErrorKind::TimedOut => SocketError::TimedOut,
        _ => SocketError::Unreachable,
    }
}

/// Moves bytes between a pod's stream and a socket until both directions have ended, or one is reset.
pub(crate) async fn carry(far: Stream, socket: TcpStream) {
    // Guests' writes are not to wait for more of them, and who vanished without a word is not waited for without end.
    let _ = socket.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(&socket, true);
    let _ = sockopt::set_tcp_keepidle(&socket, STILL_THERE);
    let (mut input, mut output) = socket.into_split();
    let (reader, writer, _port) = far.into_parts();
    let ended = {
        let out = send(&reader, &mut output);
        tokio::pin!(out);
        tokio::select! {
            ended = &mut out => match ended {
                // Begun anew it has lost nothing: what was read is handed over at once.
                Ok(()) => unread_is_fine(receive(&mut input, &writer).await),
                broken => broken,
            },
            ended = receive(&mut input, &writer) => match ended {
                Ok(()) => out.await,
                // Nobody at the pod reads any more; it may write on for as long as it likes and the other end is there.
                Err(Broken::Closed) => tokio::select! {
                    ended = out => ended,
                    () = gone(&mut input) => Err(Broken::Reset),
                    () = written(&reader) => Err(Broken::Reset),
                },
                broken => broken,
            },
        }
    };
    if ended.is_err() {
        reader.reset();
        writer.reset();
        // Where it fails the other end sees an end in order, which is all that can be done.
        let _ = output.as_ref().set_zero_linger();
        // Dropped, it would say first that it ends in order.
        output.forget();
    }
}

/// Throws away what comes from the outside. Ready once the other end is reset, also after it has written its last.
async fn gone(input: &mut OwnedReadHalf) {
    if tokio::io::copy(input, &mut tokio::io::sink()).await.is_ok() {
        // It may read on, and what fails then no read says.
        let _ = input.ready(Interest::ERROR).await;
    }
}

/// Ready [`LINGER`] after the pod has written its last.
async fn written(reader: &Reader) {
    poll_fn(|cx| reader.poll_closed(cx)).await;
    sleep(LINGER).await;
}

/// That the pod does not read to the end is its own affair.
fn unread_is_fine(ended: Result<(), Broken>) -> Result<(), Broken> {
    ended.or_else(|broken| match broken {
        Broken::Closed => Ok(()),
        Broken::Reset => Err(broken),
    })
}

/// What the pod writes, to the outside.
async fn send(reader: &Reader, output: &mut OwnedWriteHalf) -> Result<(), Broken> {
    while let Some(chunk) = reader.read(CHUNK).await? {
        output.write_all(&chunk).await.map_err(|_| Broken::Reset)?;
    }
    // Where the other end is gone already there is nobody to tell.
    let _ = output.shutdown().await;
    Ok(())
}

/// What comes from the outside, to the pod. [`Broken::Closed`] as soon as that reads no more, also where nothing comes.
async fn receive(input: &mut OwnedReadHalf, writer: &Writer) -> Result<(), Broken> {
    let mut buffer = BytesMut::new();
    loop {
        let room = poll_fn(|cx| writer.poll_room(cx)).await?;
        buffer.reserve(CHUNK.min(BUFFER));
        let mut part = (&mut *input).take(room.min(CHUNK) as u64);
        let read = tokio::select! {
            read = part.read_buf(&mut buffer) => read,
            broken = poll_fn(|cx| writer.poll_broken(cx)) => return Err(broken),
        };
        match read {
            Ok(0) => {
                writer.close();
                return Ok(());
            }
            Ok(_) => writer.write(buffer.split().freeze())?,
            Err(_) => return Err(Broken::Reset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_still_writes_is_given_the_time() {
        let (writer, reader) = crate::pipe::pipe(8);
        writer.write(b"unread".as_slice().into()).unwrap();
        let written = written(&reader);
        tokio::pin!(written);
        let early = tokio::time::timeout(LINGER * 10, &mut written).await;
        assert!(early.is_err(), "it can write yet");
        writer.close();
        let closed = tokio::time::Instant::now();
        written.await;
        assert_eq!(closed.elapsed(), LINGER);
    }

    /// Linux' numbers for what a node without IPv6 says, among others.
    #[test]
    fn why_nobody_is_reached() {
        const ENETUNREACH: i32 = 101;
        const EHOSTUNREACH: i32 = 113;
        const EADDRNOTAVAIL: i32 = 99;
        const EAFNOSUPPORT: i32 = 97;
        const ECONNREFUSED: i32 = 111;
        const ETIMEDOUT: i32 = 110;
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        for (number, expected) in [
            (ENETUNREACH, SocketError::Unreachable),
            (EHOSTUNREACH, SocketError::Unreachable),
            (EADDRNOTAVAIL, SocketError::Unreachable),
            (EAFNOSUPPORT, SocketError::Unreachable),
            (ECONNREFUSED, SocketError::Refused),
            (ETIMEDOUT, SocketError::TimedOut),
            (ENFILE, SocketError::PortsExhausted),
            (EMFILE, SocketError::PortsExhausted),
        ] {
            let error = std::io::Error::from_raw_os_error(number);
            assert_eq!(reason(&error), expected, "{error}");
        }
    }

    #[test]
    fn not_every_address_is_outside() {
        for (address, expected) in [
            ("192.0.2.1", true),
            ("169.254.169.254", true),
            ("2001:db8::1", true),
            ("fd00::1", true),
            ("255.255.255.255", false),
            ("224.0.0.251", false),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("ff02::fb", false),
            ("fe80::1", false),
            ("::1", false),
            ("::", false),
        ] {
            let found = is_possible(address.parse().unwrap());
            assert_eq!(found, expected, "{address}");
        }
        for (address, expected) in [
            ([192, 0, 2, 1], true),
            ([127, 0, 0, 2], true),
            ([0, 0, 0, 0], false),
            ([224, 0, 0, 251], false),
            ([255, 255, 255, 255], false),
        ] {
            let found = is_possible_endpoint(address.into());
            assert_eq!(found, expected, "{address:?}");
        }
    }
}
