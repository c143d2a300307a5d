//! Modules ready to start: compiled once, kept on disk by digest and engine, loaded once.
//!
//! A module's machine code lies in a file of our own, named by the digest of the bytes that it was
//! made from and by the [fingerprint](super::engine::fingerprint) of the engine that made it, of which there is one for
//! each [`Handler`]. It is mapped, not read: all instances, and a later process, share its pages.

mod bounds;
mod forget;
mod store;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use tracing::Instrument as _;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::classify::{Form, Kind, classify, has_heap};
use super::engine::engine;
use super::engines::{Engines, Site};
use super::link::{Loaded, refusal};
use crate::metrics::{Counters, count};
use crate::{Handler, ModuleSource, PrepareError};
use bounds::{Turns, fits};
use store::store;

/// How many modules stay loaded though nothing of them runs.
const RECENT: usize = 64;

/// The largest file that is taken for a module.
const LARGEST: u64 = 1 << 30;

/// How much lower than the rest of the process compiling runs (see `nice(1)`).
const NICE: i32 = 10;

pub(super) struct Cache {
    directory: PathBuf,
    engines: Arc<Engines>,
    io: tokio::runtime::Handle,
    counters: Arc<Counters>,
    compiling: Turns,
    modules: Mutex<Modules>,
}

#[derive(Default)]
struct Modules {
    /// With whether it is kept on disk.
    loaded: BTreeMap<(String, Handler), (Weak<Loaded>, bool)>,
    recent: VecDeque<Arc<Loaded>>,
    /// Who loads a module holds its lock; whoever wants the same one, by whatever handler, waits for it.
    loading: BTreeMap<String, Arc<tokio::sync::Mutex<()>>>,
}

impl Modules {
    /// What is loaded, unless it is to be kept and is not.
    fn get(&mut self, source: &ModuleSource) -> Option<Arc<Loaded>> {
        let key = (source.digest.clone(), source.handler);
        let (found, kept) = self.loaded.get(&key)?;
        let found = found.upgrade().filter(|_| *kept || !source.keep)?;
        if source.keep {
            self.remember(found.clone());
        }
        Some(found)
    }

    fn loading(&mut self, digest: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.loading.entry(digest.to_owned()).or_default().clone()
    }

    fn put(&mut self, module: &Arc<Loaded>, source: &ModuleSource, kept: bool) {
        self.loaded
            .retain(|_, (module, _)| module.strong_count() > 0);
        let weak = Arc::downgrade(module);
        let key = (source.digest.clone(), source.handler);
        self.loaded.insert(key, (weak, kept));
        if source.keep {
            self.remember(module.clone());
        }
    }

    fn remember(&mut self, module: Arc<Loaded>) {
        self.recent.retain(|other| !Arc::ptr_eq(other, &module));
        self.recent.push_back(module);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }
}

