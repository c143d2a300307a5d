//! Starting pods and seeing them start.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::{Client, DeleteOptions, Event, ListOptions, Watch};
use k8s_openapi::api::core::v1::Pod;

/// A pod that is not there by then will not come.
const START_WITHIN: Duration = Duration::from_secs(60);

/// Watches the pods of a namespace from now on.
pub async fn watch(client: &Client, namespace: &str) -> Result<Watch<Pod>> {
    let pods = client.of::<Pod>();
    let options = ListOptions::namespace(namespace);
    let from = pods.list(&options).await?.revision;
    Ok(pods.watch(&options, from).await?)
}

/// Reads the watch until the pod of this name runs, or has run; when that was seen.
pub async fn started(watch: &mut Watch<Pod>, name: &str) -> Result<Instant> {
    let mut last = None;
    let seen = tokio::time::timeout(START_WITHIN, async {
        while let Some(event) = watch.next().await {
            let pod = match event? {
                Event::Added(pod) | Event::Modified(pod) => pod,
                Event::Deleted(_) | Event::Bookmark(_) => continue,
            };
            if pod.metadata.name.as_deref() != Some(name) {
                continue;
            }
            match phase(&pod) {
                Some("Running" | "Succeeded") => return Ok(Instant::now()),
                Some("Failed") => bail!("the pod {name} failed: {:?}", pod.status),
                _ => last = pod.status,
            }
        }
        bail!("the watch ended before the pod {name} ran")
    });
    match seen.await {
        Ok(seen) => seen,
        Err(_) => bail!("the pod {name} does not run; its status: {last:?}"),
    }
}

/// A pod's phase, as its status has it.
#[must_use]
pub fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

/// Creates a pod, waits until it runs, and removes it.
pub async fn run_to_start(client: &Client, pod: &Pod) -> Result<()> {
    let name = pod
        .metadata
        .name
        .as_deref()
        .context("a pod without a name")?;
    let mut watch = watch(client, "default").await?;
    client.of::<Pod>().create(pod).await?;
    started(&mut watch, name).await?;
    remove(client, name).await
}

/// Removes a pod at once.
pub async fn remove(client: &Client, name: &str) -> Result<()> {
    let options = DeleteOptions::default().grace_period_seconds(0);
    let pods = client.of::<Pod>();
    pods.delete("default", name, &options)
        .await
        .with_context(|| format!("cannot delete the pod {name}"))
}
