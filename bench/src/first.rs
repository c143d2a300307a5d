//! Guests that say when they began: they read the time as the first thing they do, and print it.

use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};

/// A preview 1 module. It prints nanoseconds since 1970, as eight bytes.
pub const CORE: &str = r#"(module
  (import "wasi_snapshot_preview1" "clock_time_get"
    (func $time (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $time (i32.const 0) (i64.const 1) (i32.const 16)))
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 8))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// A component. It prints a `datetime` as it lies in its memory: eight bytes of seconds, four of nanoseconds.
pub const COMPONENT: &str = r#"(component
  (import "wasi:clocks/wall-clock@0.2.0" (instance $clock
    (type $record (record (field "seconds" u64) (field "nanoseconds" u32)))
    (export "datetime" (type $datetime (eq $record)))
    (export "now" (func (result $datetime)))))
  (import "wasi:io/error@0.2.0" (instance $errors
    (export "error" (type (sub resource)))))
  (alias export $errors "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $output (sub resource)))
    (alias outer 1 $error (type $outer))
    (export "error" (type $failure (eq $outer)))
    (type $variant (variant (case "last-operation-failed" (own $failure)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $variant)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $output)) (param "contents" (list u8))
        (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $stream (type $outer))
    (export "output-stream" (type $output (eq $outer)))
    (export "get-stdout" (func (result (own $output))))))
  (core module $memory (memory (export "memory") 1))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $bytes))
  (core func $now (canon lower (func $clock "now") (memory $bytes)))
  (core func $get (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush") (memory $bytes)))
  (core module $program
    (import "memory" "memory" (memory 1))
    (import "" "now" (func $now (param i32)))
    (import "" "get" (func $get (result i32)))
    (import "" "write" (func $write (param i32 i32 i32 i32)))
    (func (export "run") (result i32)
      (call $now (i32.const 0))
      (call $write (call $get) (i32.const 0) (i32.const 12) (i32.const 32))
      (i32.const 0)))
  (core instance $p (instantiate $program
    (with "memory" (instance $m))
    (with "" (instance
      (export "now" (func $now))
      (export "get" (func $get))
      (export "write" (func $write))))))
  (func $run (result (result)) (canon lift (core func $p "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))"#;

/// When the guest that printed this began.
pub fn began(printed: &[u8]) -> Result<SystemTime> {
    let since = match *printed {
        [a, b, c, d, e, f, g, h] => {
            Duration::from_nanos(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
        }
        [a, b, c, d, e, f, g, h, i, j, k, l] => Duration::new(
            u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            u32::from_le_bytes([i, j, k, l]) % 1_000_000_000,
        ),
        _ => bail!("a guest printed {printed:?} instead of the time"),
    };
    Ok(SystemTime::UNIX_EPOCH + since)
}

/// How long after a decision the guest that printed this began.
pub fn after(decided: SystemTime, printed: &[u8]) -> Result<Duration> {
    // It is nothing where the system's clock was set back in between.
    Ok(began(printed)?.duration_since(decided).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use runtime::{Config, Exit, Runtime as _, Wasm, Workload};
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::{Printed, source};

    #[tokio::test(flavor = "multi_thread")]
    async fn guests_say_when_they_began() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path().join("compiled"));
        (config.instances, config.dense_instances) = (10, 1);
        let wasm = Wasm::new(config).unwrap();
        for text in [CORE, COMPONENT] {
            let file = dir.path().join("first.wasm");
            std::fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
            let module = wasm.prepare(source(&file).unwrap()).await.unwrap();
            let (printed, mut lines) = unbounded_channel();
            let mut workload = Workload::new(module);
            workload.stdout = Box::new(Printed(printed));
            let before = SystemTime::now();
            let exit = wasm.start(workload).unwrap().wait().await;
            assert_eq!(exit, Exit::Code(0));
            let began = began(&lines.recv().await.unwrap()).unwrap();
            assert!((before..=SystemTime::now()).contains(&began), "{began:?}");
        }
        assert!(began(b"").is_err());
    }
}
