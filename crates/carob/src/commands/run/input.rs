//! This process's standard input, passed on to a container.

use anyhow::Result;
use client::channels::{self, Channels, Received};
use client::kubeconfig::Context as Cluster;
use client::node::NOT_RUNNING;

use crate::commands::streams::{exit_code, send};

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

async fn copy(channels: Channels) -> Result<()> {
    let (mut to, mut from) = channels.split();
    let receiving = async {
        loop {
            match from.next().await? {
                Some(Received::Data(channels::STATUS, status)) => {
                    return exit_code(&status).map(drop);
                }
                Some(_) => {}
                None => return Ok(()),
            }
        }
    };
    tokio::select! {
        ended = receiving => ended,
        unread = send(&mut to, true, None) => match unread? {},
    }
}
