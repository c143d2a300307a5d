//! `carob logs`: what a container wrote.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf, Bytes};
use client::{Body, Client};
use http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::pods::pod_of;
use crate::output::BROKEN_PIPE;
use crate::target::Scope;

/// How long the servers may be without an answer until a log counts as lost.
const SERVER_BACK_WITHIN: Duration = Duration::from_secs(10);
const SERVER_PAUSE: Duration = Duration::from_millis(200);
/// A log that came, or was quiet, for this long was there.
const THERE_AFTER: Duration = Duration::from_secs(1);

/// Print a container's log.
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// The pod, or TYPE/NAME of what has pods, such as job/NAME
    #[arg(value_name = "POD")]
    pod: String,
    /// The container, where the pod has several
    #[arg(short, long)]
    container: Option<String>,
    /// Go on as it is written
    #[arg(short, long)]
    follow: bool,
    /// Of the container's previous run
    #[arg(short, long)]
    previous: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
    /// With the time of each line
    #[arg(long)]
    timestamps: bool,
    #[command(flatten)]
    scope: Scope,
}

impl Logs {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let (client, namespace) = self.scope.open()?;
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if let Some(container) = &self.container {
            query.append_pair("container", container);
        }
        for (flag, name) in [
            (self.follow, "follow"),
            (self.previous, "previous"),
            (self.timestamps, "timestamps"),
        ] {
            if flag {
                query.append_pair(name, "true");
            }
        }
        if let Some(tail) = self.tail {
            query.append_pair("tailLines", &tail.to_string());
        }
        let pod = &pod_of(&client, &namespace, &self.pod).await?;
        let mut out = tokio::io::stdout();
        let path = path_of(&namespace, pod, &query.finish());
        // Where a log that is cut to its end begins is another place at every look: it cannot be gone on with.
        let copied = match self.follow && self.tail.is_none() {
            true => follow(&client, &path, &mut out).await,
            false => match open(&client, &path).await {
                Ok(log) => copy(log, &mut out, &mut 0).await,
                Err(error) => Err(error),
            },
        };
        match copied {
            Ok(()) => Ok(ExitCode::SUCCESS),
            // As in `carob logs … | head`.
            Err(Broken::Unread) => Ok(ExitCode::from(BROKEN_PIPE)),
            Err(Broken::Log(error)) => Err(error).with_context(|| format!("pod {pod}")),
        }
    }
}

/// Where a pod's log is.
pub(crate) fn path_of(namespace: &str, pod: &str, query: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{pod}/log?{query}")
}

/// Copies the log at `path` to `out` until its pod has ended; goes on where it stopped when the server that passed it on
/// is gone.
pub(crate) async fn follow(
    client: &Client,
    path: &str,
    out: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Broken> {
    let mut printed = 0;
    let mut last_chance = Instant::now() + SERVER_BACK_WITHIN;
    loop {
        let before = printed;
        let mut opened = None;
        let copied = match open(client, path).await {
            Ok(log) => {
                opened = Some(Instant::now());
                copy(log, out, &mut printed).await
            }
            Err(error) => Err(error),
        };
        let was_there = opened.is_some_and(|opened| opened.elapsed() >= THERE_AFTER);
        if was_there || printed > before {
            last_chance = Instant::now() + SERVER_BACK_WITHIN;
        }
        match copied {
            Err(Broken::Log(error)) if error.is_transient() && Instant::now() < last_chance => {
                tokio::time::sleep(SERVER_PAUSE).await;
            }
            other => return other,
        }
    }
}

/// Why a log was not copied to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It does not come any more.
    Log(client::Error),
    /// Nobody reads what is printed.
    Unread,
}

async fn open(client: &Client, path: &str) -> Result<Body, Broken> {
    let request = Request::get(path).body(Bytes::new());
    let request =
        request.map_err(|e| Broken::Log(client::Error::Invalid(format!("{path}: {e}"))))?;
    let answer = client.raw(request).await.map_err(Broken::Log)?;
    Ok(answer.into_body())
}

/// Copies a log to `out` as it comes, without its first `printed` bytes, which grows as it is
/// written.
async fn copy(
    mut log: Body,
    out: &mut (impl AsyncWrite + Unpin),
    printed: &mut u64,
) -> Result<(), Broken> {
    let mut left_out = *printed;
    while let Some(frame) = log.frame().await {
        let Ok(mut data) = frame.map_err(Broken::Log)?.into_data() else {
            continue;
        };
        let known = usize::try_from(left_out).map_or(data.len(), |n| n.min(data.len()));
        data.advance(known);
        left_out -= known as u64;
        out.write_all(&data).await.map_err(|_| Broken::Unread)?;
        out.flush().await.map_err(|_| Broken::Unread)?;
        *printed += data.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use client::{BoxFuture, Transport};
    use futures::{StreamExt, stream};
    use http::Response;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    /// What becomes of a request for a log.
    #[derive(Clone, Copy)]
    enum Answer {
        /// Nobody answers.
        Nobody,
        /// This is there at once, and then nothing comes for these seconds until it breaks off.
        BreaksOff(&'static str, u64),
        /// This is there at once, and nothing comes after it.
        Ends(&'static str),
    }

    /// Answers one after the other; the last one again and again.
    struct Script(Mutex<VecDeque<Answer>>);

    impl Transport for Script {
        fn send(&self, _: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, client::Error>> {
            let lost = || client::Error::transport("a test", "it is gone");
            let mut answers = self.0.lock().unwrap();
            let answer = answers[0];
            if answers.len() > 1 {
                answers.pop_front();
            }
            let (text, quiet) = match answer {
                Answer::Nobody => return Box::pin(async move { Err(lost()) }),
                Answer::BreaksOff(text, quiet) => (text, Some(Duration::from_secs(quiet))),
                Answer::Ends(text) => (text, None),
            };
            let written = stream::once(async move { Some(Ok(Frame::data(text.into()))) });
            let end = stream::once(async move {
                tokio::time::sleep(quiet?).await;
                Some(Err(lost()))
            });
            let log = written.chain(end).filter_map(std::future::ready);
            let answer = Response::new(StreamBody::new(log).boxed_unsync());
            Box::pin(async move { Ok(answer) })
        }
    }

    /// What is printed of a log, whether to its end, and how many seconds that takes.
    async fn followed(answers: &[&[Answer]]) -> (String, bool, u64) {
        let answers = answers.concat().into();
        let client = Client::new(Arc::new(Script(Mutex::new(answers))), "test");
        let (mut out, began) = (Vec::new(), Instant::now());
        let ended = follow(&client, "/log", &mut out).await.is_ok();
        let text = String::from_utf8(out).unwrap();
        (text, ended, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn servers_have_their_time_to_come_back_however_long_a_log_was_quiet() {
        use Answer::{BreaksOff, Ends, Nobody};
        let away = &[Nobody; 40];
        let quiet = &[BreaksOff("one ", 60)];
        let back = followed(&[quiet, away, &[Ends("one two")]]).await;
        assert_eq!(back, ("one two".to_owned(), true, 68));
        let twice = followed(&[quiet, away, quiet, away, &[Ends("one two")]]).await;
        assert_eq!(twice, ("one two".to_owned(), true, 136));
        let gone = followed(&[quiet, &[Nobody]]).await;
        assert_eq!(gone, ("one ".to_owned(), false, 70));
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_breaks_off_at_once_is_lost() {
        let broken = followed(&[&[Answer::BreaksOff("one", 0)]]).await;
        assert_eq!(broken, ("one".to_owned(), false, 10));
    }
}
