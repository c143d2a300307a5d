//! Crashes and damage, on images of the log's files.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use openraft::storage::RaftLogReader;
use openraft::storage::RaftLogStorage;
use openraft::storage::RaftLogStorageExt;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::Wal;
use super::frame::ALIGN;
use super::segment;
use crate::Command;
use crate::Error;
use crate::Op;
use crate::RequestId;
use crate::apply::Proposal;
use crate::types::LogEntry;
use crate::types::Payload;
use crate::types::Vote;
use crate::types::log_id;

fn open(dir: &Path) -> Result<Wal, Error> {
    let lock = Arc::new(File::create(dir.join("lock")).expect("lock"));
    Wal::open(dir, &lock)
}

fn entry(term: u64, index: u64, bytes: usize) -> LogEntry {
    let op = Op::Put {
        key: "k".into(),
        value: vec![index as u8; bytes].into(),
        lease: None,
    };
    let command = Arc::new(Command::always(vec![op]));
    let proposal = Proposal {
        id: RequestId(u128::from(index)),
        seen: 0,
        command,
    };
    LogEntry {
        log_id: log_id(term, index),
        payload: Payload::Normal(proposal),
    }
}

async fn all(wal: &mut Wal) -> Vec<LogEntry> {
    wal.try_get_log_entries(..).await.expect("read")
}

#[tokio::test]
async fn everything_is_found_again_across_segments() {
    let dir = tempfile::tempdir().expect("dir");
    let mut wal = open(dir.path()).expect("open");
    let vote = Vote::new_committed(3, 2);
    wal.save_vote(&vote).await.expect("vote");
    // Enough for several segments, one entry larger than what is left of any, and more than the cache holds.
    let mut written = Vec::new();
    for index in 0..40 {
        let entry = entry(3, index, if index % 10 == 9 { 4 << 20 } else { 1 << 20 });
        wal.blocking_append([entry.clone()]).await.expect("append");
        written.push(entry);
    }
    assert_eq!(
        all(&mut wal).await,
        written,
        "from cache and files together"
    );
    wal.truncate_after(Some(log_id(3, 34)))
        .await
        .expect("truncate");
    written.truncate(35);
    let again = entry(4, 35, 10);
    wal.save_committed(Some(log_id(3, 30)))
        .await
        .expect("committed");
    wal.blocking_append([again.clone()]).await.expect("append");
    written.push(again);
    drop(wal);
    let mut wal = open(dir.path()).expect("open");
    assert_eq!(all(&mut wal).await, written);
    assert_eq!(wal.read_vote().await.expect("vote"), Some(vote));
    assert_eq!(
        wal.read_committed().await.expect("committed"),
        Some(log_id(3, 30))
    );
    let files = segment::list(dir.path()).expect("list").len();
    wal.purge(log_id(3, 32)).await.expect("purge");
    wal.sync().await.expect("sync");
    assert!(
        segment::list(dir.path()).expect("list").len() < files,
        "purged segments are removed"
    );
    drop(wal);
    let mut wal = open(dir.path()).expect("open");
    assert_eq!(all(&mut wal).await, written[33..]);
    assert_eq!(
        wal.read_vote().await.expect("vote"),
        Some(vote),
        "also without the segment it was written to"
    );
    let state = wal.get_log_state().await.expect("state");
    assert_eq!(
        (state.last_purged_log_id, state.last_log_id),
        (Some(log_id(3, 32)), Some(log_id(4, 35)))
    );
}

#[tokio::test]
async fn an_entry_on_its_way_to_the_disk_is_not_confused_with_its_successor() {
    let dir = tempfile::tempdir().expect("dir");
    let mut wal = open(dir.path()).expect("open");
    for round in 1..=50 {
        let noop = openraft::storage::IOFlushed::noop;
        wal.append((1..=20).map(|index| entry(round, index, 10)), noop())
            .await
            .expect("append");
        wal.truncate_after(Some(log_id(round, 10)))
            .await
            .expect("truncate");
        wal.append((11..=15).map(|index| entry(round, index, 20)), noop())
            .await
            .expect("append");
        let now = all(&mut wal).await;
        assert_eq!(now.len(), 15);
        wal.truncate_after(None).await.expect("truncate");
    }
    wal.blocking_append([entry(51, 0, 5)])
        .await
        .expect("append");
    drop(wal);
    assert_eq!(
        all(&mut open(dir.path()).expect("open")).await,
        [entry(51, 0, 5)]
    );
}

