//! Static pods: those that a node runs because a file in a directory of its own says so.
//!
//! [`read`] makes a pod of a file, [`files`] says what all of them come to, the driver begins and ends the pods and keeps
//! their mirrors in the API. Here the directory is watched: what happens to a file has its effect a tenth of a second
//! later. A file that is broken is told of and stands for what it said before, over the agent's restarts, too.

mod files;
mod read;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::{EventType, Informer, Key, Recorder};
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use rustix::fs::OFlags;

use crate::blocking::blocking;
use crate::clock::Clock;
use crate::driver::Driver;
use files::{Files, Wanted};
pub(crate) use read::{StaticPod, mirror_of, mirrored};
use watch::{Changes, Watch};

/// The longest file that is read: no pod that the API would hold is longer.
const LONGEST: u64 = api::write::MAX_OBJECT_BYTES as u64;
/// How many files of the directory are read, the first by their names: as many as a node takes pods.
const MOST: usize = 16_000;
/// How long changes gather: editors write a file in several steps.
const GATHER: Duration = Duration::from_millis(100);
/// Between two looks at a directory that is watched: what a path leads to may change, and what other machines do to it is
/// not told.
const LOOK: Duration = Duration::from_secs(20);
/// Between two looks at a directory that cannot be watched.
const EVERY: Duration = Duration::from_secs(1);

/// What files say: a pod, what is wrong, or nothing where there is no file.
type Said = BTreeMap<String, (Option<Look>, Option<Result<StaticPod, String>>)>;

/// How a file looks from outside: another one, or another content, looks different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The directory of a node's static pods.
pub(crate) struct Directory {
    pub(crate) dir: PathBuf,
    pub(crate) node: String,
    pub(crate) clock: Clock,
    pub(crate) driver: Driver,
    pub(crate) recorder: Recorder,
    pub(crate) nodes: Informer<Node>,
}

/// What is known of its files.
pub(crate) struct Statics {
    directory: Directory,
    files: Files,
    /// How the files were that have been read.
    read: BTreeMap<String, Look>,
    /// What the driver was told to have.
    told: BTreeMap<Key, Arc<StaticPod>>,
    /// What was said of broken files.
    said: BTreeMap<String, String>,
    /// Why the directory itself cannot be used, as it was said.
    trouble: Option<String>,
}

impl Directory {
    /// Begins the pods that the files say, with what earlier runs of the agent kept of them.
    pub(crate) async fn begin(self) -> Statics {
        let kept = self.driver.statics_left().await;
        let uids = kept.iter().map(|pod| pod.uid().to_owned()).collect();
        let dir = self.dir.clone();
        let made = blocking(move || fs::create_dir_all(dir)).await;
        let mut statics = Statics {
            directory: self,
            files: Files::kept(kept),
            read: BTreeMap::new(),
            told: BTreeMap::new(),
            said: BTreeMap::new(),
            trouble: None,
        };
        statics.say(made.err());
        statics.read_changed().await;
        statics.apply();
        statics.directory.driver.statics_gone(&uids);
        statics
    }
}

