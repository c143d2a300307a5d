//! `carob apply`: objects from manifests.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use images::bundle::Document;

use crate::apply;
use crate::target::Scope;

/// Create or update objects from manifests.
#[derive(Debug, clap::Args)]
pub(crate) struct Apply {
    /// A file of manifests, a directory of them, or - for standard input
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Let the server judge, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    scope: Scope,
}

impl Apply {
    pub(crate) async fn run(self) -> Result<()> {
        let (client, namespace) = self.scope.open()?;
        let mut failed = 0;
        for document in read(&self.files)? {
            match apply::apply(&client, &document.value, &namespace, self.dry_run).await {
                Ok(applied) => {
                    println!(
                        "{} {applied}{}",
                        document.title(),
                        if self.dry_run { " (dry run)" } else { "" }
                    );
                }
                Err(error) => {
                    failed += 1;
                    eprintln!(
                        "error: {}:{}: {}: {error:#}",
                        document.file,
                        document.line,
                        document.title()
                    );
                }
            }
        }
        match failed {
            0 => Ok(()),
            n => bail!("{n} of the objects could not be applied"),
        }
    }
}

/// All objects of the files, in their order.
pub(crate) fn read(files: &[PathBuf]) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for file in files {
        if file == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            documents.extend(images::bundle::documents("stdin", &text)?);
            continue;
        }
        for file in expand(file)? {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            documents.extend(images::bundle::documents(
                &file.display().to_string(),
                &text,
            )?);
        }
    }
    Ok(documents)
}

/// A directory's manifests, by name; a file is itself.
fn expand(file: &Path) -> Result<Vec<PathBuf>> {
    if !file.is_dir() {
        return Ok(vec![file.to_owned()]);
    }
    let entries =
        std::fs::read_dir(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|f| {
        f.extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
    });
    files.sort();
    Ok(files)
}
