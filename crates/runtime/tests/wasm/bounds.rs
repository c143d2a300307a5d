//! What the host does and holds for one guest at a time.

use runtime::{Exit, Runtime as _, Workload};

use crate::mount;
use crate::support::{Bench, Player, run, script};

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
