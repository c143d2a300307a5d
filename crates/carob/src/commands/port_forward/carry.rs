//! One connection, over a WebSocket of its own.

use std::future::pending;

use anyhow::{Result, bail};
use client::channels::{Channels, PORT_FORWARD, Received, Receiver, Sender};
use client::kubeconfig::Context as Cluster;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

const DATA: u8 = 0;
const ERROR: u8 = 1;
/// What is read at a time.
const CHUNK: usize = 32 << 10;
/// The most bytes of what went wrong that are shown.
const LONGEST_ERROR: usize = 4096;

/// How a connection ended, where the pod's side has nothing to complain of.
enum End {
    /// Both directions have ended in order.
    InOrder,
    /// Here it broke off: the pod hears of it by the WebSocket's end.
    BrokenOffHere,
}

/// Carries both directions to the pod's port that the path names, until both have ended. Each may end before the other.
///
/// # Errors
/// What the server says, or that the connection to it, or its own to the pod, has broken off: then it has here too.
pub(super) async fn carry(cluster: &Cluster, path: &str, mut local: TcpStream) -> Result<()> {
    // Whoever is here may send a byte at a time and wait for its answer. Where it cannot be said, it is only slower.
    let _ = local.set_nodelay(true);
    let carried = async {
        let opened = Channels::open_as(cluster, path, PORT_FORWARD).await?;
        let (mut to, mut from) = opened.split();
        let (reader, writer) = local.split();
        tokio::select! {
            ended = receive(&mut from, writer) => ended,
            () = send(reader, &mut to) => Ok(End::BrokenOffHere),
        }
    };
    let ended = carried.await;
    if !matches!(ended, Ok(End::InOrder)) {
        // A reset, as the other end was. One that cannot be made one has ended anyway.
        let _ = local.set_zero_linger();
    }
    ended.map(drop)
}

/// Passes on what comes from here. Ends only where this end breaks off.
async fn send(mut local: impl AsyncRead + Unpin, to: &mut Sender) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let Ok(length) = local.read(&mut buffer).await else {
            return;
        };
        let sent = match buffer.get(..length) {
            Some(bytes) if length > 0 => to.send(DATA, bytes).await,
            _ => to.finish(DATA).await,
        };
        if length == 0 || sent.is_err() {
            // What the pod has still to say comes the other way, and why nothing can be sent any more.
            return pending().await;
        }
    }
}

/// Passes on what comes from the pod, until the server says that all is over.
async fn receive(from: &mut Receiver, mut local: impl AsyncWrite + Unpin) -> Result<End> {
    let (mut data_begun, mut error_begun, mut finished) = (false, false, false);
    let mut why = Vec::new();
    loop {
        match from.next().await? {
            // Each begins with the port's number.
            Some(Received::Data(DATA, _)) if !data_begun => data_begun = true,
            Some(Received::Data(ERROR, _)) if !error_begun => error_begun = true,
            Some(Received::Data(DATA, bytes)) => {
                if local.write_all(&bytes).await.is_err() {
                    return Ok(End::BrokenOffHere);
                }
            }
            Some(Received::Data(ERROR, bytes)) => {
                let room = LONGEST_ERROR.saturating_sub(why.len());
                why.extend(bytes.into_iter().take(room));
            }
            Some(Received::End(DATA)) => {
                finished = true;
                if local.shutdown().await.is_err() {
                    return Ok(End::BrokenOffHere);
                }
            }
            Some(Received::End(ERROR)) | None => break,
            Some(_) => {}
        }
    }
    if !why.is_empty() {
        bail!("{}", String::from_utf8_lossy(&why));
    }
    if !finished {
        bail!("lost connection to pod");
    }
    Ok(End::InOrder)
}
