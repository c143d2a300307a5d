use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use super::task::Phase;
use super::*;

/// Uses a little CPU time at each poll, for ever, and always wants to go on.
fn spin() -> impl Future<Output = ()> + Send {
    spin_by(200_000)
}

/// The same with so many nanoseconds at each poll.
fn spin_by(slice: u64) -> impl Future<Output = ()> + Send {
    std::future::poll_fn(move |cx| {
        let begun = nanoseconds(ClockId::ThreadCPUTime);
        while nanoseconds(ClockId::ThreadCPUTime) - begun < slice {}
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

impl Gate {
    fn spawn(&self, weight: u32, work: impl Future<Output = ()> + Send + 'static) -> Arc<Account> {
        let account = self.account(weight, None);
        account.spawn(work);
        account
    }
}

fn gate(threads: usize) -> Gate {
    Gate::start(threads, tokio::runtime::Handle::current(), || ()).unwrap()
}

async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn spinners_share_by_weight() {
    let gate = gate(1);
    let weights = [1, 1, 2, 4];
    let tasks = weights.map(|weight| gate.spawn(weight, spin()));
    let total = || tasks.iter().map(|task| task.used()).sum::<Duration>();
    until(|| total() > Duration::from_millis(400)).await;
    let total = total().as_secs_f64();
    for (task, weight) in tasks.iter().zip(weights) {
        let share = task.used().as_secs_f64() / total;
        let due = f64::from(weight) / 8.0;
        assert!((share - due).abs() < 0.02, "weight {weight}: {share}");
    }
}

#[tokio::test]
async fn tasks_of_one_account_share_its_part() {
    let gate = gate(2);
    let crowd = gate.account(1, None);
    for _ in 0..20 {
        crowd.spawn(spin());
    }
    let pair = gate.account(1, None);
    pair.spawn(spin());
    pair.spawn(spin());
    until(|| crowd.used() + pair.used() > Duration::from_millis(400)).await;
    let share = pair.used().as_secs_f64() / (crowd.used() + pair.used()).as_secs_f64();
    assert!((share - 0.5).abs() < 0.05, "{share}");
}

#[tokio::test]
async fn tasks_of_one_account_share_its_quota() {
    let gate = gate(2);
    let account = gate.account(1, Some(0.2));
    for _ in 0..5 {
        account.spawn(spin());
    }
    let begun = tokio::time::Instant::now();
    // What was saved up before is 20 ms.
    until(|| account.used() > Duration::from_millis(120)).await;
    let cores = (account.used().as_secs_f64() - 0.02) / begun.elapsed().as_secs_f64();
    assert!((0.15..0.21).contains(&cores), "{cores}");
    account.expedite();
    until(|| account.used() > Duration::from_millis(500)).await;
    assert!(begun.elapsed() < Duration::from_millis(1500));
}

#[tokio::test]
async fn another_weight_holds_at_once() {
    let gate = gate(1);
    // One slice of the light one is a thousand of the other's.
    let (light, other) = (gate.spawn(1, spin()), gate.spawn(1_000, spin()));
    until(|| light.used() > Duration::ZERO && other.used() > Duration::from_millis(100)).await;
    light.resize(3_000, None);
    let (lights, others) = (light.used(), other.used());
    let total = || light.used() + other.used() - lights - others;
    until(|| total() > Duration::from_millis(400)).await;
    let share = (light.used() - lights).as_secs_f64() / total().as_secs_f64();
    assert!((share - 0.75).abs() < 0.03, "{share}");
}

#[tokio::test]
async fn another_quota_holds_at_once() {
    let gate = gate(1);
    let account = gate.account(1, Some(0.001));
    // It owes five seconds after its first slice.
    account.spawn(spin_by(5_000_000));
    let begun = tokio::time::Instant::now();
    until(|| account.used() > Duration::ZERO).await;
    account.resize(1, Some(0.5));
    until(|| account.used() > Duration::from_millis(50)).await;
    account.resize(1, None);
    until(|| account.used() > Duration::from_millis(100)).await;
    assert!(begun.elapsed() < Duration::from_secs(3));
    account.resize(1, Some(0.001));
    let (before, begun) = (account.used(), tokio::time::Instant::now());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let used = account.used() - before;
    assert!(
        used < Duration::from_millis(20),
        "{used:?} in {:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_task_is_ended_at_others_expense() {
    let gate = gate(1);
    let account = gate.account(1, Some(0.001));
    account.spawn(spin_by(5_000_000));
    until(|| account.used() > Duration::ZERO).await;
    let before = account.used();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let task = account.spawn(async move { sender.send(()).unwrap() });
    let begun = tokio::time::Instant::now();
    task.expedite();
    receiver.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    // The other one waits still.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let used = account.used() - before;
    assert!(used < Duration::from_millis(4), "{used:?}");
}

#[tokio::test]
async fn a_newcomer_has_no_debt_to_collect() {
    let gate = gate(1);
    let old = gate.spawn(1, spin());
    until(|| old.used() > Duration::from_millis(100)).await;
    let new = gate.spawn(1, spin());
    let before = old.used();
    until(|| new.used() > Duration::from_millis(50)).await;
    let meanwhile = old.used() - before;
    assert!(meanwhile > Duration::from_millis(40), "{meanwhile:?}");
}

#[tokio::test]
async fn a_wake_up_is_never_lost() {
    let gate = gate(2);
    let (ping, mut pinged) = tokio::sync::mpsc::channel(1);
    let (pong, mut ponged) = tokio::sync::mpsc::channel(1);
    gate.spawn(1, async move {
        while pinged.recv().await.is_some() && pong.send(()).await.is_ok() {}
    });
    for _ in 0..5_000 {
        ping.send(()).await.unwrap();
        ponged.recv().await.unwrap();
    }
}

#[tokio::test]
async fn a_panic_costs_one_guest() {
    let gate = gate(1);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let panics = gate
        .account(1, None)
        .spawn(async { panic!("a host function is wrong") });
    gate.spawn(1, async move { sender.send(()).unwrap() });
    receiver.await.unwrap();
    assert!(panics.is_gone());
}

#[tokio::test]
async fn what_waits_is_dropped_with_the_gate() {
    let gate = gate(1);
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let task = gate.account(1, None).spawn(async move {
        let _held = sender;
        std::future::pending().await
    });
    until(|| task.phase() == Phase::Waiting).await;
    drop(gate);
    receiver.await.unwrap_err();
}

#[tokio::test]
async fn nothing_ticks_while_nothing_runs() {
    let ticks = Arc::new(AtomicU64::new(0));
    let counted = ticks.clone();
    let tick = move || {
        counted.fetch_add(1, Ordering::Relaxed);
    };
    let gate = Gate::start(1, tokio::runtime::Handle::current(), tick).unwrap();
    let idle = gate.account(1, None).spawn(std::future::pending());
    // It was polled once, and the ticker stopped after that.
    until(|| idle.phase() == Phase::Waiting).await;
    until(|| gate.shared.ticker.parked.load(Ordering::SeqCst)).await;
    let before = ticks.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(ticks.load(Ordering::Relaxed), before);
    let _spinner = gate.spawn(1, spin());
    until(|| ticks.load(Ordering::Relaxed) > before + 5).await;
}

#[tokio::test]
async fn who_is_woken_waits_for_a_moment_only() {
    let gate = gate(1);
    let account = gate.account(1, None);
    let (writer, reader) = network::pipe::pipe(16);
    let reading = tokio::spawn(async move { reader.read(16).await });
    // It waits before anything is written.
    tokio::task::yield_now().await;
    let (begin, begun) = tokio::sync::oneshot::channel();
    account.spawn_holding(async move {
        let _ = begun.await;
        writer.write("answer".into()).unwrap();
        std::future::pending::<()>().await;
    });
    begin.send(()).unwrap();
    assert_eq!(reading.await.unwrap().unwrap().unwrap(), "answer");
}

#[tokio::test]
async fn who_is_woken_waits_for_no_long_poll() {
    let gate = gate(1);
    let account = gate.account(1, None);
    let (writer, reader) = network::pipe::pipe(16);
    let was_read = Arc::new(AtomicU64::new(0));
    let seen = was_read.clone();
    let reading = tokio::spawn(async move {
        let _ = reader.read(16).await;
        seen.store(1, Ordering::Release);
    });
    tokio::task::yield_now().await;
    // Both are in line before the first one is polled.
    let (begin, begun) = std::sync::mpsc::channel::<()>();
    account.spawn_holding(async move { begun.recv().unwrap() });
    account.spawn_holding(async move { writer.write("answer".into()).unwrap() });
    let spun = account.clone();
    account.spawn_holding(async move {
        // One poll, which ends only when somebody has read.
        while was_read.load(Ordering::Acquire) == 0 {
            std::hint::spin_loop();
        }
        drop(spun);
    });
    begin.send(()).unwrap();
    reading.await.unwrap();
}

#[tokio::test]
async fn what_is_woken_at_shutdown_is_dropped_with_the_gate() {
    let gate = gate(1);
    let (writer, reader) = network::pipe::pipe(16);
    // Nobody but the pipe has this task, which has the pipe's other end.
    let task = gate.account(1, None).spawn(async move {
        let _ = reader.read(16).await;
        std::future::pending::<()>().await;
    });
    let task = Arc::downgrade(&task);
    let waits = || {
        task.upgrade()
            .is_some_and(|task| task.phase() == Phase::Waiting)
    };
    until(waits).await;
    gate.shared.queue.lock().shutdown = true;
    writer.write("late".into()).unwrap();
    drop(gate);
    assert!(writer.write("later".into()).is_err(), "its reader is gone");
}
