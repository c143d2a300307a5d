//! What commands in containers need: a terminal, and modules that nobody keeps.

use runtime::{Exit, Handler, ModuleSource, Runtime, Stdin, Workload};

use crate::support::{Bench, Player, Web, run, script};

/// A p1 module whose exit code tells of what type its standard streams are.
const TYPES: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func $type (param $fd i32) (result i32)
        (if (call $stat (local.get $fd) (i32.const 0)) (then (call $exit (i32.const 99))))
        (i32.load8_u (i32.const 0)))
    (func (export "_start")
        (call $exit (i32.add (i32.shl (call $type (i32.const 0)) (i32.const 4))
            (i32.add (i32.shl (call $type (i32.const 1)) (i32.const 2)) (call $type (i32.const 2)))))))"#;

#[tokio::test]
async fn a_guest_sees_whether_it_has_a_terminal() {
    let bench = Bench::new();
    let module = bench.text(TYPES).await.unwrap();
    // Character devices are of type 2.
    for (terminal, code) in [(true, 0b10_10_10), (false, 0)] {
        let workload = Workload {
            stdin: Stdin::of("typed"),
            terminal,
            ..Workload::new(module.clone())
        };
        assert_eq!(run(&bench, workload).await, Exit::Code(code), "{terminal}");
    }
}

#[tokio::test]
async fn a_server_is_no_command() {
    let bench = Bench::new();
    let main = script(&bench.player(Player::Core).await, &["forever"]).0;
    let main = bench.runtime.start(main).unwrap();
    let workload = Workload {
        beside: Some(main.clone()),
        ..Workload::new(bench.web(Web::Server).await)
    };
    let refused = bench.runtime.start(workload).unwrap_err().to_string();
    assert!(refused.ends_with("it exports no wasi:cli/run"), "{refused}");
}

#[tokio::test]
async fn what_is_not_kept_leaves_nothing_on_disk() {
    let bench = Bench::new();
    let compiled = || {
        let files = std::fs::read_dir(bench.directory.path().join("compiled")).unwrap();
        files.count()
    };
    let text = r#"(module (func (export "_start")))"#;
    let kept = bench.source(&wat::parse_str(text).unwrap());
    let source = ModuleSource {
        keep: false,
        handler: Handler::default(),
        ..kept.clone()
    };
    let module = bench.runtime.prepare(source.clone()).await.unwrap();
    assert_eq!(compiled(), 0);
    let workload = Workload::new(module.clone());
    assert_eq!(run(&bench, workload).await, Exit::Code(0));
    // As long as anybody has it, it need not be compiled.
    let again = bench.runtime.prepare(source.clone()).await.unwrap();
    assert_eq!(bench.runtime.metrics().compilations, 1);
    drop((module, again));
    bench.runtime.prepare(source.clone()).await.unwrap();
    assert_eq!(bench.runtime.metrics().compilations, 2);
    // What cannot run is not left either.
    let flies = r#"(module (import "env" "fly" (func)) (func (export "_start")))"#;
    let flies = ModuleSource {
        keep: false,
        handler: Handler::default(),
        ..bench.source(&wat::parse_str(flies).unwrap())
    };
    bench.runtime.prepare(flies).await.unwrap_err();
    assert_eq!(compiled(), 0);
    // Who wants it kept gets it kept, though somebody has it who did not.
    let passing = bench.runtime.prepare(source.clone()).await.unwrap();
    assert_eq!((compiled(), bench.runtime.metrics().compilations), (0, 4));
    let stays = bench.runtime.prepare(kept).await.unwrap();
    assert_eq!((compiled(), bench.runtime.metrics().compilations), (1, 5));
    // That is what others get from now on, and the file stays.
    drop(passing);
    bench.runtime.prepare(source).await.unwrap();
    assert_eq!((compiled(), bench.runtime.metrics().compilations), (1, 5));
    assert_eq!(run(&bench, Workload::new(stays)).await, Exit::Code(0));
}
