//! The cluster's certificate authority.
//!
//! Every certificate of a cluster is signed by one self-made CA whose key lies on the servers' disks
//! only. Leaf certificates serve both ways (client and server authentication), carry IP names and an
//! authority key identifier (Python's and OpenSSL's strict modes want it) and a random serial number.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};

/// The group whose members may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of the cluster's own servers; they may do everything too.
pub use client::tls::SERVERS;
/// The group of the nodes' agents, and what a node's user name starts with.
pub use client::tls::{NODE_USER, NODES};
/// What a server's user name starts with; the server's name follows.
pub const SERVER_USER: &str = "system:carob:server:";

/// How long the CA itself is valid.
const CA_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a leaf is valid. Nothing renews them yet: a leaf must not end before the cluster that
/// nobody restarts for a year.
const LEAF_VALIDITY: Duration = Duration::from_secs(5 * 365 * 24 * 3600);
/// How far back validity starts, so that a machine whose clock is a little behind accepts it.
const BACKDATE: Duration = Duration::from_secs(3600);

/// The DNS names that every server's certificate carries.
pub(crate) const SERVER_NAMES: [&str; 5] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// The service network's first address: that of Service `default/kubernetes`.
pub const KUBERNETES_SERVICE_IP: [u8; 4] = [10, 96, 0, 1];

/// The service network's tenth address: that of Service `kube-system/kube-dns`.
pub(crate) const DNS_SERVICE_IP: [u8; 4] = [10, 96, 0, 10];

/// Whom a certificate is for: fixes subject, names and nothing that the requester says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The administrator: `O=system:masters CN=carob-admin`.
    Admin,
    /// A server: `O=system:carob:servers CN=system:carob:server:NAME`.
    Server {
        /// The server's name, such as `carob-1`.
        name: String,
        /// The addresses that it advertises, beside 127.0.0.1 and the first service address.
        addresses: Vec<IpAddr>,
    },
    /// A node's agent: `O=system:nodes CN=system:node:NAME`.
    Node {
        /// The node's name.
        name: String,
        /// The addresses that its `Node` service listens on.
        addresses: Vec<IpAddr>,
    },
    /// A user: `OU=UNIT CN=NAME`. Groups are none of the certificate's affair.
    User {
        /// The user's name.
        name: String,
        /// What names the cluster's record of the user.
        unit: String,
    },
}

impl Profile {
    fn subject(&self) -> DistinguishedName {
        use DnType::{OrganizationName, OrganizationalUnitName};
        let (of, what, common) = match self {
            Profile::Admin => (OrganizationName, MASTERS, "carob-admin".to_owned()),
            Profile::Server { name, .. } => {
                (OrganizationName, SERVERS, format!("{SERVER_USER}{name}"))
            }
            Profile::Node { name, .. } => (OrganizationName, NODES, format!("{NODE_USER}{name}")),
            Profile::User { name, unit } => (OrganizationalUnitName, unit.as_str(), name.clone()),
        };
        let mut subject = DistinguishedName::new();
        subject.push(of, what);
        subject.push(DnType::CommonName, common);
        subject
    }

    fn names(&self) -> Result<Vec<SanType>, CaError> {
        let (names, addresses): (Vec<String>, Vec<IpAddr>) = match self {
            Profile::Admin | Profile::User { .. } => return Ok(Vec::new()),
            Profile::Server { name, addresses } => (
                SERVER_NAMES
                    .into_iter()
                    .map(str::to_owned)
                    .chain([name.clone()])
                    .collect(),
                [IpAddr::from([127, 0, 0, 1]), KUBERNETES_SERVICE_IP.into()]
                    .into_iter()
                    .chain(addresses.iter().copied())
                    .collect(),
            ),
            Profile::Node { name, addresses } => (
                vec![name.clone()],
                [IpAddr::from([127, 0, 0, 1])]
                    .into_iter()
                    .chain(addresses.iter().copied())
                    .collect(),
            ),
        };
        let mut sans = Vec::with_capacity(names.len() + addresses.len());
        for name in names {
            sans.push(SanType::DnsName(name.try_into()?));
        }
        for address in addresses {
            let san = SanType::IpAddress(address);
            if !sans.contains(&san) {
                sans.push(san);
            }
        }
        Ok(sans)
    }
}

/// A certificate and its private key, both in PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate (PEM).
    pub certificate: String,
    /// The private key (PKCS #8, PEM).
    pub key: String,
}

/// What can go wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A key, request or certificate could not be made or read.
    #[error("certificate authority: {0}")]
    Rcgen(#[from] rcgen::Error),
    /// A PEM file does not hold what it should.
    #[error("{what} is not valid PEM: {reason}")]
    Pem {
        /// Which file's content it is, such as "the CA certificate".
        what: &'static str,
        /// What the parser says.
        reason: String,
    },
}

