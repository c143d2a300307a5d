//! `carob deploy`: a bundle's modules into the registry, then its objects into the API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::{Client, ListOptions, Untyped};
use images::Upload;
use images::bundle::{self, Bundle, Document};
use serde_json::Value;

use crate::apply::{self, namespace_of, resource_of};
use crate::progress::OfBundle;
use crate::target::Scope;
use crate::{progress, registry};

/// Install a bundle, or a directory as one.
#[derive(Debug, clap::Args)]
pub(crate) struct Deploy {
    /// A bundle's file, or a directory to build one from
    source: PathBuf,
    /// Return when what was deployed is there: rollouts complete, jobs done, pods ready
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, default_value = "5m", value_parser = super::token::parse_duration)]
    timeout: Duration,
    /// Verify the bundle and let the server judge its objects; write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    scope: Scope,
}

impl Deploy {
    pub(crate) async fn run(self) -> Result<()> {
        let bundle = tokio::task::block_in_place(|| open(&self.source))?;
        let (client, namespace) = self.scope.open()?;
        let mut documents: Vec<&Document> = bundle.manifests().iter().collect();
        // What others are put into or mount comes first; otherwise the files' order holds.
        documents.sort_by_key(|d| order(&d.value));
        if !self.dry_run {
            push_all(&client, &bundle).await?;
        }
        for document in &documents {
            let applied = apply::apply(&client, &document.value, &namespace, self.dry_run)
                .await
                .with_context(|| {
                    format!("{}:{}: {}", document.file, document.line, document.title())
                })?;
            println!(
                "{} {applied}{}",
                document.title(),
                if self.dry_run { " (dry run)" } else { "" }
            );
        }
        if self.wait && !self.dry_run {
            wait_for_all(&client, &documents, &namespace, self.timeout).await?;
        }
        Ok(())
    }
}

/// Opens and verifies a bundle; a directory is built into one first.
fn open(source: &Path) -> Result<Bundle> {
    let context = || source.display().to_string();
    if !source.exists() {
        bail!("{} is neither a bundle's file nor a directory", context());
    }
    if !source.is_dir() {
        let verifying = OfBundle::new("verifying");
        return Bundle::open(source, &mut |p| verifying.show(p)).with_context(context);
    }
    let scratch = tempfile::tempdir().context("no room for a bundle's file")?;
    let file = scratch.path().join("bundle.tar");
    {
        let building = OfBundle::new("building");
        bundle::build(source, &file, &mut |p| building.show(p)).with_context(context)?;
    }
    // The bundle keeps its file open, also for its uploads; on Unix the name may go.
    let verifying = OfBundle::new("verifying");
    Bundle::open(&file, &mut |p| verifying.show(p)).with_context(context)
}

async fn push_all(client: &Client, bundle: &Bundle) -> Result<()> {
    let uploads = bundle.uploads()?;
    let size = |upload: &Upload| upload.blobs.iter().map(|b| b.descriptor.size).sum::<u64>();
    let bar = progress::bytes("pushing", uploads.iter().map(|(_, u)| size(u)).sum());
    for (name, upload) in &uploads {
        registry::push(client, name, upload, &mut |sent| bar.inc(sent)).await?;
    }
    bar.finish_and_clear();
    Ok(())
}

fn order(object: &Value) -> usize {
    const FIRST: [&str; 7] = [
        "Namespace",
        "PriorityClass",
        "StorageClass",
        "ServiceAccount",
        "ConfigMap",
        "Secret",
        "Service",
    ];
    let kind = object["kind"].as_str().unwrap_or_default();
    FIRST.iter().position(|k| *k == kind).unwrap_or(FIRST.len())
}

async fn wait_for_all(
    client: &Client,
    documents: &[&Document],
    namespace: &str,
    limit: Duration,
) -> Result<()> {
    let deadline = tokio::time::Instant::now() + limit;
    for document in documents {
        let resource = resource_of(&document.value)?;
        let namespace = namespace_of(resource, &document.value, namespace);
        let name = document.value["metadata"]["name"]
            .as_str()
            .unwrap_or_default();
        if !matches!(resource.kind, "Deployment" | "ReplicaSet" | "Job" | "Pod") {
            continue;
        }
        let waiting = progress::step(format!("waiting for {}", document.title()));
        let there = wait_for(client, resource, &namespace, name);
        match tokio::time::timeout_at(deadline, there).await {
            Ok(outcome) => outcome.with_context(|| document.title())?,
            Err(_) => bail!(
                "{} is not ready after {} s: look with `carob describe {}/{name} -n {namespace}`",
                document.title(),
                limit.as_secs(),
                resource.singular
            ),
        }
        waiting.finish_and_clear();
    }
    Ok(())
}

/// Follows one object until it is there.
async fn wait_for(
    client: &Client,
    resource: &'static api::Resource,
    namespace: &str,
    name: &str,
) -> Result<()> {
    let informer = client::Informer::<Untyped>::start(
        client.untyped(resource),
        ListOptions::named(namespace, name),
    );
    let mut changes = informer.subscribe();
    let key = client::Key::new(namespace, name);
    loop {
        if let Some(object) = informer.get(&key)
            && is_there(resource.kind, &object.0)?
        {
            return Ok(());
        }
        changes.next().await;
    }
}

/// Whether an object has become what it says; an error where it never will.
fn is_there(kind: &str, object: &Value) -> Result<bool> {
    let number = |path: &str| object.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    let condition = |name: &str| {
        let all = object
            .pointer("/status/conditions")
            .and_then(Value::as_array);
        all.and_then(|all| {
            all.iter()
                .find(|c| c["type"] == name && c["status"] == "True")
        })
        .cloned()
    };
    let observed = number("/status/observedGeneration") >= number("/metadata/generation");
    let replicas = object
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .unwrap_or(1);
    Ok(match kind {
        "Deployment" => {
            observed
                && number("/status/updatedReplicas") == replicas
                && number("/status/replicas") == replicas
                && number("/status/availableReplicas") == replicas
        }
        "ReplicaSet" => observed && number("/status/availableReplicas") == replicas,
        "Job" => {
            if let Some(failed) = condition("Failed") {
                bail!(
                    "it failed: {}",
                    failed["message"].as_str().unwrap_or_default()
                );
            }
            condition("Complete").is_some()
        }
        _ => match object.pointer("/status/phase").and_then(Value::as_str) {
            Some("Failed") => bail!("it failed"),
            Some("Succeeded") => true,
            _ => condition("Ready").is_some(),
        },
    })
}
