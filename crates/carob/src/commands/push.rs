//! `carob push`: a module into the cluster's registry.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use images::{Name, Reference, Upload};

use crate::progress;
use crate::registry;
use crate::target::Target;

/// Push a module into the cluster's registry.
#[derive(Debug, clap::Args)]
pub(crate) struct Push {
    /// The module's file
    module: PathBuf,
    /// The name to push it under: NAME or NAME:TAG; latest without a tag
    name: String,
    #[command(flatten)]
    target: Target,
}

impl Push {
    pub(crate) async fn run(self) -> Result<()> {
        let name = cluster_name(&self.name)?;
        let upload =
            Upload::module(&self.module).with_context(|| self.module.display().to_string())?;
        let client = self.target.client()?;
        let bar = progress::bytes(
            "pushing",
            upload.blobs.iter().map(|b| b.descriptor.size).sum(),
        );
        registry::push(&client, &name, &upload, &mut |sent| bar.inc(sent)).await?;
        bar.finish_and_clear();
        println!("{}@{}", name.repository, upload.digest);
        Ok(())
    }
}

/// A name in the cluster's own registry.
pub(crate) fn cluster_name(text: &str) -> Result<Name> {
    match text.parse::<Reference>()? {
        Reference::Name(name) if name.host.is_none() && name.digest.is_none() => Ok(name),
        Reference::Name(name) if name.host.is_none() => {
            bail!("{text}: the digest follows from the module; give a NAME or NAME:TAG")
        }
        _ => bail!("{text}: modules are pushed into the cluster's own registry, by NAME[:TAG]"),
    }
}
