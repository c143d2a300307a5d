//! Limits that change while a guest runs, and guests that share theirs.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use runtime::{Config, Exit, Limits, ResizeError, Running, Runtime, Stdin, Workload};

use crate::support::{Bench, Player, ended, script, until};

/// The cores that a guest uses over the next half second.
async fn cores(running: &Running) -> f64 {
    let (before, begun) = (running.usage().cpu, tokio::time::Instant::now());
    tokio::time::sleep(Duration::from_millis(500)).await;
    (running.usage().cpu - before).as_secs_f64() / begun.elapsed().as_secs_f64()
}

#[tokio::test]
async fn another_quota_holds_without_a_restart() {
    let bench = Bench::with_threads(1);
    let spin = r#"(module (func (export "_start") (loop $l (br $l))))"#;
    let mut spinner = Workload::new(bench.text(spin).await.unwrap());
    spinner.limits.cpu_quota = Some(0.1);
    let running = bench.runtime.start(spinner).unwrap();
    // What was saved up is spent.
    until("it ran", || running.usage().cpu > Duration::from_millis(15)).await;
    let little = cores(&running).await;
    let more = Limits {
        cpu_quota: Some(0.6),
        ..Limits::default()
    };
    running.resize(more).unwrap();
    let much = cores(&running).await;
    assert!(little < 0.15, "{little}");
    assert!(much > 2.0 * little, "{little}, then {much}");
    let nonsense = Limits {
        cpu_quota: Some(-1.0),
        ..Limits::default()
    };
    let refused = running.resize(nonsense).unwrap_err();
    assert!(matches!(refused, ResizeError::Invalid(_)), "{refused}");
    assert_eq!(running.exit(), None);
}

#[tokio::test]
async fn the_end_of_one_beside_another_lifts_no_quota() {
    let bench = Bench::with_threads(1);
    let spin = r#"(module (func (export "_start") (loop $l (br $l))))"#;
    let module = bench.text(spin).await.unwrap();
    let mut spinner = Workload::new(module.clone());
    spinner.limits.cpu_quota = Some(0.02);
    let running = bench.runtime.start(spinner).unwrap();
    until("it ran", || running.usage().cpu > Duration::from_millis(5)).await;
    let mut second = Workload::new(module);
    second.beside = Some(running.clone());
    let second = bench.runtime.start(second).unwrap();
    // It ends at once though the account is in debt, and nothing else runs for that.
    second.kill();
    let killed = tokio::time::timeout(Duration::from_millis(500), second.wait()).await;
    assert_eq!(killed.unwrap(), Exit::Killed);
    let alone = cores(&running).await;
    assert!(alone < 0.06, "{alone}");
    running.kill();
    assert_eq!(ended(&running).await, Exit::Killed);
}

#[tokio::test]
async fn one_beside_another_in_debt_ends_with_it() {
    let bench = Bench::with_threads(1);
    let spin = r#"(module (func (export "_start") (loop $l (br $l))))"#;
    let mut idle = script(&bench.player(Player::Core).await, &["forever"]).0;
    idle.limits.cpu_quota = Some(0.001);
    let main = bench.runtime.start(idle).unwrap();
    let mut spinner = Workload::new(bench.text(spin).await.unwrap());
    spinner.beside = Some(main.clone());
    let spinner = bench.runtime.start(spinner).unwrap();
    until("both are in debt", || {
        main.usage().cpu > Duration::from_millis(1)
    })
    .await;
    assert_eq!(main.usage(), spinner.usage());
    main.kill();
    let both = async { (main.wait().await, spinner.wait().await) };
    let ended = tokio::time::timeout(Duration::from_millis(500), both).await;
    assert_eq!(ended.unwrap(), (Exit::Killed, Exit::Killed));
}

/// Grows by a MiB at a time.
const ENDLESS: &str = r#"(module (memory (export "memory") 1) (func (export "_start")
    (loop $l (drop (memory.grow (i32.const 16))) (br $l))))"#;

#[tokio::test]
async fn who_allocates_without_end_ends_and_others_have_what_they_requested() {
    ends_and_others_have_theirs(|config| config.memory = Some(64 << 20)).await;
}

#[tokio::test]
async fn so_does_who_allocates_all_that_is_left_of_the_machine() {
    let left = |used: u64| Some((64_u64 << 20).saturating_sub(used));
    ends_and_others_have_theirs(|config| config.memory_left = Arc::new(left)).await;
}

async fn ends_and_others_have_theirs(bounded: impl FnOnce(&mut Config)) {
    let bench = Bench::with(bounded);
    let player = bench.player(Player::Core).await;
    let (mut modest, said) = script(
        &player,
        &["print up", "read", "allocate 20000000", "forever"],
    );
    modest.limits.memory_request = 32 << 20;
    let (writer, reader) = network::pipe::pipe(1);
    modest.stdin = Stdin::Pipe(reader);
    let modest = bench.runtime.start(modest).unwrap();
    until("it is up", || said.text().contains("up")).await;

    let endless = bench.text(ENDLESS).await.unwrap();
    let first = bench.runtime.start(Workload::new(endless.clone())).unwrap();
    assert_eq!(ended(&first).await, Exit::OutOfMemory);
    // One that holds what there is, and leaves it.
    let steps = ["allocate 55000000", "forever"];
    let holder = bench.runtime.start(script(&player, &steps).0).unwrap();
    until("it has it", || holder.usage().memory > 55_000_000).await;
    drop(writer);
    until("the other has what it requested", || {
        modest.usage().memory > 20_000_000
    })
    .await;
    let second = bench.runtime.start(Workload::new(endless)).unwrap();
    assert_eq!(ended(&second).await, Exit::OutOfMemory);
    assert_eq!((modest.exit(), holder.exit()), (None, None));
    for running in [modest, holder] {
        running.kill();
        ended(&running).await;
    }
}

#[tokio::test]
async fn who_allocates_while_others_take_of_the_machine_ends_before_nothing_is_left() {
    let for_guests = Arc::new(AtomicU64::new(64 << 20));
    let machine = for_guests.clone();
    let left = move |used: u64| {
        let left = machine.load(Relaxed).saturating_sub(used);
        machine.fetch_sub(left / 4, Relaxed);
        Some(left - left / 4)
    };
    let bench = Bench::with(|config| config.memory_left = Arc::new(left));
    let endless = bench.text(ENDLESS).await.unwrap();
    let running = bench.runtime.start(Workload::new(endless)).unwrap();
    assert_eq!(ended(&running).await, Exit::OutOfMemory);
    let for_guests = for_guests.load(Relaxed);
    assert!(for_guests < 48 << 20, "{for_guests}");
}
