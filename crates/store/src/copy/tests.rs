use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::Checkpoint;
use super::Copy;
use super::PIECE;
use crate::Command;
use crate::Op;
use crate::RequestId;
use crate::apply::Proposal;
use crate::apply::apply_once;
use crate::copier::Copier;
use crate::types::log_id;

fn open(dir: &Path) -> Copy {
    let lock = Arc::new(File::create(dir.join("lock")).expect("lock"));
    Copy::open(&dir.join("state"), &lock).expect("copy")
}

/// Applies `ops` as the next log entry.
fn step(checkpoint: &mut Checkpoint, ops: Vec<Op>) {
    let index = checkpoint.applied.map_or(1, |applied| applied.index + 1);
    let id = RequestId(u128::from(index));
    apply_once(
        &mut checkpoint.state,
        index,
        &Proposal {
            id,
            seen: index,
            command: Arc::new(Command::always(ops)),
        },
    );
    checkpoint.applied = Some(log_id(1, index));
}

fn put(key: &str, bytes: usize, lease: Option<u64>) -> Op {
    let byte = key.len() as u8;
    Op::Put {
        key: key.to_owned().into(),
        value: vec![byte; bytes].into(),
        lease,
    }
}

fn same(copy: &Copy, checkpoint: &Checkpoint) {
    assert_eq!(copy.held().applied, checkpoint.applied);
    assert_eq!(copy.held().state, checkpoint.state);
}

#[test]
fn every_change_is_found_again() {
    let dir = tempfile::tempdir().expect("dir");
    let mut checkpoint = Checkpoint::default();
    let sizes = [
        0,
        1,
        PIECE - 40,
        PIECE,
        PIECE + 1,
        5 * PIECE,
        100 * PIECE,
        3,
    ];
    for (round, bytes) in sizes.into_iter().enumerate() {
        let mut copy = open(dir.path());
        same(&copy, &checkpoint);
        step(
            &mut checkpoint,
            vec![Op::GrantLease {
                id: round as u64,
                ttl_ms: 5,
            }],
        );
        // Values grow and shrink over the pieces; keys are prefixes of each other, with and without zeros.
        step(
            &mut checkpoint,
            vec![
                put("a", bytes, Some(round as u64)),
                put("a\0", bytes, None),
                put("a\0\0\0\0", 7, None),
            ],
        );
        copy.advance(&checkpoint).expect("advance");
        step(
            &mut checkpoint,
            vec![
                put(&"k".repeat(1000), bytes, None),
                put(&format!("own-{round}"), bytes, None),
            ],
        );
        if round % 3 == 2 {
            step(
                &mut checkpoint,
                vec![
                    Op::Delete { key: "a\0".into() },
                    Op::RevokeLease {
                        id: round as u64 - 1,
                    },
                ],
            );
        }
        copy.advance(&checkpoint).expect("advance");
        same(&copy, &checkpoint);
    }
    same(&open(dir.path()), &checkpoint);
}

#[test]
fn a_whole_state_replaces_another_at_once() {
    let dir = tempfile::tempdir().expect("dir");
    let mut first = Checkpoint::default();
    step(&mut first, vec![put("gone", 10, None)]);
    let mut copy = open(dir.path());
    copy.advance(&first).expect("advance");
    let mut second = Checkpoint::default();
    for at in 0..2000 {
        step(&mut second, vec![put(&format!("k{at}"), at, None)]);
    }
    copy.install(&second).expect("install");
    same(&copy, &second);
    drop(copy);
    let mut copy = open(dir.path());
    same(&copy, &second);
    step(&mut second, vec![put("more", 1, None)]);
    copy.advance(&second).expect("advance");
    drop(copy);
    same(&open(dir.path()), &second);
}

#[test]
fn a_failed_write_leaves_the_state_before_or_after_it() {
    let dir = tempfile::tempdir().expect("dir");
    let mut before = Checkpoint::default();
    step(&mut before, vec![put("kept", 10, None)]);
    let mut copy = open(dir.path());
    copy.advance(&before).expect("advance");
    let mut after = before.clone();
    step(
        &mut after,
        vec![put("kept", 2 * PIECE, None), put("more", 10, None)],
    );
    copy.broken = true;
    copy.advance(&after).expect_err("a full disk");
    same(&copy, &before);
    drop(copy);
    let copy = open(dir.path());
    assert!([before.state, after.state].contains(&copy.held().state));
}

#[tokio::test]
async fn after_a_failure_nothing_is_called_durable() {
    let dir = tempfile::tempdir().expect("dir");
    let mut copy = open(dir.path());
    copy.broken = true;
    let copier = Copier::start(copy).expect("copier");
    let mut checkpoint = Checkpoint::default();
    step(&mut checkpoint, vec![put("a", 10, None)]);
    copier.offer(checkpoint.clone());
    copier.flush().await.expect_err("a full disk");
    copier.flush().await.expect_err("still not durable");
    copier.install(checkpoint).await.expect_err("nor this");
}

#[test]
fn an_unfinished_install_leaves_the_state_before() {
    let dir = tempfile::tempdir().expect("dir");
    let mut checkpoint = Checkpoint::default();
    step(&mut checkpoint, vec![put("kept", 10, None)]);
    let mut copy = open(dir.path());
    copy.advance(&checkpoint).expect("advance");
    let generation = copy.generation;
    let lock = Arc::clone(&copy.lock);
    drop(copy);
    let unfinished =
        Copy::create(&dir.path().join("state"), generation + 1, &lock).expect("create");
    unfinished
        .db
        .insert(
            super::records::name(super::kind::ENTRY, b"half", 0),
            b"a".as_slice(),
        )
        .expect("insert");
    unfinished.sync().expect("sync");
    drop(unfinished);
    same(&open(dir.path()), &checkpoint);
}

#[test]
fn what_is_damaged_is_moved_aside() {
    let dir = tempfile::tempdir().expect("dir");
    let mut checkpoint = Checkpoint::default();
    for at in 0..200 {
        step(&mut checkpoint, vec![put(&format!("k{at}"), 3000, None)]);
    }
    let mut copy = open(dir.path());
    copy.advance(&checkpoint).expect("advance");
    let db = super::files::path(&copy.dir, copy.generation).join("db");
    drop(copy);
    let mut bytes = std::fs::read(&db).expect("db");
    for at in (0..bytes.len()).step_by(97) {
        bytes[at] ^= 0xa5;
    }
    std::fs::write(&db, bytes).expect("db");
    let copy = open(dir.path());
    same(&copy, &Checkpoint::default());
    let aside = std::fs::read_dir(dir.path().join("state"))
        .expect("dir")
        .flatten();
    assert!(
        aside
            .map(|file| file.file_name())
            .any(|name| name.to_string_lossy().contains(".damaged."))
    );
}
