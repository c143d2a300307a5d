//! A pod's volumes: each kind is one file here and one line in [`kind::KINDS`].
//!
//! A volume is a directory of the node, or of `hostPath` a file, that the runtime shows to guests at `mountPath`. It is made before the pod's
//! first container starts and torn down when the pod has ended; containers' restarts leave it alone. What does not last
//! ([`Made::renew_at`]), follows the pod's labels or shows an object that has changed is made anew meanwhile, in one step
//! for those who read it.

mod claim;
mod config_map;
mod downward_api;
mod empty_dir;
mod ephemeral;
mod host_path;
mod image;
mod kind;
mod memory;
mod payload;
mod persistent_volume_claim;
mod projected;
mod secret;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::{Client, Key};
use futures::future::join_all;
use images::Hold;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::clock::Clock;
use crate::image::{Error as ImageError, Images};
use crate::objects::{Objects, Reads};
use crate::pod::PodView as _;
use crate::remove::remove_tree;
use crate::resources::Amounts;
pub(crate) use claim::{Disks, own_path};
use kind::{Kind, follows_metadata, kind_of};
pub(crate) use kind::{Written, follow_metadata, image, refusal, shown, size_limit, written};
use payload::Files;

/// What was being done when files could not be written.
const WRITING: &str = "writing its files";

/// Why a volume cannot be had. Trying again may help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An object, a key or a field that it is made from does not exist; Kubernetes' words.
    #[error("{0}")]
    Missing(String),
    /// No token for the pod's service account; Kubernetes' words.
    #[error("failed to fetch token: {0}")]
    Token(client::Error),
    /// Several, told as Kubernetes tells them.
    #[error("[{}]", told(.0))]
    Several(Vec<Self>),
    /// The API server did not answer, or refused.
    #[error("{0}")]
    Api(#[from] Arc<client::Error>),
    /// The host's file system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why that failed.
        source: std::io::Error,
    },
    /// The image could not be had.
    #[error("{0}")]
    Image(ImageError),
    /// The host path is not of the type that was asked for.
    #[error("hostPath type check failed: {0}")]
    HostPath(String),
    /// The directory of a volume cannot be had.
    #[error("{0}")]
    HostDir(String),
    /// All that the kubelet says of it.
    #[error("{0}")]
    Told(String),
    /// The pod has ended meanwhile.
    #[error("the pod has ended")]
    Ended,
}

impl Error {
    /// All of them as one; that the pod has ended is all there is to say, if it has.
    fn all(errors: Vec<Self>) -> Option<Self> {
        let mut flat = Vec::new();
        for error in errors {
            match error {
                Self::Ended => return Some(error),
                Self::Several(more) => flat.extend(more),
                error => flat.push(error),
            }
        }
        match flat.len() {
            0 | 1 => flat.pop(),
            _ => Some(Self::Several(flat)),
        }
    }

    /// Whether it is about nothing but what does not exist.
    fn is_missing(&self) -> bool {
        match self {
            Self::Missing(_) => true,
            Self::Several(all) => all.iter().all(Self::is_missing),
            _ => false,
        }
    }

    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Each message once.
fn told(errors: &[Error]) -> String {
    let mut told: Vec<String> = Vec::new();
    for error in errors.iter().map(ToString::to_string) {
        if !told.contains(&error) {
            told.push(error);
        }
    }
    told.join(", ")
}

/// What volumes are made with.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) client: &'a Client,
    pub(crate) objects: &'a Objects,
    pub(crate) images: &'a Images,
    pub(crate) disks: &'a Disks,
    pub(crate) clock: Clock,
    /// What a missing limit stands for.
    pub(crate) machine: &'a Amounts,
    /// A kind's: the volume's own directory, which may exist from before the agent's last restart. Else that of all.
    pub(crate) dir: &'a Path,
    /// Where the pod's volumes lie that are in memory, if the node has memory for that.
    pub(crate) memory: Option<&'a Path>,
    /// Cancelled when the pod ends.
    pub(crate) ended: &'a CancellationToken,
    /// A kind's: what was made of the volume before, where guests may have it open.
    pub(crate) before: Option<&'a Made>,
}

