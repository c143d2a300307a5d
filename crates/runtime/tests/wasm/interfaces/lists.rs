//! What there is to import, and what makes a module need it.

/// Preview 1 as it is specified: functions and what they take, `i` 32 and `l` 64 bits.
pub(super) const PREVIEW_1: &str = "
    args_get:ii args_sizes_get:ii environ_get:ii environ_sizes_get:ii
    clock_res_get:ii clock_time_get:ili random_get:ii sched_yield: proc_exit:i proc_raise:i poll_oneoff:iiii
    fd_advise:illi fd_allocate:ill fd_close:i fd_datasync:i fd_fdstat_get:ii fd_fdstat_set_flags:ii
    fd_fdstat_set_rights:ill fd_filestat_get:ii fd_filestat_set_size:il fd_filestat_set_times:illi fd_pread:iiili
    fd_prestat_dir_name:iii fd_prestat_get:ii fd_pwrite:iiili fd_read:iiii fd_readdir:iiili fd_renumber:ii
    fd_seek:ilii fd_sync:i fd_tell:ii fd_write:iiii
    path_create_directory:iii path_filestat_get:iiiii path_filestat_set_times:iiiilli path_link:iiiiiii
    path_open:iiiiillii path_readlink:iiiiii path_remove_directory:iii path_rename:iiiiii path_symlink:iiiii
    path_unlink_file:iii
    sock_accept:iii sock_recv:iiiiii sock_send:iiiii sock_shutdown:ii";

/// What preview 1 modules import elsewhere, by the name in the document.
pub(super) const REFUSED_CORE: &[(&str, &str, &str)] = &[
    ("sock_open", "wasi_snapshot_preview1", "sock_open"),
    ("sock_bind", "wasi_snapshot_preview1", "sock_bind"),
    ("sock_listen", "wasi_snapshot_preview1", "sock_listen"),
    ("sock_connect", "wasi_snapshot_preview1", "sock_connect"),
    ("wasi_unstable", "wasi_unstable", "fd_write"),
    ("wasi::thread-spawn", "wasi", "thread-spawn"),
    ("wasi_ephemeral_nn", "wasi_ephemeral_nn", "load"),
    (
        "wasi_ephemeral_crypto_common",
        "wasi_ephemeral_crypto_common",
        "options_open",
    ),
    ("wasix_32v1", "wasix_32v1", "proc_fork"),
];

