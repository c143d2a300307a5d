//! Service-account tokens: signed by a key that the cluster's servers share through the store, believed while the
//! account, and the pod, node or secret that they are bound to, are there.

mod claims;
mod key;

use std::sync::OnceLock;

use api::Status;
use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::{Value, json};
use store::{Command, Op, When};

use crate::ApiServer;
use crate::identity::Identity;
use crate::registry::unavailable;

pub(crate) use claims::{Bound, Claims, Fault, ISSUER, Named};
use key::Key;

/// The store's key of the signing key.
const STORED: &[u8] = b"/carob/service-accounts/key";
/// In the place of a token that is no text.
const NOBODYS: &str = "\u{fffd}";
/// Where the public keys are.
pub(crate) const KEYS_PATH: &str = "/openid/v1/jwks";
/// Where it is said who the issuer is (OpenID Connect Discovery).
pub(crate) const ISSUER_PATH: &str = "/.well-known/openid-configuration";

/// The key, once the store has it.
#[derive(Default)]
pub(crate) struct Tokens(OnceLock<Key>);

/// Who showed a token, and for which of the audiences that were asked for it is good.
#[derive(Debug)]
pub(crate) struct Bearer {
    pub(crate) identity: Identity,
    pub(crate) audiences: Vec<String>,
}

/// The audiences of the API itself.
pub(crate) fn own_audiences() -> Vec<String> {
    vec![ISSUER.to_owned()]
}

/// The token of an `Authorization` header; none where the header names another scheme or no token,
/// which Kubernetes takes for no credentials at all. As there, what follows a second blank is not
/// looked at.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.as_bytes();
    let mut words = value.trim_ascii().split(|byte| *byte == b' ');
    let (scheme, token) = (words.next()?, words.next()?);
    if !scheme.eq_ignore_ascii_case(b"bearer") || token.is_empty() {
        return None;
    }
    // What is no text is a token all the same, and nobody's.
    Some(std::str::from_utf8(token).unwrap_or(NOBODYS))
}

impl ApiServer {
    /// Has the key: the stored one, or a new one if there is none. Servers that start at once agree on the first
    /// that is stored.
    pub(crate) async fn prepare_tokens(&self) -> Result<(), Status> {
        let key = Bytes::from_static(STORED);
        let failed = |e: key::KeyError| Status::internal(e.to_string());
        while self.inner.tokens.0.get().is_none() {
            self.fresh().await?;
            if let Some(entry) = self.local(&key) {
                let loaded = Key::load(&entry.value).map_err(failed)?;
                self.inner.tokens.0.get_or_init(|| loaded);
                break;
            }
            let command = Command {
                when: vec![When::Revision {
                    key: key.clone(),
                    is: 0,
                }],
                ops: vec![Op::Put {
                    key: key.clone(),
                    value: Key::generate().map_err(failed)?.into(),
                    lease: None,
                }],
            };
            self.inner.store.write(command).await.map_err(unavailable)?;
        }
        Ok(())
    }

    fn key(&self) -> Result<&Key, Status> {
        let key = self.inner.tokens.0.get();
        key.ok_or_else(|| Status::service_unavailable("the key of tokens is not there yet"))
    }

    /// A token of these claims.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String, Status> {
        let failed = |e: String| Status::internal(e);
        let claims = serde_json::to_value(claims).map_err(|e| failed(e.to_string()))?;
        let signed = self.key()?.sign(&claims);
        signed.map_err(|e| failed(e.to_string()))
    }

    /// Who shows this token, if it is good for one of the audiences.
    ///
    /// # Errors
    /// The inner one says why the token is not believed; the outer one, that nobody can tell now.
    pub(crate) async fn believe(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Result<Bearer, Fault>, Status> {
        let key = self.key()?;
        let claims = key
            .verify(token)
            .and_then(|json| serde_json::from_slice::<Claims>(&json).ok());
        let Some(claims) = claims else {
            return Ok(Err(Fault::NotOurs));
        };
        let now = Timestamp::now();
        let audiences = match claims.judge(audiences, now) {
            Ok(audiences) => audiences,
            Err(fault) => return Ok(Err(fault)),
        };
        let bound = || {
            claims.still_bound(
                |resource, namespace, name| {
                    let entry = self.local(resource.key(namespace, name).as_bytes())?;
                    api::Object::from_stored(&entry.value, entry.modified).ok()
                },
                now,
            )
        };
        if bound().is_err() {
            // Made a moment ago through another server, or not there.
            self.fresh().await?;
            if let Err(fault) = bound() {
                return Ok(Err(fault));
            }
        }
        Ok(Ok(Bearer {
            identity: claims.identity(),
            audiences,
        }))
    }

    /// What says to others who signs these tokens and by which keys, if the path is one of these.
    pub(crate) fn issuer_document(
        &self,
        path: &str,
    ) -> Result<Option<(Value, &'static str)>, Status> {
        Ok(match path {
            ISSUER_PATH => Some((
                json!({
                    "issuer": ISSUER,
                    "jwks_uri": format!("{}{KEYS_PATH}", self.inner.config.url),
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["ES256"],
                }),
                "application/json",
            )),
            KEYS_PATH => Some((self.key()?.public_set(), "application/jwk-set+json")),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_bearer() {
        for (header, token) in [
            (&b"Bearer abc"[..], Some("abc")),
            (b" bearer abc ", Some("abc")),
            (b"BEARER abc def", Some("abc")),
            (b"Bearer \xff", Some(NOBODYS)),
            (b"Bearer  abc", None),
            (b"Basic abc", None),
            (b"Negotiate x", None),
            (b"Bearer ", None),
            (b"Bearer", None),
            (b"Bearerabc", None),
            (b"abc", None),
            (b"", None),
        ] {
            let value = http::HeaderValue::from_bytes(header).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(http::header::AUTHORIZATION, value);
            assert_eq!(bearer(&headers), token, "{}", header.escape_ascii());
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
