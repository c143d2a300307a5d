//! Service-account tokens: what the cluster's key did not sign is nobody's, and what it did sign is no more than it
//! says.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use bytes::Bytes;
use client::Transport;
use http::{HeaderValue, Request};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::{Random, prove};
use crate::judge::refusal;
use crate::mutate::{bend, damage};
use crate::world::{Answer, Who, World};

const WHOAMI: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCOUNT: &str = "system:serviceaccount:default:a";

/// What of a token's claims makes a user; the rest may be as deep as it likes.
#[derive(Deserialize, PartialEq)]
struct Said {
    iss: String,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    bound: Bound,
}

#[derive(Deserialize, PartialEq)]
struct Bound {
    namespace: String,
    serviceaccount: Account,
}

#[derive(Deserialize, PartialEq)]
struct Account {
    name: String,
    uid: String,
}

/// A server, one of its tokens, and the key that signed it.
struct Forge {
    world: World,
    /// Anonymous, but in this process: no bound of HTTP stands before the server's own.
    bearer: Arc<dyn Transport>,
    token: String,
    pair: EcdsaKeyPair,
    /// The public key as the cluster shows it to everybody.
    public: Vec<u8>,
}

impl Forge {
    fn new() -> Self {
        let world = World::start();
        let path = "/api/v1/namespaces/default/serviceaccounts/a/token";
        let asked = json!({"spec": {"expirationSeconds": 600}});
        let made = world.block_on(world.server.post(path, asked)).expect(201);
        let token = made["status"]["token"].as_str().unwrap().to_owned();
        let public = world.block_on(world.server.get("/openid/v1/jwks"));
        let state = world.server.store.state();
        let stored = state.range(b"/carob/service-accounts/key").next().unwrap();
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &stored.1.value, &random).unwrap();
        let no_groups: [&str; 0] = [];
        Self {
            bearer: world.server.server.transport("system:anonymous", no_groups),
            token,
            pair,
            public: public.body.to_vec(),
            world,
        }
    }

    fn part(&self, at: usize) -> Value {
        let part = self.token.split('.').nth(at).unwrap();
        serde_json::from_slice(&BASE64_URL.decode(part).unwrap()).unwrap()
    }

    /// A token of this header and these claims, signed by the cluster's own key.
    fn sign(&self, header: &str, claims: &str) -> String {
        let signed = unsigned(header, claims);
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", BASE64_URL.encode(signature.unwrap()))
    }

    /// Who the server says that the bearer is; none, where a header cannot hold the token.
    fn whoami(&self, token: &[u8]) -> Result<Option<Answer>, String> {
        let value = [b"Bearer ".as_slice(), token].concat();
        let Ok(value) = HeaderValue::from_bytes(&value) else {
            return Ok(None);
        };
        let request = Request::post(WHOAMI)
            .header("authorization", value)
            .header("content-type", "application/json")
            .body(Bytes::from_static(b"{}"));
        self.world
            .send(&self.bearer, request.unwrap(), true)
            .map(Some)
    }

    /// What a review says of it.
    fn review(&self, token: &str) -> Result<Value, String> {
        let body = json!({"spec": {"token": token}}).to_string();
        let request = Request::post(REVIEWS)
            .header("content-type", "application/json")
            .body(Bytes::from(body));
        let answer = self.world.read(Who::Admin, request.unwrap())?;
        match answer.code {
            201 => Ok(answer.json()?["status"].take()),
            code => Err(format!("{code}: {}", answer.text())),
        }
    }

    /// Believed by nobody: 401, and a review says no.
    fn refused(&self, token: &[u8]) -> Result<(), String> {
        if let Some(answer) = self.whoami(token)? {
            if answer.code != 401 {
                return Err(format!("{}: {}", answer.code, answer.text()));
            }
            refusal(&answer, "POST", WHOAMI)?;
        }
        let Ok(text) = std::str::from_utf8(token) else {
            return Ok(());
        };
        // Without a token a review is not one.
        let status = match text {
            "" => return Ok(()),
            text => self.review(text)?,
        };
        match status["authenticated"] == true || !status["user"]["username"].is_null() {
            true => Err(format!("a review believes it: {status}")),
            false => Ok(()),
        }
    }
}

