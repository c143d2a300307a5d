//! The built-in toolbox: the commands of `kubectl exec` that a container has whatever its module is.
//!
//! Every command is an async function over a [`Call`]: its arguments, the [`View`] of the container and its streams. All
//! of a command is one future, whatever it runs: dropped, it is cancelled, and what it does on other threads ends with
//! the step that it is at.

mod bounds;
mod bridge;
mod cat;
mod date;
mod ends;
mod env;
mod grep;
mod ls;
mod mkdir;
mod nslookup;
mod options;
mod paying;
mod print;
mod ps;
mod rm;
mod sh;
mod streams;
mod tar;
mod test;
#[cfg(test)]
mod tests;
mod touch;
mod wget;

use std::future::ready;
use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use super::view::View;
use crate::blocking::blocking;
use bounds::Bounds;
pub(crate) use bridge::Workers;
use streams::{Input, Output};

/// Words of a command, and bytes in all of them.
const MOST_WORDS: usize = 4_096;
const MOST_BYTES: usize = 128 << 10;

/// Commands that run each other: `env`, `sh` and its files.
const DEEPEST: usize = 16;

/// A command's exit code as the shell has it that ran into a bound, or found what cannot be run.
const CANNOT_RUN: i32 = 126;

/// A command's exit code where it cannot be understood, and 1 means something else.
const MISUSED: i32 = 2;

/// A command whose output nobody takes ends as one that SIGPIPE ends.
const PIPE: i32 = 141;

/// What a command reads and writes.
pub(crate) struct Io {
    /// Its standard input.
    pub(crate) stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard output.
    pub(crate) stdout: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard error.
    pub(crate) stderr: Box<dyn AsyncWrite + Send + Unpin>,
    /// Whether a person types the input, and sees the outputs: a shell prompts then.
    pub(crate) terminal: bool,
}

/// One run of a command.
#[derive(Clone)]
struct Call {
    /// What it is called, in its messages too.
    name: &'static str,
    /// Without its name.
    args: Vec<String>,
    view: Arc<View>,
    stdin: Input,
    stdout: Output,
    stderr: Output,
    /// Whether its input is typed.
    typed: bool,
    /// Whether its output is shown on a terminal.
    terminal: bool,
    /// How many commands run it.
    depth: usize,
    /// What it shares with all that the same caller runs.
    bounds: Arc<Bounds>,
}

/// Why a command ends before its end.
#[derive(Debug)]
enum Stop {
    /// With this code, and these words after the command's name.
    Failed(i32, String),
    /// Its own output cannot be written.
    Output(io::Error),
}

/// Ends a command with code 1.
fn failed(why: impl Into<String>) -> Stop {
    Stop::Failed(1, why.into())
}

/// Why a command ends for which 1 says something else: that it was called wrongly.
fn misused(stop: Stop) -> Stop {
    match stop {
        Stop::Failed(_, why) => Stop::Failed(MISUSED, why),
        other @ Stop::Output(_) => other,
    }
}

type Answer = Result<i32, Stop>;
type Applet = for<'a> fn(&'a mut Call) -> BoxFuture<'a, Answer>;

