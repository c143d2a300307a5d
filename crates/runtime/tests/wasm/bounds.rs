//! What the host does and holds for one guest at a time.

use runtime::{Exit, Runtime as _, StartError, Workload};

use crate::mount;
use crate::support::{Bench, Player, ended, run, script, until};

#[tokio::test(flavor = "multi_thread")]
async fn directories_of_any_size_are_listed() {
    let bench = Bench::new();
    let root = bench.directory("root");
    let many = root.join("many");
    std::fs::create_dir_all(many.join("sub")).unwrap();
    for number in 0..3_000 {
        std::fs::write(many.join(format!("{number:0>50}")), "").unwrap();
    }
    std::os::unix::fs::symlink("nowhere", many.join("link")).unwrap();
    for kind in [Player::Core, Player::Draining, Player::Component] {
        let steps = ["count /many", "ls /many/sub", "ls /many/link", "ls /"];
        let (mut workload, stdout) = script(&bench.player(kind).await, &steps);
        workload.mounts = vec![mount(root.clone(), "/", false)];
        assert_eq!(run(&bench, workload).await, Exit::Code(0), "{kind:?}");
        let text = stdout.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["3002", ""], "{kind:?}");
        assert_eq!(lines[3], "many", "{kind:?}: {text}");
    }
}

#[tokio::test]
async fn any_number_of_random_bytes_is_made() {
    let bench = Bench::new();
    for lifecycle in [
        "",
        r#"(import "carob:pod/lifecycle@0.1.0" "remaining-grace" (func (result i64)))"#,
    ] {
        // A megabyte and a byte, the last of which is not zero at one try of many.
        let text = format!(
            r#"(module {lifecycle}
                (import "wasi_snapshot_preview1" "random_get" (func $get (param i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 17)
                (func (export "_start")
                    (loop $again
                        (call $get (i32.const 7) (i32.const 0x100001))
                        (if (then (call $exit (i32.const 1))))
                        (br_if $again (i32.eqz (i32.load8_u (i32.const 0x100007)))))
                    (call $exit (i32.load8_u (i32.const 0x100008)))))"#
        );
        let module = bench.text(&text).await.unwrap();
        assert_eq!(run(&bench, Workload::new(module)).await, Exit::Code(0));
    }
    let beyond = r#"(module
        (import "wasi_snapshot_preview1" "random_get" (func $get (param i32 i32) (result i32)))
        (memory (export "memory") 10)
        (func (export "_start") (drop (call $get (i32.const 7) (i32.const -1)))))"#;
    let module = bench.text(beyond).await.unwrap();
    let exit = bench
        .runtime
        .start(Workload::new(module))
        .unwrap()
        .wait()
        .await;
    assert!(matches!(exit, Exit::Trap { .. }), "{exit:?}");
}

#[tokio::test]
async fn what_the_pool_has_too_little_of_is_not_started() {
    let bench = Bench::with(|config| config.instances = 5);
    let spins = r#"(loop $again (br $again))"#;
    let large =
        format!(r#"(module (memory 1) (memory 1) (memory 1) (func (export "_start") {spins}))"#);
    let throws = format!(
        r#"(module (tag $thrown) (func (export "_start")
            (block $caught (try_table (catch $thrown $caught) (throw $thrown))) {spins}))"#
    );
    let large = bench.text(&large).await.unwrap();
    let throws = bench.text(&throws).await.unwrap();
    for (module, most, left) in [(large, 1, 2), (throws, 2, 3)] {
        let start = || bench.runtime.start(Workload::new(module.clone()));
        let mut running: Vec<_> = (0..most).map(|_| start().unwrap()).collect();
        assert!(matches!(start(), Err(StartError::Exhausted(_))));
        // Components need no more than others, and no heap.
        let small = bench.player(Player::Component).await;
        let small = || bench.runtime.start(script(&small, &["forever"]).0);
        running.extend((0..left).map(|_| small().unwrap()));
        assert!(matches!(small(), Err(StartError::Exhausted(_))));
        for guest in &running {
            until("it runs", || guest.usage().cpu > std::time::Duration::ZERO).await;
            assert_eq!(guest.exit(), None);
        }
        for guest in running {
            guest.kill();
            assert_eq!(ended(&guest).await, Exit::Killed);
        }
    }
}
