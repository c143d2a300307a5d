//! What a cluster's processes have said, for whoever waits for them.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;

use super::process::Role;

/// How much of a log's end is looked at.
const TAIL: u64 = 64 << 10;
/// How many of its lines are shown.
const LINES: usize = 3;

/// What a process that ended too early said.
pub(crate) fn last_words(role: Role, data_dir: &Path) -> String {
    let file = log_dir(role, data_dir).join("stderr.log");
    let text = fs::read_to_string(&file).unwrap_or_default();
    let tail: Vec<&str> = text.lines().rev().take(8).collect();
    match tail.is_empty() {
        true => format!(
            "it said nothing; see {}",
            file.parent().unwrap_or(&file).display()
        ),
        false => tail.into_iter().rev().collect::<Vec<_>>().join("\n"),
    }
}

/// The last warnings and errors in a process's log that are not older than `since`.
pub(super) fn reasons(role: Role, data_dir: &Path, since: Timestamp) -> Vec<String> {
    let newest = newest(role, data_dir).and_then(|file| tail(&file).ok());
    let text = newest.unwrap_or_default();
    let mut last: Vec<String> = text
        .lines()
        .rev()
        .filter(|line| is_reason(line, since))
        .take(LINES)
        .map(str::to_owned)
        .collect();
    last.reverse();
    last
}

fn log_dir(role: Role, data_dir: &Path) -> PathBuf {
    data_dir.join(role.name()).join("log")
}

/// The newest of the log's files: their names have their dates in them.
fn newest(role: Role, data_dir: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(log_dir(role, data_dir)).ok()?.flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let prefix = format!("{}.", role.name());
    let newest = names
        .filter(|name| name.starts_with(&prefix) && name.ends_with(".log"))
        .max()?;
    Some(log_dir(role, data_dir).join(newest))
}

fn tail(file: &Path) -> Result<String> {
    let mut file = fs::File::open(file)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut text = Vec::new();
    file.take(TAIL).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Whether a line of a log, `TIME LEVEL …`, is a warning or an error of that time.
fn is_reason(line: &str, since: Timestamp) -> bool {
    let mut words = line.split_whitespace();
    let at = words.next().and_then(|word| word.parse::<Timestamp>().ok());
    at.is_some_and(|at| at >= since) && matches!(words.next(), Some("WARN" | "ERROR"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_the_last_warnings_of_the_newest_log() {
        let dir = tempfile::tempdir().unwrap();
        let since: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let found = || reasons(Role::Server, dir.path(), since);
        assert!(found().is_empty(), "there is no log yet");
        let log = log_dir(Role::Server, dir.path());
        fs::create_dir_all(&log).unwrap();
        let write = |name: &str, text: &str| fs::write(log.join(name), text).unwrap();
        write(
            "server.2026-11-20.log",
            "2026-11-21T10:00:09Z  WARN of an older file\n",
        );
        write("stderr.log", "2026-11-21T10:00:09Z  WARN of another\n");
        write(
            "server.2026-11-21.log",
            "2026-11-21T09:59:59.9Z ERROR store: before\n\
             2026-11-21T10:00:01.5Z  WARN store: one\n\
             2026-11-21T10:00:02.5Z  INFO store: all is well\n\
             not a line of ours WARN\n\
             2026-11-21T10:00:03.5Z ERROR store: two\n",
        );
        let both = [
            "2026-11-21T10:00:01.5Z  WARN store: one",
            "2026-11-21T10:00:03.5Z ERROR store: two",
        ];
        assert_eq!(found(), both);
        // However long the log is.
        let many: String = (0..5_000)
            .map(|i| format!("2026-11-21T10:00:04Z  WARN store: {i}\n"))
            .collect();
        write("server.2026-11-21.log", &many);
        let last = [4_997, 4_998, 4_999].map(|i| format!("2026-11-21T10:00:04Z  WARN store: {i}"));
        assert_eq!(found(), last);
    }
}
