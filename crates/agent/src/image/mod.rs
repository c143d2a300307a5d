//! Modules and trees of files on this node: found, pulled once however many pods ask, made ready to start.

mod cluster;
mod kept;
mod keys;
mod known;
mod remote;
mod saved;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use futures::future::{BoxFuture, FutureExt as _, Shared};
use images::{Blobs, Digest, Hold, Name, Pulled, Reference, Source, Wanted};
use parking_lot::Mutex;
use runtime::{Handler, Module, ModuleSource, PrepareError, Runtime};

use cluster::ClusterRegistry;
use kept::Record;
pub(crate) use keys::Keys;
use known::{Known, read_file, stamp};
use remote::{Login, Remote};
use saved::Saved;

use crate::blocking::blocking;

/// The four media types of manifests.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// Who waits longer for a module that has to be compiled is told so.
const QUICK: Duration = Duration::from_secs(1);

/// Why an image cannot be had, or not be run, in Kubernetes' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Error {
    /// `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName`, or `CreateContainerError` for what was pulled and cannot
    /// be run.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Error {
    /// It is here, and no container is made of it.
    pub(crate) fn create(message: String) -> Self {
        Self {
            reason: "CreateContainerError",
            message,
        }
    }

    fn pull(message: impl ToString) -> Self {
        Self {
            reason: "ErrImagePull",
            message: message.to_string(),
        }
    }
}

/// A module that is on this node, ready to start.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    /// The reference that it was found by.
    pub(crate) image: String,
    /// The code.
    pub(crate) module: Module,
    /// `imageID` in statuses.
    pub(crate) id: String,
    /// What the guest is called if its pod does not say.
    pub(crate) name: String,
    /// Keeps what it was made from, for the next start.
    _hold: Hold,
}

/// A module whose bytes are on this node.
pub(crate) struct Found {
    image: String,
    source: ModuleSource,
    id: String,
    name: String,
    hold: Hold,
    /// Its length in bytes.
    pub(crate) size: u64,
}

/// An image that is here, and stays while this is held.
#[derive(Clone, Debug)]
struct Have {
    known: Known,
    hold: Hold,
}

type Flight = Shared<BoxFuture<'static, Result<Have, Error>>>;

/// All images of this node. Clones share them.
#[derive(Clone)]
pub(crate) struct Images(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    blobs: Blobs,
    client: Client,
    runtime: Arc<dyn Runtime>,
    file_images: bool,
    /// What images are, by [`key`].
    known: Mutex<BTreeMap<String, Known>>,
    known_file: Saved<BTreeMap<String, Known>>,
    record: Mutex<Record>,
    record_file: Saved<Record>,
    /// Pulls under way, so that one serves all who ask meanwhile.
    flights: Mutex<BTreeMap<(String, Option<Login>), Flight>>,
}

