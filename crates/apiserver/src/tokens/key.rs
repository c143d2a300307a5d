//! The key that signs a cluster's service-account tokens, and compact JSON Web Signatures (RFC 7515) by it.
//!
//! ES256 is the only algorithm there is: a token that names another, or none, is not ours. The mathematics is
//! ring's, as for TLS; the JWT libraries would bring a second implementation of it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Bytes of a token that are looked at. Ours have about 1,000.
const MAX_TOKEN: usize = 16 * 1024;
/// Bytes of a coordinate of a point on P-256.
const COORDINATE: usize = 32;

/// The key and its name.
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    /// The key's thumbprint (RFC 7638), which tokens name as `kid`.
    id: String,
}

/// The key cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
#[error("the key of service-account tokens {0}")]
pub(crate) struct KeyError(&'static str);

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

impl Key {
    /// A new key as it is stored (PKCS #8, DER).
    pub(crate) fn generate() -> Result<Vec<u8>, KeyError> {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map(|document| document.as_ref().to_vec())
            .map_err(|_| KeyError("cannot be made"))
    }

    /// The key that was stored.
    pub(crate) fn load(pkcs8: &[u8]) -> Result<Key, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            pkcs8,
            &SystemRandom::new(),
        )
        .map_err(|_| KeyError("cannot be read"))?;
        let [x, y] = coordinates(&pair);
        // RFC 7638 fixes the members, their order and that there is no space.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let id = BASE64_URL.encode(Sha256::digest(canonical));
        Ok(Key { pair, id })
    }

    /// The claims as a signed token.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        let header = json!({"alg": "ES256", "kid": self.id}).to_string();
        let signed = format!(
            "{}.{}",
            BASE64_URL.encode(header),
            BASE64_URL.encode(claims.to_string())
        );
        let signature = self
            .pair
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| KeyError("cannot sign"))?;
        Ok(format!("{signed}.{}", BASE64_URL.encode(signature)))
    }

    /// The claims' bytes of a token that this key signed; none of any other text.
    pub(crate) fn verify(&self, token: &str) -> Option<Vec<u8>> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&BASE64_URL.decode(header).ok()?).ok()?;
        if header.alg != "ES256" || header.kid != self.id {
            return None;
        }
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key());
        let signature = BASE64_URL.decode(signature).ok()?;
        public.verify(signed.as_bytes(), &signature).ok()?;
        BASE64_URL.decode(claims).ok()
    }

    /// The public half as a JSON Web Key Set (RFC 7517).
    pub(crate) fn public_set(&self) -> Value {
        let [x, y] = coordinates(&self.pair);
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256", "x": x, "y": y,
        }]})
    }
}

/// Both coordinates of the public point: what follows the mark of an uncompressed one.
fn coordinates(pair: &EcdsaKeyPair) -> [String; 2] {
    let point = pair.public_key().as_ref();
    let (x, y) = point[1..].split_at(COORDINATE);
    [x, y].map(|c| BASE64_URL.encode(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::load(&Key::generate().unwrap()).unwrap()
    }

    #[test]
    fn what_was_signed_is_believed_and_nothing_else() {
        let (key, other) = (key(), key());
        let claims = json!({"sub": "system:serviceaccount:ns:sa"});
        let token = key.sign(&claims).unwrap();
        let read = key.verify(&token).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&read).unwrap(), claims);
        assert_eq!(other.verify(&token), None);

        let parts: Vec<&str> = token.split('.').collect();
        let forged = BASE64_URL.encode(json!({"sub": "system:admin"}).to_string());
        let header = |alg: &str| BASE64_URL.encode(json!({"alg": alg, "kid": key.id}).to_string());
        for bad in [
            format!("{}.{forged}.{}", parts[0], parts[2]),
            format!("{}.{}.", header("none"), parts[1]),
            format!("{}.{}.{}", header("HS256"), parts[1], parts[2]),
            format!("{}.{}", parts[0], parts[1]),
            format!("{token}x"),
            format!("{token}="),
            String::new(),
            "..".to_owned(),
            "a.b.c".to_owned(),
            format!("{token}{}", "A".repeat(MAX_TOKEN)),
        ] {
            assert_eq!(key.verify(&bad), None, "{bad:.60}");
        }
    }

    #[test]
    fn the_stored_key_is_the_same_key() {
        let stored = Key::generate().unwrap();
        let token = Key::load(&stored).unwrap().sign(&json!({})).unwrap();
        assert!(Key::load(&stored).unwrap().verify(&token).is_some());
        assert!(Key::load(b"nonsense").is_err());
    }

    #[test]
    fn the_public_half_verifies() {
        let key = key();
        let token = key.sign(&json!({})).unwrap();
        let set = key.public_set();
        let mut point = vec![4];
        for c in ["x", "y"] {
            let text = set["keys"][0][c].as_str().unwrap();
            point.extend(BASE64_URL.decode(text).unwrap());
        }
        let (signed, signature) = token.rsplit_once('.').unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &BASE64_URL.decode(signature).unwrap())
            .unwrap();
    }
}
