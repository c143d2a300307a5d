//! `carob deploy`: a bundle's modules into the registry, then its objects into the API.

mod waiting;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::Client;
use images::Upload;
use images::bundle::{self, Bundle, Document};
use serde_json::Value;

use crate::apply::{self, namespace_of, resource_of};
use crate::progress::OfBundle;
use crate::target::Scope;
use crate::{progress, registry};
use waiting::{Told, until_there};

/// Install a bundle, or a directory as one.
#[derive(Debug, clap::Args)]
pub(crate) struct Deploy {
    /// A bundle's file, or a directory to build one from
    source: PathBuf,
    /// Return when what was deployed is there: rollouts complete, jobs done, pods ready. What they wait for is said on
    /// the standard error once it has for a second
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
        let mut told = Told::new(document.title());
        let there = until_there(client, resource, &namespace, name, &mut told);
        match tokio::time::timeout_at(deadline, there).await {
            Ok(outcome) => outcome.with_context(|| document.title())?,
            Err(_) => bail!(
                "{} is not ready after {} s: {}; `carob describe {}/{name} -n {namespace}` tells more",
                document.title(),
                limit.as_secs(),
                told.last(),
                resource.singular
            ),
        }
    }
    Ok(())
}
