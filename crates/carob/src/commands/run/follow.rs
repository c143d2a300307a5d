//! What becomes of a Job that was just made: its pods' output, and its exit code.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use client::kubeconfig::Context as Cluster;
use client::{Client, Informer, Key, ListOptions, Object};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use tokio::io::AsyncWrite;
use tokio::task::JoinSet;

use super::super::logs::{self, Broken};
use super::super::pods::{Wait, waits_for};
use super::input;
use crate::output::BROKEN_PIPE;

/// The label by which a Job's pods are found.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// A pod whose output is being printed, and its end.
#[derive(Default)]
struct Followed {
    printing: bool,
    end: Option<Ended>,
}

/// What became of one pod.
enum Ended {
    /// Its exit code, and what else is to be said of it: that it was out of memory, where it trapped.
    Code(i32, Option<String>),
    /// It never ran; the text says why.
    NotRun(String),
}

/// Prints what the Job's pods write, until the Job has ended; the exit code.
///
/// The pods' own ends decide: the Job's status follows them a little later and need not be waited
/// for, except where a failed pod may be tried again.
///
/// With `input` the first pod's container gets this process's standard input, by way of that
/// cluster.
pub(super) async fn follow(
    client: &Client,
    namespace: &str,
    job: &str,
    input: Option<&Cluster>,
) -> Result<u8> {
    let of_job = ListOptions::namespace(namespace).labels(format!("{JOB_NAME}={job}"));
    let pods = Informer::<Pod>::start(client.of(), of_job);
    let jobs = Informer::<Job>::start(client.of(), ListOptions::named(namespace, job));
    let (mut pod_changes, mut job_changes) = (pods.subscribe(), jobs.subscribe());
    let mut outputs = JoinSet::new();
    let mut followed: BTreeMap<String, Followed> = BTreeMap::new();
    let mut complained = String::new();
    // Its task ends with this function.
    let mut inputs = JoinSet::new();
    loop {
        tokio::select! {
            keys = pod_changes.next() => for key in keys {
                let Some(pod) = pods.get(&key) else { continue };
                let seen = followed.entry(pod.uid().to_owned()).or_default();
                if !seen.printing && has_started(&pod) {
                    seen.printing = true;
                    outputs.spawn(print_log(client.clone(), namespace.to_owned(), key.name.clone()));
                    if let Some(cluster) = input {
                        inputs.spawn(input::pass(cluster.clone(), namespace.to_owned(), key.name.clone()));
                    }
                }
                if seen.end.is_none() {
                    seen.end = end_of(&pod);
                }
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
            Some(printed) = outputs.join_next() => {
                if is_unread(printed?) {
                    return Ok(BROKEN_PIPE);
                }
            }
        }
        let Some(job) = jobs.get(&Key::new(namespace, job)) else {
            if jobs.is_synced() {
                bail!("the Job {job} was deleted");
            }
            continue;
        };
        if let Some(code) = verdict(&job, &followed)? {
            while let Some(printed) = outputs.join_next().await {
                if is_unread(printed?) {
                    return Ok(BROKEN_PIPE);
                }
            }
            let ends = followed.values().filter_map(|f| f.end.as_ref());
            for end in ends.filter(|_| code != 0) {
                if let Ended::Code(_, Some(why)) = end {
                    eprintln!("carob: {why}");
                }
            }
            return Ok(code);
        }
    }
}

/// The Job's exit code, once it is settled.
fn verdict(job: &Job, pods: &BTreeMap<String, Followed>) -> Result<Option<u8>> {
    let spec = job.spec.as_ref();
    let wanted = spec.and_then(|s| s.completions).unwrap_or(1).max(0) as usize;
    let retries = spec
        .and_then(|s| s.backoff_limit_per_index.or(s.backoff_limit))
        .unwrap_or(0);
    let ended: Vec<&Ended> = pods.values().filter_map(|p| p.end.as_ref()).collect();
    let good = ended
        .iter()
        .filter(|e| matches!(e, Ended::Code(0, _)))
        .count();
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
    let every_try = retries == 0 && ended.len() >= wanted;
    if !failed && !every_try {
        return Ok(None);
    }
    let worst = ended.iter().find_map(|e| match e {
        Ended::Code(0, _) => None,
        Ended::Code(code, _) => Some(Ok(*code)),
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
        return Some(Ended::Code(end.exit_code, beyond_its_code(end)));
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

/// What an exit code does not say: a reason that is not merely "it failed", or the words of a trap.
fn beyond_its_code(end: &ContainerStateTerminated) -> Option<String> {
    if end.exit_code == 0 {
        return None;
    }
    let reason = end.reason.as_deref().unwrap_or_default();
    let named = !matches!(reason, "" | "Completed" | "Error");
    let message = end.message.as_deref().map(str::trim).unwrap_or_default();
    match (named, message) {
        (false, "") => None,
        (true, "") => Some(format!("the module was ended: {reason}")),
        (false, message) => Some(message.to_owned()),
        (true, message) => Some(format!("the module was ended: {reason}: {message}")),
    }
}

/// Prints what a pod writes, each stream to its own, until it has ended.
async fn print_log(client: Client, namespace: String, pod: String) -> Result<(), Broken> {
    tokio::try_join!(
        print_stream(&client, &namespace, &pod, "Stdout", tokio::io::stdout()),
        print_stream(&client, &namespace, &pod, "Stderr", tokio::io::stderr()),
    )
    .map(drop)
}

async fn print_stream(
    client: &Client,
    namespace: &str,
    pod: &str,
    stream: &str,
    mut out: impl AsyncWrite + Unpin,
) -> Result<(), Broken> {
    let query = format!("follow=true&stream={stream}");
    let path = logs::path_of(namespace, pod, &query);
    logs::follow(client, &path, &mut out).await
}

/// Whether nobody reads what this process prints. What is lost of a log is said, and no more.
fn is_unread(printed: Result<(), Broken>) -> bool {
    match printed {
        Ok(()) => false,
        Err(Broken::Unread) => true,
        Err(Broken::Log(error)) => {
            eprintln!("carob: the rest of the output is not to be had: {error}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

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
        let ended = |code| pods(Ended::Code(code, None));
        assert_eq!(verdict(&job(json!({})), &BTreeMap::new()).unwrap(), None);
        assert_eq!(verdict(&job(json!({})), &ended(0)).unwrap(), Some(0));
        assert_eq!(verdict(&job(json!({})), &ended(7)).unwrap(), Some(7));
        assert_eq!(verdict(&job(json!({})), &ended(4096)).unwrap(), Some(1));
        let not_run = pods(Ended::NotRun("no".into()));
        assert!(verdict(&job(json!({})), &not_run).is_err());
    }

    #[test]
    fn what_a_code_does_not_say_is_said() {
        let said = |end: Value| beyond_its_code(&serde_json::from_value(end).unwrap());
        let good = json!({"exitCode": 0, "reason": "Completed", "message": "all done"});
        assert_eq!(said(good), None);
        assert_eq!(said(json!({"exitCode": 3, "reason": "Error"})), None);
        let oom = said(json!({"exitCode": 137, "reason": "OOMKilled"}));
        assert_eq!(oom.as_deref(), Some("the module was ended: OOMKilled"));
        let trap =
            json!({"exitCode": 134, "reason": "Error", "message": "wasm trap: unreachable\n"});
        assert_eq!(said(trap).as_deref(), Some("wasm trap: unreachable"));
    }

    #[test]
    fn all_of_many_runs_are_waited_for() {
        let many: Job = serde_json::from_value(json!({
            "spec": {"completions": 3, "backoffLimitPerIndex": 0, "template": {}},
        }))
        .unwrap();
        let ended = |codes: &[i32]| -> BTreeMap<String, Followed> {
            let followed = |code: &i32| Followed {
                printing: true,
                end: Some(Ended::Code(*code, None)),
            };
            let all = codes.iter().enumerate();
            all.map(|(i, code)| (i.to_string(), followed(code)))
                .collect()
        };
        assert_eq!(verdict(&many, &ended(&[0, 4])).unwrap(), None);
        assert_eq!(verdict(&many, &ended(&[0, 4, 0])).unwrap(), Some(4));
        assert_eq!(verdict(&many, &ended(&[0, 0, 0])).unwrap(), Some(0));
    }
}