impl Images {
    /// The images below `dir`, which is made if it is missing.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub(crate) fn open(
        dir: PathBuf,
        client: Client,
        runtime: Arc<dyn Runtime>,
        file_images: bool,
    ) -> Result<Self, images::Error> {
        let blobs = Blobs::open(dir.join("blobs"))?;
        let trees = dir.join("trees");
        fs::create_dir_all(&trees).map_err(|source| images::Error::Io {
            path: trees.clone(),
            source,
        })?;
        images::tree::remove_leftovers(&trees)?;
        let (known_file, known) = Saved::open(dir.join("known.json"));
        let (record_file, record) = Saved::open(dir.join("used.json"));
        Ok(Self(Arc::new(Inner {
            dir,
            blobs,
            client,
            runtime,
            file_images,
            known: Mutex::new(known),
            known_file,
            record: Mutex::new(record),
            record_file,
            flights: Mutex::default(),
        })))
    }

    /// Whether a container with this image and pull policy can start without a pull.
    pub(crate) async fn present(&self, image: &str, policy: Option<&str>) -> bool {
        let Ok(reference) = image.parse::<Reference>() else {
            return false;
        };
        let module = self.lookup(image, &reference, Wanted::Module);
        policy_of(&reference, policy) != "Always" && module.await.is_some()
    }

    /// The module that `image` stands for, pulled if `policy` says so or it is not here.
    ///
    /// # Errors
    /// With the reason that the container waits for.
    pub(crate) async fn module(
        &self,
        image: &str,
        policy: Option<&str>,
        keys: &Keys,
    ) -> Result<Found, Error> {
        let reference = parse(image)?;
        let Have { known, hold } = self
            .have(image, &reference, policy, Wanted::Module, keys)
            .await?;
        let (path, id, name) = match &reference {
            Reference::File(path) => {
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                (path.clone(), format!("{image}@{}", known.content), name)
            }
            Reference::Name(name) => {
                let digest: Digest = known.content.parse().map_err(Error::pull)?;
                let repository = match &name.host {
                    Some(host) => format!("{host}/{}", name.repository),
                    None => name.repository.clone(),
                };
                let id = format!(
                    "{repository}@{}",
                    known.manifest.as_deref().unwrap_or(&known.content)
                );
                let last = name
                    .repository
                    .rsplit('/')
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                (self.0.blobs.path(&digest), id, last)
            }
        };
        let source = ModuleSource {
            path,
            digest: known.content.clone(),
            keep: true,
            handler: Handler::default(),
        };
        Ok(Found {
            image: image.to_owned(),
            source,
            id,
            name,
            hold,
            size: known.size,
        })
    }

    /// Makes a module that is here ready to start by a handler; says so when it is `compiling` and that takes long.
    ///
    /// # Errors
    /// With the reason that the container waits for: what cannot be run is not to be pulled again.
    pub(crate) async fn prepare(
        &self,
        found: Found,
        handler: Handler,
        compiling: impl FnOnce(),
    ) -> Result<Ready, Error> {
        let source = ModuleSource {
            handler,
            ..found.source
        };
        let digest = source.digest.clone();
        let mut preparing = self.0.runtime.prepare(source);
        let prepared = match tokio::time::timeout(QUICK, &mut preparing).await {
            Ok(prepared) => prepared,
            Err(_) => {
                let compiled = self.0.runtime.compiled().await.unwrap_or_default();
                if compiled.iter().all(|known| known.digest != digest) {
                    compiling();
                }
                preparing.await
            }
        };
        match prepared {
            Ok(module) => Ok(Ready {
                module,
                image: found.image,
                id: found.id,
                name: found.name,
                _hold: found.hold,
            }),
            Err(PrepareError::Invalid(message)) => Err(Error::create(message)),
            Err(error) => {
                // Damaged, or changed under our feet: the next try begins with a pull. One that is gone is missed by
                // whoever looks for it, and anything else (a full disk) another pull would only make worse.
                if let PrepareError::Digest { .. } = error {
                    let key = key(&found.image, Wanted::Module);
                    self.0.known.lock().remove(&key);
                }
                Err(Error::pull(error))
            }
        }
    }

    /// The directory that the tree of files `image` stands for was unpacked to. It stays while the hold does.
    ///
    /// # Errors
    /// With the reason that the pod waits for.
    pub(crate) async fn tree(
        &self,
        image: &str,
        policy: Option<&str>,
        keys: &Keys,
    ) -> Result<(PathBuf, Hold), Error> {
        let reference = parse(image)?;
        if matches!(reference, Reference::File(_)) {
            return Err(Error::pull(
                "a file:// reference names a module, not a tree of files",
            ));
        }
        let Have { known, hold } = self
            .have(image, &reference, policy, Wanted::Tree, keys)
            .await?;
        let digest = *hold.digest();
        let dir = self.tree_dir(&digest);
        if dir.is_dir() {
            return Ok((dir, hold));
        }
        let archive = self.0.blobs.verify(&digest).await.map_err(Error::pull)?;
        let encoding = if known.gzip {
            images::Encoding::Gzip
        } else {
            images::Encoding::Plain
        };
        let (target, limits) = (dir.clone(), images::tree::Limits::default());
        let unpacked = tokio::task::spawn_blocking(move || {
            let file = fs::File::open(&archive).map_err(Error::pull)?;
            images::tree::unpack(io::BufReader::new(file), encoding, &target, &limits)
                .map_err(Error::pull)
        });
        match unpacked.await.map_err(Error::pull)? {
            // Else somebody was faster: the content is the same by its digest.
            Err(error) if !dir.is_dir() => Err(error),
            _ => Ok((dir, hold)),
        }
    }

    fn tree_dir(&self, digest: &Digest) -> PathBuf {
        self.0.dir.join("trees").join(digest.hex())
    }

    async fn have(
        &self,
        image: &str,
        reference: &Reference,
        policy: Option<&str>,
        wanted: Wanted,
        keys: &Keys,
    ) -> Result<Have, Error> {
        let policy = policy_of(reference, policy);
        if policy != "Always"
            && let Some(have) = self.lookup(image, reference, wanted).await
        {
            return Ok(have);
        }
        if policy == "Never" {
            let message =
                format!("Container image \"{image}\" is not present with pull policy of Never");
            return Err(Error {
                reason: "ErrImageNeverPull",
                message,
            });
        }
        self.flight(image, reference, wanted, keys).await
    }

    async fn lookup(&self, image: &str, reference: &Reference, wanted: Wanted) -> Option<Have> {
        let known = self.0.known.lock().get(&key(image, wanted)).cloned()?;
        let digest = known.content()?;
        // Before it is looked for: what is seen then stays.
        let hold = self.0.blobs.hold(&digest);
        let there = match reference {
            // Wherever the pod's path leads: to a disk that does not answer, perhaps.
            Reference::File(path) => {
                let path = path.clone();
                blocking(move || stamp(&path)).await.ok().flatten() == known.stamp
            }
            Reference::Name(_) => self.0.blobs.size(&digest) == Some(known.size),
        };
        there.then_some(Have { known, hold })
    }

    /// Joins the pull that is under way for `image`, or begins one.
    fn flight(&self, image: &str, reference: &Reference, wanted: Wanted, keys: &Keys) -> Flight {
        let login = match reference {
            Reference::Name(Name {
                host: Some(host), ..
            }) => keys.get(host),
            _ => None,
        };
        let known_as = key(image, wanted);
        let key = (known_as.clone(), login.clone());
        let mut flights = self.0.flights.lock();
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        let (this, reference) = (self.clone(), reference.clone());
        let done = key.clone();
        let task = tokio::spawn(async move {
            let result = this.fetch(&reference, wanted, login).await;
            if let Ok(have) = &result {
                let mut known = this.0.known.lock();
                known.insert(known_as, have.known.clone());
            }
            this.0.flights.lock().remove(&done);
            this.save_known().await;
            result
        });
        let flight = async move { task.await.unwrap_or_else(|e| Err(Error::pull(e))) }
            .boxed()
            .shared();
        flights.insert(key, flight.clone());
        flight
    }

    async fn fetch(
        &self,
        reference: &Reference,
        wanted: Wanted,
        login: Option<Login>,
    ) -> Result<Have, Error> {
        let name = match reference {
            Reference::Name(name) => name,
            Reference::File(_) if !self.0.file_images => {
                return Err(Error::pull(
                    "this node's operator does not allow file:// images",
                ));
            }
            Reference::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_file(&path));
                let known = read.await.map_err(Error::pull)??;
                let digest = known.content.parse().map_err(Error::pull)?;
                let hold = self.0.blobs.hold(&digest);
                return Ok(Have { known, hold });
            }
        };
        let source: Box<dyn Source> = match &name.host {
            None => Box::new(ClusterRegistry {
                client: self.0.client.clone(),
            }),
            Some(host) => {
                Box::new(Remote::new(host, &name.repository, login).map_err(Error::pull)?)
            }
        };
        let (pulled, hold) = images::pull(name, wanted, &*source, &self.0.blobs)
            .await
            .map_err(Error::pull)?;
        let (size, gzip) = match pulled {
            Pulled::Module { size, .. } => (size, false),
            Pulled::Tree { size, encoding, .. } => {
                (size, matches!(encoding, images::Encoding::Gzip))
            }
        };
        let manifest = Some(pulled.manifest().to_string());
        let known = Known {
            manifest,
            index: pulled.index().map(Digest::to_string),
            content: pulled.digest().to_string(),
            size,
            stamp: None,
            gzip,
        };
        Ok(Have { known, hold })
    }

    async fn save_known(&self) {
        let known = || self.0.known.lock().clone();
        self.0.known_file.save(known).await;
    }
}

/// What an image is remembered by. A tree's name is never a module's: a space is in no reference.
pub(crate) fn key(image: &str, wanted: Wanted) -> String {
    match wanted {
        Wanted::Module => image.to_owned(),
        Wanted::Tree => format!("tree {image}"),
    }
}

/// Whether `image` can be an image's name at all.
pub(crate) fn valid(image: &str) -> bool {
    parse(image).is_ok()
}

fn parse(image: &str) -> Result<Reference, Error> {
    image.parse().map_err(|e| Error {
        reason: "InvalidImageName",
        message: format!("Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": {e}"),
    })
}

fn policy_of<'a>(reference: &Reference, policy: Option<&'a str>) -> &'a str {
    match policy {
        Some(policy) if !policy.is_empty() => policy,
        _ if reference.pull_always_by_default() => "Always",
        _ => "IfNotPresent",
    }
}
