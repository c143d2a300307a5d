//! Kubeconfig files: which cluster to talk to, and as whom.
//!
//! Files are found as kubectl finds them: the one given, else those of `$KUBECONFIG`, else
//! `~/.kube/config`. Where several files say something about one name, the first one counts.
//! Writing keeps everything in a file that it does not know.

mod file;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};

use self::file::{Cluster, File, User};
use crate::{
    Client,
    https::HttpsTransport,
    tls::{self, Identity},
};

pub use file::{check, merge, remove, write};

/// What is wrong with a kubeconfig.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is not a kubeconfig.
    #[error("{}: not a kubeconfig: {source}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: serde_yaml::Error,
    },
    /// Somebody else is writing the file.
    #[error("{} is locked by another program; if none is writing it, remove {}", path.display(), lock.display())]
    Locked {
        /// Which file.
        path: PathBuf,
        /// Its lock.
        lock: PathBuf,
    },
    /// No file says which cluster to talk to.
    #[error(
        "no cluster to talk to: {0} (start one by `carob up`, or name a file by --kubeconfig or $KUBECONFIG)"
    )]
    NoContext(String),
    /// A name is referred to that nothing defines.
    #[error("there is no {sort} {name:?} in {files}")]
    Missing {
        /// `context`, `cluster` or `user`.
        sort: &'static str,
        /// The name.
        name: String,
        /// Where was looked.
        files: String,
    },
    /// A context asks for something that carob has not.
    #[error("context {context:?}: {what} is not supported")]
    Unsupported {
        /// The context.
        context: String,
        /// The field.
        what: String,
    },
    /// A context lacks something, or has it in a wrong form.
    #[error("context {context:?}: {what}")]
    Invalid {
        /// The context.
        context: String,
        /// What is wrong.
        what: String,
    },
}

impl Error {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    }
}

/// Where kubeconfigs are looked for.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--kubeconfig`: the only file, which must exist.
    pub explicit: Option<PathBuf>,
    /// The value of `$KUBECONFIG`: files separated by colons, any of which may be absent.
    pub environment: Option<OsString>,
    /// The user's home directory.
    pub home: Option<PathBuf>,
}

impl Sources {
    /// `--kubeconfig` as given, and the process's environment.
    #[must_use]
    pub fn from_environment(explicit: Option<PathBuf>) -> Self {
        Sources {
            explicit,
            environment: std::env::var_os("KUBECONFIG"),
            home: std::env::home_dir(),
        }
    }

    fn listed(&self) -> Vec<PathBuf> {
        if let Some(explicit) = &self.explicit {
            return vec![explicit.clone()];
        }
        let listed: Vec<PathBuf> = self
            .environment
            .iter()
            .flat_map(std::env::split_paths)
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        if !listed.is_empty() {
            return listed;
        }
        let default = self.home.iter();
        default.map(|home| home.join(".kube/config")).collect()
    }

    /// The file into which a new context is to be merged: the one given, else the first of
    /// `$KUBECONFIG` that exists, else its last, else `~/.kube/config`. `None` without a home.
    #[must_use]
    pub fn merge_target(&self) -> Option<PathBuf> {
        let listed = self.listed();
        let existing = listed.iter().find(|path| path.exists());
        existing.or(listed.last()).cloned()
    }

    /// Reads what there is to know of a context: the one named, else the current one.
    ///
    /// # Errors
    /// When a file can't be read, nothing names a context, or it can't be used by carob.
    pub fn load(&self, context: Option<&str>) -> Result<Context, Error> {
        let mut files = Vec::new();
        for path in self.listed() {
            match File::read(&path) {
                Err(Error::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound && self.explicit.is_none() => {
                }
                file => files.push((path, file?)),
            }
        }
        Context::find(&files, context)
    }
}

/// How a client proves who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// By a certificate; both PEM.
    Certificate {
        /// The certificate.
        cert_pem: String,
        /// Its key.
        key_pem: String,
    },
    /// By a bearer token.
    Token(String),
    /// Not at all.
    None,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credentials::Certificate { .. } => "Certificate",
            Credentials::Token(_) => "Token",
            Credentials::None => "None",
        })
    }
}

/// A cluster, a user and a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The context's name.
    pub name: String,
    /// `https://HOST:PORT`.
    pub server: String,
    /// The cluster's CA certificate, PEM.
    pub ca_pem: String,
    /// Who the user is.
    pub credentials: Credentials,
    /// The namespace to use where none is given.
    pub namespace: String,
}

impl Context {
    fn find(files: &[(PathBuf, File)], wanted: Option<&str>) -> Result<Self, Error> {
        let looked = || {
            let names: Vec<String> = files
                .iter()
                .map(|(path, _)| path.display().to_string())
                .collect();
            names.join(", ")
        };
        let current = || {
            let mut names = files.iter().map(|(_, file)| file.current_context.as_str());
            names.find(|name| !name.is_empty())
        };
        let name = wanted.or_else(current).ok_or_else(|| {
            Error::NoContext(if files.is_empty() {
                "there is no kubeconfig".to_owned()
            } else {
                format!("no current context in {}", looked())
            })
        })?;
        let missing = |sort, name: &str| Error::Missing {
            sort,
            name: name.to_owned(),
            files: looked(),
        };
        let (_, context) = first(files, |file| File::context(file, name))
            .ok_or_else(|| missing("context", name))?;
        let (cluster_file, cluster) = first(files, |file| file.cluster(&context.cluster))
            .ok_or_else(|| missing("cluster", &context.cluster))?;
        let user = first(files, |file| file.user(&context.user));
        if user.is_none() && !context.user.is_empty() {
            return Err(missing("user", &context.user));
        }
        let reader = Reader { context: name };
        let namespace = context.namespace.clone();
        Ok(Context {
            name: name.to_owned(),
            server: reader.server(cluster)?,
            ca_pem: reader.ca(cluster_file, cluster)?,
            credentials: match user {
                Some((file, user)) => reader.credentials(file, user)?,
                None => Credentials::None,
            },
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
        })
    }

