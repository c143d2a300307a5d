//! The certificates by which Ingresses' hosts are served: chosen by the name that a client asks for.

use std::collections::HashMap;
use std::sync::Arc;

use client::{Key, Object as _};
use k8s_openapi::api::core::v1::Secret;
use parking_lot::{Mutex, RwLock};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The type of Secrets that hold a certificate and its key.
const TYPE: &str = "kubernetes.io/tls";
/// Whom the certificate is for that is shown where there is no other.
const NOBODYS: &str = "carob ingress default certificate";

/// A certificate that an Ingress asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Which Ingress.
    pub(crate) ingress: Key,
    /// The Secret that has it.
    pub(crate) secret: Key,
    /// Whom it is shown for; none: whom it names itself.
    pub(crate) hosts: Vec<String>,
}

/// What is known of a Secret.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// It has not been read yet.
    NotYet,
    /// There is none.
    Missing,
    /// As it is.
    Is(Arc<Secret>),
}

/// What was read of a Secret.
#[derive(Debug)]
struct Read {
    /// The Secret's; no two of the cluster's objects have the same.
    version: u64,
    outcome: Result<Certificate, String>,
}

/// Why no certificate can be made, not even one for nobody.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The certificate itself.
    #[error("making the default certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Its key.
    #[error("using the default certificate: {0}")]
    Use(#[from] rustls::Error),
}

/// By host: exact, and by what follows a star and its dot.
#[derive(Debug, Default)]
struct Table {
    exact: HashMap<String, Arc<CertifiedKey>>,
    wildcard: HashMap<String, Arc<CertifiedKey>>,
}

/// The certificates as they are now; handshakes that have begun keep theirs.
#[derive(Debug)]
pub(crate) struct Certificates {
    provider: Arc<CryptoProvider>,
    table: RwLock<Arc<Table>>,
    /// What was read of the Secrets that are wanted.
    read: Mutex<HashMap<Key, Read>>,
    fallback: Arc<CertifiedKey>,
}

impl Certificates {
    /// None but one for nobody, made for this run.
    ///
    /// # Errors
    /// When not even that can be made.
    pub(crate) fn new() -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, NOBODYS);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let chain = vec![certificate.der().clone()];
        let fallback = CertifiedKey::from_der(chain, key, &provider)?;
        Ok(Self {
            provider,
            table: RwLock::default(),
            read: Mutex::default(),
            fallback: Arc::new(fallback),
        })
    }

    /// What the certificates are made with.
    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// Shows exactly the wanted ones from now on; of two for a host the first. Says which of them there are not, and why.
    pub(crate) fn set(
        &self,
        wanted: &[Wanted],
        find: impl Fn(&Key) -> Found,
    ) -> Vec<(Key, String)> {
        let mut known = self.read.lock();
        let mut read = HashMap::new();
        let mut table = Table::default();
        let mut missing = Vec::new();
        for one in wanted {
            let outcome = match find(&one.secret) {
                Found::NotYet => continue,
                Found::Missing => Err("there is no such Secret"),
                Found::Is(secret) => {
                    // Many Ingresses may share a Secret, and few of their changes are about it.
                    let entry = read.entry(one.secret.clone());
                    let read: &Read =
                        entry.or_insert_with(|| self.read(known.remove(&one.secret), &secret));
                    read.outcome.as_ref().map_err(String::as_str)
                }
            };
            match outcome {
                Ok(certificate) => table.show(certificate, &one.hosts),
                Err(why) => {
                    let secret = &one.secret;
                    let what = format!("the certificate of Secret {secret} is not used: {why}");
                    missing.push((one.ingress.clone(), what));
                }
            }
        }
        *known = read;
        *self.table.write() = Arc::new(table);
        missing
    }

    fn read(&self, known: Option<Read>, secret: &Secret) -> Read {
        let version = secret.revision();
        let same = known.filter(|known| version != 0 && known.version == version);
        same.unwrap_or_else(|| Read {
            version,
            outcome: Certificate::read(secret, &self.provider),
        })
    }

    fn by_name(&self, name: &str) -> Arc<CertifiedKey> {
        let table = Arc::clone(&self.table.read());
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let wildcard = || table.wildcard.get(name.split_once('.')?.1);
        let found = table.exact.get(&name).or_else(wildcard);
        Arc::clone(found.unwrap_or(&self.fallback))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.by_name(hello.server_name().unwrap_or_default()))
    }
}

impl Table {
    fn show(&mut self, certificate: &Certificate, hosts: &[String]) {
        let hosts = match hosts.is_empty() {
            true => &certificate.names,
            false => hosts,
        };
        for host in hosts {
            let host = host.to_ascii_lowercase();
            let (table, host) = match host.strip_prefix("*.") {
                Some(rest) => (&mut self.wildcard, rest.to_owned()),
                None => (&mut self.exact, host),
            };
            let entry = table.entry(host);
            entry.or_insert_with(|| Arc::clone(&certificate.key));
        }
    }
}

/// A certificate and the names in it.
#[derive(Debug)]
struct Certificate {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
}

impl Certificate {
    fn read(secret: &Secret, provider: &CryptoProvider) -> Result<Self, String> {
        if secret.type_.as_deref() != Some(TYPE) {
            return Err(format!("its type is not {TYPE}"));
        }
        let part = |name: &str| {
            let data = secret.data.as_ref().and_then(|data| data.get(name));
            let data = data.filter(|data| !data.0.is_empty());
            data.map(|data| data.0.as_slice())
                .ok_or_else(|| format!("it has no {name}"))
        };
        let (chain, key) = (part("tls.crt")?, part("tls.key")?);
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("tls.crt is malformed: {error}"))?;
        let leaf = chain.first().ok_or("tls.crt has no certificate")?;
        let names = names(leaf)?;
        // The key's error may quote what was read: it is not passed on.
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| "tls.key has no private key".to_owned())?;
        let key = CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| format!("its key cannot be used: {error}"))?;
        Ok(Self {
            key: Arc::new(key),
            names,
        })
    }
}

/// The DNS names of a certificate; where it has none, its common name.
fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let malformed = |error: &dyn std::fmt::Display| format!("tls.crt is malformed: {error}");
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|e| malformed(&e))?;
    let extension = certificate.subject_alternative_name();
    let extension = extension.map_err(|e| malformed(&e))?;
    let all = extension.iter().flat_map(|all| &all.value.general_names);
    let names: Vec<_> = all
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect();
    if !names.is_empty() {
        return Ok(names);
    }
    let common = certificate.subject().iter_common_name();
    Ok(common
        .filter_map(|name| Some(name.as_str().ok()?.to_owned()))
        .collect())
}

#[cfg(test)]
mod tests;