fn io_error(what: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> PrepareError {
    move |source| PrepareError::Io {
        what: what(),
        source,
    }
}

/// The 64 hexadecimal digits of a digest: safe as a part of a file's name.
fn digits(digest: &str) -> Result<&str, PrepareError> {
    let digits = digest.strip_prefix("sha256:").unwrap_or_default();
    let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 64 || !digits.bytes().all(hexadecimal) {
        let why = format!("{digest:?} is not sha256: and 64 hexadecimal digits");
        return Err(PrepareError::Invalid(why));
    }
    Ok(digits)
}

/// The engine's fingerprint in the name of a compiled module; `None` for any other name.
fn engine_of(name: &str) -> Option<&str> {
    let (digits, rest) = name.split_once('-')?;
    let (engine, form) = rest.split_once('.')?;
    let is_compiled = Form::ALL.iter().any(|(_, suffix)| *suffix == form);
    let ours = digits.len() == 64 && engine.len() == 16 && is_compiled;
    ours.then_some(engine)
}

impl Cache {
    /// Opens the cache in this directory, which must be ours alone, and clears it of what another
    /// engine has left.
    pub(super) fn open(
        directory: &Path,
        engines: Arc<Engines>,
        io: tokio::runtime::Handle,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        require_private(directory)?;
        let cache = Self {
            directory: directory.to_owned(),
            engines,
            io,
            counters,
            compiling: Turns::default(),
            modules: Mutex::default(),
        };
        cache.clear_foreign()?;
        Ok(cache)
    }

    /// Removes what another process' engines have compiled and what was being written when a process died.
    fn clear_foreign(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let unfinished = name.starts_with('.');
            match engine_of(name.trim_start_matches('.')) {
                Some(engine) if unfinished || !self.engines.knows(engine) => {
                    fs::remove_file(entry.path())?;
                }
                // Ours, or nobody knows whose: what this cache has not named stays.
                _ => {}
            }
        }
        Ok(())
    }

    fn path(&self, digits: &str, handler: Handler, form: Form) -> PathBuf {
        let fingerprint = self.engines.fingerprint(handler);
        let name = format!("{digits}-{fingerprint}.{}", form.suffix());
        self.directory.join(name)
    }

    /// The module with this digest, from memory, from disk or compiled, in this order.
    pub(super) async fn get(
        self: &Arc<Self>,
        source: ModuleSource,
    ) -> Result<Arc<Loaded>, PrepareError> {
        digits(&source.digest)?;
        let (found, loading) = {
            let mut modules = self.modules.lock();
            let found = modules.get(&source);
            let loading = match found {
                Some(_) => Arc::default(),
                None => modules.loading(&source.digest),
            };
            (found, loading)
        };
        if let Some(found) = found {
            count(&self.counters.memory_cache_hits);
            return Ok(found);
        }
        // A task of its own: when whoever asked goes away, others still wait for the module.
        let this = self.clone();
        let task = async move {
            let alone = loading.lock().await;
            let found = this.modules.lock().get(&source);
            let loaded = match found {
                Some(found) => {
                    count(&this.counters.memory_cache_hits);
                    Ok(found)
                }
                None => this.load(&source).await.map(|(loaded, kept)| {
                    this.modules.lock().put(&loaded, &source, kept);
                    loaded
                }),
            };
            drop(alone);
            this.modules.lock().done(&source.digest, &loading);
            loaded
        };
        let task = self.io.spawn(task.in_current_span());
        task.await.unwrap_or(Err(PrepareError::ShuttingDown))
    }

    /// Whether what is loaded is kept on disk comes with it.
    async fn load(
        self: &Arc<Self>,
        source: &ModuleSource,
    ) -> Result<(Arc<Loaded>, bool), PrepareError> {
        let digits = digits(&source.digest)?.to_owned();
        let site = self.engines.get(source.handler, &self.io).await?;
        for (form, _) in Form::ALL {
            let path = self.path(&digits, source.handler, form);
            if !path.exists() {
                continue;
            }
            match self.open_compiled(&site, source, path.clone(), form).await {
                Err(Unusable::Damaged(why)) => {
                    tracing::warn!(path = %path.display(), why, "compiled again: damaged");
                    fs::remove_file(&path).map_err(io_error(|| path.display().to_string()))?;
                }
                Err(Unusable::Refused(error)) => return Err(error),
                Ok(loaded) => {
                    count(&self.counters.disk_cache_hits);
                    return Ok((loaded, true));
                }
            }
        }
        let path = source.path.clone();
        let length = self.io.spawn_blocking(move || length(&path)).await;
        let length = length.unwrap_or(Err(PrepareError::ShuttingDown))?;
        // Until it is opened: what is not kept lies under the name meanwhile that the next one would be written to.
        let _turn = self.compiling.of(length).acquire().await;
        let (form, path) = self.compile(source.clone(), digits).await?;
        count(&self.counters.compilations);
        let opened = self.open_compiled(&site, source, path.clone(), form).await;
        if !source.keep
            // The mapping outlives the name.
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "stays until the next start");
        }
        match opened {
            Ok(loaded) => Ok((loaded, source.keep)),
            Err(Unusable::Refused(error)) => Err(error),
            Err(Unusable::Damaged(why)) => Err(PrepareError::Invalid(why)),
        }
    }

    async fn open_compiled(
        &self,
        site: &Arc<Site>,
        source: &ModuleSource,
        path: PathBuf,
        form: Form,
    ) -> Result<Arc<Loaded>, Unusable> {
        let (site, digest) = (site.clone(), source.digest.clone());
        let task = self.io.spawn_blocking(move || {
            let Site { engine, linkers } = &*site;
            let Form { kind, heap } = form;
            let loaded = match kind {
                Kind::Core => linkers.core(digest, map_module(engine, &path)?, heap),
                Kind::Component => linkers.component(digest, map_component(engine, &path)?, heap),
                Kind::Server => linkers.server(digest, map_component(engine, &path)?, heap),
            };
            loaded
                .map(Arc::new)
                .map_err(|error| Unusable::Refused(PrepareError::Invalid(refusal(&error))))
        });
        task.await
            .unwrap_or(Err(Unusable::Refused(PrepareError::ShuttingDown)))
    }

    async fn compile(
        self: &Arc<Self>,
        source: ModuleSource,
        digits: String,
    ) -> Result<(Form, PathBuf), PrepareError> {
        let (sender, receiver) = oneshot::channel();
        let this = self.clone();
        let span = tracing::info_span!("compile", digest = source.digest);
        let work = move || {
            let _span = span.entered();
            let compiled = this.compile_here(&source, &digits);
            // Nobody waits any more only when the runtime is going down.
            let _ = sender.send(compiled);
        };
        std::thread::Builder::new()
            .name("carob-compile".into())
            .spawn(work)
            .map_err(io_error(|| "starting a thread to compile".into()))?;
        receiver.await.unwrap_or(Err(PrepareError::ShuttingDown))
    }

    /// Compiles on this thread and short-lived ones beside it, all of low priority.
    fn compile_here(
        &self,
        source: &ModuleSource,
        digits: &str,
    ) -> Result<(Form, PathBuf), PrepareError> {
        lower_priority();
        let bytes = read_verified(source)?;
        let kind = classify(&bytes).map_err(PrepareError::Invalid)?;
        fits(source, &bytes).map_err(PrepareError::Invalid)?;
        let pool = rayon::ThreadPoolBuilder::new()
            .thread_name(|number| format!("carob-compile-{number}"))
            .start_handler(|_| lower_priority())
            .build()
            .map_err(|error| {
                io_error(|| "starting threads to compile".into())(io::Error::other(error))
            })?;
        // An engine for this module alone: a compiler keeps what its largest function needed.
        let compiler = engine(source.handler, 1)
            .map_err(|error| PrepareError::Invalid(format!("{error:#}")))?;
        let compiled = pool.install(|| match kind {
            Kind::Core => compiler.precompile_module(&bytes),
            Kind::Component | Kind::Server => compiler.precompile_component(&bytes),
        });
        drop(compiler);
        let compiled = compiled.map_err(|error| PrepareError::Invalid(format!("{error:#}")))?;
        let form = Form::of(kind, has_heap(&bytes));
        let path = self.path(digits, source.handler, form);
        let path = store(&path, &compiled, source.keep)
            .map_err(io_error(|| format!("writing {}", path.display())))?;
        tracing::info!(bytes = bytes.len(), compiled = compiled.len(), "compiled");
        Ok((form, path))
    }
}

