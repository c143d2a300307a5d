//! The dense handler beside the default one.

use runtime::{
    Exit, Handler, ModuleSource, PrepareError, Runtime as _, StartError, Wasm, Workload,
};

use crate::support::{self, Bench, Player, Web, ended, run, script};

fn dense(source: ModuleSource) -> ModuleSource {
    let handler = Handler::Dense;
    ModuleSource { handler, ..source }
}

#[tokio::test(flavor = "multi_thread")]
async fn dense_conforms() {
    let bench = Bench::new();
    let prepare = async |kind| {
        let source = dense(bench.player_source(kind));
        bench.runtime.prepare(source).await.unwrap()
    };
    let core = prepare(Player::Core).await;
    for kind in [Player::Draining, Player::Component] {
        let drains = prepare(kind).await;
        assert_eq!(drains.handler(), Handler::Dense);
        runtime::conformance::suite(&bench.runtime, &core, &drains).await;
        let unknown = Bench::new();
        let source = dense(unknown.player_source(kind));
        runtime::conformance::forgets(&unknown.runtime, source).await;
    }
}

#[tokio::test]
async fn one_module_is_compiled_for_each_handler() {
    let bench = Bench::new();
    let source = bench.source(&wat::parse_str(r#"(module (func (export "_start")))"#).unwrap());
    let prepare = async |runtime: &Wasm| {
        let mut both = Vec::new();
        for source in [source.clone(), dense(source.clone())] {
            both.push(runtime.prepare(source).await.unwrap());
        }
        let handlers: Vec<_> = both.iter().map(runtime::Module::handler).collect();
        assert_eq!(handlers, Handler::ALL);
        both
    };
    drop(prepare(&bench.runtime).await);
    prepare(&bench.runtime).await;
    let metrics = bench.runtime.metrics();
    assert_eq!((metrics.compilations, metrics.memory_cache_hits), (2, 2));

    let Bench { runtime, directory } = bench;
    let both = runtime.compiled().await.unwrap();
    drop(runtime);
    // Another process finds both, and uses no more than it is asked for.
    let runtime = Wasm::new(support::config(directory.path(), 1)).unwrap();
    assert_eq!(runtime.compiled().await.unwrap(), both);
    let modules = prepare(&runtime).await;
    let metrics = runtime.metrics();
    assert_eq!((metrics.compilations, metrics.disk_cache_hits), (0, 2));
    let [carob, dense] = modules.try_into().unwrap();
    let digest = dense.digest().to_owned();
    // The one is not in use any more, and goes only with the other.
    drop(carob);
    assert!(!runtime.forget(&digest).await.unwrap());
    let running = runtime.start(Workload::new(dense)).unwrap();
    assert_eq!(ended(&running).await, Exit::Code(0));
    drop(running);
    let gone = async {
        while !runtime.forget(&digest).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(limit, gone).await.unwrap();
    assert!(runtime.compiled().await.unwrap().is_empty());
}

/// Grows its memory, which begins with 256 MiB less a page, by as many pages as it has arguments less one, and ends with 7
/// if it may not.
const GROWS: &str = r#"(module
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 4095)
    (func (export "_start")
        (drop (call $sizes (i32.const 0) (i32.const 4)))
        (if (i32.eq (memory.grow (i32.sub (i32.load (i32.const 0)) (i32.const 1))) (i32.const -1))
            (then (call $exit (i32.const 7))))
        ;; The last byte there is.
        (i32.store8 (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 1)) (i32.const 1))))"#;

#[tokio::test]
async fn larger_memories_are_refused_by_name() {
    let bench = Bench::new();
    let module = |text: &str| bench.source(&wat::parse_str(text).unwrap());
    for large in [
        r#"(module (memory 4097) (func (export "_start")))"#,
        r#"(component
            (core module (memory 4097))
            (instance $run)
            (export "wasi:cli/run@0.2.0" (instance $run)))"#,
    ] {
        match bench.runtime.prepare(dense(module(large))).await {
            Err(PrepareError::Invalid(why)) => {
                assert!(
                    why.contains("268500992") && why.contains("\"dense\""),
                    "{why}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bench.runtime.metrics().compilations, 0);
    let grows = bench.runtime.prepare(dense(module(GROWS))).await.unwrap();
    for (pages, refused) in [(0, false), (1, false), (2, true)] {
        let mut workload = Workload::new(grows.clone());
        workload.argv = vec!["grows".into(); pages + 1];
        match run(&bench, workload).await {
            Exit::Trap { backtrace } if refused => {
                assert!(backtrace.contains("\"dense\""), "{backtrace}");
            }
            exit => assert!(!refused && exit == Exit::Code(0), "{pages}: {exit:?}"),
        }
    }
    // By the default handler all of them run.
    let grows = bench.runtime.prepare(module(GROWS)).await.unwrap();
    let mut workload = Workload::new(grows);
    workload.argv = vec!["grows".into(); 100];
    assert_eq!(run(&bench, workload).await, Exit::Code(0));
}

#[tokio::test]
async fn each_handler_has_room_of_its_own() {
    let bench = Bench::with(|config| {
        config.instances = 2;
        config.dense_instances = 1;
    });
    let carob = bench.player(Player::Core).await;
    let source = dense(bench.player_source(Player::Core));
    let dense = bench.runtime.prepare(source).await.unwrap();
    let start = |module| bench.runtime.start(script(module, &["forever"]).0);
    let small = start(&dense).unwrap();
    assert!(matches!(start(&dense), Err(StartError::Exhausted(_))));
    let (_one, _two) = (start(&carob).unwrap(), start(&carob).unwrap());
    assert!(matches!(start(&carob), Err(StartError::Exhausted(_))));
    small.kill();
    ended(&small).await;
    start(&dense).unwrap();
}

#[tokio::test]
async fn where_nothing_is_left_for_it_there_is_no_dense_pool() {
    let bench = Bench::with(|config| config.dense_instances = 0);
    let source = dense(bench.player_source(Player::Core));
    for _ in 0..2 {
        match bench.runtime.prepare(source.clone()).await {
            Err(PrepareError::Invalid(why)) => assert!(
                why.starts_with(
                    "this node has no room for the runtime class of the handler \"dense\": "
                ),
                "{why}"
            ),
            other => panic!("{other:?}"),
        }
    }
    // The others go on.
    let (workload, stdout) = script(&bench.player(Player::Core).await, &["print here"]);
    assert_eq!(run(&bench, workload).await, Exit::Code(0));
    assert_eq!(stdout.text(), "here\n");
}

#[tokio::test]
async fn who_computes_is_interrupted() {
    let bench = Bench::with_threads(1);
    let spin = wat::parse_str(r#"(module (func (export "_start") (loop $l (br $l))))"#).unwrap();
    let spin = bench.runtime.prepare(dense(bench.source(&spin))).await;
    let spinner = bench.runtime.start(Workload::new(spin.unwrap())).unwrap();
    // There is one thread, and the other one's turn comes.
    let (workload, stdout) = script(&bench.player(Player::Core).await, &["print here"]);
    assert_eq!(run(&bench, workload).await, Exit::Code(0));
    assert_eq!(stdout.text(), "here\n");
    spinner.kill();
    assert_eq!(ended(&spinner).await, Exit::Killed);
}

#[tokio::test]
async fn servers_are_prepared_densely() {
    let bench = Bench::new();
    let source = dense(bench.source(&Web::Server.bytes()));
    let server = bench.runtime.prepare(source).await.unwrap();
    assert_eq!(server.handler(), Handler::Dense);
}