impl Context<'_> {
    /// The object of the pod's namespace that a source names; one without anything in it where it is optional and
    /// not there.
    async fn object<K>(
        &self,
        objects: &Reads<K>,
        what: &str,
        name: &str,
        optional: bool,
    ) -> Result<Arc<K>, Error>
    where
        K: client::Kind + Default,
    {
        let key = Key::new(self.pod.namespace(), name);
        match self.while_wanted(objects.read(&key)).await?? {
            Some(object) => Ok(object),
            None if optional => Ok(Arc::default()),
            None => Err(Error::Missing(format!("{what} \"{name}\" not found"))),
        }
    }

    /// Awaits an answer to something that is asked for this pod alone.
    async fn asked<T>(
        &self,
        answer: impl Future<Output = Result<T, client::Error>>,
    ) -> Result<Result<T, client::Error>, Error> {
        // Answers are large while they are awaited.
        let answer = Box::pin(answer);
        let answer = async {
            let _room = self.objects.room().await;
            answer.await
        };
        self.while_wanted(answer).await
    }

    /// Awaits somebody else's answer, but not beyond the pod's end: nothing of an ended pod may wait for ever.
    async fn while_wanted<T>(&self, answer: impl Future<Output = T>) -> Result<T, Error> {
        let answer = self.ended.run_until_cancelled(answer).await;
        answer.ok_or(Error::Ended)
    }

    /// Makes `files` the volume's content, on the node's disk.
    async fn write(&self, files: Files) -> Result<Made, Error> {
        let dir = self.dir.to_owned();
        self.written(move || Ok(dir), files).await
    }

    /// Makes `files` the volume's content, in the node's memory while there is room: no disk keeps what is secret.
    async fn write_in_memory(&self, files: Files) -> Result<Made, Error> {
        let before = self.before.map(|made| made.path.clone());
        let (memory, disk) = (self.memory.map(Path::to_owned), self.dir.to_owned());
        let bytes = payload::size(&files);
        let place = move || memory::place(before, memory.as_deref(), disk, bytes);
        self.written(place, files).await
    }

    async fn written(
        &self,
        place: impl FnOnce() -> std::io::Result<PathBuf> + Send + 'static,
        files: Files,
    ) -> Result<Made, Error> {
        let written = blocking(move || {
            let dir = place()?;
            payload::write(&dir, files)?;
            Ok(dir)
        });
        let dir = written.await.map_err(Error::io(WRITING))?;
        Ok(Made {
            is_replaced: true,
            ..Made::new(dir, true)
        })
    }
}

/// A volume that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// The directory to show to guests, or that which it lies in. No guest can make its name lead elsewhere.
    pub(crate) path: PathBuf,
    /// The volume lies at this path below the directory, where guests may change what leads to it: it is resolved each time
    /// that it is shown, following no link. Empty for the directory itself.
    pub(crate) beneath: String,
    /// The pod may not write to it, whatever the mount says. Others may.
    pub(crate) read_only: bool,
    /// What lies in it is the agent's own, links too: no guest can change it.
    pub(crate) is_own: bool,
    /// What lies in it may go and be replaced while guests use it.
    pub(crate) is_replaced: bool,
    /// When its content is to be made anew, if it does not last.
    pub(crate) renew_at: Option<Timestamp>,
    /// Keeps an image's tree where it is.
    pub(crate) hold: Option<Hold>,
}

impl Made {
    /// A volume whose content lasts: the agent's own, which no pod may write to, or guests'.
    pub(crate) fn new(path: impl Into<PathBuf>, is_own: bool) -> Self {
        Self {
            path: path.into(),
            beneath: String::new(),
            read_only: is_own,
            is_own,
            is_replaced: false,
            renew_at: None,
            hold: None,
        }
    }
}

/// Why a pod's volumes cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Worded as the kubelet's `FailedMount` event.
    #[error("{0}")]
    Mount(String),
    /// An image is missing, which is told as that of a container is.
    #[error("{0}")]
    Image(ImageError),
    /// The pod has ended meanwhile.
    #[error("the pod has ended")]
    Ended,
}

