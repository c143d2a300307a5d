//! One kubeconfig file, with whatever is in it.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_yaml::Value;

use super::Error;
use crate::tls::Identity;

/// How often a lock that somebody holds is tried again, and the pause between.
const LOCK_ATTEMPTS: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

type Rest = BTreeMap<String, Value>;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct File {
    #[serde(rename = "apiVersion", default = "v1")]
    api_version: String,
    #[serde(default = "config")]
    kind: String,
    #[serde(default, deserialize_with = "or_default")]
    clusters: Vec<Named>,
    #[serde(default, deserialize_with = "or_default")]
    contexts: Vec<Named>,
    #[serde(rename = "current-context", default, deserialize_with = "or_default")]
    pub(super) current_context: String,
    #[serde(default, deserialize_with = "or_default")]
    users: Vec<Named>,
    #[serde(flatten)]
    rest: Rest,
}

/// An entry of one of the lists: its name, and under a key of its own (`cluster`) the rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    rest: NamedValue,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct NamedValue {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<Cluster>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<ContextEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Cluster {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate_authority: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate_authority_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<String>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContextEntry {
    pub(super) cluster: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    pub(super) user: String,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct User {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_certificate_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_key_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    // The one camel-case name among them.
    #[serde(rename = "tokenFile", skip_serializing_if = "Option::is_none")]
    pub(super) token_file: Option<PathBuf>,
    #[serde(flatten)]
    rest: Rest,
}

fn v1() -> String {
    "v1".to_owned()
}

fn config() -> String {
    "Config".to_owned()
}

/// kubectl writes `null` for what is empty.
fn or_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_set(rest: &Rest, field: &str) -> bool {
    rest.get(field).is_some_and(|value| {
        !matches!(value, Value::Null | Value::Bool(false)) && value.as_str() != Some("")
    })
}

impl Cluster {
    /// Whether it says anything in a field that this program does not know.
    pub(super) fn has(&self, field: &str) -> bool {
        is_set(&self.rest, field)
    }
}

impl User {
    /// Whether it says anything in a field that this program does not know.
    pub(super) fn has(&self, field: &str) -> bool {
        is_set(&self.rest, field)
    }
}

impl File {
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        if text.trim().is_empty() {
            return Ok(File::empty());
        }
        serde_yaml::from_str(&text).map_err(|source| Error::Syntax {
            path: path.to_owned(),
            source,
        })
    }

    fn empty() -> Self {
        File {
            api_version: v1(),
            kind: config(),
            ..File::default()
        }
    }

    pub(super) fn context<'a>(&'a self, name: &str) -> Option<&'a ContextEntry> {
        find(&self.contexts, name)?.context.as_ref()
    }

    pub(super) fn cluster<'a>(&'a self, name: &str) -> Option<&'a Cluster> {
        find(&self.clusters, name)?.cluster.as_ref()
    }

    pub(super) fn user<'a>(&'a self, name: &str) -> Option<&'a User> {
        find(&self.users, name)?.user.as_ref()
    }

    fn put(&mut self, name: &str, server: &str, identity: &Identity) {
        let encode = |pem: &str| Some(BASE64_STANDARD.encode(pem));
        let namespace = self.context(name).and_then(|old| old.namespace.clone());
        let cluster = NamedValue {
            cluster: Some(Cluster {
                certificate_authority_data: encode(&identity.ca_pem),
                server: Some(server.to_owned()),
                ..Cluster::default()
            }),
            ..NamedValue::default()
        };
        replace(&mut self.clusters, name, cluster);
        let context = NamedValue {
            context: Some(ContextEntry {
                cluster: name.to_owned(),
                user: name.to_owned(),
                namespace,
                ..ContextEntry::default()
            }),
            ..NamedValue::default()
        };
        replace(&mut self.contexts, name, context);
        let user = NamedValue {
            user: Some(User {
                client_certificate_data: encode(&identity.cert_pem),
                client_key_data: encode(&identity.key_pem),
                ..User::default()
            }),
            ..NamedValue::default()
        };
        replace(&mut self.users, name, user);
        name.clone_into(&mut self.current_context);
    }

    fn take_out(&mut self, name: &str) {
        for list in [&mut self.clusters, &mut self.contexts, &mut self.users] {
            list.retain(|entry| entry.name != name);
        }
        if self.current_context == name {
            self.current_context.clear();
        }
    }

    /// Writes the file as a whole: readers see the old one or the new one. Only its owner may
    /// read it, for it holds a key.
    fn save(&self, path: &Path) -> Result<(), Error> {
        let text = serde_yaml::to_string(self).map_err(|source| Error::Syntax {
            path: path.to_owned(),
            source,
        })?;
        let temporary = with_suffix(path, &format!(".{}.new", std::process::id()));
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&temporary, path));
        written.map_err(|error| {
            // Nothing to be done if it can't be removed either.
            let _ = fs::remove_file(&temporary);
            Error::io(path)(error)
        })
    }
}

