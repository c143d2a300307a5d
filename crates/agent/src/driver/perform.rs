//! One action of a plan, performed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::cell::{Cell, copies_in};
use super::{Driver, mount, names};
use crate::blocking::blocking;
use crate::image;
use crate::pod::{Action, EventKind, Observation, PodView as _};
use crate::remove::remove_tree;
use crate::{logs, volumes};

/// Does what is quick at once, and sets off what is not.
pub(super) fn perform(driver: &Driver, cell: &Arc<Cell>, action: Action) {
    match action {
        Action::Requeue(at) => driver.again_at(cell, at),
        Action::Event {
            kind,
            reason,
            message,
        } => driver.event(cell, None, kind, reason, message),
        Action::Refuse { message } => {
            driver.event(cell, None, EventKind::Warning, "Unsupported", message)
        }
        Action::AnnounceBackOff { container, .. } => {
            let label = cell.state.lock().pod.label();
            let message =
                format!("Back-off restarting failed container {container} in pod {label}");
            driver.event(
                cell,
                Some(&container),
                EventKind::Warning,
                "BackOff",
                message,
            );
        }
        Action::AnnounceImageBackOff { container, image } => {
            let message = format!("Back-off pulling image \"{image}\"");
            driver.event(
                cell,
                Some(&container),
                EventKind::Normal,
                "BackOff",
                message,
            );
            driver.event(
                cell,
                Some(&container),
                EventKind::Warning,
                "Failed",
                "Error: ImagePullBackOff",
            );
        }
        Action::BeginStop {
            container, message, ..
        } => {
            if let Some(why) = message {
                driver.event(cell, Some(&container), EventKind::Normal, "Killing", why);
            }
        }
        Action::RestartAll { .. } => {
            // A later agent goes on with the round that was begun.
            save(driver, cell);
        }
        Action::StopContainer {
            container, grace, ..
        } => {
            if let Some(instance) = cell.state.lock().running.get(&container) {
                instance
                    .running
                    .terminate(Duration::try_from(grace).unwrap_or_default());
            }
        }
        Action::KillContainer { container } => {
            if let Some(instance) = cell.state.lock().running.get(&container) {
                instance.running.kill();
            }
        }
        Action::Fail { .. } => spawn(driver, cell, |d, c| async move { d.save(&c, true).await }),
        Action::PrepareSandbox => {
            spawn(
                driver,
                cell,
                |d, c| async move { prepare_sandbox(&d, &c).await },
            )
        }
        Action::MountVolumes => {
            let ended = CancellationToken::new();
            cell.state.lock().mounting = ended.clone();
            spawn(driver, cell, |d, c| async move {
                mount::set_up(&d, &c, &ended).await
            });
        }
        Action::RenewVolumes => {
            let ended = CancellationToken::new();
            cell.state.lock().mounting = ended.clone();
            spawn(driver, cell, |d, c| async move {
                mount::renew(&d, &c, &ended).await
            });
        }
        Action::EnsureImage { container, image } => {
            spawn(driver, cell, |d, c| async move {
                ensure_image(&d, &c, container, image).await
            });
        }
        Action::StartContainer { container, attempt } => {
            spawn(driver, cell, move |d, c| async move {
                d.start(&c, container, attempt).await
            });
        }
        Action::Probe {
            container,
            attempt,
            kind,
            awaits,
            ..
        } => {
            spawn(driver, cell, move |d, c| async move {
                d.probe(&c, &container, attempt, kind, awaits).await
            });
        }
        Action::RunHook {
            container,
            attempt,
            kind,
            within,
        } => {
            let within = within.map(|left| Duration::try_from(left).unwrap_or_default());
            spawn(driver, cell, move |d, c| async move {
                d.run_hook(&c, container, attempt, kind, within).await
            });
        }
        Action::AskRoom => driver.ask_room(cell),
        Action::ResizeContainer {
            container,
            attempt,
            resources,
        } => {
            spawn(driver, cell, move |d, c| async move {
                d.resize(&c, container, attempt, resources).await
            });
        }
        Action::CompleteResize { generation } => driver.resized(cell, generation),
        Action::RemoveContainer { container, attempt } => {
            let (dir, log_dir) = (
                cell.instance_dir(&container, attempt),
                cell.log_dir(&container),
            );
            let memory = driver.memory_dir(&cell.uid);
            let copies =
                memory.map(|memory| copies_in(&memory, &container).join(attempt.to_string()));
            spawn(driver, cell, move |d, c| async move {
                let remove = move || {
                    // What can be removed is, whatever cannot.
                    let copies = copies.map_or(Ok(()), |copies| remove_tree(&copies));
                    let own = remove_tree(&dir);
                    let logs = logs::prune(&log_dir, attempt.saturating_sub(1));
                    copies.and(own).and(logs)
                };
                d.removed(
                    &c,
                    "an ended container cannot be removed",
                    blocking(remove).await,
                );
            });
        }
        Action::Release => spawn(driver, cell, |d, c| async move { release(&d, &c).await }),
        Action::DeletePod => spawn(driver, cell, |d, c| async move { d.delete(&c).await }),
        Action::Forget => spawn(driver, cell, |d, c| async move { forget(&d, &c).await }),
    }
}

