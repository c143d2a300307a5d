//! `carob logs`: what a container wrote.

use std::process::ExitCode;

use anyhow::{Context, Result};
use bytes::{Buf, Bytes};
use client::Client;
use http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::output::BROKEN_PIPE;
use crate::target::Scope;

/// Print a container's log.
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// The pod
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
        let pod = self.pod.trim_start_matches("pod/");
        let mut out = tokio::io::stdout();
        match copy(&client, &namespace, pod, &query.finish(), &mut out, &mut 0).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            // As in `carob logs … | head`.
            Err(Broken::Unread) => Ok(ExitCode::from(BROKEN_PIPE)),
            Err(Broken::Log(error)) => Err(error).with_context(|| format!("pod {pod}")),
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
