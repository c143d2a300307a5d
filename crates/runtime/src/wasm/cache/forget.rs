//! What lies in the cache, and how it goes again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::store::remove;
use super::{Cache, Modules, digits, engine_of};
use crate::wasm::classify::Form;
use crate::wasm::engines::Engines;
use crate::{Compiled, Handler};

impl Modules {
    /// Lets go of a module that nobody but this cache has; `false` if somebody has it.
    fn release(&mut self, digest: &str) -> bool {
        let keys = Handler::ALL.map(|handler| (digest.to_owned(), handler));
        let of_handler = |key| self.loaded.get(key)?.0.upgrade();
        let found: Vec<_> = keys.iter().filter_map(of_handler).collect();
        let somebody_has = |found: &Arc<_>| {
            let recent = self.recent.iter().filter(|m| Arc::ptr_eq(m, found));
            // Nobody gets another one meanwhile but from those he has: `Modules` is locked.
            Arc::strong_count(found) > recent.count() + 1
        };
        if found.iter().any(somebody_has) {
            return false;
        }
        self.recent
            .retain(|other| !found.iter().any(|found| Arc::ptr_eq(other, found)));
        for key in &keys {
            self.loaded.remove(key);
        }
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
    /// All that these engines have compiled, by digest.
    pub(in crate::wasm) async fn compiled(self: &Arc<Self>) -> io::Result<Vec<Compiled>> {
        let this = self.clone();
        let read = move || sizes(&this.directory, &this.engines);
        self.io
            .spawn_blocking(read)
            .await
            .map_err(io::Error::other)?
    }

    /// Removes what was compiled of a module, unless somebody has it.
    pub(in crate::wasm) async fn forget(self: &Arc<Self>, digest: &str) -> io::Result<bool> {
        let digits = digits(digest).map_err(io::Error::other)?;
        let of_handler = |handler| Form::ALL.map(|(form, _)| self.path(digits, handler, form));
        let files = Handler::ALL.map(of_handler).concat();
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

fn sizes(directory: &Path, engines: &Engines) -> io::Result<Vec<Compiled>> {
    let mut sizes = BTreeMap::<String, u64>::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let digits = name.split('-').next().unwrap_or_default();
        let digest = format!("sha256:{digits}");
        let is_ours = engine_of(&name).is_some_and(|of| engines.knows(of));
        if !is_ours || super::digits(&digest).is_err() {
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
