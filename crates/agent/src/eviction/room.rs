//! The room that guests share on the node's disk: they pay for what they add, and may add a part of what is left above the
//! node's threshold until somebody has looked at the disk again. A look is due once half of that is used, and at once where a
//! writer waits: however fast guests write, the disk does not get fuller than that.

use std::sync::Arc;
use std::time::Duration;

use runtime::Meter;
use runtime::meter::Measurer;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, sleep};

use super::{EvictionHard, Sources};

/// How often the disk is looked at while guests add little: others, too, may fill it. What guests have added counts half
/// after each.
const EVERY: Duration = Duration::from_secs(10);
/// Between two looks, however fast guests write: what they may add becomes little where little is left.
const BETWEEN: Duration = Duration::from_millis(100);

/// What comes of a look at the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// What guests may add until the next. `None`: without end.
    more: Option<u64>,
    /// Some writer waits for more than there is: somebody has to go.
    lacks: bool,
}

/// Gives guests half of the room that there is (`None` where that has no bound), for they are not alone on the disk; all that
/// one writer waits for, if there is room for that, since it would never get it otherwise.
pub(super) fn grant(room: Option<u64>, wanted: u64) -> Grant {
    let Some(room) = room else {
        return Grant {
            more: None,
            lacks: false,
        };
    };
    let lacks = wanted > room;
    let more = match lacks {
        true => room / 2,
        false => wanted.max(room / 2),
    };
    Grant {
        more: Some(more),
        lacks,
    }
}

/// Grants what there is of the disk for ever, and says whether that is too little for somebody. Once it is dropped all may be
/// added.
pub(super) async fn follow(
    disk: Arc<Meter>,
    sources: Sources,
    hard: EvictionHard,
    lacks: watch::Sender<bool>,
) {
    let _measurer = Measurer::of(Arc::clone(&disk));
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = disk.due() => {}
            _ = tick.tick() => {
                disk.begin();
                // While somebody waits, what led to that is not forgotten.
                if !*lacks.borrow() {
                    disk.grow_older();
                }
            }
        }
        // What cannot be read has no bound, as nobody goes for it either.
        let room = sources.disk().await.and_then(|found| hard.room(&found));
        let grant = grant(room, disk.wanted());
        disk.allow(grant.more);
        lacks.send_if_modified(|before| std::mem::replace(before, grant.lacks) != grant.lacks);
        sleep(BETWEEN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_look_grants() {
        for (room, wanted, more, lacks) in [
            (None, 0, None, false),
            (None, u64::MAX, None, false),
            (Some(1_000), 0, Some(500), false),
            (Some(1_000), 500, Some(500), false),
            // It would wait for ever, though nothing keeps it from going on.
            (Some(1_000), 501, Some(501), false),
            (Some(1_000), 1_000, Some(1_000), false),
            // Others, who want less, need not wait for it.
            (Some(1_000), 1_001, Some(500), true),
            (Some(0), 0, Some(0), false),
            (Some(0), 1, Some(0), true),
        ] {
            let granted = grant(room, wanted);
            assert_eq!(granted, Grant { more, lacks }, "{room:?} {wanted}");
        }
    }

    /// However much writers of any size want, what is left is never less than has to be, and they stop only where it is used.
    #[test]
    fn guests_come_as_near_as_they_may() {
        for size in [1, 7, 4_096, 1 << 20, 300 << 20] {
            let (mut room, mut looks) = (10_u64 << 30, 0);
            loop {
                let granted = grant(Some(room), size);
                looks += 1;
                assert!(granted.more.is_some_and(|more| more <= room));
                if granted.lacks {
                    break;
                }
                let writes = granted.more.unwrap_or(0) / size;
                room -= writes * size;
            }
            assert!(room < size, "{size}: {room}");
            assert!(looks < 100, "{size}: {looks}");
        }
    }
}