/// After each acknowledged group an image is taken. A power cut between two of them leaves the one image with any
/// of the sectors that the other has changed. Everything of the first must be there, and nothing broken.
#[tokio::test]
async fn a_power_cut_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("dir");
    let mut wal = open(dir.path()).expect("open");
    let file = segment::path(dir.path(), 1);
    let mut rng = StdRng::seed_from_u64(7);
    let mut images = vec![std::fs::read(&file).expect("image")];
    let mut counts = vec![0];
    let mut written = Vec::new();
    for _ in 0..12 {
        let group: Vec<_> = (0..rng.random_range(1..30))
            .map(|_| {
                let entry = entry(1, written.len() as u64, rng.random_range(0..3000));
                written.push(entry.clone());
                entry
            })
            .collect();
        wal.blocking_append(group).await.expect("append");
        images.push(std::fs::read(&file).expect("image"));
        counts.push(written.len());
    }
    drop(wal);
    for (at, pair) in images.windows(2).enumerate() {
        for _ in 0..6 {
            let mut image = pair[0].clone();
            for sector in (0..image.len())
                .step_by(ALIGN)
                .filter(|&sector| pair[0][sector..][..ALIGN] != pair[1][sector..][..ALIGN])
            {
                if rng.random_bool(0.5) {
                    image[sector..sector + ALIGN].copy_from_slice(&pair[1][sector..sector + ALIGN]);
                }
            }
            let crashed = tempfile::tempdir().expect("dir");
            std::fs::write(segment::path(crashed.path(), 1), &image).expect("image");
            let mut wal = open(crashed.path()).expect("opens every time");
            let found = all(&mut wal).await;
            assert!(
                found.len() >= counts[at],
                "acknowledged {} of {}",
                counts[at],
                found.len()
            );
            assert_eq!(found[..], written[..found.len()]);
            // What follows is not mixed up with what the cut left behind.
            let next = entry(2, found.len() as u64, 100);
            wal.blocking_append([next.clone()]).await.expect("append");
            drop(wal);
            let again = all(&mut open(crashed.path()).expect("open")).await;
            assert_eq!(again[..found.len()], found[..]);
            assert_eq!(again[found.len()..], [next]);
        }
    }
}

#[tokio::test]
async fn a_damaged_middle_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("dir");
    let mut wal = open(dir.path()).expect("open");
    for index in 0..9 {
        wal.blocking_append([entry(1, index, 3 << 20)])
            .await
            .expect("append");
    }
    drop(wal);
    let whole = std::fs::read(segment::path(dir.path(), 2)).expect("read");
    for at in [40, 600, 3 << 20, 10 << 20] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(segment::path(dir.path(), 2), &damaged).expect("write");
        match open(dir.path()).map(drop) {
            Err(Error::Damaged { path, .. }) => {
                let near = [segment::path(dir.path(), 2), segment::path(dir.path(), 3)];
                assert!(near.contains(&path), "{path:?}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
    }
    std::fs::write(segment::path(dir.path(), 2), &whole).expect("write");
    drop(open(dir.path()).expect("whole again"));
    assert!(segment::list(dir.path()).expect("list").len() > 1);
    std::fs::remove_file(segment::path(dir.path(), 2)).expect("remove");
    assert!(
        matches!(open(dir.path()).map(drop), Err(Error::Damaged { .. })),
        "a segment is missing"
    );
}

#[tokio::test]
async fn what_is_committed_never_lies_beyond_the_log() {
    let dir = tempfile::tempdir().expect("dir");
    let mut wal = open(dir.path()).expect("open");
    wal.save_committed(Some(log_id(1, 9)))
        .await
        .expect("committed");
    wal.blocking_append([entry(1, 0, 1), entry(1, 1, 1)])
        .await
        .expect("append");
    drop(wal);
    let mut wal = open(dir.path()).expect("open");
    assert_eq!(
        wal.read_committed().await.expect("committed"),
        Some(log_id(1, 1))
    );
}
