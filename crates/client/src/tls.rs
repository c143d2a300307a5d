//! Keys, certificates, and whom to trust.
//!
//! Every certificate of a cluster is signed by its one CA. Names are checked against the IP
//! addresses (or DNS names) that a certificate carries. All configurations name rustls' `ring`
//! provider explicitly, so that no process-wide default is needed.

mod verifier;

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use verifier::Verifier;

/// The organisation that every server's certificate carries.
pub const SERVERS: &str = "system:carob:servers";
/// The organisation of the nodes' agents.
pub const NODES: &str = "system:nodes";
/// What a node's common name starts with; the node's name follows.
pub const NODE_USER: &str = "system:node:";

/// What is wrong with a key or a certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not PEM, or nothing of the wanted sort in it.
    #[error("{what}: {message}")]
    Pem {
        /// What was being read.
        what: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// A key or a request could not be made.
    #[error("making a certificate request: {0}")]
    Request(#[from] rcgen::Error),
    /// Key and certificate don't fit each other, or another thing TLS does not take.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The CA can't be used to verify others.
    #[error("TLS: {0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    /// A certificate's DER can't be read.
    #[error("malformed certificate: {0}")]
    Certificate(String),
}

/// A certificate with its key, and the CA that signs everyone in the cluster. All PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The leaf certificate; what follows it is sent along as its chain.
    pub cert_pem: String,
    /// Its private key, PKCS #8.
    pub key_pem: String,
    /// The cluster's CA certificate.
    pub ca_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let subject = certificates(&self.cert_pem)
            .ok()
            .and_then(|chain| Subject::of(chain.first()?).ok());
        f.debug_struct("Identity")
            .field("subject", &subject)
            .finish_non_exhaustive()
    }
}

/// Whether a server asks its clients for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// A client may come without one (and prove itself by a token).
    Optional,
    /// A client without one is turned away in the handshake.
    Required,
}

impl Identity {
    /// For a client that shows this identity and trusts only servers of the cluster's CA.
    ///
    /// # Errors
    /// When the PEM can't be read or its parts don't fit.
    pub fn client_config(&self) -> Result<ClientConfig, Error> {
        let config = trusting_servers(&self.ca_pem)?
            .with_client_auth_cert(certificates(&self.cert_pem)?, key(&self.key_pem)?)?;
        Ok(config)
    }

    /// For a client that shows this identity and trusts whoever the cluster's CA vouches for, of whatever organisation: who
    /// it reached is for the caller to judge, by [`Subject`].
    ///
    /// # Errors
    /// As [`Self::client_config`].
    pub fn peer_config(&self) -> Result<ClientConfig, Error> {
        let config = builder()?
            .with_root_certificates(roots(&self.ca_pem)?)
            .with_client_auth_cert(certificates(&self.cert_pem)?, key(&self.key_pem)?)?;
        Ok(config)
    }

    /// For a server that shows this identity, and takes client certificates of the cluster's CA.
    ///
    /// The CA's certificate is sent along, without which a joining machine, which knows only its
    /// digest, could not verify the chain.
    ///
    /// # Errors
    /// As [`Self::client_config`].
    pub fn server_config(&self, clients: ClientAuth) -> Result<ServerConfig, Error> {
        let provider = provider();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots(&self.ca_pem)?, provider.clone());
        let verifier = match clients {
            ClientAuth::Optional => verifier.allow_unauthenticated(),
            ClientAuth::Required => verifier,
        };
        let mut chain = certificates(&self.cert_pem)?;
        for ca in certificates(&self.ca_pem)? {
            if !chain.contains(&ca) {
                chain.push(ca);
            }
        }
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.build()?)
            .with_single_cert(chain, key(&self.key_pem)?)?;
        Ok(config)
    }

    /// For a tonic client under this identity; `name` is the IP address or DNS name that the
    /// other end's certificate must carry.
    #[must_use]
    pub fn tonic_client(&self, name: &str) -> tonic::transport::ClientTlsConfig {
        tonic::transport::ClientTlsConfig::new()
            .domain_name(name)
            .ca_certificate(tonic::transport::Certificate::from_pem(&self.ca_pem))
            .identity(self.tonic_identity())
    }

    /// For a tonic server under this identity that turns away clients without a certificate of
    /// the cluster's CA.
    #[must_use]
    pub fn tonic_server(&self) -> tonic::transport::ServerTlsConfig {
        tonic::transport::ServerTlsConfig::new()
            .identity(self.tonic_identity())
            .client_ca_root(tonic::transport::Certificate::from_pem(&self.ca_pem))
            .client_auth_optional(false)
    }

    fn tonic_identity(&self) -> tonic::transport::Identity {
        tonic::transport::Identity::from_pem(&self.cert_pem, &self.key_pem)
    }
}

