//! `carob logs`: what a container wrote.

use anyhow::{Context, Result};
use bytes::Bytes;
use client::Client;
use http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};

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
    pub(crate) async fn run(self) -> Result<()> {
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
        copy(
            &client,
            &namespace,
            pod,
            &query.finish(),
            tokio::io::stdout(),
        )
        .await
        .with_context(|| format!("pod {pod}"))
    }
}

/// Copies a log to `out` as it comes.
pub(crate) async fn copy(
    client: &Client,
    namespace: &str,
    pod: &str,
    query: &str,
    mut out: impl AsyncWrite + Unpin,
) -> Result<()> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/log?{query}");
    let answer = client.raw(Request::get(path).body(Bytes::new())?).await?;
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            out.write_all(&data).await?;
            out.flush().await?;
        }
    }
    Ok(())
}
