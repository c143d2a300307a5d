//! `carob images`: what lies in the cluster's registry.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use client::Client;
use http::{Request, header};
use images::media_types;
use serde_json::{Value, json};

use crate::output::{List, ListFormat};
use crate::target::Target;

/// Look at the cluster's registry.
#[derive(Debug, clap::Args)]
pub(crate) struct Images {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List names and tags
    Ls {
        /// How to print them
        #[arg(short, long, value_enum, default_value = "table")]
        output: ListFormat,
    },
    /// Print an image's manifest
    Inspect {
        /// NAME, NAME:TAG or NAME@sha256:…
        image: String,
    },
    /// Remove a tag
    Rm {
        /// NAME or NAME:TAG
        image: String,
    },
}

/// The registry's lists and manifests are no larger.
const LIMIT: usize = 4 << 20;

impl Images {
    pub(crate) async fn run(self) -> Result<()> {
        let client = self.target.client()?;
        match self.command {
            Command::Ls { output } => list(&client, output).await,
            Command::Inspect { image } => {
                let (manifest, _) = manifest(&client, &path(&image)?)
                    .await
                    .with_context(|| image)?;
                println!("{}", serde_json::to_string_pretty(&manifest)?);
                Ok(())
            }
            Command::Rm { image } => {
                client
                    .raw(Request::delete(path(&image)?).body(Bytes::new())?)
                    .await
                    .with_context(|| image.clone())?;
                println!("removed {image}");
                Ok(())
            }
        }
    }
}

async fn list(client: &Client, output: ListFormat) -> Result<()> {
    let mut rows = Vec::new();
    let catalog = read(client, "/v2/_catalog").await?;
    for repository in strings(&catalog["repositories"]) {
        let tags = read(client, &format!("/v2/{repository}/tags/list")).await?;
        for tag in strings(&tags["tags"]) {
            let (manifest, digest) =
                manifest(client, &format!("/v2/{repository}/manifests/{tag}")).await?;
            let layers = manifest["layers"].as_array().into_iter().flatten();
            let size: u64 = layers.filter_map(|l| l["size"].as_u64()).sum();
            rows.push(json!({
                "image": format!("{repository}:{tag}"),
                "name": repository,
                "tag": tag,
                "size": size,
                "digest": digest,
            }));
        }
    }
    let list = List {
        columns: &[("IMAGE", "image"), ("SIZE", "size"), ("DIGEST", "digest")],
        narrow: 3,
        rows,
    };
    list.print(output)
}

/// The manifest's path in the registry.
fn path(image: &str) -> Result<String> {
    match image.parse::<images::Reference>()? {
        images::Reference::Name(name) if name.host.is_none() => Ok(format!(
            "/v2/{}/manifests/{}",
            name.repository,
            name.manifest_reference()
        )),
        _ => bail!("{image} is not in the cluster's registry"),
    }
}

async fn manifest(client: &Client, path: &str) -> Result<(Value, String)> {
    let accept = format!("{}, {}", media_types::MANIFEST, media_types::INDEX);
    let answer = client
        .raw(
            Request::get(path)
                .header(header::ACCEPT, accept)
                .body(Bytes::new())?,
        )
        .await?;
    let digest = answer
        .headers()
        .get("docker-content-digest")
        .and_then(|d| d.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let body = client::collect(answer.into_body(), LIMIT).await?;
    Ok((serde_json::from_slice(&body)?, digest))
}

async fn read(client: &Client, path: &str) -> Result<Value> {
    let answer = client.raw(Request::get(path).body(Bytes::new())?).await?;
    let body = client::collect(answer.into_body(), LIMIT).await?;
    Ok(serde_json::from_slice(&body)?)
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}
