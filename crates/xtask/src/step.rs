//! Running other programs, with something to see while they take their time.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, IsTerminal, Read, stderr};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// How many of a program's last lines are shown if it fails.
const TAIL: usize = 60;

/// A long step with a spinner, and its time when it is over. Without a terminal, two lines.
pub(crate) struct Step {
    title: String,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Step {
    pub(crate) fn start(title: impl Into<String>) -> Step {
        let title = title.into();
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            // A template that is wrong would only cost its looks.
            let style =
                ProgressStyle::with_template("{spinner} {prefix} ({elapsed}) {wide_msg:.dim}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(title.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        if bar.is_none() {
            eprintln!("{title} ...");
        }
        Step {
            title,
            started: Instant::now(),
            bar,
        }
    }

    /// Shows how far it has come.
    pub(crate) fn say(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(line.trim().to_owned());
        }
    }

    /// Ends it well.
    pub(crate) fn done(self) {
        self.end("done");
    }

    /// Ends it with a few words on how it went.
    pub(crate) fn end(self, how: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!(
            "{}: {how} ({:.1} s)",
            self.title,
            self.started.elapsed().as_secs_f64()
        );
    }

    /// Runs a program to its end as (part of) this step; what it prints is shown as it comes, and in full if
    /// it fails.
    pub(crate) fn run(&self, command: &mut Command) -> Result<()> {
        let shown = show(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {shown}"))?;
        let lines = Mutex::new(VecDeque::new());
        let (out, err) = (child.stdout.take(), child.stderr.take());
        thread::scope(|scope| {
            scope.spawn(|| out.map(|out| self.follow(out, &lines)));
            scope.spawn(|| err.map(|err| self.follow(err, &lines)));
        });
        let status = child
            .wait()
            .with_context(|| format!("cannot wait for {shown}"))?;
        if status.success() {
            return Ok(());
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let lines: Vec<String> = lines.into_inner().unwrap_or_default().into();
        bail!("{}\n{shown} failed with {status}", lines.join("\n"))
    }

    fn follow(&self, output: impl Read, lines: &Mutex<VecDeque<String>>) {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            self.say(&line);
            if let Ok(mut lines) = lines.lock() {
                if lines.len() == TAIL {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
        }
    }
}

/// Runs a program that is one whole step.
pub(crate) fn run(title: &str, command: &mut Command) -> Result<()> {
    let step = Step::start(title);
    step.run(command)?;
    step.done();
    Ok(())
}

/// Runs a program that has the terminal to itself.
pub(crate) fn stream(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let status = command
        .status()
        .with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown} failed with {status}");
    }
    Ok(())
}

/// What a short program prints; an error if it cannot be run or fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!(
            "{}\n{shown} failed with {status}",
            String::from_utf8_lossy(&stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// A command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        let plain = !argument.is_empty()
            && argument
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c));
        words.push(if plain {
            argument.into_owned()
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        });
    }
    words.join(" ")
}
