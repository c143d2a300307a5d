//! From a command's flags to a client, a namespace and a resource.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use api::resource::{self, Resource};
use client::Client;
use client::kubeconfig::{Context, Sources};

/// Which cluster a command talks to.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Target {
    /// The kubeconfig to read; else $KUBECONFIG, else ~/.kube/config
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<PathBuf>,
    /// The context in it; else its current one
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
}

/// A cluster, and the namespace in which to work.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Scope {
    #[command(flatten)]
    target: Target,
    /// The namespace; else the context's
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
}

impl Target {
    /// Reads the context.
    pub(crate) fn context(&self) -> Result<Context> {
        let sources = Sources::from_environment(self.kubeconfig.clone());
        sources
            .load(self.context.as_deref())
            .context("no cluster to talk to (start one with `carob up`)")
    }

    /// A client of the cluster.
    pub(crate) fn client(&self) -> Result<Client> {
        client(&self.context()?)
    }
}

impl Scope {
    /// A client of the cluster, and the namespace.
    pub(crate) fn open(&self) -> Result<(Client, String)> {
        let (context, namespace) = self.context()?;
        Ok((client(&context)?, namespace))
    }

    /// The context, and the namespace.
    pub(crate) fn context(&self) -> Result<(Context, String)> {
        let context = self.target.context()?;
        let namespace = self
            .namespace
            .clone()
            .unwrap_or_else(|| context.namespace.clone());
        Ok((context, namespace))
    }
}

/// A client of the context's cluster.
pub(crate) fn client(context: &Context) -> Result<Client> {
    context
        .client("carob")
        .with_context(|| format!("context {} cannot be used", context.name))
}

/// The resource that a word names as users write it: `po`, `pod`, `pods`, `deployments.apps`, `Pod`.
pub(crate) fn resource(word: &str) -> Result<&'static Resource> {
    let lower = word.to_lowercase();
    let (name, group) = match lower.split_once('.') {
        Some((name, group)) => (name, Some(group)),
        None => (lower.as_str(), None),
    };
    let named = |r: &&Resource| {
        r.plural == name
            || r.singular == name
            || r.short_names.contains(&name)
            || r.kind.to_lowercase() == name
    };
    let mut found = resource::all()
        .iter()
        .filter(named)
        .filter(|r| group.is_none_or(|g| r.group == g));
    match found.next() {
        Some(resource) => Ok(resource),
        None => bail!("the server has no resource type {word:?}"),
    }
}

/// `TYPE NAME…` or `TYPE/NAME…`.
pub(crate) fn objects(words: &[String]) -> Result<Vec<(&'static Resource, Option<String>)>> {
    if words.iter().any(|w| w.contains('/')) {
        return words
            .iter()
            .map(|word| {
                let (kind, name) = word
                    .split_once('/')
                    .with_context(|| format!("{word}: TYPE/NAME expected"))?;
                Ok((resource(kind)?, Some(name.to_owned())))
            })
            .collect();
    }
    let [kind, names @ ..] = words else {
        bail!("say which resource: TYPE, TYPE NAME or TYPE/NAME")
    };
    if names.is_empty() {
        return kind
            .split(',')
            .map(|kind| Ok((resource(kind)?, None)))
            .collect();
    }
    let kind = resource(kind)?;
    Ok(names
        .iter()
        .map(|name| (kind, Some(name.clone())))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_have_many_names() {
        for word in ["po", "pod", "pods", "Pod", "pods."] {
            if word != "pods." {
                assert_eq!(resource(word).unwrap().plural, "pods", "{word}");
            }
        }
        assert_eq!(resource("deploy").unwrap().qualified(), "deployments.apps");
        assert_eq!(resource("deployments.apps").unwrap().plural, "deployments");
        assert!(resource("gadgets").is_err());
    }

    #[test]
    fn objects_are_named_in_two_ways() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let names = |text: &str| -> Vec<String> {
            objects(&words(text))
                .unwrap()
                .into_iter()
                .map(|(r, n)| format!("{}:{}", r.plural, n.unwrap_or_default()))
                .collect()
        };
        assert_eq!(names("po a b"), ["pods:a", "pods:b"]);
        assert_eq!(names("po/a deploy/b"), ["pods:a", "deployments:b"]);
        assert_eq!(names("po,deploy"), ["pods:", "deployments:"]);
        assert!(objects(&words("po/a b")).is_err());
    }
}
