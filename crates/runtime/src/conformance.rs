//! What every [`Runtime`] must do, as checks that can be run against any of them.
//!
//! The module under test plays the steps of [`scripted`](crate::scripted) that it finds in its
//! arguments. A check that fails panics with what was expected, as a test's assertion does.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use network::pipe::{Reader, Writer, pipe};
use tokio::time::timeout;

use crate::output::Capture;
use crate::{
    Exit, Limits, Meter, Module, ModuleSource, Mount, ResizeError, Running, Runtime, Stdin,
    Workload,
};

/// Longer than anything here takes, on a machine that is busy with other things.
const LONG: Duration = Duration::from_secs(60);

/// Runs every check. `drains` is a player that imports `carob:pod/lifecycle`, `plain` one that
/// does not.
///
/// # Panics
/// When the runtime does not do what a check demands.
pub async fn suite(runtime: &dyn Runtime, plain: &Module, drains: &Module) {
    for module in [plain, drains] {
        exit_codes(runtime, module).await;
        output(runtime, module).await;
        arguments_and_environment(runtime, module).await;
        standard_input(runtime, module).await;
        memory_limit(runtime, module).await;
        raised_limit(runtime, module).await;
        limit_below_use(runtime, module).await;
        beside_counts_together(runtime, module).await;
        beside_ends_with_main(runtime, module).await;
        beside_ends_alone(runtime, module).await;
        kill(runtime, module).await;
        dropped(runtime, module).await;
        backpressure(runtime, module).await;
    }
    terminate_plain(runtime, plain).await;
    terminate_drained(runtime, drains).await;
    terminate_too_late(runtime, drains).await;
    assert_eq!(runtime.metrics().running, 0, "every workload has ended");
}

/// What a guest adds to the disk is counted, and waits for its allowance. In `mounts` the module can write at `/`.
///
/// # Panics
/// When the runtime does not do so.
pub async fn meters(runtime: &dyn Runtime, module: &Module, mounts: &[Mount]) {
    let meter = Arc::new(Meter::new(1 << 20));
    let begin = |steps: &[&str]| {
        let (mut workload, stdout, _) = workload(module, steps);
        workload.mounts = mounts.to_vec();
        workload.meter = Some(meter.clone());
        (start(runtime, workload), stdout)
    };
    let (small, _) = begin(&["write 1000"]);
    assert_eq!(soon("its end", small.wait()).await, Exit::Code(0));
    let added = meter.added();
    assert!(
        (1_000..100_000).contains(&added),
        "{added} bytes were added"
    );
    meter.allow(Some(0));
    let (large, stdout) = begin(&["write 3000000", "print done"]);
    for more in [Some(1 << 20), None] {
        soon("a writer that waits", meter.due()).await;
        assert_eq!((large.exit(), stdout.text()), (None, String::new()));
        meter.allow(more);
    }
    assert_eq!(soon("its end", large.wait()).await, Exit::Code(0));
    assert_eq!(stdout.text(), "done\n");
    meter.allow(Some(0));
    let (killed, _) = begin(&["write 1000"]);
    soon("a writer that waits", meter.due()).await;
    killed.kill();
    assert_eq!(soon("its end", killed.wait()).await, Exit::Killed);
    assert_eq!(meter.wanted(), 0, "nobody waits any more");
}