fn unsigned(header: &str, claims: &str) -> String {
    format!(
        "{}.{}",
        BASE64_URL.encode(header),
        BASE64_URL.encode(claims)
    )
}

#[test]
fn a_damaged_token_is_nobody_s() {
    let forge = Forge::new();
    let own = forge.whoami(forge.token.as_bytes()).unwrap();
    assert_eq!(own.unwrap().code, 201);
    let make = |random: &mut Random| {
        let token = forge.token.clone().into_bytes();
        let parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
        let part = |random: &mut Random| parts[random.below(3)].to_vec();
        match random.below(4) {
            0 => [part(random), part(random), part(random)].join(&b'.'),
            1 => {
                let at = random.below(3);
                let mut own: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
                let bytes = BASE64_URL.decode(&own[at]).unwrap();
                own[at] = BASE64_URL.encode(damage(bytes, random)).into_bytes();
                own.join(&b'.')
            }
            _ => damage(token, random),
        }
    };
    prove("a_damaged_token_is_nobody_s", make, |token| {
        let trimmed = String::from_utf8_lossy(token);
        match trimmed.trim() {
            // Nothing was damaged; or nothing is left, which is no token at all.
            own if own == forge.token || own.is_empty() => Ok(()),
            _ => forge.refused(token),
        }
    });
}

#[test]
fn claims_that_were_signed_give_no_more_than_they_say() {
    let forge = Forge::new();
    let (header, claims) = (forge.part(0), forge.part(1));
    let make = |random: &mut Random| {
        let others = [
            header.clone(),
            claims.clone(),
            json!({"sub": "system:admin", "groups": ["system:masters"]}),
        ];
        let (mut header, mut claims) = (header.clone(), claims.clone());
        for _ in 0..random.below(2) {
            bend(&mut header, &others, random);
        }
        for _ in 0..random.below(4) {
            bend(&mut claims, &others, random);
        }
        let texts = [header.to_string(), claims.to_string()];
        let [header, claims] = texts.map(|text| match random.percent(10) {
            true => damage(text.into_bytes(), random),
            false => text.into_bytes(),
        });
        (header, claims)
    };
    let name = "claims_that_were_signed_give_no_more_than_they_say";
    prove(name, make, |(header, claims)| {
        let [header, claims] = [header, claims].map(|bytes| String::from_utf8_lossy(bytes));
        let token = forge.sign(&header, &claims);
        let Some(answer) = forge.whoami(token.as_bytes())? else {
            return Ok(());
        };
        if answer.code != 201 {
            return forge.refused(token.as_bytes());
        }
        // What says the same as the token that was given, and more that nobody asks for.
        let user = &answer.json()?["status"]["userInfo"];
        let groups = json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ]);
        let read: Option<Said> = serde_json::from_str(&claims).ok();
        let own: Option<Said> = serde_json::from_value(forge.part(1)).ok();
        let same = read.is_some() && read == own;
        match user["username"] == ACCOUNT && user["groups"] == groups && same {
            true => Ok(()),
            false => Err(format!("it is believed: {user}")),
        }
    });
}

