//! Where each process writes its spans and events.
//!
//! Servers and agents log into their data directory, rotated; commands log to standard error.
//! Text is for people, JSON (`--log-format json`) for collectors. The filter has a level a crate; a
//! daemon that gets SIGHUP takes the one that it finds in the file `filter` beside its log.

mod lines;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use lines::Lines;

/// How a process writes its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Days of log files that are kept.
const KEPT_FILES: usize = 7;

/// What is logged unless `CAROB_LOG` or `--log` says otherwise: our own crates' spans, the
/// libraries' warnings. openraft reports every lost connection as an error and we report it too.
const DEFAULT_FILTER: &str = "warn,carob=info,api=info,store=info,client=info,apiserver=info,\
scheduler=info,controllers=info,network=info,runtime=info,images=info,agent=info,openraft=off";

/// Logs of a short-lived command: warnings to standard error, or what `CAROB_LOG` asks for.
pub(crate) fn to_stderr() {
    let filter = EnvFilter::try_from_env("CAROB_LOG").unwrap_or_else(|_| EnvFilter::new("error"));
    install(Format::Text, filter, std::io::stderr);
}

/// The levels of a daemon's log, which may change while it runs.
pub(crate) struct Levels {
    file: PathBuf,
    handle: reload::Handle<EnvFilter, Registry>,
    lines: Lines<RollingFileAppender>,
}

impl Levels {
    /// Has the last lines written: for when the process ends.
    pub(crate) fn close(&self) {
        self.lines.close();
    }

    /// Takes the levels that the file holds, the usual ones where it is missing or empty; their
    /// text.
    ///
    /// # Errors
    /// When the file holds no filter.
    pub(crate) fn read(&self) -> Result<String> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let text = match text.trim() {
            "" => DEFAULT_FILTER,
            given => given,
        };
        let filter = EnvFilter::try_new(text).with_context(|| self.file.display().to_string())?;
        self.handle.reload(filter)?;
        Ok(text.to_owned())
    }
}

/// Logs of a server or agent: `<directory>/<name>.<date>.log`.
pub(crate) fn to_directory(
    directory: &Path,
    name: &str,
    format: Format,
    filter: Option<&str>,
) -> Result<Levels> {
    let appender = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(name)
        .filename_suffix("log")
        .max_log_files(KEPT_FILES)
        .build(directory)
        .with_context(|| format!("cannot write logs into {}", directory.display()))?;
    let filter = match filter {
        Some(given) => EnvFilter::try_new(given).with_context(|| format!("--log {given}"))?,
        None => {
            EnvFilter::try_from_env("CAROB_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER))
        }
    };
    let lines = Lines::new(appender).context("cannot start the log's thread")?;
    let handle = install(format, filter, lines.writer());
    std::panic::set_hook(Box::new(
        |info| tracing::error!(target: "carob", "panic: {info}"),
    ));
    Ok(Levels {
        file: directory.join("filter"),
        handle,
        lines,
    })
}

fn install<W>(format: Format, filter: EnvFilter, writer: W) -> reload::Handle<EnvFilter, Registry>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(false);
    match format {
        Format::Text => registry.with(layer).init(),
        Format::Json => registry.with(layer.json().with_span_list(true)).init(),
    }
    handle
}