/// Keeps what is known of a pod.
pub(super) fn save(driver: &Driver, cell: &Arc<Cell>) {
    spawn(driver, cell, |d, c| async move { d.save(&c, false).await });
}

pub(super) fn spawn<F, W>(driver: &Driver, cell: &Arc<Cell>, work: W)
where
    F: Future<Output = ()> + Send + 'static,
    W: FnOnce(Driver, Arc<Cell>) -> F,
{
    let (cell, work) = (cell.clone(), work(driver.clone(), cell.clone()));
    let work = async move {
        cell.has_place().await;
        work.await;
    };
    tokio::spawn(work.in_current_span());
}

async fn prepare_sandbox(driver: &Driver, cell: &Arc<Cell>) {
    let dir = cell.dir.clone();
    let made = blocking(move || std::fs::create_dir_all(dir))
        .await
        .map_err(|e| e.to_string());
    let network = &driver.0.tools.network;
    let pod = Arc::clone(&cell.state.lock().pod);
    let joined = async {
        made?;
        names::check(&pod)?;
        driver.handler(cell).await?;
        network.join(&cell.uid).map_err(|e| e.to_string())
    };
    match joined.await {
        Ok(net) => {
            let cluster = &driver.0.tools.cluster;
            let own = cluster.own_pod(&pod, cell.is_static, net.address());
            let ip = net.address().into();
            {
                let mut state = cell.state.lock();
                (state.net, state.own) = (Some(net), Some(own));
            }
            driver.learned(cell, Observation::SandboxReady(ip)).await;
        }
        Err(why) => {
            let message = format!("Failed to create pod sandbox: {why}");
            driver.event(
                cell,
                None,
                EventKind::Warning,
                "FailedCreatePodSandBox",
                message,
            );
            driver.learned(cell, Observation::SandboxFailed(why)).await;
        }
    }
}

/// A duration as the kubelet prints it in events: to the millisecond, in Go's form.
fn shown(took: Duration) -> String {
    let nanos = i64::try_from(took.as_nanos()).unwrap_or(i64::MAX);
    api::time::format_duration(nanos - nanos % 1_000_000)
}

async fn ensure_image(driver: &Driver, cell: &Arc<Cell>, container: String, image: String) {
    let pod = cell.state.lock().pod.clone();
    let Some(spec) = pod.container(&container) else {
        return;
    };
    let learned = match have_image(driver, cell, &pod, spec, &image).await {
        Ok(ready) => {
            let mut state = cell.state.lock();
            // A pod that has ended meanwhile starts nothing, and would keep the image until its object is gone; and what
            // another image has taken the place of is not to be started in its stead.
            if !state.observed.released && state.observed.awaits(&container, &image) {
                state.modules.insert(container.clone(), ready);
            }
            Observation::ImageReady { container, image }
        }
        Err(error) => {
            for (reason, message) in image_warnings(&image, &error) {
                driver.event(cell, Some(&container), EventKind::Warning, reason, message);
            }
            Observation::ImageFailed {
                container,
                image,
                reason: error.reason.to_owned(),
                message: error.message,
            }
        }
    };
    driver.learned(cell, learned).await;
}