impl Statics {
    /// Follows the directory, for ever.
    pub(crate) async fn follow(mut self) {
        loop {
            let watch = Watch::open(&self.directory.dir);
            // What happened before is not told of.
            self.read_changed().await;
            self.apply();
            match watch {
                Ok(watch) => {
                    if let Err(error) = self.watch(&watch).await {
                        self.say(Some(error));
                    }
                }
                Err(error) => self.say(Some(error)),
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Follows it as long as it is told what happens.
    async fn watch(&mut self, watch: &Watch) -> io::Result<()> {
        self.trouble = None;
        loop {
            let Ok(first) = tokio::time::timeout(LOOK, watch.next()).await else {
                let dir = self.directory.dir.clone();
                let of = blocking(move || watch::identity(&dir)).await;
                if !of.is_ok_and(|of| of == watch.of()) {
                    return Ok(());
                }
                self.read_changed().await;
                self.apply();
                continue;
            };
            let first = first?;
            tokio::time::sleep(GATHER).await;
            match watch.read()?.after(first) {
                Changes { lost: true, .. } => return Ok(()),
                Changes { all: true, .. } => {
                    // Two changes of one moment may look the same.
                    self.read.clear();
                    self.read_changed().await;
                }
                Changes { names, made, .. } => self.read(names, made).await,
            }
            self.apply();
        }
    }

    /// Says once why the directory cannot be used.
    fn say(&mut self, error: Option<io::Error>) {
        let why = error.map(|error| error.to_string());
        if let Some(why) = why.as_ref().filter(|_| why != self.trouble) {
            let dir = self.directory.dir.display();
            tracing::warn!(%dir, why, "the directory of static pods cannot be watched: it is looked at each second");
        }
        self.trouble = why.or(self.trouble.take());
    }

    /// Reads the files that are not as they were when they were read last.
    async fn read_changed(&mut self) {
        let dir = self.directory.dir.clone();
        let read = self.read.clone();
        let known: Vec<String> = self.files.names().cloned().collect();
        match blocking(move || changed(&dir, known, &read)).await {
            Ok(names) => self.read(names, BTreeSet::new()).await,
            // What it said counts until it says something else.
            Err(error) => self.say(Some(error)),
        }
    }

    /// Reads the files of these names, and those that were made if they are complete.
    async fn read(&mut self, names: BTreeSet<String>, made: BTreeSet<String>) {
        let (dir, node) = (self.directory.dir.clone(), self.directory.node.clone());
        let now = self.directory.clock.now();
        let read = move || {
            let links = made.into_iter().filter(|name| is_link(&dir.join(name)));
            let all: BTreeSet<String> = names.into_iter().chain(links).collect();
            let shown = all.into_iter().filter(|name| !name.starts_with('.'));
            // One after the other: no more than one text is held.
            let said = shown.map(|name| {
                let read = |text: Vec<u8>| read::read(&node, &name, &text, now);
                let path = dir.join(&name);
                // Before: what is written meanwhile makes it look different.
                let look = Look::at(&path);
                let text = text(&path);
                // What could not be read may be read another time, and look the same.
                let look = look.filter(|_| !matches!(text, Some(Err(_))));
                let said = text.map(|text| text.and_then(read));
                (name, (look, said))
            });
            Ok(said.collect::<Said>())
        };
        for (name, (look, said)) in blocking(read).await.unwrap_or_default() {
            self.files.take(&name, said);
            // One too many is read again: there may be room for it by then.
            match look.filter(|_| self.files.has(&name)) {
                Some(look) => self.read.insert(name, look),
                None => self.read.remove(&name),
            };
        }
    }

    /// Has the driver do what the files say, and says what is wrong with them.
    fn apply(&mut self) {
        let Wanted { pods, faults } = self.files.wanted();
        if !is_same(&pods, &self.told) {
            self.directory.driver.statics(pods.clone());
            self.told = pods;
        }
        for (name, fault) in &faults {
            if self.said.get(name) != Some(fault) {
                self.directory.tell(name, fault);
            }
        }
        self.said = faults;
    }
}

impl Look {
    /// `None` where there is nothing.
    fn at(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        Some(Self {
            file: (about.dev(), about.ino()),
            size: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }
}

impl Directory {
    fn tell(&self, name: &str, fault: &str) {
        let file = self.dir.join(name);
        let file = file.display();
        tracing::error!(%file, fault, "the file of a static pod is broken");
        let node = self.nodes.get(&Key::new("", self.node.as_str()));
        let about = node.map_or_else(
            // By its name, as kubelets do.
            || ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(self.node.clone()),
                uid: Some(self.node.clone()),
                ..ObjectReference::default()
            },
            |node| client::reference(node.as_ref()),
        );
        let message = format!("{file}: {fault}");
        self.recorder
            .event(&about, EventType::Warning, "FailedValidation", message);
    }
}

/// The names of a directory's files; none of one that is not there.
fn names(dir: &Path) -> io::Result<BTreeSet<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other?,
    };
    let mut all = BTreeSet::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            all.insert(name);
        }
        if all.len() > MOST {
            all.pop_last();
        }
    }
    Ok(all)
}

/// Those of a directory's files, and of the ones that are known, that are not as they were when they were read.
fn changed(
    dir: &Path,
    known: Vec<String>,
    read: &BTreeMap<String, Look>,
) -> io::Result<BTreeSet<String>> {
    let mut names = names(dir)?;
    names.extend(known);
    names.retain(|name| {
        let look = Look::at(&dir.join(name));
        !name.starts_with('.') && look.is_none_or(|look| read.get(name) != Some(&look))
    });
    Ok(names)
}

/// Whether these are the very same pods. [`Files`] makes no new one of a file that says what it said.
fn is_same(some: &BTreeMap<Key, Arc<StaticPod>>, others: &BTreeMap<Key, Arc<StaticPod>>) -> bool {
    let mut both = some.iter().zip(others);
    some.len() == others.len()
        && both.all(|((key, pod), (of, other))| key == of && Arc::ptr_eq(pod, other))
}

