//! `carob run`: a module as a Job, as if it ran here.

mod follow;
mod input;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::quantity::{Quantity, QuantityError};
use client::{Client, DeleteOptions, Object, Patch, Propagation};
use images::{Name, Upload};
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use super::names::{plain, stem, suffix};
use crate::interruption::Interruption;
use crate::target::{self, Scope};
use crate::{progress, registry};

/// Run a module as a Job: its output here, its exit code as carob's own.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The Job's name; else the module's with something random
    #[arg(long)]
    name: Option<String>,
    /// A variable of the environment
    #[arg(long, value_name = "K=V", value_parser = parse_env)]
    env: Vec<(String, String)>,
    /// A directory of this machine at a path of the guest; its pod must run on this machine
    #[arg(long, value_name = "SRC:DST[:ro]", value_parser = parse_mount)]
    mount: Vec<Mount>,
    /// The most CPU it may use, such as 500m
    #[arg(long, value_parser = parse_quantity)]
    cpu: Option<String>,
    /// The most memory it may use, such as 64Mi
    #[arg(long, value_parser = parse_quantity)]
    memory: Option<String>,
    /// Run it this many times; each run finds its number in JOB_COMPLETION_INDEX
    #[arg(long, value_name = "N")]
    completions: Option<u32>,
    /// How many run at a time
    #[arg(long, value_name = "N")]
    parallelism: Option<u32>,
    /// How many failed runs are repeated
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// Print the Job's name and do not wait for it
    #[arg(long)]
    detach: bool,
    /// Pass standard input on to it
    #[arg(short, long, conflicts_with_all = ["completions", "parallelism", "retries", "detach"])]
    interactive: bool,
    /// End it after this long
    #[arg(long, value_parser = super::token::parse_duration)]
    timeout: Option<Duration>,
    /// Keep the Job when it has ended
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    scope: Scope,
    /// A module's file, or an image's name
    module: String,
    /// The module's arguments
    #[arg(last = true)]
    args: Vec<String>,
}

/// A mount as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    source: PathBuf,
    target: String,
    read_only: bool,
}

/// How long the cluster keeps a Job that has ended and that nobody removes.
const KEPT_SECONDS: i32 = 3600;
/// How many seconds later than this process the cluster ends a Job.
const DEADLINE_BEHIND: u64 = 5;

