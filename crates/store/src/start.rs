//! How a member starts: its files, then its service.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::copy::Copy;
use crate::forward::ForwardService;
use crate::leadership::Pulse;
use crate::newcomer::Newcomer;
use crate::proto::forward_server::ForwardServer;
use crate::proto::raft_server::RaftServer;
use crate::service::Raft;
use crate::service::RaftService;
use crate::tls::Identity;
use crate::wal::Wal;
use crate::wire::MAX_MESSAGE_BYTES;

/// How long a directory may still be held by a member that is just ending.
const LOCK_WITHIN: Duration = Duration::from_secs(5);

/// The lock by which a directory has one member at a time; held until the last thread that writes there has ended.
pub(crate) async fn lock(dir: &Path) -> Result<File, Error> {
    std::fs::create_dir_all(dir).map_err(|error| Error::io(dir, error))?;
    // A directory that was just made must survive a power cut too. Those above may not be ours to open.
    for above in dir
        .ancestors()
        .skip(1)
        .filter(|above| above.parent().is_some())
    {
        let _ = crate::wal::sync_dir(above);
    }
    let path = dir.join("lock");
    let options = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = options.map_err(|error| Error::io(&path, error))?;
    let deadline = Instant::now() + LOCK_WITHIN;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                let reason = std::io::Error::other("in use by another process");
                return Err(Error::io(path, reason));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(Error::io(path, error)),
        }
    }
}

/// Opens the log and the copy of the state.
pub(crate) fn recover(dir: &Path, lock: &Arc<File>) -> Result<(Wal, Copy), Error> {
    let log = dir.join("log");
    std::fs::create_dir_all(&log).map_err(|error| Error::io(&log, error))?;
    crate::wal::sync_dir(dir).map_err(|error| Error::io(dir, error))?;
    let wal = Wal::open(&log, lock)?;
    let copy = Copy::open(&dir.join("state"), lock)?;
    Ok((wal, copy))
}

/// Serves the other members until `stop`.
pub(crate) fn serve(
    listener: TcpListener,
    identity: Identity,
    raft: Raft,
    newcomer: Arc<Newcomer>,
    pulse: Arc<Pulse>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let raft_service = RaftServer::new(RaftService {
        raft: raft.clone(),
        newcomer,
        pulse,
    })
    .max_decoding_message_size(MAX_MESSAGE_BYTES)
    .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let forward_service = ForwardServer::new(ForwardService { raft })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    async move {
        let mut accepted = identity.accept(listener);
        let accepted = futures::stream::poll_fn(move |context| accepted.poll_recv(context))
            .map(Ok::<_, std::io::Error>);
        let served = tonic::transport::Server::builder()
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20)
            .add_service(raft_service)
            .add_service(forward_service)
            .serve_with_incoming_shutdown(accepted, stop.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the raft service ended");
        }
    }
}
