//! `serviceAccountToken`: a token by which a pod shows whose it is, valid while the pod lives and not for long.
//!
//! Tokens are kept nowhere but in their files, and are nowhere printed. A pod taken up after the agent's restart gets a
//! new one: its guests begin anew too, and the file's own term may be longer than the one that its reader should go by.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ServiceAccount, ServiceAccountTokenProjection};
use serde_json::Value;

use super::payload::{self, File};
use super::{Context, Error};
use crate::blocking::blocking;
use crate::pod::PodView as _;

/// How long a token is asked for where its source does not say, in seconds.
const LIFE: i64 = 3600;
/// The least life that is believed: whatever a server answers, nobody asks it without a pause.
const SHORTEST: i64 = 60;
/// No token is used for longer, in seconds.
const LONGEST_USE: i64 = 24 * 3600;
/// What of a token's life is used, in hundredths.
const USED: i64 = 80;
/// By how much the pods' renewals are spread, in hundredths of the time until then.
const SPREAD: u64 = 5;

/// The token that lies in the volume, where it is not due yet.
pub(super) async fn kept(
    source: &ServiceAccountTokenProjection,
    cx: &Context<'_>,
) -> Option<(File, Timestamp)> {
    let before = cx.before?;
    let due = before.renew_at.filter(|due| *due > cx.clock.now())?;
    let (dir, path) = (before.path.clone(), source.path.clone());
    let token = blocking(move || payload::read(&dir, &path)).await.ok()?;
    Some((in_file(token), due))
}

/// Asks for a token.
///
/// # Errors
/// When the API server does not answer, or refuses; when the pod has ended meanwhile.
pub(super) async fn file(
    source: &ServiceAccountTokenProjection,
    cx: &Context<'_>,
) -> Result<(File, Timestamp), Error> {
    let asked = source.expiration_seconds.unwrap_or(LIFE);
    let account = cx
        .pod
        .pod_spec()
        .and_then(|s| s.service_account_name.as_deref());
    let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
    let accounts = cx.client.of::<ServiceAccount>();
    let request = request(source, asked, cx);
    // Read as any JSON: an error about a form of our own would quote what does not fit it.
    let answer = async {
        let _room = cx.objects.room().await;
        let namespace = cx.pod.namespace();
        let answer = accounts.post::<_, Value>(namespace, account, "token", &request);
        answer.await
    };
    let answer = cx.while_wanted(answer).await?.map_err(Error::Token)?;
    let token = answer["status"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        let why = "the API server's answer holds no token".to_owned();
        return Err(Error::Token(client::Error::Invalid(why)));
    }
    // The server may have given less than was asked for.
    let life = answer["spec"]["expirationSeconds"]
        .as_i64()
        .unwrap_or(asked);
    let due = cx
        .clock
        .now()
        .checked_add(used(life, cx.pod.uid(), &source.path));
    let file = in_file(token.as_bytes().to_vec());
    Ok((file, due.unwrap_or(Timestamp::MAX)))
}

/// A token's file is its owner's alone: guests have no user ids, all they open the agent opens for them.
fn in_file(token: Vec<u8>) -> File {
    File::new(token, Some(0o600), None)
}

fn request(source: &ServiceAccountTokenProjection, seconds: i64, cx: &Context<'_>) -> TokenRequest {
    let audience = source.audience.clone().filter(|a| !a.is_empty());
    let spec = TokenRequestSpec {
        // None is the API server itself.
        audiences: Some(audience.into_iter().collect()),
        expiration_seconds: Some(seconds),
        bound_object_ref: Some(BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(cx.pod.name().to_owned()),
            uid: Some(cx.pod.uid().to_owned()),
        }),
    };
    TokenRequest {
        spec: Some(spec),
        ..TokenRequest::default()
    }
}

/// How long a token of so many seconds is used: as the kubelet does it, 80 % of its life and at most a day. It counts
/// from when the node got it, since clocks of machines differ. Pods that were started together do not renew together:
/// each has a moment of its own before that time.
fn used(life: i64, uid: &str, path: &str) -> SignedDuration {
    let life = life.clamp(SHORTEST, LONGEST_USE * 2);
    let most = (life * USED / 100).min(LONGEST_USE);
    let mut hasher = DefaultHasher::new();
    (uid, path).hash(&mut hasher);
    let spread = most.unsigned_abs() * 1000 * SPREAD / 100;
    let earlier = hasher.finish() % spread.max(1);
    SignedDuration::from_millis(most * 1000 - earlier.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_used_for_most_of_their_life_and_a_day_at_most() {
        let day = 24 * 3600;
        let table = [
            (3607, 2885),
            (600, 480),
            (day, day * 8 / 10),
            (7 * day, day),
            (i64::MAX, day),
            (0, 48),
            (i64::MIN, 48),
        ];
        for (life, most) in table {
            let all: Vec<i64> = (0..100)
                .map(|pod| used(life, &format!("u-{pod}"), "token").as_millis() as i64)
                .collect();
            let range = most * 950..=most * 1000;
            assert!(all.iter().all(|t| range.contains(t)), "{life}: {all:?}");
            let first = all.iter().min().unwrap();
            let last = all.iter().max().unwrap();
            assert!(last - first > most * 40, "{life}: they are spread");
        }
        assert_eq!(used(3600, "u", "a"), used(3600, "u", "a"));
    }
}
