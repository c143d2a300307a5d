//! This process's standard input, passed on to a container.

use anyhow::{Result, bail};
use api::Status;
use client::channels::{self, Channels};
use client::kubeconfig::Context as Cluster;
use client::node::NOT_RUNNING;
use tokio::io::AsyncReadExt;

/// What is read at a time.
const CHUNK: usize = 32 << 10;

/// Passes everything on until the input or the container has ended.
pub(super) async fn pass(cluster: Cluster, namespace: String, pod: String) {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/attach?stdin=true");
    let channels = match Channels::open(&cluster, &path).await {
        // It needed no input: its output and exit code say all.
        Err(error) if has_ended(&error) => return,
        opened => opened,
    };
    let copied = async { copy(channels?).await };
    if let Err(error) = copied.await {
        eprintln!("carob: standard input is not passed on any more: {error:#}");
    }
}

/// Whether the container ended before it could be attached to.
fn has_ended(error: &client::Error) -> bool {
    error.code() == Some(400) && error.to_string().ends_with(NOT_RUNNING)
}

async fn copy(mut channels: Channels) -> Result<()> {
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; CHUNK];
    let mut open = true;
    loop {
        tokio::select! {
            read = input.read(&mut buffer), if open => match read? {
                0 => {
                    open = false;
                    channels.finish(channels::STDIN).await?;
                }
                n => channels.send(channels::STDIN, &buffer[..n]).await?,
            },
            message = channels.next() => match message? {
                Some((channels::STATUS, status)) => return judge(&status),
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}

/// The `Status` by which the server ends the streams.
fn judge(status: &[u8]) -> Result<()> {
    let value = serde_json::from_slice(status)?;
    match Status::from_value(&value) {
        Some(failure) if value["status"] == "Failure" => bail!(failure.message),
        _ => Ok(()),
    }
}