/// Why a compiled form is not used.
enum Unusable {
    /// It cannot be loaded by this engine; compiling again helps.
    Damaged(String),
    /// The module itself cannot be run.
    Refused(PrepareError),
}

fn lower_priority() {
    // Without it compiling only competes harder.
    let _ = rustix::process::setpriority_process(None, NICE);
}

/// How long a module's file is.
///
/// # Errors
/// Where that is more than a module's may be.
fn length(path: &Path) -> Result<u64, PrepareError> {
    let what = || format!("reading {}", path.display());
    let length = fs::metadata(path).map_err(io_error(what))?.len();
    if length > LARGEST {
        let why = format!("a file of {length} bytes; a module has at most {LARGEST}");
        return Err(PrepareError::Invalid(why));
    }
    Ok(length)
}

fn read_verified(source: &ModuleSource) -> Result<Vec<u8>, PrepareError> {
    let what = || format!("reading {}", source.path.display());
    length(&source.path)?;
    let bytes = fs::read(&source.path).map_err(io_error(what))?;
    let actual = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
    if actual != source.digest {
        return Err(PrepareError::Digest {
            expected: source.digest.clone(),
            actual,
        });
    }
    Ok(bytes)
}

/// Machine code is loaded from this directory: nobody else may be able to write there.
fn require_private(directory: &Path) -> io::Result<()> {
    let metadata = fs::metadata(directory)?;
    let ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if !ours || metadata.mode() & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} holds compiled code and must belong to this user alone: chmod 700 it",
                directory.display()
            ),
        ));
    }
    Ok(())
}

#[expect(unsafe_code, reason = "machine code is mapped from the cache's files")]
fn map_module(engine: &Engine, path: &Path) -> Result<Module, Unusable> {
    // SAFETY: the file must be what `Engine::precompile_module` returned, unchanged while it is
    // mapped. It lies in a directory that `require_private` found to be writable to this user
    // alone, under a name that only `store` gives, which writes a file as a whole before
    // anybody learns of it, or renames it into place; nothing ever opens it for writing again.
    // Removing it leaves the mapping intact. The name holds the engine's fingerprint, and wasmtime checks its
    // version, settings and CPU features once more.
    unsafe { Module::deserialize_file(engine, path) }
        .map_err(|error| Unusable::Damaged(format!("{error:#}")))
}

#[expect(unsafe_code, reason = "machine code is mapped from the cache's files")]
fn map_component(engine: &Engine, path: &Path) -> Result<Component, Unusable> {
    // SAFETY: as in `map_module`, with `Engine::precompile_component`.
    unsafe { Component::deserialize_file(engine, path) }
        .map_err(|error| Unusable::Damaged(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_compiled_modules_are_taken_for_ours() {
        let of_form = |form: Form| format!("{:064}-{:016}.{}", 1, 2, form.suffix());
        for (form, _) in Form::ALL {
            assert_eq!(engine_of(&of_form(form)), Some("0000000000000002"));
        }
        let name = of_form(Form::of(Kind::Core, false));
        for other in [
            "sha256",
            "a-b.module",
            "config.json",
            &name[1..],
            &format!("{name}.bak"),
        ] {
            assert_eq!(engine_of(other), None, "{other}");
        }
    }

    #[test]
    fn digests_are_safe_as_names() {
        assert!(digits(&format!("sha256:{:064x}", 0xabc)).is_ok());
        for wrong in [
            "",
            "sha256:",
            "sha256:../../x",
            &format!("sha256:{:064X}", 0xabc),
        ] {
            assert!(digits(wrong).is_err(), "{wrong}");
        }
    }
}