/// For a client without a certificate that trusts only servers of this CA.
///
/// # Errors
/// When the PEM can't be read.
pub fn anonymous_config(ca_pem: &str) -> Result<ClientConfig, Error> {
    Ok(trusting_servers(ca_pem)?.with_no_client_auth())
}

/// For a client without a certificate that trusts only a server's chain whose CA certificate has this
/// digest: a machine that is about to join, and has only a token.
///
/// # Errors
/// Only if rustls lacks its own defaults.
pub fn pinned_config(ca_digest: [u8; 32]) -> Result<ClientConfig, Error> {
    let verifier = Verifier::pinned(ca_digest, provider());
    Ok(builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// For a client that talks to pods. Who a pod is, its certificate says to nobody: as in Kubernetes it is not looked at, and
/// the way to the pod is secured by the cluster itself.
///
/// # Errors
/// Only if rustls lacks its own defaults.
pub fn trusting_anybody() -> Result<Arc<ClientConfig>, rustls::Error> {
    static CONFIG: LazyLock<Result<Arc<ClientConfig>, rustls::Error>> = LazyLock::new(|| {
        let verifier = Arc::new(Verifier::of_anybody(provider()));
        let config = builder()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Arc::new(config))
    });
    CONFIG.clone()
}

/// A new private key with a certificate request that proves its possession.
#[derive(Clone)]
pub struct Request {
    /// The private key, PKCS #8 PEM. It never leaves the machine.
    pub key_pem: String,
    /// The request, PKCS #10 PEM.
    pub csr_pem: String,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

/// Makes a key (ECDSA P-256) and a request for a certificate of this subject and these addresses.
///
/// # Errors
/// When the names can't stand in a certificate.
pub fn request(
    common_name: &str,
    organization: &str,
    addresses: &[IpAddr],
) -> Result<Request, Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.subject_alt_names = addresses.iter().copied().map(SanType::IpAddress).collect();
    let csr_pem = params.serialize_request(&key)?.pem()?;
    Ok(Request {
        key_pem: key.serialize_pem(),
        csr_pem,
    })
}

/// Whom a certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// CN: the user's name.
    pub common_name: String,
    /// O, in order: the user's groups.
    pub organizations: Vec<String>,
    /// OU, in order.
    pub units: Vec<String>,
    /// The addresses that it may be reached at.
    pub addresses: Vec<IpAddr>,
}

impl Subject {
    /// The node whose agent this is.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        let is_node = self.organizations.iter().any(|group| group == NODES);
        let name = self.common_name.strip_prefix(NODE_USER)?;
        (is_node && !name.is_empty()).then_some(name)
    }

    /// Reads it out of a certificate's DER, which must have been verified before.
    ///
    /// # Errors
    /// [`Error::Certificate`].
    pub fn of(certificate_der: &[u8]) -> Result<Self, Error> {
        let malformed = |error: &dyn std::fmt::Display| Error::Certificate(error.to_string());
        let (_, certificate) =
            X509Certificate::from_der(certificate_der).map_err(|error| malformed(&error))?;
        let subject = certificate.subject();
        let common_name = subject
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .unwrap_or_default()
            .to_owned();
        let organizations = subject
            .iter_organization()
            .filter_map(|name| name.as_str().ok())
            .map(str::to_owned)
            .collect();
        let units = subject
            .iter_organizational_unit()
            .filter_map(|name| name.as_str().ok())
            .map(str::to_owned)
            .collect();
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| malformed(&error))?;
        let addresses = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::IPAddress(bytes) => address(bytes),
                _ => None,
            })
            .collect();
        Ok(Subject {
            common_name,
            organizations,
            units,
            addresses,
        })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// The certificates of a PEM text, in order.
///
/// # Errors
/// [`Error::Pem`], also when there is none.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let error = |message: String| Error::Pem {
        what: "certificate",
        message,
    };
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|cause| error(cause.to_string()))?;
    if found.is_empty() {
        return Err(error("no CERTIFICATE section".to_owned()));
    }
    Ok(found)
}

fn key(pem: &str) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|cause| Error::Pem {
        what: "private key",
        message: cause.to_string(),
    })
}

fn roots(ca_pem: &str) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem)? {
        roots.add(certificate)?;
    }
    Ok(Arc::new(roots))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()
}

/// Every certificate of a cluster would do for a server's by its CA and extensions: what tells them
/// apart is whom they name.
fn trusting_servers(
    ca_pem: &str,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, Error> {
    let verifier = Verifier::of_servers(roots(ca_pem)?, provider())?;
    Ok(builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}
