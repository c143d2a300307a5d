//! `carob logs`: what a container wrote.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf, Bytes};
use client::Client;
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
        let query = query.finish();
        // Where a log that is cut to its end begins is another place at every look: it cannot be gone on with.
        let copied = match self.follow && self.tail.is_none() {
            true => follow(&client, &namespace, pod, &query, &mut out).await,
            false => copy(&client, &namespace, pod, &query, &mut out, &mut 0).await,
        };
        match copied {
            Ok(()) => Ok(ExitCode::SUCCESS),
            // As in `carob logs … | head`.
            Err(Broken::Unread) => Ok(ExitCode::from(BROKEN_PIPE)),
            Err(Broken::Log(error)) => Err(error).with_context(|| format!("pod {pod}")),
        }
    }
}

/// Copies a log to `out` until its pod has ended; goes on where it stopped when the server that passed it on
/// is gone.
pub(crate) async fn follow(
    client: &Client,
    namespace: &str,
    pod: &str,
    query: &str,
    out: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Broken> {
    let mut printed = 0;
    let mut last_chance = Instant::now() + SERVER_BACK_WITHIN;
    loop {
        let before = printed;
        let copied = copy(client, namespace, pod, query, out, &mut printed).await;
        if printed > before {
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

/// Copies a log to `out` as it comes, without its first `printed` bytes, which grows as it is
/// written.
pub(crate) async fn copy(
    client: &Client,
    namespace: &str,
    pod: &str,
    query: &str,
    out: &mut (impl AsyncWrite + Unpin),
    printed: &mut u64,
) -> Result<(), Broken> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/log?{query}");
    let request = Request::get(&path).body(Bytes::new());
    let request =
        request.map_err(|e| Broken::Log(client::Error::Invalid(format!("{path}: {e}"))))?;
    let mut body = client.raw(request).await.map_err(Broken::Log)?.into_body();
    let mut left_out = *printed;
    while let Some(frame) = body.frame().await {
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