/// All of them, sorted by name.
const APPLETS: &[(&str, Applet)] = &[
    ("[", |call| Box::pin(test::bracket(call))),
    ("cat", |call| Box::pin(cat::cat(call))),
    ("date", |call| Box::pin(date::date(call))),
    ("echo", |call| Box::pin(print::echo(call))),
    ("env", |call| Box::pin(env::env(call))),
    ("false", |_| Box::pin(ready(Ok(1)))),
    ("grep", |call| Box::pin(grep::grep(call))),
    ("head", |call| Box::pin(ends::head(call))),
    ("ls", |call| Box::pin(ls::ls(call))),
    ("mkdir", |call| Box::pin(mkdir::mkdir(call))),
    ("nslookup", |call| Box::pin(nslookup::nslookup(call))),
    ("printenv", |call| Box::pin(env::printenv(call))),
    ("ps", |call| Box::pin(ps::ps(call))),
    ("pwd", |call| Box::pin(print::pwd(call))),
    ("rm", |call| Box::pin(rm::rm(call))),
    ("sh", |call| Box::pin(sh::sh(call))),
    ("sleep", |call| Box::pin(print::sleep(call))),
    ("tail", |call| Box::pin(ends::tail(call))),
    ("tar", |call| Box::pin(tar::tar(call))),
    ("test", |call| Box::pin(test::test(call))),
    ("touch", |call| Box::pin(touch::touch(call))),
    ("true", |_| Box::pin(ready(Ok(0)))),
    ("wget", |call| Box::pin(wget::wget(call))),
];

fn find(name: &str) -> Option<(&'static str, Applet)> {
    // Where images have them, so that manifests may say so.
    let in_bin = name.strip_prefix("/usr/bin/");
    let bare = in_bin
        .or_else(|| name.strip_prefix("/bin/"))
        .unwrap_or(name);
    let at = APPLETS
        .binary_search_by_key(&bare, |applet| applet.0)
        .ok()?;
    Some(APPLETS[at])
}

/// Whether the toolbox has this command: by its name, or as `/bin/NAME` or `/usr/bin/NAME`.
pub(crate) fn offers(name: &str) -> bool {
    find(name).is_some()
}

/// Runs a command that the toolbox [offers], and answers its exit code.
pub(crate) async fn run(argv: Vec<String>, view: Arc<View>, io: Io) -> i32 {
    let call = Call {
        name: "",
        args: argv,
        view,
        stdin: Input::new(io.stdin),
        stdout: Output::new(io.stdout),
        stderr: Output::new(io.stderr),
        typed: io.terminal,
        terminal: io.terminal,
        depth: 0,
        bounds: Arc::new(Bounds::new()),
    };
    dispatch(call).await
}

/// Runs the command that a call's first word names.
async fn dispatch(mut call: Call) -> i32 {
    let bytes: usize = call.args.iter().map(String::len).sum();
    let Some((name, applet)) = call.args.first().and_then(|name| find(name)) else {
        return 127;
    };
    call.args.remove(0);
    call.name = name;
    if call.args.len() > MOST_WORDS || bytes > MOST_BYTES {
        call.complain("Argument list too long").await;
        return CANNOT_RUN;
    }
    if call.depth > DEEPEST {
        call.complain("commands run each other too deeply").await;
        return CANNOT_RUN;
    }
    call.bounds.goes_through(bytes).await;
    let ended = applet(&mut call).await;
    let flushed = call.flush().await;
    match ended.and_then(|code| flushed.map(|()| code)) {
        Ok(code) => code,
        Err(Stop::Failed(code, why)) => {
            call.complain(&why).await;
            code
        }
        Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => PIPE,
        Err(Stop::Output(error)) => {
            call.complain(&format!("write error: {}", words(&error)))
                .await;
            1
        }
    }
}

impl Call {
    /// A call of another command by this one, with the same streams.
    fn beside(&self, args: Vec<String>) -> Self {
        Self {
            args,
            depth: self.depth + 1,
            ..self.clone()
        }
    }

    /// Does what may wait for a disk.
    async fn files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&View) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let view = self.view.clone();
        blocking(move || work(&view)).await
    }

    /// What is read by this name: a file, or for `-` the standard input.
    async fn source(&self, name: &str) -> io::Result<Input> {
        if name == "-" {
            return Ok(self.stdin.clone());
        }
        let name = name.to_owned();
        let file = self.files(move |view| view.open(&name)).await?;
        Ok(Input::new(tokio::fs::File::from_std(file)))
    }
}

/// A text of names that guests have chosen, as one line, and without what a terminal would take for orders.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// What went wrong, as C's library says it: without the number.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
