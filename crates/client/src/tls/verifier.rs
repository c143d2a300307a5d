//! Whom a client takes for a server: who the CA vouches for, and is of the servers' organisation; of pods, anybody.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        VerifierBuilderError, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{SERVERS, Subject};
use crate::token;

/// Judges certificates. That the server has its certificate's key is asked of all.
#[derive(Debug)]
pub(super) struct Verifier {
    trusted: Trusted,
    provider: Arc<CryptoProvider>,
}

/// Whose certificates are taken.
#[derive(Debug)]
enum Trusted {
    /// Servers' that a known CA has signed.
    Servers(Arc<WebPkiServerVerifier>),
    /// Servers' that the CA has signed whose certificate has this digest, once the server has shown it.
    Pinned([u8; 32]),
    /// All.
    Anybody,
}

impl Verifier {
    pub(super) fn of_servers(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let by_ca = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
        let trusted = Trusted::Servers(by_ca.build()?);
        Ok(Self { trusted, provider })
    }

    pub(super) fn pinned(ca_digest: [u8; 32], provider: Arc<CryptoProvider>) -> Self {
        let trusted = Trusted::Pinned(ca_digest);
        Self { trusted, provider }
    }

    pub(super) fn of_anybody(provider: Arc<CryptoProvider>) -> Self {
        let trusted = Trusted::Anybody;
        Self { trusted, provider }
    }

    /// The verifier by the CA of this digest among those that the server shows.
    fn by_shown_ca(
        &self,
        digest: [u8; 32],
        shown: &[CertificateDer<'_>],
    ) -> Result<Self, rustls::Error> {
        let mut shown = shown.iter();
        let ca = shown.find(|certificate| token::digest(certificate) == digest);
        let ca = ca.ok_or_else(|| {
            let why = "the server's CA is not the one that the token was made for";
            rustls::Error::General(why.to_owned())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        Self::of_servers(Arc::new(roots), self.provider.clone())
            .map_err(|error| rustls::Error::General(error.to_string()))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.trusted {
            Trusted::Servers(by_ca) => {
                by_ca.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                )?;
                of_servers(end_entity)
            }
            Trusted::Pinned(digest) => self
                .by_shown_ca(*digest, intermediates)?
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            Trusted::Anybody => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

fn of_servers(end_entity: &CertificateDer<'_>) -> Result<ServerCertVerified, rustls::Error> {
    let general = |why: String| rustls::Error::General(why);
    let subject = Subject::of(end_entity).map_err(|error| general(error.to_string()))?;
    if subject.organizations.iter().any(|group| group == SERVERS) {
        return Ok(ServerCertVerified::assertion());
    }
    Err(general(format!(
        "the certificate is that of {:?}, which is no server of the cluster",
        subject.common_name
    )))
}
