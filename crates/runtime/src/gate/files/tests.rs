use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::*;
use crate::gate::Gate;

fn gate() -> Gate {
    Gate::start(1, Handle::current(), || ()).unwrap()
}

/// What a file call comes to: something that blocks, on whatever runtime is around.
async fn block<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    wasmtime_wasi::runtime::spawn_blocking(what).await
}

/// What blocks until it is let go, and counts those that do.
#[derive(Clone)]
struct Hanging {
    gone: watch::Receiver<bool>,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Hanging {
    fn new() -> (watch::Sender<bool>, Self) {
        let (let_go, gone) = watch::channel(false);
        let (now, most) = Default::default();
        (let_go, Self { gone, now, most })
    }

    fn hang(self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let mut gone = self.gone;
        // Whoever lets go does so for all.
        let _ = futures::executor::block_on(gone.wait_for(|gone| *gone));
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    async fn are(&self, number: usize) {
        while self.now.load(Ordering::SeqCst) != number {
            tokio::task::yield_now().await;
        }
    }
}

fn calls(account: &Arc<Account>, hanging: &Hanging) -> tokio::task::JoinHandle<()> {
    let (account, hanging) = (account.clone(), hanging.clone());
    tokio::spawn(async move { account.file_call(block(|| hanging.hang())).await })
}

#[tokio::test]
async fn what_hangs_holds_up_nobody_else() {
    let gate = gate();
    let (let_go, hanging) = Hanging::new();
    let accounts: Vec<_> = (0..30).map(|_| gate.account(1, None)).collect();
    let crowd = accounts.iter().flat_map(|account| [account; 10]);
    let crowd: Vec<_> = crowd.map(|account| calls(account, &hanging)).collect();
    hanging.are(30 * THREADS).await;
    let other = gate.account(1, None);
    assert_eq!(other.file_call(block(|| 7)).await, 7);
    let_go.send_replace(true);
    for call in crowd {
        call.await.unwrap();
    }
    assert_eq!(hanging.most.load(Ordering::SeqCst), 30 * THREADS);
    assert_eq!(gate.shared.files.places.available_permits(), PLACES);
    assert_eq!(gate.shared.files.idle.lock().len(), 31);
}

#[tokio::test]
async fn what_was_left_alone_stays_with_its_account() {
    let gate = gate();
    let (let_go, hanging) = Hanging::new();
    let account = gate.account(1, None);
    for _ in 0..2 * THREADS {
        let call = calls(&account, &hanging);
        while account.files().lock().is_none() {
            tokio::task::yield_now().await;
        }
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    let kept = account
        .files()
        .lock()
        .as_ref()
        .map(|lease| (lease.turns, lease.abandoned));
    assert_eq!(kept, Some((0, true)));
    let files = &gate.shared.files;
    assert_eq!(
        (files.idle.lock().len(), files.places.available_permits()),
        (0, PLACES)
    );
    let other = gate.account(1, None);
    other.file_call(block(|| ())).await;
    // These were the other's.
    assert_eq!(files.idle.lock().len(), 1);
    drop(account);
    let_go.send_replace(true);
    hanging.are(0).await;
    assert_eq!(files.idle.lock().len(), 1);
}

#[tokio::test]
async fn calls_are_paid_for() {
    let gate = gate();
    let spin = || {
        let begun = nanoseconds(ClockId::ThreadCPUTime);
        while nanoseconds(ClockId::ThreadCPUTime) - begun < 20_000_000 {}
    };
    let (one, other) = (gate.account(1, None), gate.account(1, None));
    one.file_call(block(spin)).await;
    one.file_call(block(spin)).await;
    let paid = one.used();
    assert!(paid >= Duration::from_millis(40), "{paid:?}");
    assert!(paid < Duration::from_millis(60), "{paid:?}");
    // By the same threads, whose past is no affair of this one's.
    other.file_call(block(|| ())).await;
    assert!(
        other.used() < Duration::from_millis(10),
        "{:?}",
        other.used()
    );
    assert_eq!(gate.shared.files.idle.lock().len(), 1);
}
