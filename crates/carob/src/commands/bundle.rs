//! `carob bundle`: one file with modules, trees of files and the manifests that name them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use images::bundle;

use crate::progress::OfBundle;

/// Build and inspect bundles.
#[derive(Debug, clap::Args)]
pub(crate) struct Bundle {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Build a directory into a bundle; the same source gives the same file, bit for bit
    Build {
        /// The directory
        dir: PathBuf,
        /// The bundle's file [default: ./NAME-OF-DIR.tar]
        #[arg(short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Verify a bundle and list what it holds
    Inspect {
        /// The bundle's file
        file: PathBuf,
    },
}

impl Bundle {
    pub(crate) async fn run(self) -> Result<()> {
        tokio::task::block_in_place(|| match &self.command {
            Command::Build { dir, output } => build(dir, output.as_deref()),
            Command::Inspect { file } => {
                let summary = bundle::inspect(file).with_context(|| file.display().to_string())?;
                println!("{}", summary.to_string().trim_end());
                Ok(())
            }
        })
    }
}

fn build(dir: &Path, output: Option<&Path>) -> Result<()> {
    let file = match output {
        Some(file) => file.to_owned(),
        None => {
            let full = dir
                .canonicalize()
                .with_context(|| format!("cannot read {}", dir.display()))?;
            let name = full
                .file_name()
                .context("the directory has no name: say -o FILE")?;
            PathBuf::from(name).with_added_extension("tar")
        }
    };
    let building = OfBundle::new("building");
    let summary = bundle::build(dir, &file, &mut |p| building.show(p))
        .with_context(|| dir.display().to_string())?;
    drop(building);
    println!("{}", summary.to_string().trim_end());
    println!("wrote {}", file.display());
    Ok(())
}
