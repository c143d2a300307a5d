//! `carob run`: a module as a Job, as if it ran here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::{Client, DeleteOptions, Informer, Key, ListOptions, Object, Propagation};
use images::{Name, Upload};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::logs;
use super::names::{plain, stem, suffix};
use crate::target::Scope;
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
    /// A file or directory of the node at a path of the guest
    #[arg(long, value_name = "SRC:DST[:ro]", value_parser = parse_mount)]
    mount: Vec<Mount>,
    /// The most CPU it may use, such as 500m
    #[arg(long)]
    cpu: Option<String>,
    /// The most memory it may use, such as 64Mi
    #[arg(long)]
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

/// The label by which a Job's pods are found.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// What a detached Job is kept for after its end.
const KEPT_SECONDS: i32 = 3600;
/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

impl Run {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let (client, namespace) = self.scope.open()?;
        let image = self.image(&client).await?;
        let job: Job = serde_json::from_value(self.job(&image, &namespace)).context("the Job")?;
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
        let outcome = tokio::select! {
            outcome = follow(&client, &namespace, &name) => outcome,
            _ = tokio::signal::ctrl_c() => Ok(INTERRUPTED),
            () = limit => Err(anyhow::anyhow!("it has not ended in time and was ended")),
        };
        if !self.keep {
            let options = DeleteOptions::default().propagation(Propagation::Background);
            let deleted = client.of::<Job>().delete(&namespace, &name, &options).await;
            if let Err(error) = deleted
                .as_ref()
                .err()
                .filter(|e| !e.is_not_found())
                .map_or(Ok(()), Err)
            {
                eprintln!("warning: the Job {name} is still there: {error}");
            }
        }
        outcome.map(ExitCode::from)
    }

    /// The image to run: a local module is pushed on the way.
    async fn image(&self, client: &Client) -> Result<String> {
        let path = Path::new(&self.module);
        let looks_like_file =
            path.extension().is_some_and(|e| e == "wasm") && !self.module.contains("://");
        if !looks_like_file {
            return Ok(self.module.clone());
        }
        let upload = Upload::module(path).with_context(|| self.module.clone())?;
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
        let completions = self.completions.unwrap_or(1);
        let mut spec = json!({
            "completions": completions,
            "parallelism": self.parallelism.unwrap_or(completions.min(self.completions.map_or(1, |_| 10))),
            "backoffLimit": self.retries,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container], "volumes": volumes}},
        });
        if self.completions.is_some() {
            // Every run is to be made, whatever becomes of the others.
            spec["completionMode"] = "Indexed".into();
            spec["backoffLimit"] = (u64::from(self.retries) + u64::from(completions)).into();
        }
        if self.detach && !self.keep {
            spec["ttlSecondsAfterFinished"] = KEPT_SECONDS.into();
        }
        if let (true, Some(limit)) = (self.detach, self.timeout) {
            spec["activeDeadlineSeconds"] = limit.as_secs().into();
        }
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
    }
}

/// A pod whose output is being printed, and its end.
#[derive(Default)]
struct Followed {
    printing: bool,
    end: Option<Ended>,
}

/// What became of one pod.
enum Ended {
    Code(i32),
    /// It never ran; the text says why.
    NotRun(String),
}

/// Prints what the Job's pods write, until the Job has ended; the exit code.
///
/// The pods' own ends decide: the Job's status follows them a little later and need not be waited
/// for, except where a failed pod may be tried again.
async fn follow(client: &Client, namespace: &str, job: &str) -> Result<u8> {
    let of_job = ListOptions::namespace(namespace).labels(format!("{JOB_NAME}={job}"));
    let pods = Informer::<Pod>::start(client.of(), of_job);
    let jobs = Informer::<Job>::start(client.of(), ListOptions::named(namespace, job));
    let (mut pod_changes, mut job_changes) = (pods.subscribe(), jobs.subscribe());
    let mut outputs = JoinSet::new();
    let mut followed: BTreeMap<String, Followed> = BTreeMap::new();
    let mut complained = String::new();
    loop {
        tokio::select! {
            keys = pod_changes.next() => for key in keys {
                let Some(pod) = pods.get(&key) else { continue };
                let seen = followed.entry(pod.uid().to_owned()).or_default();
                if !seen.printing && has_started(&pod) {
                    seen.printing = true;
                    outputs.spawn(print_log(client.clone(), namespace.to_owned(), key.name.clone()));
                }
                seen.end = seen.end.take().or_else(|| end_of(&pod));
                match waits_for(&pod) {
                    Some(Wait::ForEver(why)) => bail!(why),
                    Some(Wait::ForNow(why)) if why != complained => {
                        eprintln!("carob: {why}");
                        complained = why;
                    }
                    _ => {}
                }
            },
            _ = job_changes.next() => {}
        }
        let Some(job) = jobs.get(&Key::new(namespace, job)) else {
            if jobs.is_synced() {
                bail!("the Job {job} was deleted");
            }
            continue;
        };
        if let Some(code) = verdict(&job, &followed)? {
            while let Some(printed) = outputs.join_next().await {
                printed??;
            }
            return Ok(code);
        }
    }
}