#[test]
fn other_algorithms_and_what_is_too_much() {
    let forge = Forge::new();
    let (header, claims) = (forge.part(0), forge.part(1));
    let kid = header["kid"].as_str().unwrap();
    let own = header.to_string();
    let with = |alg: &str| json!({"alg": alg, "kid": kid, "typ": "JWT"}).to_string();
    let mac = |alg: &str, key: &[u8]| {
        let signed = unsigned(&with(alg), &claims.to_string());
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let tag = hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", BASE64_URL.encode(tag))
    };
    let set: Value = serde_json::from_slice(&forge.public).unwrap();
    let [x, y] = ["x", "y"].map(|c| {
        let text = set["keys"][0][c].as_str().unwrap();
        BASE64_URL.decode(text).unwrap()
    });
    let point = [vec![4], x, y].concat();
    let claim = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims.to_string()
    };
    let text = claims.to_string();
    let inside = text.strip_prefix('{').unwrap();
    let deep = |levels: usize| {
        format!(
            "{{\"deep\":{}{},{inside}",
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    let parts: Vec<&str> = forge.token.split('.').collect();
    for (what, token) in [
        (
            "no algorithm",
            format!("{}.", unsigned(&with("none"), &text)),
        ),
        (
            "no algorithm, its own signature",
            format!("{}.{}", unsigned(&with("none"), &text), parts[2]),
        ),
        ("HS256 by the public key", mac("HS256", &point)),
        (
            "HS256 by the public key's coordinates",
            mac("HS256", &point[1..]),
        ),
        ("HS256 by the public document", mac("HS256", &forge.public)),
        ("ES256 with a MAC", mac("ES256", &point)),
        (
            "another algorithm in its own key's hand",
            forge.sign(&with("ES384"), &text),
        ),
        ("lower case", forge.sign(&with("es256"), &text)),
        (
            "another key's name",
            forge.sign(&json!({"alg": "ES256", "kid": "x"}).to_string(), &text),
        ),
        (
            "two algorithms",
            forge.sign(
                &format!(r#"{{"alg":"none","alg":"ES256","kid":"{kid}"}}"#),
                &text,
            ),
        ),
        (
            "two subjects",
            forge.sign(&own, &format!("{{\"sub\":\"system:admin\",{inside}")),
        ),
        ("a header in a list", forge.sign(&format!("[{own}]"), &text)),
        ("a fourth part", format!("{}.{}", forge.token, parts[2])),
        (
            "a part twice",
            format!("{}.{}.{}.{}", parts[0], parts[1], parts[1], parts[2]),
        ),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        (
            "a signature of noughts",
            format!("{}.{}.{}", parts[0], parts[1], BASE64_URL.encode([0; 64])),
        ),
        (
            "huge claims",
            forge.sign(&own, &claim("jti", "x".repeat(1 << 20).into())),
        ),
        (
            "a huge header",
            forge.sign(&format!("{}{own}", " ".repeat(1 << 20)), &text),
        ),
        ("deep claims", forge.sign(&own, &deep(200_000))),
        (
            "an end before the begin of time",
            forge.sign(&own, &claim("exp", json!(i64::MIN))),
        ),
        (
            "an end that is none",
            forge.sign(&own, &claim("exp", json!(1e300))),
        ),
        ("not yet", forge.sign(&own, &claim("nbf", json!(i64::MAX)))),
        (
            "another audience",
            forge.sign(&own, &claim("aud", json!(["vault"]))),
        ),
        (
            "another issuer",
            forge.sign(&own, &claim("iss", json!("https://example.com"))),
        ),
        (
            "another subject",
            forge.sign(&own, &claim("sub", json!("system:admin"))),
        ),
        (
            "another account",
            forge.sign(&own, &text.replace(":a\"", ":default\"")),
        ),
        (
            "a path in its account",
            forge.sign(&own, &text.replace("\"name\":\"a\"", "\"name\":\"../a\"")),
        ),
    ] {
        forge
            .refused(token.as_bytes())
            .unwrap_or_else(|why| panic!("{what}: {why}"));
    }
    // A signature of what is right is believed: the forge works.
    let right = forge.sign(&own, &text);
    assert_eq!(forge.whoami(right.as_bytes()).unwrap().unwrap().code, 201);
    // What nobody asks for is passed over, however deep it is.
    let passed = forge.sign(&own, &deep(3_000));
    assert_eq!(forge.whoami(passed.as_bytes()).unwrap().unwrap().code, 201);
}