/// What a file says.
fn text(path: &Path) -> Option<Result<Vec<u8>, String>> {
    let read = || {
        let about = fs::metadata(path)?;
        if about.is_dir() {
            return Ok(None);
        }
        if !about.is_file() {
            return Ok(Some(Err("it is no regular file".to_owned())));
        }
        let mut text = Vec::new();
        // Not waiting for a writer, should it be a pipe by now.
        let nonblock = OFlags::NONBLOCK.bits().cast_signed();
        let mut options = File::options();
        let file = options.read(true).custom_flags(nonblock).open(path)?;
        if !file.metadata()?.is_file() {
            return Ok(Some(Err("it is no regular file".to_owned())));
        }
        file.take(LONGEST + 1).read_to_end(&mut text)?;
        let is_long = text.len() as u64 > LONGEST;
        let too_long = || format!("it is longer than {LONGEST} bytes");
        Ok(Some(if is_long { Err(too_long()) } else { Ok(text) }))
    };
    match read() {
        Ok(said) => said,
        Err(error) if is_absent(&error) => None,
        Err(error) => Some(Err(error.to_string())),
    }
}

/// Whether a name is another one for something that was there before.
fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink() || about.nlink() > 1)
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_as_it_did_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| dir.path().join(name);
        for name in ["same", "longer", "other", "gone", ".hidden"] {
            fs::write(of(name), "pod").unwrap();
        }
        fs::create_dir(of("below")).unwrap();
        let find = |read: &BTreeMap<String, Look>| {
            let known = ["gone", "same", "never"].map(str::to_owned);
            let found = changed(dir.path(), known.into(), read).unwrap();
            found.into_iter().collect::<Vec<_>>()
        };
        let mut read = BTreeMap::new();
        let all = ["below", "gone", "longer", "never", "other", "same"];
        assert_eq!(find(&read), all);
        for name in all {
            read.extend(Look::at(&of(name)).map(|look| (name.to_owned(), look)));
        }
        assert_eq!(find(&read), ["never"]);
        fs::write(of("longer"), "pods").unwrap();
        fs::write(of("new"), "pod").unwrap();
        fs::rename(of("new"), of("other")).unwrap();
        fs::remove_file(of("gone")).unwrap();
        assert_eq!(find(&read), ["gone", "longer", "never", "other"]);
    }

    #[test]
    fn nobody_is_told_of_the_same_pods() {
        let said = |name: &str| {
            let text = format!(
                "{{metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: i}}]}}}}"
            );
            let now = jiff::Timestamp::UNIX_EPOCH;
            Some(read::read("n1", "a.yaml", text.as_bytes(), now))
        };
        let mut files = Files::default();
        files.take("a.yaml", said("web"));
        let before = files.wanted().pods;
        assert!(!is_same(&before, &BTreeMap::new()));
        files.take("a.yaml", said("web"));
        assert!(is_same(&files.wanted().pods, &before));
        files.take("a.yaml", said("other"));
        assert!(!is_same(&files.wanted().pods, &before));
    }

    #[test]
    fn only_files_say_anything() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| dir.path().join(name);
        fs::write(of("a"), "pod").unwrap();
        fs::create_dir(of("b")).unwrap();
        fs::write(of("c"), vec![b' '; LONGEST as usize + 1]).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            of("d"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        std::os::unix::fs::symlink(of("a"), of("e")).unwrap();
        std::os::unix::fs::symlink(of("none"), of("f")).unwrap();
        let found: Vec<_> = names(dir.path()).unwrap().into_iter().collect();
        assert_eq!(found, ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(text(&of("a")), Some(Ok(b"pod".to_vec())));
        assert_eq!(text(&of("e")), Some(Ok(b"pod".to_vec())));
        for absent in ["b", "f", "none"] {
            assert_eq!(text(&of(absent)), None, "{absent}");
        }
        let too_long = format!("it is longer than {LONGEST} bytes");
        assert_eq!(text(&of("c")), Some(Err(too_long)));
        assert_eq!(
            text(&of("d")),
            Some(Err("it is no regular file".to_owned()))
        );
        assert!(names(&of("none")).unwrap().is_empty());
        fs::hard_link(of("c"), of("g")).unwrap();
        let links: Vec<_> = ["a", "e", "f", "g", "none"]
            .into_iter()
            .filter(|n| is_link(&of(n)))
            .collect();
        assert_eq!(links, ["e", "f", "g"]);
    }
}
