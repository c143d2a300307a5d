//! `carob exec`: a command in a container, as if it ran here.

pub(super) mod terminal;

use std::io::{self, ErrorKind, IsTerminal};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use client::channels::{self, Channels, Received, Receiver};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::pods::pod_of;
use super::streams::{exit_code, send};
use crate::interruption::Interruption;
use crate::output::BROKEN_PIPE;
use crate::target::{self, Scope};
use terminal::Terminal;

/// Run a command in a container: its output here, its exit code as carob's own.
#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// The pod, or TYPE/NAME of what has pods, such as deployment/NAME
    #[arg(value_name = "POD")]
    pod: String,
    /// The container, where the pod has several
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input on to it
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give it this terminal
    #[arg(short = 't', long, requires = "stdin")]
    tty: bool,
    #[command(flatten)]
    scope: Scope,
    /// An applet of carob's, a .wasm file of the container, or the arguments of its module
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Exec {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        if self.tty && !std::io::stdin().is_terminal() {
            bail!("-t needs a terminal as standard input");
        }
        let (cluster, namespace) = self.scope.context()?;
        let client = target::client(&cluster)?;
        let pod = pod_of(&client, &namespace, &self.pod).await?;
        let query = self.query();
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/exec?{query}");
        let opened = Box::pin(Channels::open(&cluster, &path)).await;
        let opened = opened.with_context(|| format!("pod {pod}"))?;
        let (mut to, mut from) = opened.split();
        // From here on the terminal is given back whatever ends this process.
        let mut interrupted = Interruption::new()?;
        let mut terminal = self.tty.then(Terminal::take).transpose()?;
        let (out, err) = (tokio::io::stdout(), tokio::io::stderr());
        let code = tokio::select! {
            code = receive(&mut from, out, err) => code?,
            unread = send(&mut to, self.stdin, terminal.as_mut()) => match unread? {},
            code = interrupted.wait() => code,
        };
        Ok(ExitCode::from(code))
    }

    /// What the server is asked.
    fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for word in &self.command {
            query.append_pair("command", word);
        }
        if let Some(container) = &self.container {
            query.append_pair("container", container);
        }
        for (flag, name) in [
            (self.stdin, "stdin"),
            (true, "stdout"),
            // A terminal shows both as one.
            (!self.tty, "stderr"),
            (self.tty, "tty"),
        ] {
            if flag {
                query.append_pair(name, "true");
            }
        }
        query.finish()
    }
}

/// Prints what comes until the command has ended; its exit code.
async fn receive(
    from: &mut Receiver,
    mut out: impl AsyncWrite + Unpin,
    mut err: impl AsyncWrite + Unpin,
) -> Result<u8> {
    loop {
        let (printed, what) = match from.next().await? {
            Some(Received::Data(channels::STDOUT, bytes)) => {
                (print(&mut out, &bytes).await, "standard output")
            }
            Some(Received::Data(channels::STDERR, bytes)) => {
                (print(&mut err, &bytes).await, "standard error")
            }
            Some(Received::Data(channels::STATUS, status)) => return exit_code(&status),
            Some(_) => continue,
            None => bail!("the connection has ended before the command"),
        };
        if let Err(error) = printed {
            return unprinted(error, what);
        }
    }
}

/// What becomes of output that cannot be written: nothing more is said where nobody reads it, as in `carob exec … | head`.
fn unprinted(error: io::Error, what: &'static str) -> Result<u8> {
    match error.kind() {
        ErrorKind::BrokenPipe => Ok(BROKEN_PIPE),
        _ => Err(error).context(what),
    }
}

async fn print(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        exec: Exec,
    }

    fn query(line: &str) -> Option<String> {
        let words = std::iter::once("exec").chain(line.split(' '));
        let line = Line::try_parse_from(words).ok()?;
        Some(line.exec.query())
    }

    #[test]
    fn only_who_reads_no_more_is_left_without_a_word() {
        let gone = unprinted(ErrorKind::BrokenPipe.into(), "standard output");
        assert_eq!(gone.unwrap(), BROKEN_PIPE);
        let full = unprinted(ErrorKind::StorageFull.into(), "standard output");
        assert_eq!(full.unwrap_err().to_string(), "standard output");
    }

    #[test]
    fn what_the_server_is_asked() {
        for (line, want) in [
            (
                "p -- ls -l",
                Some("command=ls&command=-l&stdout=true&stderr=true"),
            ),
            (
                "p -c c -i -- cat a&b",
                Some("command=cat&command=a%26b&container=c&stdin=true&stdout=true&stderr=true"),
            ),
            (
                "-it p -- sh",
                Some("command=sh&stdin=true&stdout=true&tty=true"),
            ),
            ("p -t -- sh", None),
            ("p", None),
            ("p ls", None),
        ] {
            assert_eq!(query(line).as_deref(), want, "{line}");
        }
    }
}
