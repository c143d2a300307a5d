//! Modules that lie in containers' file systems.
//!
//! What a guest has written there is as hostile as it likes, and may change at any time. So a file is copied while its
//! digest is taken, out of every guest's reach; the copy has no name, so that nothing is left of it. The compiled form has none
//! either, and goes with the module: the last few, of no more bytes than one file may have, stay ready. Each instance has
//! such a few for its probes and hooks, which nobody else's commands can push out, and callers of the node have others.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use runtime::{Handler, Module, ModuleSource, Runtime};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::Refused;
use crate::blocking::blocking;

/// The largest file that is run, and what those that stay ready have together, in bytes.
const LARGEST: u64 = 64 << 20;
/// How many stay ready that callers run, and how many of an instance: as many as it can have probes.
const READY: (usize, usize) = (8, 3);
/// How many are read at once for callers, and for an instance: each holds a thread of those that volumes and logs need, too.
const READS: (usize, usize) = (4, 1);

/// Those of a node, as callers or as an instance's probes and hooks run them. Clones are handles to the same ones.
#[derive(Clone)]
pub(crate) struct Files {
    node: Arc<Node>,
    own: Arc<Own>,
}

/// What all of a node share.
struct Node {
    /// Where copies lie.
    dir: PathBuf,
    runtime: Arc<dyn Runtime>,
    /// Held by who has a copy, and compiles it. Small files do not wait for larger ones.
    turn: Arc<tokio::sync::Mutex<()>>,
    small: Arc<tokio::sync::Mutex<()>>,
}

impl Node {
    fn turn(&self, length: u64) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(match length <= ModuleSource::SMALL {
            true => &self.small,
            false => &self.turn,
        })
    }
}

/// What only those have who run the same ones.
struct Own {
    reads: Arc<Semaphore>,
    ready: Mutex<Ready>,
}

impl Own {
    fn new(reads: usize, most: usize) -> Arc<Self> {
        Arc::new(Self {
            reads: Arc::new(Semaphore::new(reads)),
            ready: Mutex::new(Ready {
                most,
                modules: VecDeque::new(),
            }),
        })
    }
}

/// So many modules by their files' lengths, the one that was used last at the end.
struct Ready {
    most: usize,
    modules: VecDeque<(u64, Module)>,
}

impl Ready {
    fn get(&mut self, digest: &str, handler: Handler) -> Option<Module> {
        let mut all = self.modules.iter();
        let place =
            all.position(|(_, module)| module.digest() == digest && module.handler() == handler)?;
        let found = self.modules.remove(place)?;
        let module = found.1.clone();
        self.modules.push_back(found);
        Some(module)
    }

    fn put(&mut self, length: u64, module: Module) {
        self.modules.push_back((length, module));
        while self.modules.len() > self.most || self.bytes() > LARGEST {
            self.modules.pop_front();
        }
    }

    fn bytes(&self) -> u64 {
        self.modules.iter().map(|(length, _)| length).sum()
    }
}

/// A file's contents as they were.
struct Seen {
    length: u64,
    digest: String,
}

impl Files {
    /// None yet. Copies lie in `dir` for a while.
    pub(crate) fn new(dir: &Path, runtime: Arc<dyn Runtime>) -> Self {
        let node = Node {
            dir: dir.to_owned(),
            runtime,
            turn: Arc::default(),
            small: Arc::default(),
        };
        Self {
            node: Arc::new(node),
            own: Own::new(READS.0, READY.0),
        }
    }

    /// The same node's, for an instance: what stays ready of them, does so for it alone.
    pub(crate) fn of_instance(&self) -> Self {
        Self {
            node: Arc::clone(&self.node),
            own: Own::new(READS.1, READY.1),
        }
    }

    /// The module in the file that is opened, to be run by a handler, compiled if it has to be.
    ///
    /// # Errors
    /// When it is none that can run.
    pub(super) async fn module(
        &self,
        open: impl FnOnce() -> io::Result<File> + Send + 'static,
        handler: Handler,
    ) -> Result<Module, Refused> {
        // It is never closed.
        let read = Arc::clone(&self.own.reads).acquire_owned().await.ok();
        let seen = blocking(move || {
            let mut file = open()?;
            let seen = copy(&mut file, &mut io::sink())?;
            // Held by the thread itself, which goes on when nobody waits any more.
            drop(read);
            Ok((seen, file))
        });
        let (seen, mut file) = seen.await?;
        if let Some(module) = self.own.ready.lock().get(&seen.digest, handler) {
            return Ok(module);
        }
        let turn = self.node.turn(seen.length);
        let is_small = seen.length <= ModuleSource::SMALL;
        let turn = turn.lock_owned().await;
        let dir = self.node.dir.clone();
        let copied = blocking(move || {
            let mut copied = tempfile::tempfile_in(dir)?;
            file.rewind()?;
            let seen = copy(&mut file, &mut copied)?;
            if is_small && seen.length > ModuleSource::SMALL {
                return Err(io::Error::other("the file grew while it was read"));
            }
            // Held by the thread itself, too.
            Ok((seen, copied, turn))
        });
        let (seen, copied, turn) = copied.await?;
        if let Some(module) = self.own.ready.lock().get(&seen.digest, handler) {
            return Ok(module);
        }
        let this = self.clone();
        // A task of its own: the compiler goes on when nobody waits any more, and reads the copy by its descriptor.
        let compiled = tokio::spawn(async move {
            let module = this.compile(&seen, &copied, handler).await;
            drop((copied, turn));
            module
        });
        compiled.await.map_err(Refused::cannot_run)?
    }

    async fn compile(
        &self,
        seen: &Seen,
        copied: &File,
        handler: Handler,
    ) -> Result<Module, Refused> {
        let source = ModuleSource {
            path: PathBuf::from(format!("/proc/self/fd/{}", copied.as_raw_fd())),
            digest: seen.digest.clone(),
            keep: false,
            handler,
        };
        let module = self.node.runtime.prepare(source).await;
        let module = module.map_err(Refused::cannot_run)?;
        self.own.ready.lock().put(seen.length, module.clone());
        Ok(module)
    }
}

/// Copies what a file holds, if it is not too long.
fn copy(file: &mut File, into: &mut impl Write) -> io::Result<Seen> {
    let too_long = || {
        let why = format!("a file of more than {LARGEST} bytes");
        io::Error::new(io::ErrorKind::FileTooLarge, why)
    };
    if file.metadata()?.len() > LARGEST {
        return Err(too_long());
    }
    let mut digest = Sha256::new();
    let mut length = 0;
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        length += read as u64;
        // It may have grown.
        if length > LARGEST {
            return Err(too_long());
        }
        digest.update(&chunk[..read]);
        into.write_all(&chunk[..read])?;
    }
    Ok(Seen {
        length,
        digest: format!("sha256:{}", hex::encode(digest.finalize())),
    })
}

#[cfg(test)]
mod tests;