/// The certificate authority: its certificate and the key to sign with.
pub struct Ca {
    certificate: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Makes a new one (P-256, ten years).
    pub fn create() -> Result<Ca, CaError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, "carob-ca");
        params.distinguished_name = subject;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, CA_VALIDITY);
        let certificate = params.self_signed(&key)?;
        Ok(Ca {
            certificate: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Reads one from its certificate and key, both PEM.
    pub fn load(certificate: &str, key: &str) -> Result<Ca, CaError> {
        let key = KeyPair::from_pem(key)?;
        let der =
            CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|e| CaError::Pem {
                what: "the CA certificate",
                reason: e.to_string(),
            })?;
        Ok(Ca {
            certificate: certificate.to_owned(),
            issuer: Issuer::from_ca_cert_der(&der, key)?,
            der,
        })
    }

    /// The CA's certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The CA's key, PEM. Given only to servers that join.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Hex SHA-256 of the CA certificate's DER: the last part of a join token.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(&self.der))
    }

    /// Makes a key and signs a certificate for it.
    pub fn issue(&self, profile: &Profile) -> Result<Issued, CaError> {
        let key = KeyPair::generate()?;
        Ok(Issued {
            certificate: self.certify(&key, profile)?,
            key: key.serialize_pem(),
        })
    }

    /// Signs a certificate for the key of a request (PKCS #10, PEM; its own signature is checked).
    /// Subject and names come from `profile` alone.
    pub fn sign(&self, csr: &str, profile: &Profile) -> Result<String, CaError> {
        let request = CertificateSigningRequestParams::from_pem(csr)?;
        self.certify(&request.public_key, profile)
    }

    fn certify(&self, key: &impl PublicKeyData, profile: &Profile) -> Result<String, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = profile.subject();
        params.subject_alt_names = profile.names()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, LEAF_VALIDITY);
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }
}

/// Sets both ends of the validity and a random positive serial number of 16 octets.
fn validity(params: &mut CertificateParams, length: Duration) {
    let now = Duration::from_secs(jiff::Timestamp::now().as_second().max(0).unsigned_abs());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATE);
    params.not_after = epoch + now + length;
    let mut serial: [u8; 16] = rand::random();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::*;

    fn with_certificate<T>(pem: &str, read: impl FnOnce(X509Certificate<'_>) -> T) -> T {
        let (_, pem) = parse_x509_pem(pem.as_bytes()).unwrap();
        read(pem.parse_x509().unwrap())
    }

    #[test]
    fn a_loaded_ca_signs_like_the_created_one() {
        let created = Ca::create().unwrap();
        let loaded = Ca::load(created.certificate(), &created.key()).unwrap();
        assert_eq!(created.fingerprint(), loaded.fingerprint());
        let issued = loaded
            .issue(&Profile::Node {
                name: "n1".to_owned(),
                addresses: vec![[127, 0, 0, 2].into()],
            })
            .unwrap();
        let key_id = with_certificate(created.certificate(), |ca| {
            ca.extensions()
                .iter()
                .find_map(|e| match e.parsed_extension() {
                    ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                    _ => None,
                })
                .unwrap()
        });
        with_certificate(&issued.certificate, |leaf| {
            assert_eq!(leaf.issuer().to_string(), "CN=carob-ca");
            assert!(
                leaf.subject().to_string().contains("CN=system:node:n1"),
                "{}",
                leaf.subject()
            );
            let names = leaf.subject_alternative_name().unwrap().unwrap();
            assert!(
                names
                    .value
                    .general_names
                    .contains(&GeneralName::IPAddress(&[127, 0, 0, 2]))
            );
            let authority = leaf
                .extensions()
                .iter()
                .find_map(|e| match e.parsed_extension() {
                    ParsedExtension::AuthorityKeyIdentifier(id) => {
                        id.key_identifier.as_ref().map(|k| k.0.to_vec())
                    }
                    _ => None,
                });
            assert_eq!(authority, Some(key_id));
        });
    }

    #[test]
    fn a_request_cannot_choose_its_subject() {
        let ca = Ca::create().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut wish = CertificateParams::default();
        wish.distinguished_name
            .push(DnType::OrganizationName, MASTERS);
        let csr = wish.serialize_request(&key).unwrap().pem().unwrap();
        let signed = ca
            .sign(
                &csr,
                &Profile::Node {
                    name: "n".to_owned(),
                    addresses: vec![],
                },
            )
            .unwrap();
        with_certificate(&signed, |leaf| {
            let subject = leaf.subject().to_string();
            assert!(
                subject.contains(NODES) && !subject.contains(MASTERS),
                "{subject}"
            );
        });
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(Ca::load("nonsense", "nonsense").is_err());
        assert!(
            Ca::create()
                .unwrap()
                .sign("nonsense", &Profile::Admin)
                .is_err()
        );
    }
}