impl Run {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let (cluster, namespace) = self.scope.context()?;
        let client = target::client(&cluster)?;
        let image = self.image(&client).await?;
        let job: Job = serde_json::from_value(self.job(&image, &namespace)).context("the Job")?;
        // From here on nothing may end this process and leave the Job behind.
        let mut interrupted = Interruption::new()?;
        let job = client
            .of::<Job>()
            .create(&job)
            .await
            .context("cannot create the Job")?;
        let name = job.name().to_owned();
        if self.detach {
            println!("{name}");
            return Ok(ExitCode::SUCCESS);
        }
        let limit = async {
            match self.timeout {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let input = self.interactive.then_some(&cluster);
        let outcome = tokio::select! {
            outcome = follow::follow(&client, &namespace, &name, input) => outcome,
            code = interrupted.wait() => Ok(code),
            () = limit => Err(anyhow::anyhow!("it has not ended in time and was ended")),
        };
        if let Err(error) = self.finish(&client, &namespace, &name).await {
            eprintln!("warning: the Job {name} is still there: {error}");
        }
        outcome.map(ExitCode::from)
    }

    /// Removes the Job, or what still runs of one that is kept.
    async fn finish(
        &self,
        client: &Client,
        namespace: &str,
        name: &str,
    ) -> Result<(), client::Error> {
        let jobs = client.of::<Job>();
        let done = if self.keep {
            let stop = Patch::Merge(json!({"spec": {"suspend": true}}));
            let job = jobs.get(namespace, name).await?;
            match has_ended(&job) {
                true => return Ok(()),
                false => jobs.patch(namespace, name, &stop, None).await.map(drop),
            }
        } else {
            let options = DeleteOptions::default().propagation(Propagation::Background);
            jobs.delete(namespace, name, &options).await.map(drop)
        };
        match done {
            Err(error) if error.is_not_found() => Ok(()),
            done => done,
        }
    }

    /// The image to run: a local module is pushed on the way.
    async fn image(&self, client: &Client) -> Result<String> {
        let path = Path::new(&self.module);
        let looks_like_file =
            path.extension().is_some_and(|e| e == "wasm") && !self.module.contains("://");
        if !looks_like_file {
            // An image's name may well be a file's: a path is what can be nothing else.
            let is_path = ["/", "./", "../"]
                .iter()
                .any(|start| self.module.starts_with(start));
            if is_path {
                bail!("{}: a module's file ends in .wasm", self.module);
            }
            return Ok(self.module.clone());
        }
        let upload = Upload::module(path)?;
        let name = Name::pinned(&format!("run/{}", plain(&stem(path))), upload.digest)?;
        let bar = progress::bytes(
            "pushing",
            upload.blobs.iter().map(|b| b.descriptor.size).sum(),
        );
        registry::push(client, &name, &upload, &mut |sent| bar.inc(sent)).await?;
        bar.finish_and_clear();
        Ok(format!("{}@{}", name.repository, upload.digest))
    }

    fn job(&self, image: &str, namespace: &str) -> Value {
        let stem = plain(&stem(Path::new(
            self.module.split(['@', ':']).next().unwrap_or(&self.module),
        )));
        let name = self
            .name
            .clone()
            .unwrap_or_else(|| format!("{stem}-{}", suffix()));
        let env: Vec<Value> = self
            .env
            .iter()
            .map(|(k, v)| json!({"name": k, "value": v}))
            .collect();
        let mounts: Vec<Value> = self
            .mount
            .iter()
            .enumerate()
            .map(|(i, m)| json!({"name": format!("mount-{i}"), "mountPath": m.target, "readOnly": m.read_only}))
            .collect();
        let volumes: Vec<Value> = self
            .mount
            .iter()
            .enumerate()
            .map(|(i, m)| json!({"name": format!("mount-{i}"), "hostPath": {"path": m.source}}))
            .collect();
        let mut limits = serde_json::Map::new();
        for (key, value) in [("cpu", &self.cpu), ("memory", &self.memory)] {
            if let Some(value) = value {
                limits.insert(key.into(), value.clone().into());
            }
        }
        let mut container = json!({
            "name": "main", "image": image, "args": self.args, "env": env, "volumeMounts": mounts,
            "resources": {"limits": limits},
        });
        if self.args.is_empty()
            && let Some(container) = container.as_object_mut()
        {
            container.remove("args");
        }
        if self.interactive {
            container["stdin"] = true.into();
            container["stdinOnce"] = true.into();
        }
        let completions = self.completions.unwrap_or(1);
        let mut spec = json!({
            "completions": completions,
            "parallelism": self.parallelism.unwrap_or(completions.min(self.completions.map_or(1, |_| 10))),
            "template": {"spec": {"restartPolicy": "Never", "containers": [container], "volumes": volumes}},
        });
        if self.completions.is_some() {
            // Every run is to be made, whatever becomes of the others.
            spec["completionMode"] = "Indexed".into();
            spec["backoffLimitPerIndex"] = self.retries.into();
        } else {
            spec["backoffLimit"] = self.retries.into();
        }
        // Should this process die, the cluster still ends the Job, and removes it later. While it
        // lives it is to be the first, or the end would look like the module's own.
        if let Some(limit) = self.timeout {
            let behind = if self.detach { 0 } else { DEADLINE_BEHIND };
            spec["activeDeadlineSeconds"] = (limit.as_secs().max(1) + behind).into();
        }
        if !self.keep {
            spec["ttlSecondsAfterFinished"] = KEPT_SECONDS.into();
        }
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
    }
}

/// Whether nothing of the Job runs any more, or will.
fn has_ended(job: &Job) -> bool {
    let conditions = job
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    conditions
        .filter(|c| c.status == "True")
        .any(|c| c.type_ == "Complete" || c.type_ == "Failed")
}

/// An amount, left as it is written.
fn parse_quantity(text: &str) -> Result<String, QuantityError> {
    Quantity::parse(text).map(|_| text.to_owned())
}

fn parse_env(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text}: K=V expected"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_mount(text: &str) -> Result<Mount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] => (*source, *target, false),
        [source, target, "ro"] => (*source, *target, true),
        _ => return Err(format!("{text}: SRC:DST[:ro] expected")),
    };
    if !target.starts_with('/') {
        return Err(format!("{text}: {target} is no absolute path of the guest"));
    }
    if target.trim_matches('/').is_empty() {
        return Err(format!(
            "{text}: the guest's root is its own; mount below it"
        ));
    }
    let source = std::fs::canonicalize(source).map_err(|e| format!("{source}: {e}"))?;
    if !source.is_dir() {
        return Err(format!(
            "{} is no directory: mount the one that holds it",
            source.display()
        ));
    }
    Ok(Mount {
        source,
        target: target.to_owned(),
        read_only,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_checked_here() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().canonicalize().unwrap();
        let text = |target: &str| format!("{}:{target}", source.display());
        let mount = |target: &str, read_only| Mount {
            source: source.clone(),
            target: target.into(),
            read_only,
        };
        assert_eq!(parse_mount(&text("/data")), Ok(mount("/data", false)));
        assert_eq!(parse_mount(&text("/data:ro")), Ok(mount("/data", true)));
        assert!(parse_mount(&text("data")).is_err());
        assert!(parse_mount("/does/not/exist:/x").is_err());
        assert!(parse_mount("/only").is_err());
        assert!(parse_mount(&text("/")).is_err());
        assert!(parse_mount(&text("/data:rx")).is_err());
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(parse_mount(&format!("{}:/x", file.display())).is_err());
    }
}
