//! What a server and an agent have in common: a directory of their own, a log in it, a runtime, and
//! an end that others can tell from a crash.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::LogArgs;
use crate::local::layout;
use crate::local::process::{self, Role};
use crate::logging::{self, Levels};

/// How long threads may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Does a daemon's `work` in `DATA_DIR/ROLE`, whose path it is given.
pub(crate) fn run<W>(
    role: Role,
    data_dir: &Path,
    log: &LogArgs,
    work: impl FnOnce(PathBuf) -> W,
) -> Result<ExitCode>
where
    W: Future<Output = Result<()>>,
{
    let dir = process::named_by_true_path(data_dir)?.join(role.name());
    let log_dir = dir.join("log");
    layout::make_private_dir(&log_dir)?;
    layout::close_to_others(&dir)?;
    let lock = process::lock(&dir)?;
    let levels = logging::to_directory(&log_dir, role.name(), log.log_format, log.log.as_deref())?;
    let levels = Arc::new(levels);
    let followed = Arc::clone(&levels);
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move { follow(&followed, &mut hangup).await });
        work(dir).await
    });
    if let Err(error) = &outcome {
        let error = format!("{error:#}");
        tracing::error!(error, "the {} ends", role.name());
    }
    runtime.shutdown_timeout(STOP_WITHIN);
    levels.close();
    outcome?;
    lock.release()?;
    Ok(ExitCode::SUCCESS)
}

/// Lets this process hold as many open files as it may: each mount of each guest is one, and each watcher's connection.
fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the bound on open files stays as it is");
    }
}

/// Takes up other levels whenever SIGHUP asks for it.
async fn follow(levels: &Levels, hangup: &mut Signal) {
    while hangup.recv().await.is_some() {
        match levels.read() {
            Ok(filter) => tracing::info!(filter, "levels of the log changed"),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "levels of the log stay as they are");
            }
        }
    }
}

/// The node's name: the one given, else the machine's.
pub(crate) fn node_name(given: Option<&str>) -> Result<String> {
    let name = match given {
        Some(name) => name.to_owned(),
        None => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .to_lowercase(),
    };
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |part: &str| {
        let bytes = part.as_bytes();
        let ends = bytes.first().zip(bytes.last());
        ends.is_some_and(|(first, last)| alphanumeric(*first) && alphanumeric(*last))
            && bytes
                .iter()
                .all(|byte| alphanumeric(*byte) || *byte == b'-')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        bail!(
            "{name:?} cannot be a node's name: choose one of lower-case letters, digits, '-' and '.' with --node-name"
        );
    }
    Ok(name)
}

/// Does what comes before a daemon's work, unless it is told to end first: joining may take a minute.
pub(crate) async fn unless_told_to_end<T>(
    starting: impl Future<Output = Result<T>>,
    terminate: &mut Signal,
    interrupt: &mut Signal,
) -> Result<Option<T>> {
    tokio::select! {
        started = starting => started.map(Some),
        _ = terminate.recv() => Ok(None),
        _ = interrupt.recv() => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::node_name;

    #[test]
    fn names_of_nodes_are_those_of_hosts() {
        for good in ["a", "web-1", "web-1.example.org", "0"] {
            assert_eq!(node_name(Some(good)).unwrap(), good);
        }
        for bad in [
            "",
            "Web",
            "web_1",
            "-a",
            "a-",
            "a..b",
            ".",
            &"a".repeat(254),
        ] {
            assert!(node_name(Some(bad)).is_err(), "{bad}");
        }
    }
}