async fn have_image(
    driver: &Driver,
    cell: &Arc<Cell>,
    pod: &Pod,
    spec: &Container,
    image: &str,
) -> Result<image::Ready, image::Error> {
    let policy = spec.image_pull_policy.as_deref();
    let images = &driver.0.tools.images;
    let present = images.present(image, policy).await;
    let normal = |reason, message: String| {
        driver.event(cell, Some(&spec.name), EventKind::Normal, reason, message)
    };
    if !present && policy != Some("Never") && image::valid(image) {
        normal("Pulling", format!("Pulling image \"{image}\""));
    }
    let began = tokio::time::Instant::now();
    let keys = image::Keys::of(&driver.0.tools.client, pod).await;
    let found = images.module(image, policy, &keys).await?;
    let handler = driver.handler(cell).await;
    let handler = handler.map_err(image::Error::create)?;
    let took = shown(began.elapsed());
    normal(
        "Pulled",
        match present {
            true => format!("Container image \"{image}\" already present on machine"),
            false => format!(
                "Successfully pulled image \"{image}\" in {took} ({took} including waiting). Image size: {} bytes.",
                found.size
            ),
        },
    );
    let compiling = || {
        normal(
            "Compiling",
            format!("Compiling image \"{image}\", which each node does once"),
        )
    };
    images.prepare(found, handler, compiling).await
}

/// What the kubelet says of an image that it cannot have, or cannot make a container of: reasons and messages.
fn image_warnings(image: &str, error: &image::Error) -> Vec<(&'static str, String)> {
    let image::Error { reason, message } = error;
    let first = match *reason {
        "CreateContainerError" => return vec![("Failed", format!("Error: {message}"))],
        "ErrImageNeverPull" => (*reason, message.clone()),
        "InvalidImageName" => ("InspectFailed", message.clone()),
        _ => (
            "Failed",
            format!("Failed to pull image \"{image}\": {message}"),
        ),
    };
    vec![first, ("Failed", format!("Error: {reason}"))]
}

/// Gives back volumes, roots and address. Logs and the record stay until the object is gone.
async fn release(driver: &Driver, cell: &Arc<Cell>) {
    let (volumes_dir, containers) = (cell.volumes_dir(), cell.dir.join("containers"));
    let memory = driver.memory_dir(&cell.uid);
    cell.state.lock().following = None;
    let remove = move || {
        let volumes = volumes::tear_down(&volumes_dir);
        // What can be given back is, whatever cannot.
        let memory = memory.map_or(Ok(()), |memory| volumes::tear_down(&memory));
        let containers = remove_tree(&containers);
        volumes.and(memory).and(containers)
    };
    driver.removed(
        cell,
        "an ended pod's directories cannot be removed",
        blocking(remove).await,
    );
    {
        let mut state = cell.state.lock();
        (state.net, state.own) = (None, None);
        state.volumes.clear();
        state.modules.clear();
        state.logs.clear();
        state.screens.clear();
    }
    driver.learned(cell, Observation::Released).await;
}

async fn forget(driver: &Driver, cell: &Arc<Cell>) {
    let Some(leaving) = driver.forget(cell) else {
        return driver.0.queue.add(cell.uid.clone());
    };
    let dir = cell.dir.clone();
    let _no_record_after_this = cell.saving.lock().await;
    driver.removed(
        cell,
        "a pod's directory cannot be removed",
        blocking(move || remove_tree(&dir)).await,
    );
    drop(leaving);
    driver.0.rested.notify_waiters();
    if cell.is_static {
        driver.static_left(cell);
    }
}

impl Driver {
    /// What could not be removed is found again by the garbage's next round.
    fn removed(&self, cell: &Cell, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            tracing::warn!(pod = %cell.key, uid = %cell.uid, %error, "{what}");
            self.left_untidy();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_events() {
        for (nanos, text) in [
            (1_035_987_654, "1.035s"),
            (35_999_999, "35ms"),
            (999_999, "0s"),
            (61_500_000_000, "1m1.5s"),
        ] {
            assert_eq!(shown(Duration::from_nanos(nanos)), text);
        }
        assert_eq!(shown(Duration::MAX), "2562047h47m16.854s");
    }
}