/// The Job's exit code, once it is settled.
fn verdict(job: &Job, pods: &BTreeMap<String, Followed>) -> Result<Option<u8>> {
    let spec = job.spec.as_ref();
    let wanted = spec.and_then(|s| s.completions).unwrap_or(1).max(0) as usize;
    let retries = spec.and_then(|s| s.backoff_limit).unwrap_or(0);
    let ended: Vec<&Ended> = pods.values().filter_map(|p| p.end.as_ref()).collect();
    let good = ended.iter().filter(|e| matches!(e, Ended::Code(0))).count();
    if good >= wanted {
        return Ok(Some(0));
    }
    let failed = job
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_ref())
        .into_iter()
        .flatten();
    let failed = failed
        .into_iter()
        .any(|c| c.type_ == "Failed" && c.status == "True");
    let last_try = retries == 0 && wanted == 1 && !ended.is_empty();
    if !failed && !last_try {
        return Ok(None);
    }
    let worst = ended.iter().find_map(|e| match e {
        Ended::Code(0) => None,
        Ended::Code(code) => Some(Ok(*code)),
        Ended::NotRun(why) => Some(Err(why.clone())),
    });
    match worst {
        // Exit codes beyond a byte exist only in WebAssembly.
        Some(Ok(code)) => Ok(Some(u8::try_from(code).unwrap_or(1).max(1))),
        Some(Err(why)) => bail!(why),
        None => bail!("the Job failed before a pod of it ended"),
    }
}

/// Whether the pod's module runs, or ran: there is output to be had.
fn has_started(pod: &Pod) -> bool {
    let states = pod
        .status
        .iter()
        .flat_map(|s| s.container_statuses.iter().flatten())
        .filter_map(|c| c.state.as_ref());
    states
        .into_iter()
        .any(|state| state.running.is_some() || state.terminated.is_some())
}

/// How a pod ended, if it has.
fn end_of(pod: &Pod) -> Option<Ended> {
    let status = pod.status.as_ref()?;
    let terminated =
        |s: &k8s_openapi::api::core::v1::ContainerStatus| s.state.as_ref()?.terminated.clone();
    let ends: Vec<ContainerStateTerminated> = status
        .container_statuses
        .iter()
        .flatten()
        .filter_map(terminated)
        .collect();
    if let Some(end) = ends.first() {
        return Some(Ended::Code(end.exit_code));
    }
    let failed = status.phase.as_deref() == Some("Failed");
    failed.then(|| {
        Ended::NotRun(
            status
                .message
                .clone()
                .or_else(|| status.reason.clone())
                .unwrap_or_default(),
        )
    })
}

/// Why a pod does not start.
#[derive(Debug, PartialEq, Eq)]
enum Wait {
    /// It may change without the user, such as room on a node.
    ForNow(String),
    /// It will not change unless the user does something.
    ForEver(String),
}

fn waits_for(pod: &Pod) -> Option<Wait> {
    let status = pod.status.as_ref()?;
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|s| s.state.as_ref()?.waiting.clone());
    if let Some(waiting) = waiting {
        let reason = waiting.reason.unwrap_or_default();
        let text = format!("{reason}: {}", waiting.message.unwrap_or_default());
        return match reason.as_str() {
            "ContainerCreating" | "PodInitializing" => None,
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "CreateContainerConfigError"
            | "Unsupported" => Some(Wait::ForEver(text)),
            _ => Some(Wait::ForNow(text)),
        };
    }
    let mut conditions = status.conditions.iter().flatten();
    let unplaced = conditions.find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    unplaced.message.clone().map(Wait::ForNow)
}

/// Prints what a pod writes, each stream to its own, until it has ended.
async fn print_log(client: Client, namespace: String, pod: String) -> Result<()> {
    let (out, err) = tokio::join!(
        logs::copy(
            &client,
            &namespace,
            &pod,
            "follow=true&stream=Stdout",
            tokio::io::stdout()
        ),
        logs::copy(
            &client,
            &namespace,
            &pod,
            "follow=true&stream=Stderr",
            tokio::io::stderr()
        ),
    );
    out.and(err)
}

fn parse_env(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text}: K=V expected"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_mount(text: &str) -> Result<Mount, String> {
    let (rest, read_only) = match text.strip_suffix(":ro") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (source, target) = rest
        .split_once(':')
        .ok_or_else(|| format!("{text}: SRC:DST[:ro] expected"))?;
    if !target.starts_with('/') {
        return Err(format!("{text}: {target} is no absolute path of the guest"));
    }
    let source = std::fs::canonicalize(source).map_err(|e| format!("{source}: {e}"))?;
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
    }

    fn job(status: Value) -> Job {
        serde_json::from_value(json!({"spec": {"completions": 1, "backoffLimit": 0, "template": {}}, "status": status})).unwrap()
    }

    fn pods(end: Ended) -> BTreeMap<String, Followed> {
        BTreeMap::from([(
            "u".to_owned(),
            Followed {
                printing: true,
                end: Some(end),
            },
        )])
    }

    #[test]
    fn the_exit_code_is_the_modules() {
        let ended = |code| pods(Ended::Code(code));
        assert_eq!(verdict(&job(json!({})), &BTreeMap::new()).unwrap(), None);
        assert_eq!(verdict(&job(json!({})), &ended(0)).unwrap(), Some(0));
        assert_eq!(verdict(&job(json!({})), &ended(7)).unwrap(), Some(7));
        assert_eq!(verdict(&job(json!({})), &ended(4096)).unwrap(), Some(1));
        let not_run = pods(Ended::NotRun("no".into()));
        assert!(verdict(&job(json!({})), &not_run).is_err());
    }
}
