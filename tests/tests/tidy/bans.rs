//! What code may not say, and where.

/// Crates whose code runs in servers and agents.
const LIBRARIES: &[&str] = &[
    "agent",
    "api",
    "apiserver",
    "client",
    "controllers",
    "images",
    "network",
    "runtime",
    "scheduler",
    "store",
];

/// Code that decides: it must not know what time it is, nor draw lots.
const DECIDERS: &[&str] = &[
    "crates/agent/src/eviction/hard.rs",
    "crates/agent/src/eviction/local.rs",
    "crates/agent/src/eviction/rank.rs",
    "crates/agent/src/garbage/select.rs",
    "crates/agent/src/garbage/thresholds.rs",
    "crates/agent/src/pod/",
    "crates/agent/src/policies/",
    "crates/agent/src/statics/files.rs",
    "crates/agent/src/statics/read.rs",
    "crates/api/src/",
    "crates/controllers/src/cluster_role",
    "crates/controllers/src/deployment",
    "crates/controllers/src/ephemeral_volume",
    "crates/controllers/src/job",
    "crates/controllers/src/local_path",
    "crates/controllers/src/namespace",
    "crates/controllers/src/node_",
    "crates/controllers/src/replica_set",
    "crates/controllers/src/storage_protection",
    "crates/controllers/src/volume_binding",
    "crates/network/src/dns/",
    "crates/network/src/names/",
    "crates/scheduler/src/decide.rs",
    "crates/scheduler/src/plugins",
    "crates/scheduler/src/snapshot.rs",
    "crates/store/src/apply.rs",
    "crates/store/src/state.rs",
];

/// Where a ban holds, what is banned there, and what to use instead.
pub(crate) type Bans = (fn(&str) -> bool, &'static [(&'static str, &'static str)]);

pub(crate) const BANS: &[Bans] = &[
    (
        always,
        &[
            (
                "todo!",
                "write it, or refuse with an error that names what is missing",
            ),
            (
                "unimplemented!",
                "refuse with an error that names what is missing",
            ),
            ("dbg!", "tracing::debug!"),
            ("#[allow(", "#[expect(lint, reason = \"…\")]"),
            ("#![allow(", "#![expect(lint, reason = \"…\")]"),
            ("#[ignore", "a test that runs, or none"),
        ],
    ),
    (
        is_library,
        &[
            ("println!", "tracing; only programs print"),
            (
                "anyhow",
                "a thiserror enum, so that callers can tell errors apart",
            ),
        ],
    ),
    (
        is_product,
        &[
            ("thread::sleep", "tokio::time::sleep, which tests can pause"),
            ("std::time::SystemTime", "jiff::Timestamp"),
            (
                "std::time::Instant",
                "tokio::time::Instant, which tests can pause",
            ),
        ],
    ),
    (
        is_decider,
        &[
            ("Timestamp::now", "a time given as an argument"),
            ("Instant::now", "a time given as an argument"),
            ("rand::rng", "a source of randomness given as an argument"),
            ("new_v4", "an identifier given as an argument"),
            ("HashMap", "BTreeMap, so that no hash's order decides"),
        ],
    ),
    (
        |file| is_outside("store", file),
        &[
            ("openraft::", "the store's own types"),
            ("sled::", "the store's own types"),
        ],
    ),
    (
        |file| is_outside("runtime", file),
        &[("wasmtime", "the runtime's own types")],
    ),
];

pub(crate) fn always(_: &str) -> bool {
    true
}

pub(crate) fn crate_of(file: &str) -> Option<&str> {
    file.strip_prefix("crates/")?.split('/').next()
}

pub(crate) fn is_library(file: &str) -> bool {
    crate_of(file).is_some_and(|name| LIBRARIES.contains(&name)) && file.contains("/src/")
}

/// What is shipped: everything but tests, benchmarks and the developers' commands.
pub(crate) fn is_product(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    crate_of(file).is_some_and(|name| name != "xtask")
        && file.contains("/src/")
        && name != "tests.rs"
}

pub(crate) fn is_decider(file: &str) -> bool {
    DECIDERS.iter().any(|prefix| file.starts_with(prefix)) && !file.ends_with("tests.rs")
}

pub(crate) fn is_outside(owner: &str, file: &str) -> bool {
    crate_of(file).is_some_and(|name| name != owner)
}

/// Whether a ban is about shipped code, so that tests in the same file are free of it.
pub(super) fn is_only_for_products(word: &str) -> bool {
    ![
        "todo!",
        "unimplemented!",
        "dbg!",
        "#[allow(",
        "#![allow(",
        "#[ignore",
    ]
    .contains(&word)
}