/// What makes a component need an interface: another interface's resource that it uses, `$t`, and its own items.
pub(super) const OFFERED: &[(&str, &str, &str)] = &[
    (
        "wasi:cli/environment",
        "",
        r#"(export "get-arguments" (func (result (list string))))"#,
    ),
    (
        "wasi:cli/exit",
        "",
        r#"(export "exit" (func (param "status" (result))))
           (export "exit-with-code" (func (param "status-code" u8)))"#,
    ),
    (
        "wasi:cli/stdin",
        "wasi:io/streams input-stream",
        r#"(export "get-stdin" (func (result (own $t))))"#,
    ),
    (
        "wasi:cli/stdout",
        "wasi:io/streams output-stream",
        r#"(export "get-stdout" (func (result (own $t))))"#,
    ),
    (
        "wasi:cli/stderr",
        "wasi:io/streams output-stream",
        r#"(export "get-stderr" (func (result (own $t))))"#,
    ),
    (
        "wasi:cli/terminal-input",
        "",
        r#"(export "terminal-input" (type (sub resource)))"#,
    ),
    (
        "wasi:cli/terminal-output",
        "",
        r#"(export "terminal-output" (type (sub resource)))"#,
    ),
    (
        "wasi:cli/terminal-stdin",
        "wasi:cli/terminal-input terminal-input",
        r#"(export "get-terminal-stdin" (func (result (option (own $t)))))"#,
    ),
    (
        "wasi:cli/terminal-stdout",
        "wasi:cli/terminal-output terminal-output",
        r#"(export "get-terminal-stdout" (func (result (option (own $t)))))"#,
    ),
    (
        "wasi:cli/terminal-stderr",
        "wasi:cli/terminal-output terminal-output",
        r#"(export "get-terminal-stderr" (func (result (option (own $t)))))"#,
    ),
    (
        "wasi:clocks/monotonic-clock",
        "wasi:io/poll pollable",
        r#"(export "now" (func (result u64)))
           (export "subscribe-duration" (func (param "when" u64) (result (own $t))))"#,
    ),
    (
        "wasi:clocks/wall-clock",
        "",
        r#"(type $record (record (field "seconds" u64) (field "nanoseconds" u32)))
           (export "datetime" (type $datetime (eq $record)))
           (export "now" (func (result $datetime)))"#,
    ),
    (
        "wasi:filesystem/types",
        "",
        r#"(export "descriptor" (type (sub resource)))"#,
    ),
    (
        "wasi:filesystem/preopens",
        "wasi:filesystem/types descriptor",
        r#"(export "get-directories" (func (result (list (tuple (own $t) string)))))"#,
    ),
    (
        "wasi:io/error",
        "",
        r#"(export "error" (type $e (sub resource)))
           (export "[method]error.to-debug-string" (func (param "self" (borrow $e)) (result string)))"#,
    ),
    (
        "wasi:io/poll",
        "",
        r#"(export "pollable" (type $p (sub resource)))
           (export "poll" (func (param "in" (list (borrow $p))) (result (list u32))))"#,
    ),
    (
        "wasi:io/streams",
        "",
        r#"(export "input-stream" (type (sub resource)))
           (export "output-stream" (type (sub resource)))"#,
    ),
    (
        "wasi:random/random",
        "",
        r#"(export "get-random-bytes" (func (param "len" u64) (result (list u8))))"#,
    ),
    (
        "wasi:random/insecure",
        "",
        r#"(export "get-insecure-random-u64" (func (result u64)))"#,
    ),
    (
        "wasi:random/insecure-seed",
        "",
        r#"(export "insecure-seed" (func (result (tuple u64 u64))))"#,
    ),
    (
        "wasi:sockets/network",
        "",
        r#"(export "network" (type (sub resource)))"#,
    ),
    (
        "wasi:sockets/instance-network",
        "wasi:sockets/network network",
        r#"(export "instance-network" (func (result (own $t))))"#,
    ),
    (
        "wasi:sockets/ip-name-lookup",
        "",
        r#"(export "resolve-address-stream" (type (sub resource)))"#,
    ),
    (
        "wasi:sockets/tcp",
        "",
        r#"(export "tcp-socket" (type (sub resource)))"#,
    ),
    (
        "wasi:sockets/tcp-create-socket",
        "wasi:sockets/tcp tcp-socket",
        r#"FAMILY_AND_ERRORS (export "create-tcp-socket"
            (func (param "address-family" $family) (result (result (own $t) (error $errors)))))"#,
    ),
    (
        "wasi:sockets/udp",
        "",
        r#"(export "udp-socket" (type (sub resource)))"#,
    ),
    (
        "wasi:sockets/udp-create-socket",
        "wasi:sockets/udp udp-socket",
        r#"FAMILY_AND_ERRORS (export "create-udp-socket"
            (func (param "address-family" $family) (result (result (own $t) (error $errors)))))"#,
    ),
    (
        "wasi:http/types",
        "",
        r#"(export "fields" (type (sub resource)))
           (export "response-outparam" (type (sub resource)))"#,
    ),
    (
        "carob:pod/lifecycle",
        "wasi:io/poll pollable",
        r#"(export "subscribe-termination" (func (result (own $t))))
           (export "remaining-grace" (func (result (option u64))))"#,
    ),
];

/// Of too many types to be written here: `fetch` imports it.
pub(super) const OFFERED_TO_FETCH: &str = "wasi:http/outgoing-handler";

/// What `create-…-socket` takes and fails with.
pub(super) const FAMILY_AND_ERRORS: &str = r#"
    (type $ip (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type $family (eq $ip)))
    (type $codes (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
        "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
        "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
        "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
        "permanent-resolver-failure"))
    (export "error-code" (type $errors (eq $codes)))"#;

