//! `carob delete`: objects by name, by selector, or those of manifests.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use client::{DeleteOptions, ListOptions, Object, Propagation};

use crate::apply::{namespace_of, resource_of};
use crate::target::{self, Scope};

/// Delete objects.
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// TYPE NAME… or TYPE/NAME…
    objects: Vec<String>,
    /// The objects of a file or a directory of manifests
    #[arg(short, long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only objects whose labels fit
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "")]
    selector: String,
    /// All objects of the type
    #[arg(long)]
    all: bool,
    /// At once, without grace
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    scope: Scope,
}

impl Delete {
    pub(crate) async fn run(self) -> Result<()> {
        let (client, namespace) = self.scope.open()?;
        let chosen = self.all || !self.selector.is_empty();
        if chosen && self.objects.is_empty() {
            bail!("--selector and --all need a type: TYPE --selector LABELS");
        }
        if !self.files.is_empty() && !self.objects.is_empty() {
            bail!("name objects or files of them, not both");
        }
        let mut doomed = Vec::new();
        for document in super::apply::read(&self.files)? {
            let resource = resource_of(&document.value).with_context(|| document.title())?;
            let namespace = namespace_of(resource, &document.value, &namespace);
            doomed.push((
                resource,
                namespace,
                document.value["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            ));
        }
        if !self.objects.is_empty() {
            for (resource, name) in target::objects(&self.objects)? {
                let namespace = if resource.namespaced {
                    namespace.clone()
                } else {
                    String::new()
                };
                match name {
                    Some(name) if chosen => bail!(
                        "{}/{name}: --selector and --all go with types, not with names",
                        resource.singular
                    ),
                    Some(name) => doomed.push((resource, namespace, name)),
                    None if chosen => {
                        let options =
                            ListOptions::namespace(&*namespace).labels(self.selector.clone());
                        for object in client.untyped(resource).list(&options).await?.items {
                            doomed.push((resource, namespace.clone(), object.name().to_owned()));
                        }
                    }
                    None => bail!(
                        "say which of the {}: a name, --selector or --all",
                        resource.plural
                    ),
                }
            }
        }
        if doomed.is_empty() && !chosen {
            bail!("say what to delete: TYPE NAME, TYPE/NAME or -f FILE");
        }
        let mut options = DeleteOptions::default().propagation(Propagation::Background);
        if self.now {
            options = options.grace_period_seconds(0);
        }
        let (mut left, all) = (Vec::new(), doomed.len());
        // What cannot be deleted does not save the rest.
        for (resource, namespace, name) in doomed {
            let access = client.untyped(resource);
            match access.delete(&namespace, &name, &options).await {
                Ok(_) => println!("{} {name:?} deleted", resource.singular),
                Err(error) => left.push(format!("{}/{name}: {error}", resource.singular)),
            }
        }
        match left.as_slice() {
            [] => Ok(()),
            [one] => bail!("{one}"),
            many => bail!(
                "{} of {all} were not deleted:\n{}",
                many.len(),
                many.join("\n")
            ),
        }
    }
}