/// What is compiled is kept until it is forgotten, which nobody who has the module notices. `source` is a player's that
/// nobody has prepared yet.
///
/// # Panics
/// When the runtime does not do so.
pub async fn forgets(runtime: &dyn Runtime, source: ModuleSource) {
    let kept = async || {
        let compiled = runtime.compiled().await;
        let compiled = compiled.unwrap_or_else(|error| panic!("not listed: {error}"));
        let mut of = compiled.iter().filter(|c| c.digest == source.digest);
        of.next().map(|c| c.bytes)
    };
    let forget = async || match runtime.forget(&source.digest).await {
        Ok(is_gone) => is_gone,
        Err(error) => panic!("not forgotten: {error}"),
    };
    let prepare = async || match runtime.prepare(source.clone()).await {
        Ok(module) => module,
        Err(error) => panic!("not prepared: {error}"),
    };
    assert_eq!(kept().await, None);
    assert!(forget().await, "there is nothing of it");
    for _ in 0..2 {
        let module = prepare().await;
        assert!(!forget().await && kept().await > Some(0), "somebody has it");
        exit_codes(runtime, &module).await;
        drop(module);
        // What ran may hold it for a moment longer.
        let gone = async {
            while !forget().await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon("its end", gone).await;
        assert_eq!(kept().await, None);
    }
}

fn workload(module: &Module, steps: &[&str]) -> (Workload, Capture, Capture) {
    let (stdout, stderr) = (Capture::new(1 << 20), Capture::new(1 << 20));
    let mut workload = Workload::new(module.clone());
    workload.argv = std::iter::once("player")
        .chain(steps.iter().copied())
        .map(str::to_owned)
        .collect();
    workload.stdout = Box::new(stdout.clone());
    workload.stderr = Box::new(stderr.clone());
    (workload, stdout, stderr)
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(LONG, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {LONG:?}"),
    }
}

fn start(runtime: &dyn Runtime, workload: Workload) -> Running {
    match runtime.start(workload) {
        Ok(running) => running,
        Err(error) => panic!("not started: {error}"),
    }
}

/// Starts a workload and returns once it has printed its first line. Its reader comes along: a
/// guest whose output nobody reads any more may fail for that alone, as it flushes.
async fn start_and_greet(
    runtime: &dyn Runtime,
    module: &Module,
    rest: &[&str],
) -> (Running, Reader) {
    let mut steps = vec!["print ready"];
    steps.extend(rest);
    let (mut workload, ..) = workload(module, &steps);
    let (writer, reader) = pipe(1024);
    workload.stdout = Box::new(writer);
    let running = start(runtime, workload);
    let greeting = soon("its first line", reader.read(1024)).await;
    assert_eq!(greeting, Ok(Some(Bytes::from_static(b"ready\n"))));
    (running, reader)
}

async fn exit_codes(runtime: &dyn Runtime, module: &Module) {
    for (steps, expected) in [
        (&["print x"][..], Exit::Code(0)),
        (&["exit 0"], Exit::Code(0)),
        (&["exit 1", "print unreached"], Exit::Code(1)),
    ] {
        let (workload, stdout, _) = workload(module, steps);
        let running = start(runtime, workload);
        assert_eq!(soon("an exit", running.wait()).await, expected, "{steps:?}");
        assert_eq!(running.exit(), Some(expected));
        assert!(!stdout.text().contains("unreached"));
    }
    let (workload, ..) = workload(module, &["trap"]);
    let exit = soon("a trap", start(runtime, workload).wait()).await;
    assert!(matches!(exit, Exit::Trap { .. }), "{exit:?}");
    assert_eq!(exit.code(), 134);
}

async fn output(runtime: &dyn Runtime, module: &Module) {
    let (workload, stdout, stderr) = workload(module, &["print a", "eprint b", "print c"]);
    soon("its end", start(runtime, workload).wait()).await;
    assert_eq!(
        (stdout.text(), stderr.text()),
        ("a\nc\n".into(), "b\n".into())
    );
}

async fn arguments_and_environment(runtime: &dyn Runtime, module: &Module) {
    let (mut workload, stdout, _) = workload(module, &["args", "env"]);
    workload.env = vec![
        ("GREETING".into(), "grüße".into()),
        ("EMPTY".into(), String::new()),
    ];
    soon("its end", start(runtime, workload).wait()).await;
    assert_eq!(stdout.text(), "player\nargs\nenv\nGREETING=grüße\nEMPTY=\n");
}

async fn standard_input(runtime: &dyn Runtime, module: &Module) {
    let (mut with_input, stdout, _) = workload(module, &["read"]);
    with_input.stdin = Stdin::of("one\ntwo\n");
    soon("its end", start(runtime, with_input).wait()).await;
    assert_eq!(stdout.text(), "one\ntwo\n");

    let (without, stdout, _) = workload(module, &["read", "print done"]);
    soon("its end", start(runtime, without).wait()).await;
    assert_eq!(stdout.text(), "done\n");
}

async fn memory_limit(runtime: &dyn Runtime, module: &Module) {
    for (bytes, expected) in [("1000000", Exit::Code(0)), ("50000000", Exit::OutOfMemory)] {
        let step = format!("allocate {bytes}");
        let (mut workload, ..) = workload(module, &[&step]);
        workload.limits.memory = Some(32 << 20);
        let exit = soon("its end", start(runtime, workload).wait()).await;
        assert_eq!(exit, expected, "{step} within 32 MiB");
    }
}

/// Limits of this much memory.
fn memory(bytes: u64) -> Limits {
    Limits {
        memory: Some(bytes),
        ..Limits::default()
    }
}

/// Starts these steps, and returns once those before `read` are done. The rest is played when the input is closed.
async fn start_and_hold(
    runtime: &dyn Runtime,
    module: &Module,
    limits: Limits,
    steps: &[&str],
    beside: Option<Running>,
) -> (Running, Writer, Reader) {
    let (before, after) = steps.split_at(steps.iter().position(|s| *s == "read").unwrap_or(0));
    let mut all = before.to_vec();
    all.push("print ready");
    all.extend(after);
    let (mut workload, ..) = workload(module, &all);
    let ((input, stdin), (stdout, reader)) = (pipe(1024), pipe(1024));
    workload.stdin = Stdin::Pipe(stdin);
    workload.stdout = Box::new(stdout);
    workload.limits = limits;
    workload.beside = beside;
    let running = start(runtime, workload);
    let greeting = soon("its first line", reader.read(1024)).await;
    assert_eq!(greeting, Ok(Some(Bytes::from_static(b"ready\n"))));
    (running, input, reader)
}

async fn raised_limit(runtime: &dyn Runtime, module: &Module) {
    let steps = ["read", "allocate 50000000"];
    for (raised, expected) in [(100 << 20, Exit::Code(0)), (33 << 20, Exit::OutOfMemory)] {
        let (running, input, _reader) =
            start_and_hold(runtime, module, memory(32 << 20), &steps, None).await;
        running.resize(memory(raised)).expect("there is room");
        drop(input);
        let exit = soon("its end", running.wait()).await;
        assert_eq!(exit, expected, "{raised} bytes");
    }
}

async fn limit_below_use(runtime: &dyn Runtime, module: &Module) {
    let steps = ["allocate 20000000", "read", "allocate 20000000"];
    let (running, input, _reader) =
        start_and_hold(runtime, module, memory(64 << 20), &steps, None).await;
    let used = running.usage().memory;
    assert!((20_000_000..64 << 20).contains(&used), "{used}");
    let limit = 10_000_000;
    let refused = running.resize(memory(limit)).expect_err("it is in use");
    assert_eq!(refused, ResizeError::MemoryInUse { limit, used });
    // The old limit holds still.
    drop(input);
    assert_eq!(soon("its end", running.wait()).await, Exit::Code(0));
    assert_eq!(running.usage().memory, 0);
}

async fn beside_counts_together(runtime: &dyn Runtime, module: &Module) {
    let steps = ["allocate 20000000", "read"];
    let (main, input, _main_reader) =
        start_and_hold(runtime, module, memory(64 << 20), &steps, None).await;
    let (second, second_input, _second_reader) = start_and_hold(
        runtime,
        module,
        // Those of the other one hold.
        memory(1),
        &["allocate 20000000", "read", "allocate 50000000"],
        Some(main.clone()),
    )
    .await;
    let used = main.usage().memory;
    assert!(used >= 40_000_000, "{used}");
    assert_eq!(second.usage().memory, used);
    // Too much for both together ends the one that wants it, and what it had is free again.
    drop(second_input);
    assert_eq!(soon("its end", second.wait()).await, Exit::OutOfMemory);
    assert_eq!(main.exit(), None);
    assert!(main.usage().memory < used);
    // Another limit holds for both.
    main.resize(memory(128 << 20)).expect("there is room");
    let (third, third_input, _third_reader) = start_and_hold(
        runtime,
        module,
        Limits::default(),
        &["read", "allocate 50000000"],
        Some(main.clone()),
    )
    .await;
    drop(third_input);
    assert_eq!(soon("its end", third.wait()).await, Exit::Code(0));
    drop(input);
    assert_eq!(soon("its end", main.wait()).await, Exit::Code(0));
}

async fn beside_ends_with_main(runtime: &dyn Runtime, module: &Module) {
    let (main, _reader) = start_and_greet(runtime, module, &["forever"]).await;
    let second = || {
        let (mut workload, ..) = workload(module, &["forever"]);
        workload.beside = Some(main.clone());
        start(runtime, workload)
    };
    let running = second();
    main.kill();
    assert_eq!(soon("its end", running.wait()).await, Exit::Killed);
    soon("its end", main.wait()).await;
    assert_eq!(soon("no life", second().wait()).await, Exit::Killed);
}

async fn beside_ends_alone(runtime: &dyn Runtime, module: &Module) {
    let (main, _reader) = start_and_greet(runtime, module, &["forever"]).await;
    for (step, expected) in [("exit 1", Exit::Code(1)), ("forever", Exit::Killed)] {
        let (mut workload, ..) = workload(module, &[step]);
        workload.beside = Some(main.clone());
        let second = start(runtime, workload);
        if expected == Exit::Killed {
            second.kill();
        }
        assert_eq!(soon("its end", second.wait()).await, expected);
        assert_eq!(main.exit(), None);
    }
    // One beside it does not keep it alive.
    let (mut workload, ..) = workload(module, &["forever"]);
    workload.beside = Some(main.clone());
    let second = start(runtime, workload);
    drop(main);
    assert_eq!(soon("its end", second.wait()).await, Exit::Killed);
}

async fn kill(runtime: &dyn Runtime, module: &Module) {
    let (running, _reader) = start_and_greet(runtime, module, &["forever"]).await;
    assert_eq!(running.exit(), None);
    running.kill();
    assert_eq!(soon("its end", running.wait()).await, Exit::Killed);
    // Whatever comes after its end changes nothing.
    running.terminate(Duration::ZERO);
    assert_eq!(running.wait().await, Exit::Killed);
}

async fn dropped(runtime: &dyn Runtime, module: &Module) {
    let before = runtime.metrics().running;
    let (running, _reader) = start_and_greet(runtime, module, &["forever"]).await;
    assert_eq!(runtime.metrics().running, before + 1);
    drop(running);
    let gone = async {
        while runtime.metrics().running > before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon("the end of what nobody holds", gone).await;
}

/// A reader that does not read holds its writer back; one that goes away does not.
async fn backpressure(runtime: &dyn Runtime, module: &Module) {
    let lines: Vec<String> = (0..100).map(|n| format!("print {n:0200}")).collect();
    let steps: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (mut workload, ..) = workload(module, &steps);
    let (writer, reader) = pipe(1000);
    workload.stdout = Box::new(writer);
    let running = start(runtime, workload);
    let mut read = 0;
    while let Some(chunk) = soon("output", reader.read(7)).await.ok().flatten() {
        read += chunk.len();
        if read < 100 {
            assert_eq!(running.exit(), None, "held back by its reader");
        }
    }
    assert_eq!(read, 100 * 201);
    assert_eq!(soon("its end", running.wait()).await, Exit::Code(0));
}

async fn terminate_plain(runtime: &dyn Runtime, module: &Module) {
    let (running, _reader) = start_and_greet(runtime, module, &["forever"]).await;
    assert!(!running.handles_termination());
    running.terminate(Duration::from_secs(3600));
    let exit = soon("its end", running.wait()).await;
    assert_eq!((exit.code(), exit), (143, Exit::Terminated));
}

async fn terminate_drained(runtime: &dyn Runtime, module: &Module) {
    let (running, _reader) = start_and_greet(runtime, module, &["drain 50ms", "forever"]).await;
    assert!(running.handles_termination());
    running.terminate(LONG);
    assert_eq!(soon("its drain", running.wait()).await, Exit::Code(0));
}

async fn terminate_too_late(runtime: &dyn Runtime, module: &Module) {
    let (running, _reader) = start_and_greet(runtime, module, &["drain 3600s", "forever"]).await;
    running.terminate(Duration::from_secs(3600));
    // A later call only shortens the grace period.
    running.terminate(Duration::from_millis(20));
    running.terminate(Duration::from_secs(3600));
    assert_eq!(soon("its end", running.wait()).await, Exit::Killed);
}
