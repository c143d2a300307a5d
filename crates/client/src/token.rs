//! Join tokens: `<id>.<secret>.<sha256 of the CA certificate>`.
//!
//! The first two parts are a bootstrap token as Kubernetes has it, and prove to a server that a
//! machine may join. The third proves the server to the machine: it trusts only a chain that
//! ends in the certificate with that digest.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// A join token. Its `Debug` form keeps the secret back.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
    ca_digest: [u8; 32],
}

/// What is wrong with the text of a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokenError {
    /// There are not three parts.
    #[error("a join token has three parts separated by dots, <id>.<secret>.<sha256>; this has {0}")]
    Parts(usize),
    /// The first part is not a token's id.
    #[error("the first part of a join token is 6 of the characters a-z and 0-9")]
    Id,
    /// The second part is not a token's secret.
    #[error("the second part of a join token is 16 of the characters a-z and 0-9")]
    Secret,
    /// The third part is not a digest.
    #[error("the third part of a join token is 64 hexadecimal digits")]
    Digest,
}

impl Token {
    /// A token of these parts, for the cluster with this CA certificate (DER).
    ///
    /// # Errors
    /// When `id` is not 6, or `secret` not 16, of the characters a-z and 0-9.
    pub fn new(id: &str, secret: &str, ca_der: &[u8]) -> Result<Self, ParseTokenError> {
        Token::from_parts(id, secret, digest(ca_der))
    }

    fn from_parts(id: &str, secret: &str, ca_digest: [u8; 32]) -> Result<Self, ParseTokenError> {
        if !is_word(id, ID_LENGTH) {
            return Err(ParseTokenError::Id);
        }
        if !is_word(secret, SECRET_LENGTH) {
            return Err(ParseTokenError::Secret);
        }
        Ok(Token {
            id: id.to_owned(),
            secret: secret.to_owned(),
            ca_digest,
        })
    }

    /// The public part, by which the token's Secret `bootstrap-token-<id>` is found.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret part.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The SHA-256 digest of the CA certificate's DER.
    #[must_use]
    pub fn ca_digest(&self) -> &[u8; 32] {
        &self.ca_digest
    }

    /// `<id>.<secret>`: what is sent as the bearer token.
    #[must_use]
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

/// The digest of a certificate's DER, as tokens carry it.
#[must_use]
pub fn digest(certificate_der: &[u8]) -> [u8; 32] {
    Sha256::digest(certificate_der).into()
}

fn is_word(text: &str, length: usize) -> bool {
    text.len() == length
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

impl FromStr for Token {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [id, secret, digest] = parts[..] else {
            return Err(ParseTokenError::Parts(parts.len()));
        };
        let mut ca_digest = [0; 32];
        hex::decode_to_slice(digest, &mut ca_digest).map_err(|_| ParseTokenError::Digest)?;
        Token::from_parts(id, secret, ca_digest)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = hex::encode(self.ca_digest);
        write!(f, "{}.{}.{digest}", self.id, self.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}.…)", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let token = Token::new("abc123", "0123456789abcdef", b"certificate").unwrap();
        let text = token.to_string();
        assert_eq!(text.len(), 6 + 1 + 16 + 1 + 64);
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!("{text}\n").parse(), Ok(token.clone()));
        assert_eq!(token.bearer(), "abc123.0123456789abcdef");
        assert_eq!(format!("{token:?}"), "Token(abc123.…)");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let hash = "0".repeat(64);
        for (text, error) in [
            (String::new(), ParseTokenError::Parts(1)),
            ("abc123.0123456789abcdef".into(), ParseTokenError::Parts(2)),
            (
                format!("ABC123.0123456789abcdef.{hash}"),
                ParseTokenError::Id,
            ),
            (format!("abc123.short.{hash}"), ParseTokenError::Secret),
            ("abc123.0123456789abcdef.zz".into(), ParseTokenError::Digest),
            (
                format!("abc123.0123456789abcdef.{hash}0"),
                ParseTokenError::Digest,
            ),
        ] {
            assert_eq!(text.parse::<Token>(), Err(error), "{text}");
        }
    }
}
