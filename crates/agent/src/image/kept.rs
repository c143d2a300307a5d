//! What the node keeps of images, when it was last used, and how it goes again.
//!
//! All of it is content by digest: bytes as they were pulled, the tree that was unpacked from them, the machine code that
//! was compiled from them. They go together, for each can be had again from what went before it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use images::{Digest, tree};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Images;
use super::known::Known;
use crate::blocking::blocking;
use crate::garbage::{Item, Kind, What};
use crate::remove::remove_tree;

/// What is known of all content, over the agent's restarts. Losing it makes everything look new.
pub(super) type Record = BTreeMap<Digest, Used>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Used {
    first_seen: Option<Timestamp>,
    last_used: Option<Timestamp>,
    /// Bytes of the tree that was unpacked from it, once they were counted.
    #[serde(default)]
    unpacked: Option<u64>,
}

impl Used {
    /// Notes that it is there, and says since when. What a clock that was ahead has written is no later than now: nothing
    /// would ever be old enough otherwise.
    fn seen(&mut self, now: Timestamp) -> Timestamp {
        let first_seen = self.first_seen.map_or(now, |at| at.min(now));
        self.first_seen = Some(first_seen);
        self.last_used = self.last_used.map(|at| at.min(now));
        first_seen
    }
}

impl Images {
    /// All that is kept. What is held, or was since this was last asked, is noted as used now.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub(crate) async fn items(&self, now: Timestamp) -> io::Result<Vec<Item>> {
        let sizes = self.sizes().await?;
        let names = self.names();
        let used = with_manifests(&names, self.0.blobs.take_used());
        let held = sizes.keys().filter(|d| self.0.blobs.is_held(d)).copied();
        let held = with_manifests(&names, held.collect());
        let named = names.into_iter();
        let named: BTreeSet<_> = named.flat_map(|(c, m)| [c].into_iter().chain(m)).collect();
        let mut items = Vec::new();
        {
            let mut record = self.0.record.lock();
            record.retain(|digest, _| sizes.contains_key(digest));
            for (digest, size) in sizes {
                let known = record.entry(digest).or_default();
                let first_seen = known.seen(now);
                if used.contains(&digest) {
                    known.last_used = Some(now);
                }
                items.push(Item {
                    what: What::Content(digest),
                    kind: match named.contains(&digest) {
                        true => Kind::Image,
                        false => Kind::Dangling,
                    },
                    size,
                    first_seen,
                    last_used: known.last_used,
                    in_use: held.contains(&digest),
                });
            }
        }
        self.save_record().await;
        Ok(items)
    }

    /// Forgets the names of images of which nothing is left that could be removed one day: modules that cannot be
    /// compiled, content that somebody else took away. Those that `named` says stay.
    pub(crate) async fn forget_lost(
        &self,
        items: &[Item],
        named: impl FnOnce() -> BTreeSet<String> + Send,
    ) {
        let kept: BTreeSet<_> = items.iter().map(|item| &item.what).collect();
        let mut lost = self.0.known.lock().clone();
        lost.retain(|_, known| {
            let is_needed = |d| kept.contains(&What::Content(d)) || self.0.blobs.is_held(&d);
            !known.content().is_some_and(is_needed)
        });
        if lost.is_empty() {
            return;
        }
        let named = named();
        let stays = |key: &String, known: &Known| {
            // What it says by now, if it was pulled anew, is not lost.
            named.contains(key) || lost.get(key) != Some(known)
        };
        self.0.known.lock().retain(|key, known| stays(key, known));
        self.save_known().await;
    }

    /// Notes that these images, by the keys of [`super::key`], are in use though nobody holds them at this moment.
    pub(crate) async fn mark(&self, items: &mut [Item], keys: &BTreeSet<String>, now: Timestamp) {
        let used = self.contents(keys);
        {
            let mut record = self.0.record.lock();
            for item in items {
                if let What::Content(digest) = item.what
                    && used.contains(&digest)
                {
                    (item.in_use, item.last_used) = (true, Some(now));
                    record.entry(digest).or_default().last_used = Some(now);
                }
            }
        }
        self.save_record().await;
    }

    /// What these images, by the keys of [`super::key`], are made of.
    pub(crate) fn contents(&self, keys: &BTreeSet<String>) -> BTreeSet<Digest> {
        let known = self.0.known.lock();
        let known = keys.iter().filter_map(|key| known.get(key));
        known
            .flat_map(|known| known.content().into_iter().chain(known.manifests()))
            .collect()
    }

    /// Removes all that is kept of this content, unless somebody holds it: whether it is gone.
    ///
    /// A pod that is about to start never loses what it needs. Its agent begins to hold the content before it looks
    /// whether that is there ([`Images::lookup`], `images::pull`), and holds it until its container has ended
    /// (`Found` → `Ready`) or its volumes are given back (`Made`). Here, blob and tree are taken away in one step with the
    /// look for holds, so that whoever begins to hold the content later finds neither, and pulls. What is slow, removing
    /// the files, comes after that step and touches nothing that could be found. Machine code has a hold of its own, the
    /// module itself, and a lock that makes preparing and forgetting one module follow each other ([`runtime::Runtime`]).
    ///
    /// # Errors
    /// When the file system says no.
    pub(crate) async fn remove(&self, digest: &Digest) -> io::Result<bool> {
        let (this, of) = (self.clone(), *digest);
        let taken = blocking(move || this.take_away(&of)).await;
        self.save_known().await;
        Ok(taken? && self.0.runtime.forget(&digest.to_string()).await?)
    }

    fn take_away(&self, digest: &Digest) -> io::Result<bool> {
        let dir = self.tree_dir(digest);
        // Of an earlier removal that failed.
        remove_tree(&tree::aside(&dir))?;
        let taken = self
            .0
            .blobs
            .unless_held(digest, || -> Result<_, images::Error> {
                let content = digest.to_string();
                self.0.known.lock().retain(|_, k| k.content != content);
                let blob = self.0.blobs.set_aside(digest)?;
                Ok((blob, tree::set_aside(&dir)?))
            });
        let Some(taken) = taken else {
            return Ok(false);
        };
        let (blob, tree) = taken.map_err(io::Error::other)?;
        self.0.record.lock().remove(digest);
        if let Some(blob) = blob {
            fs::remove_file(blob)?;
        }
        if let Some(tree) = tree {
            remove_tree(&tree)?;
        }
        Ok(true)
    }

    /// Contents that references on this node lead to, with their manifests.
    fn names(&self) -> Vec<(Digest, Vec<Digest>)> {
        let known = self.0.known.lock();
        let names = known.values();
        names
            .filter_map(|k| Some((k.content()?, k.manifests())))
            .collect()
    }

    /// How much each content takes, with all that was made from it.
    async fn sizes(&self) -> io::Result<BTreeMap<Digest, u64>> {
        let mut sizes = BTreeMap::new();
        let blobs = self.0.blobs.list().await.map_err(io::Error::other)?;
        sizes.extend(blobs.into_iter().map(|blob| (blob.digest, blob.size)));
        for (digest, bytes) in self.unpacked().await? {
            *sizes.entry(digest).or_default() += bytes.unwrap_or_default();
        }
        for compiled in self.0.runtime.compiled().await? {
            if let Ok(digest) = compiled.digest.parse() {
                *sizes.entry(digest).or_default() += compiled.bytes;
            }
        }
        Ok(sizes)
    }

    /// How much each tree takes that was unpacked, as far as it could be counted: once, for nobody writes to it.
    async fn unpacked(&self) -> io::Result<BTreeMap<Digest, Option<u64>>> {
        let trees = self.0.dir.join("trees");
        let record = self.0.record.lock().clone();
        let count = move || {
            let mut all = BTreeMap::new();
            for entry in fs::read_dir(trees)? {
                let entry = entry?;
                let name = entry.file_name();
                let Some(digest) = name.to_str().and_then(|n| Digest::from_hex(n).ok()) else {
                    continue;
                };
                let counted = record.get(&digest).and_then(|used| used.unpacked);
                all.insert(digest, counted.or_else(|| bytes_of(&entry.path())));
            }
            Ok(all)
        };
        let all = blocking(count).await?;
        let mut record = self.0.record.lock();
        for (digest, bytes) in &all {
            record.entry(*digest).or_default().unpacked = *bytes;
        }
        Ok(all)
    }

    async fn save_record(&self) {
        let record = || self.0.record.lock().clone();
        self.0.record_file.save(record).await;
    }
}

fn bytes_of(dir: &Path) -> Option<u64> {
    match tree::bytes(dir) {
        Ok(bytes) => Some(bytes),
        // It is gone by now, and will be missed by the next look.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "an image's tree cannot be counted");
            None
        }
    }
}

/// With the manifests of those contents.
fn with_manifests(
    names: &[(Digest, Vec<Digest>)],
    mut contents: BTreeSet<Digest>,
) -> BTreeSet<Digest> {
    let of_these = names.iter().filter(|(c, _)| contents.contains(c));
    let manifests: Vec<_> = of_these.flat_map(|(_, manifests)| manifests).collect();
    contents.extend(manifests);
    contents
}
