//! A member that has its log but not the state that the log goes on from gets the state from another member. It keeps
//! its log and vote, so what it has acknowledged stays acknowledged.

use std::fs::File;
use std::io;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::Error;
use crate::codec::Encode;
use crate::copy::Checkpoint;
use crate::copy::Copy;
use crate::network::Lane;
use crate::network::Peers;
use crate::proto::StateRequest;
use crate::transfer;
use crate::types::StoredMembership;
use crate::wal::Wal;
use crate::wal::sync_dir;

/// The file that says who the members are when the state cannot.
const ROSTER: &str = "members";
/// How long others are asked: they may be starting too.
const ASK_FOR: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Notes the members beside the state.
pub(crate) fn note_members(dir: &Path, membership: &StoredMembership) -> io::Result<()> {
    let path = dir.join(ROSTER);
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&membership.to_vec())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    sync_dir(dir)
}

/// Makes sure that state and log together are everything this member ever knew.
pub(crate) async fn repair(
    dir: &Path,
    id: u64,
    wal: &Wal,
    copy: Copy,
    peers: &Peers,
) -> Result<Copy, Error> {
    forget_conflicts(wal, copy.held())?;
    let Some(purged) = wal
        .purged()
        .filter(|purged| copy.held().applied < Some(*purged))
    else {
        return Ok(copy);
    };
    tracing::warn!(%purged, "the state is lost and the log does not reach back to its beginning: asking other members");
    let others = others(dir, id);
    let deadline = Instant::now() + ASK_FOR;
    while Instant::now() < deadline {
        for address in &others {
            match fetch(peers, *address).await {
                Ok(checkpoint) if checkpoint.applied >= Some(purged) => {
                    return install(wal, copy, checkpoint).await;
                }
                Ok(_) => tracing::info!(%address, "that member lags too far behind to help"),
                Err(error) => tracing::info!(%address, %error, "that member could not help"),
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    let reason = "the state cannot be read, the log no longer reaches back to its beginning, and no other member could \
                  supply the state; start the others first, or restore the directory from a backup";
    Err(Error::damaged(dir.join("state"), reason))
}

fn others(dir: &Path, id: u64) -> Vec<SocketAddr> {
    let roster = std::fs::read(dir.join(ROSTER))
        .ok()
        .and_then(|bytes| StoredMembership::from_slice(&bytes).ok());
    let roster = roster.unwrap_or_default();
    let others = roster.nodes().filter(|(member, _)| **member != id);
    others
        .filter_map(|(_, peer)| peer.address.parse().ok())
        .collect()
}

async fn fetch(peers: &Peers, address: SocketAddr) -> Result<Checkpoint, tonic::Status> {
    let pieces = peers
        .forward(address, Lane::Bulk)
        .state(StateRequest {})
        .await?
        .into_inner();
    transfer::assemble(pieces)
        .await
        .map(|(_, checkpoint)| checkpoint)
}

async fn install(wal: &Wal, mut copy: Copy, checkpoint: Checkpoint) -> Result<Copy, Error> {
    let install = move || copy.install(&checkpoint).map(|()| copy);
    let copy = tokio::task::spawn_blocking(install)
        .await
        .map_err(|error| Error::Stopped(error.to_string()))??;
    forget_conflicts(wal, copy.held())?;
    Ok(copy)
}

/// Where the log differs from the state, which holds only what is committed, the log's entries never were: a snapshot
/// was taken over, and the member stopped before it could cut its log.
fn forget_conflicts(wal: &Wal, held: &Checkpoint) -> Result<(), Error> {
    let Some(applied) = held.applied else {
        return Ok(());
    };
    if wal.log_id(applied.index).is_some_and(|own| own != applied) {
        wal.truncate(applied.index)
            .map_err(|error| Error::Stopped(error.to_string()))?;
    }
    Ok(())
}