fn find<'a>(list: &'a [Named], name: &str) -> Option<&'a NamedValue> {
    let entry = list.iter().find(|entry| entry.name == name)?;
    Some(&entry.rest)
}

fn replace(list: &mut Vec<Named>, name: &str, rest: NamedValue) {
    match list.iter_mut().find(|entry| entry.name == name) {
        Some(entry) => entry.rest = rest,
        None => list.push(Named {
            name: name.to_owned(),
            rest,
        }),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The lock that kubectl and kind take too: a file beside the kubeconfig that must be new.
struct Lock {
    path: PathBuf,
}

impl Lock {
    async fn take(config: &Path) -> Result<Self, Error> {
        let path = with_suffix(config, ".lock");
        for attempt in 0..LOCK_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            match fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&path)
            {
                Ok(_) => return Ok(Lock { path }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io(&path)(error)),
            }
        }
        Err(Error::Locked {
            path: config.to_owned(),
            lock: path,
        })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // If it can't be removed, the next writer's error names it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Merges cluster, user and context of this name into a kubeconfig, and makes it the current
/// context; what else is in the file stays. A file or directory that is missing is made. Waits
/// for up to 5 s while another program holds the file's lock. Returns the context that was the
/// current one, if that was another.
///
/// # Errors
/// When the file is no kubeconfig, locked, or can't be written.
pub async fn merge(
    path: &Path,
    name: &str,
    server: &str,
    identity: &Identity,
) -> Result<Option<String>, Error> {
    let mut before = String::new();
    change(path, |file| {
        before.clone_from(&file.current_context);
        file.put(name, server, identity);
        true
    })
    .await?;
    Ok(Some(before).filter(|other| !other.is_empty() && other != name))
}

/// Finds out whether a kubeconfig can be locked and read, before what is to be merged is there. Its directory is made.
///
/// # Errors
/// As [`merge`].
pub async fn check(path: &Path) -> Result<(), Error> {
    change(path, |_| false).await
}

/// Takes cluster, user and context of this name out of a kubeconfig. A file that is missing stays
/// so, and one that has none of them is not touched.
///
/// # Errors
/// As [`merge`].
pub async fn remove(path: &Path, name: &str) -> Result<(), Error> {
    if !path.exists() {
        return Ok(());
    }
    change(path, |file| {
        let lists = [&file.clusters, &file.contexts, &file.users];
        let there = lists.iter().any(|list| find(list, name).is_some());
        file.take_out(name);
        there
    })
    .await
}

/// Writes a kubeconfig that holds this context and nothing else.
///
/// # Errors
/// When the file can't be written.
pub fn write(path: &Path, name: &str, server: &str, identity: &Identity) -> Result<(), Error> {
    let mut file = File::empty();
    file.put(name, server, identity);
    let path = prepare(path)?;
    file.save(&path)
}

async fn change(path: &Path, edit: impl FnOnce(&mut File) -> bool) -> Result<(), Error> {
    let path = prepare(path)?;
    let _lock = Lock::take(&path).await?;
    let mut file = match File::read(&path) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            File::empty()
        }
        file => file?,
    };
    if edit(&mut file) {
        file.save(&path)?;
    }
    Ok(())
}

/// Makes the directory, and follows a link, which would be replaced otherwise.
fn prepare(path: &Path) -> Result<PathBuf, Error> {
    if let Some(directory) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(directory).map_err(Error::io(directory))?;
    }
    Ok(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
}