/// By the document's name, the interface with a version that there is, and one of its functions or, as `[resource]…`, its resources.
pub(super) const REFUSED: &[(&str, &str, &str)] = &[
    (
        "wasi:clocks/timezone",
        "wasi:clocks/timezone@0.2.12",
        "display",
    ),
    (
        "wasi:sockets/network#network-error-code",
        "wasi:sockets/network@0.2.12",
        "network-error-code",
    ),
    (
        "wasi:http/types#send-informational",
        "wasi:http/types@0.2.12",
        "[method]response-outparam.send-informational",
    ),
    (
        "wasi:config/store",
        "wasi:config/store@0.2.0-rc.1",
        "get-all",
    ),
    (
        "wasi:config/runtime",
        "wasi:config/runtime@0.2.0-draft",
        "get",
    ),
    (
        "wasi:keyvalue/store",
        "wasi:keyvalue/store@0.2.0-draft2",
        "open",
    ),
    (
        "wasi:keyvalue/atomics",
        "wasi:keyvalue/atomics@0.2.0-draft2",
        "increment",
    ),
    (
        "wasi:keyvalue/batch",
        "wasi:keyvalue/batch@0.2.0-draft2",
        "get-many",
    ),
    (
        "wasi:keyvalue/watcher",
        "wasi:keyvalue/watcher@0.2.0-draft2",
        "on-set",
    ),
    (
        "wasi:blobstore/blobstore",
        "wasi:blobstore/blobstore@0.2.0-draft",
        "create-container",
    ),
    (
        "wasi:blobstore/container",
        "wasi:blobstore/container@0.2.0-draft",
        "[resource]container",
    ),
    (
        "wasi:logging/logging",
        "wasi:logging/logging@0.1.0-draft",
        "log",
    ),
    (
        "wasi:messaging/producer",
        "wasi:messaging/producer@0.2.0-draft",
        "send",
    ),
    (
        "wasi:messaging/request-reply",
        "wasi:messaging/request-reply@0.2.0-draft",
        "request",
    ),
    (
        "wasi:messaging/incoming-handler",
        "wasi:messaging/incoming-handler@0.2.0-draft",
        "handle",
    ),
    ("wasi:nn/graph", "wasi:nn/graph@0.2.0-rc-2024-10-28", "load"),
    (
        "wasi:nn/tensor",
        "wasi:nn/tensor@0.2.0-rc-2024-10-28",
        "[resource]tensor",
    ),
    (
        "wasi:nn/inference",
        "wasi:nn/inference@0.2.0-rc-2024-10-28",
        "[resource]graph-execution-context",
    ),
    (
        "wasi:otel/tracing",
        "wasi:otel/tracing@0.2.0-rc.1",
        "on-start",
    ),
    (
        "wasi:otel/metrics",
        "wasi:otel/metrics@0.2.0-rc.1",
        "export",
    ),
    ("wasi:otel/logs", "wasi:otel/logs@0.2.0-rc.1", "on-emit"),
    (
        "wasi:sql/readwrite",
        "wasi:sql/readwrite@0.2.0-draft",
        "query",
    ),
    (
        "wasi:tls/types",
        "wasi:tls/types@0.2.0-draft",
        "client-handshake",
    ),
    ("wasi:webgpu/webgpu", "wasi:webgpu/webgpu@0.0.1", "get-gpu"),
    (
        "wasi:graphics-context/graphics-context",
        "wasi:graphics-context/graphics-context@0.0.1",
        "[resource]context",
    ),
    (
        "wasi:surface/surface",
        "wasi:surface/surface@0.0.1",
        "[resource]surface",
    ),
    (
        "wasi:frame-buffer/frame-buffer",
        "wasi:frame-buffer/frame-buffer@0.0.1",
        "[resource]device",
    ),
    ("wasi:i2c/i2c", "wasi:i2c/i2c@0.0.0", "[resource]i2c"),
    ("wasi:spi/spi", "wasi:spi/spi", "get-device-names"),
    (
        "component:usb/usb",
        "component:usb/usb@0.1.0",
        "[resource]usb-device",
    ),
    ("wasi:cli/run", "wasi:cli/run@0.2.12", "run"),
    (
        "wasi:http/incoming-handler",
        "wasi:http/incoming-handler@0.2.12",
        "handle",
    ),
];
