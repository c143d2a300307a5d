//! Writers that pay, wait and stop waiting.

use futures::{FutureExt as _, poll};

use super::*;

fn meter(allowance: u64) -> Arc<Meter> {
    Arc::new(Meter::new(allowance))
}

fn is_due(meter: &Meter) -> bool {
    meter.due().now_or_never().is_some()
}

#[tokio::test]
async fn half_of_the_allowance_is_time_to_measure() {
    let meter = meter(100);
    assert!(!is_due(&meter));
    drop(meter.charge(49).await);
    assert!(!is_due(&meter));
    let mut due = pin!(meter.due());
    assert!(poll!(due.as_mut()).is_pending());
    drop(meter.charge(1).await);
    due.await;
    assert_eq!((meter.added(), meter.wanted()), (50, 0));
    meter.allow(Some(50));
    assert_eq!(meter.added(), 0);
    assert!(!is_due(&meter));
}

#[tokio::test]
async fn little_that_is_left_is_soon_used() {
    let meter = meter(0);
    meter.allow_beyond(10, Some(1_000));
    drop(meter.charge(4).await);
    assert!(!is_due(&meter));
    drop(meter.charge(1).await);
    assert!(is_due(&meter));
    meter.allow_beyond(0, Some(1_000));
    assert!(!is_due(&meter));
    drop(meter.charge(1).await);
    assert!(is_due(&meter));
}

#[tokio::test]
async fn a_writer_waits_for_its_allowance() {
    let meter = meter(10);
    drop(meter.charge(8).await);
    let mut waits = pin!(meter.charge(5));
    assert!(poll!(waits.as_mut()).is_pending());
    assert_eq!(meter.wanted(), 5);
    meter.due().await;
    // Others may go on with what is left.
    drop(meter.charge(2).now_or_never().unwrap());
    // Those two were written after the measurement began.
    meter.allow(Some(6));
    assert!(poll!(waits.as_mut()).is_pending());
    assert_eq!((meter.added(), meter.wanted()), (2, 5));
    assert!(is_due(&meter));
    meter.allow(Some(5));
    drop(waits.await);
    assert_eq!((meter.added(), meter.wanted()), (5, 0));
}

#[tokio::test]
async fn without_end_nobody_waits() {
    let meter = meter(0);
    let mut waits = pin!(meter.charge(u64::MAX / 2));
    assert!(poll!(waits.as_mut()).is_pending());
    meter.allow(None);
    drop(waits.await);
    drop(meter.charge(1 << 60).now_or_never().unwrap());
    assert!(!is_due(&meter));
}

#[tokio::test]
async fn nobody_waits_for_who_is_gone() {
    let meter = meter(0);
    let measurer = Measurer::of(meter.clone());
    let mut waits = pin!(meter.charge(1));
    assert!(poll!(waits.as_mut()).is_pending());
    drop(measurer);
    drop(waits.await);
}

#[tokio::test]
async fn what_several_want_is_the_most_of_one() {
    let meter = meter(10);
    {
        let mut waits = [7, 6, 7].map(|bytes| Box::pin(meter.charge(bytes)));
        drop(meter.charge(8).await);
        for waits in &mut waits {
            assert!(poll!(waits.as_mut()).is_pending());
        }
        assert_eq!(meter.wanted(), 7);
        let [first, second, last] = waits;
        drop(first);
        assert_eq!(meter.wanted(), 7);
        drop(last);
        assert_eq!(meter.wanted(), 6);
        drop(second);
    }
    assert_eq!(meter.wanted(), 0);
    assert!(is_due(&meter), "most of the allowance is used");
}

#[tokio::test]
async fn who_stops_waiting_wants_nothing() {
    let meter = meter(0);
    {
        let mut waits = pin!(meter.charge(7));
        let mut more = pin!(meter.charge(u64::MAX));
        assert!(poll!(waits.as_mut()).is_pending());
        assert!(poll!(more.as_mut()).is_pending());
        assert_eq!(meter.wanted(), u64::MAX);
        assert!(is_due(&meter));
    }
    assert_eq!(meter.wanted(), 0);
    assert!(!is_due(&meter));
}