impl Failure {
    fn of(volume: &Volume, error: Error) -> Self {
        match error {
            Error::Ended => Self::Ended,
            Error::Told(message) => Self::Mount(message),
            Error::Image(ImageError { reason, message }) => Self::Image(ImageError {
                reason,
                message: format!("volume \"{}\": {message}", volume.name),
            }),
            error => Self::Mount(format!(
                "MountVolume.SetUp failed for volume \"{}\" : {error}",
                volume.name
            )),
        }
    }
}

/// A volume that could not be made.
#[derive(Debug)]
pub(crate) struct Unmade {
    pub(crate) volume: String,
    pub(crate) why: Failure,
    /// It lacks nothing but objects or keys, and it is heard of when they come: until then it does not help to ask for them
    /// again.
    pub(crate) lacks: bool,
    /// It is the node that cannot write its files.
    pub(crate) is_unwritten: bool,
}

/// What has become of volumes that were to be made.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) made: BTreeMap<String, Made>,
    /// The others, in the pod's order.
    pub(crate) unmade: Vec<Unmade>,
}

/// Makes all volumes of a pod, at the same time. Objects are read from the API for every pod, also one that many share
/// (the cluster's CA), if not for each by itself: a pod sees what was written before it was created, and waits for its
/// token as long anyway.
///
/// # Errors
/// That of the first in the pod's order that cannot be made.
pub(crate) async fn set_up(cx: &Context<'_>) -> Result<BTreeMap<String, Made>, Failure> {
    let Outcome { made, unmade } = make(cx, cx.pod.volumes(), &BTreeMap::new()).await;
    let first = unmade.into_iter().next();
    first.map_or(Ok(made), |first| Err(first.why))
}

/// Makes anew what of a pod's volumes is due, what follows its labels and annotations, and those that are `stale`. All
/// others stay as they are, and so do tokens that are not due: an object that many pods show may change often, and nobody
/// is to be asked for a token for each of them then.
///
/// Where one cannot be made anew its old content stays. So it does where an object or a key is gone that has to be there,
/// as with the kubelet; one that is optional takes its files with it.
pub(crate) async fn renew(
    cx: &Context<'_>,
    made: &BTreeMap<String, Made>,
    stale: &BTreeSet<String>,
) -> Outcome {
    let now = cx.clock.now();
    let is_due = |volume: &Volume| {
        let at = made.get(&volume.name).and_then(|made| made.renew_at);
        at.is_some_and(|at| at <= now)
    };
    let volumes = cx.pod.volumes().iter();
    let is_wanted = |v: &&Volume| is_due(v) || follows_metadata(v) || stale.contains(&v.name);
    make(cx, volumes.filter(is_wanted), made).await
}

async fn make(
    cx: &Context<'_>,
    volumes: impl IntoIterator<Item = &Volume>,
    before: &BTreeMap<String, Made>,
) -> Outcome {
    let all = volumes.into_iter().map(async |volume| {
        let Some(kind) = kind_of(volume) else {
            return Ok(None);
        };
        let dir = &cx.dir.join(kind.field()).join(&volume.name);
        let before = before.get(&volume.name);
        let cx = Context { dir, before, ..*cx };
        let made = kind.set_up(volume, &cx).await;
        let made = made.map_err(|error| Unmade {
            volume: volume.name.clone(),
            lacks: error.is_missing(),
            is_unwritten: matches!(error, Error::Io { .. }),
            why: Failure::of(volume, error),
        })?;
        Ok(Some((volume.name.clone(), made)))
    });
    // Each to its end, whatever becomes of the others: what writes to a disk cannot be called off, and must not be met
    // there by the next try.
    let mut outcome = Outcome::default();
    for volume in join_all(all).await {
        match volume {
            Ok(volume) => outcome.made.extend(volume),
            Err(unmade) => outcome.unmade.push(unmade),
        }
    }
    outcome
}

/// Removes all that was made for a pod's volumes. What a `hostPath` or an image points to is not below `dir`.
///
/// # Errors
/// When the file system says no.
pub(crate) fn tear_down(dir: &Path) -> std::io::Result<()> {
    remove_tree(dir)
}

#[cfg(test)]
pub(crate) mod conformance;
