use std::sync::Arc;

use super::Event;
use super::EventKind;
use super::History;
use crate::Error;

fn event(revision: u64) -> Event {
    Event {
        revision,
        key: "k".into(),
        kind: EventKind::Delete,
        previous: None,
    }
}

#[tokio::test]
async fn batches_are_shared_and_cut_where_a_watcher_begins() {
    let history = Arc::new(History::new(0, 100));
    let mut early = history.watch(0).expect("watch");
    let mut inside = history.watch(2).expect("watch");
    let mut future = history.watch(5).expect("a revision that is still to come");
    history.push(vec![event(1), event(2), event(2), event(3)]);
    history.push(Vec::new());
    history.push(vec![event(4), event(5), event(6)]);
    assert_eq!(early.next().await.expect("batch").len(), 4);
    assert_eq!(inside.next().await.expect("batch")[..], [event(3)]);
    assert_eq!(future.next().await.expect("batch")[..], [event(6)]);
    assert_eq!(early.next().await.expect("batch").len(), 3);
    assert_eq!(early.seen(), 6);
    let waiting = tokio::spawn(async move { early.next().await });
    tokio::task::yield_now().await;
    history.push(vec![event(7)]);
    assert_eq!(waiting.await.expect("task").expect("batch")[..], [event(7)]);
}

#[tokio::test]
async fn a_jump_of_the_state_ends_the_watches_from_before() {
    let history = Arc::new(History::new(0, 100));
    let mut watch = history.watch(0).expect("watch");
    history.push(vec![event(1)]);
    history.reset(50);
    assert!(matches!(
        watch.next().await,
        Err(Error::Compacted {
            from: 0,
            oldest: 50
        })
    ));
    assert!(matches!(
        history.watch(49),
        Err(Error::Compacted {
            from: 49,
            oldest: 50
        })
    ));
    let mut watch = history.watch(50).expect("watch");
    history.stop();
    assert!(matches!(watch.next().await, Err(Error::Stopped(_))));
}

#[test]
fn few_large_events_are_as_much_as_many_small_ones() {
    let history = History::new(0, 1000);
    let large = |revision| Event {
        kind: EventKind::Put {
            value: vec![0; 1 << 20].into(),
            created: revision,
        },
        ..event(revision)
    };
    let mut compacted = 0;
    for revision in 1..=100 {
        compacted = history.push(vec![large(revision)]);
    }
    assert!((36..50).contains(&compacted), "{compacted}");
    assert_eq!(
        history.next(99).expect("kept").map(|batch| batch.len()),
        Some(1)
    );
}