    /// A client of this context. Nothing is connected yet.
    ///
    /// # Errors
    /// When the server's address, the certificates or the key can't be used.
    pub fn client(&self, field_manager: &str) -> Result<Client, crate::Error> {
        let mut transport = HttpsTransport::new([&self.server], self.tls()?)?;
        if let Credentials::Token(token) = &self.credentials {
            transport = transport.with_bearer(token)?;
        }
        Ok(Client::new(Arc::new(transport), field_manager))
    }

    /// How to connect to the server.
    pub(crate) fn tls(&self) -> Result<rustls::ClientConfig, tls::Error> {
        match &self.credentials {
            Credentials::Certificate { cert_pem, key_pem } => Identity {
                cert_pem: cert_pem.clone(),
                key_pem: key_pem.clone(),
                ca_pem: self.ca_pem.clone(),
            }
            .client_config(),
            Credentials::Token(_) | Credentials::None => tls::anonymous_config(&self.ca_pem),
        }
    }
}

/// What the first file that defines it says.
fn first<'a, T>(
    files: &'a [(PathBuf, File)],
    get: impl Fn(&'a File) -> Option<&'a T>,
) -> Option<(&'a Path, &'a T)> {
    files
        .iter()
        .find_map(|(path, file)| Some((path.as_path(), get(file)?)))
}

struct Reader<'a> {
    context: &'a str,
}

impl Reader<'_> {
    fn unsupported(&self, what: &str) -> Error {
        Error::Unsupported {
            context: self.context.to_owned(),
            what: what.to_owned(),
        }
    }

    fn invalid(&self, what: String) -> Error {
        Error::Invalid {
            context: self.context.to_owned(),
            what,
        }
    }

    fn server(&self, cluster: &Cluster) -> Result<String, Error> {
        for field in ["insecure-skip-tls-verify", "proxy-url", "tls-server-name"] {
            if cluster.has(field) {
                return Err(self.unsupported(field));
            }
        }
        match &cluster.server {
            Some(server) => Ok(server.clone()),
            None => Err(self.invalid("its cluster has no server".to_owned())),
        }
    }

    fn ca(&self, file: &Path, cluster: &Cluster) -> Result<String, Error> {
        let data = &cluster.certificate_authority_data;
        self.pem(
            file,
            "certificate-authority",
            data,
            &cluster.certificate_authority,
        )?
        .ok_or_else(|| self.unsupported("a cluster without certificate-authority(-data)"))
    }

    fn credentials(&self, file: &Path, user: &User) -> Result<Credentials, Error> {
        for field in ["exec", "auth-provider", "username", "password", "as"] {
            if user.has(field) {
                return Err(self.unsupported(field));
            }
        }
        let cert = self.pem(
            file,
            "client-certificate",
            &user.client_certificate_data,
            &user.client_certificate,
        )?;
        let key = self.pem(file, "client-key", &user.client_key_data, &user.client_key)?;
        match (cert, key) {
            (Some(cert_pem), Some(key_pem)) => {
                return Ok(Credentials::Certificate { cert_pem, key_pem });
            }
            (Some(_), None) => return Err(self.invalid("a certificate without its key".into())),
            (None, Some(_)) => return Err(self.invalid("a key without its certificate".into())),
            (None, None) => {}
        }
        if let Some(token) = &user.token {
            return Ok(Credentials::Token(token.clone()));
        }
        if let Some(path) = &user.token_file {
            let path = beside(file, path);
            let token = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
            return Ok(Credentials::Token(token.trim().to_owned()));
        }
        Ok(Credentials::None)
    }

    /// Inline data, else the contents of a file named relative to the kubeconfig.
    fn pem(
        &self,
        file: &Path,
        field: &str,
        data: &Option<String>,
        path: &Option<PathBuf>,
    ) -> Result<Option<String>, Error> {
        if let Some(data) = data.as_ref().filter(|data| !data.is_empty()) {
            let bytes = BASE64_STANDARD
                .decode(data)
                .map_err(|error| self.invalid(format!("{field}-data: {error}")))?;
            return String::from_utf8(bytes)
                .map(Some)
                .map_err(|_| self.invalid(format!("{field}-data: not PEM")));
        }
        let Some(path) = path.as_ref().filter(|path| !path.as_os_str().is_empty()) else {
            return Ok(None);
        };
        let path = beside(file, path);
        std::fs::read_to_string(&path)
            .map(Some)
            .map_err(Error::io(&path))
    }
}

fn beside(file: &Path, path: &Path) -> PathBuf {
    match file.parent() {
        Some(directory) => directory.join(path),
        None => path.to_owned(),
    }
}
