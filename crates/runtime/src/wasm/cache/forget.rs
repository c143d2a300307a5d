//! What lies in the cache, and how it goes again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::store::remove;
use super::{Cache, Modules, digits, engine_of};
use crate::Compiled;
use crate::wasm::classify::Kind;

impl Modules {
    /// Lets go of a module that nobody but this cache has; `false` if somebody has it.
    fn release(&mut self, digest: &str) -> bool {
        let found = self
            .loaded
            .get(digest)
            .and_then(|(found, _)| found.upgrade());
        if let Some(found) = found {
            let recent = self.recent.iter().filter(|m| Arc::ptr_eq(m, &found));
            // Nobody gets another one meanwhile but from those he has: `Modules` is locked.
            if Arc::strong_count(&found) > recent.count() + 1 {
                return false;
            }
            self.recent.retain(|other| !Arc::ptr_eq(other, &found));
        }
        self.loaded.remove(digest);
        true
    }

    /// The end of somebody's time with a module's lock. Who waits for it, and who comes later, must meet at the same one.
    pub(super) fn done(&mut self, digest: &str, loading: &Arc<tokio::sync::Mutex<()>>) {
        // The map's and the caller's own.
        if Arc::strong_count(loading) == 2 {
            self.loading.remove(digest);
        }
    }
}

impl Cache {
    /// All that this engine has compiled, by digest.
    pub(in crate::wasm) async fn compiled(self: &Arc<Self>) -> io::Result<Vec<Compiled>> {
        let this = self.clone();
        let read = move || sizes(&this.directory, &this.fingerprint);
        self.io
            .spawn_blocking(read)
            .await
            .map_err(io::Error::other)?
    }

    /// Removes what was compiled of a module, unless somebody has it.
    pub(in crate::wasm) async fn forget(self: &Arc<Self>, digest: &str) -> io::Result<bool> {
        let digits = digits(digest).map_err(io::Error::other)?;
        let files = Kind::ALL.map(|kind| self.path(digits, kind));
        let loading = self.modules.lock().loading(digest);
        // While this is held nobody compiles the module, and nobody is about to map what was compiled.
        let alone = loading.lock().await;
        let is_free = self.modules.lock().release(digest);
        let removed = match is_free {
            false => Ok(false),
            true => {
                let remove = move || files.iter().try_for_each(|file| remove(file));
                let removed = self.io.spawn_blocking(remove).await;
                removed.map_err(io::Error::other).flatten().map(|()| true)
            }
        };
        drop(alone);
        self.modules.lock().done(digest, &loading);
        removed
    }
}

fn sizes(directory: &Path, fingerprint: &str) -> io::Result<Vec<Compiled>> {
    let mut sizes = BTreeMap::<String, u64>::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let digits = name.split('-').next().unwrap_or_default();
        let digest = format!("sha256:{digits}");
        if engine_of(&name) != Some(fingerprint) || super::digits(&digest).is_err() {
            continue;
        }
        // One that is removed meanwhile is simply not listed.
        if let Ok(metadata) = entry.metadata() {
            *sizes.entry(digest).or_default() += metadata.len();
        }
    }
    let all = sizes.into_iter();
    Ok(all
        .map(|(digest, bytes)| Compiled { digest, bytes })
        .collect())
}