#[tokio::test]
async fn what_is_under_way_counts_in_the_next_measurement() {
    let meter = meter(1_000);
    let first = meter.charge(100).await;
    drop(meter.charge(10).await);
    meter.begin();
    drop(meter.charge(1).await);
    drop(first);
    meter.allow(Some(500));
    assert_eq!(meter.added(), 101);
    meter.allow(Some(500));
    assert_eq!(meter.added(), 0);
}

#[tokio::test]
async fn what_was_not_added_is_given_back() {
    let meter = meter(10);
    let mut some = meter.charge_some(1, 64).await;
    assert_eq!(some.bytes(), 10);
    drop(some.split(4));
    let mut waits = pin!(meter.charge(6));
    assert!(poll!(waits.as_mut()).is_pending());
    some.refund();
    drop(waits.await);
    assert_eq!(meter.added(), 10);
    assert!(meter.try_charge(1, 64).is_none());
    assert_eq!(meter.wanted(), 1);
    meter.due().await;
    meter.allow(Some(2));
    assert_eq!(meter.try_charge(1, 64).unwrap().bytes(), 2);
    assert_eq!(meter.wanted(), 0);
}

#[tokio::test]
async fn who_may_not_add_more_to_the_node_waits_for_that() {
    let node = meter(100);
    let [one, other] = [500, u64::MAX].map(|more| Arc::new(Meter::within(node.clone(), more)));
    drop(one.charge(60).await);
    assert!(is_due(&node));
    assert!(!is_due(&one) && !is_due(&other));
    let mut waits = pin!(other.charge(50));
    assert!(poll!(waits.as_mut()).is_pending());
    assert_eq!(
        (node.wanted(), other.wanted()),
        (50, 0),
        "it is not its own"
    );
    // What is not added leaves room for others.
    let some = one.charge_some(1, 64).await;
    assert_eq!((some.bytes(), node.added()), (40, 100));
    some.refund();
    assert_eq!((node.added(), one.added()), (60, 60));
    node.due().await;
    node.allow(Some(50));
    let paid = waits.await;
    assert_eq!((node.added(), node.wanted(), other.added()), (50, 0, 50));
    assert!(one.try_charge(1, 1).is_none());
    assert_eq!((node.wanted(), one.wanted()), (1, 0));
    drop(paid);
    // Nobody measures any more.
    drop(Measurer::of(node.clone()));
    drop(one.charge(400).now_or_never().unwrap());
    assert!(!is_due(&node));
}

#[tokio::test]
async fn who_waits_for_its_own_limit_may_wait_for_the_node_then() {
    let node = meter(10);
    let own = Arc::new(Meter::within(node.clone(), 0));
    {
        let mut waits = pin!(own.charge(20));
        assert!(poll!(waits.as_mut()).is_pending());
        assert_eq!((own.wanted(), node.wanted()), (20, 0));
        own.allow(Some(20));
        assert!(poll!(waits.as_mut()).is_pending());
        assert_eq!((own.wanted(), node.wanted()), (0, 20));
        assert!(is_due(&node));
        node.allow(Some(20));
        drop(waits.await);
    }
    own.allow(None);
    node.allow(Some(5));
    {
        let mut waits = pin!(own.charge(0));
        assert!(poll!(waits.as_mut()).is_ready(), "nothing is nothing");
        let mut waits = pin!(own.charge(6));
        assert!(poll!(waits.as_mut()).is_pending());
    }
    assert_eq!((own.wanted(), node.wanted()), (0, 0), "its wait has ended");
}

#[tokio::test]
async fn what_was_added_lately() {
    let node = meter(u64::MAX);
    let [one, other] = [(); 2].map(|()| Arc::new(Meter::within(node.clone(), u64::MAX)));
    drop(one.charge(800).await);
    node.grow_older();
    drop(one.charge(100).await);
    drop(other.charge(40).await);
    assert_eq!((one.lately(), other.lately()), (500, 40));
    for _ in 0..3 {
        node.grow_older();
    }
    assert_eq!((one.lately(), other.lately()), (62, 5));
    one.charge(10).await.refund();
    assert_eq!(one.lately(), 62);
}
