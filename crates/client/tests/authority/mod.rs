//! A cluster's CA, for tests.

use client::tls::{self, Identity, Subject};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer,
    KeyPair,
};

/// A cluster's CA.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "carob-ca");
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub(crate) fn ca_pem(&self) -> String {
        self.pem.clone()
    }

    /// A node's identity.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        self.identity_of(name, "system:nodes")
    }

    /// Signs a request as a joining machine makes it, for 127.0.0.1.
    pub(crate) fn identity_of(&self, name: &str, group: &str) -> Identity {
        let request = tls::request(name, group, &["127.0.0.1".parse().unwrap()]).unwrap();
        let csr = CertificateSigningRequestParams::from_pem(&request.csr_pem).unwrap();
        let cert_pem = csr.signed_by(&self.issuer).unwrap().pem();
        let der = tls::certificates(&cert_pem).unwrap();
        let subject = Subject::of(&der[0]).unwrap();
        assert_eq!(subject.common_name, name);
        assert_eq!(subject.organizations, [group]);
        assert_eq!(
            subject.addresses,
            ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]
        );
        Identity {
            cert_pem,
            key_pem: request.key_pem,
            ca_pem: self.ca_pem(),
        }
    }
}
