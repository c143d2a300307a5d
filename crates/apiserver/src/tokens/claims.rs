//! What a service-account token says, and whether that still holds. Pure: the time and the objects are given.

use api::{Object, Resource};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Secret, ServiceAccount};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admission::may_be_going;
use crate::identity::{CREDENTIAL_ID, Identity, SERVICE_ACCOUNT};

/// Who signs: the name by which pods reach the API.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// For how long the token of a pod or account that goes away is still good, as in Kubernetes: it may have
/// something to say at its end.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// The claims, in the names of RFC 7519 and Kubernetes. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) aud: Vec<String>,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) iss: String,
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) bound: Bound,
    pub(crate) nbf: i64,
    pub(crate) sub: String,
}

/// The objects that a token belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Named>,
    pub(crate) serviceaccount: Named,
}

/// An object by name and uid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) uid: String,
}

/// Why a token is not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("invalid bearer token")]
    NotOurs,
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    NotYet,
    #[error("token audiences {0:?} is invalid for the target audiences {1:?}")]
    Audience(Vec<String>, Vec<String>),
    #[error("service account token has been invalidated")]
    Invalidated,
}

impl Claims {
    /// The subject of an account.
    pub(crate) fn subject(namespace: &str, account: &str) -> String {
        format!("{SERVICE_ACCOUNT}{namespace}:{account}")
    }

    /// Those of `wanted` audiences that the token is for.
    ///
    /// # Errors
    /// Another issuer's, not of this time, for none of them.
    pub(crate) fn judge(&self, wanted: &[String], now: Timestamp) -> Result<Vec<String>, Fault> {
        let bound = &self.bound;
        let subject = Claims::subject(&bound.namespace, &bound.serviceaccount.name);
        if self.iss != ISSUER || self.sub != subject {
            return Err(Fault::NotOurs);
        }
        let now = now.as_second();
        if self.exp <= now {
            return Err(Fault::Expired);
        }
        if self.nbf > now {
            return Err(Fault::NotYet);
        }
        let matching: Vec<String> = wanted
            .iter()
            .filter(|audience| self.aud.contains(audience))
            .cloned()
            .collect();
        if matching.is_empty() {
            return Err(Fault::Audience(self.aud.clone(), wanted.to_vec()));
        }
        Ok(matching)
    }

    /// Whether the account and what else the token is bound to are still what they were. `find` gives the
    /// object of a resource, namespace and name.
    ///
    /// # Errors
    /// [`Fault::Invalidated`] if one is gone, another of its name is there, or it was to be gone by now.
    pub(crate) fn still_bound(
        &self,
        find: impl Fn(&Resource, Option<&str>, &str) -> Option<Object>,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let bound = &self.bound;
        let namespace = Some(bound.namespace.as_str());
        let mut all = vec![(
            Resource::of::<ServiceAccount>(),
            namespace,
            &bound.serviceaccount,
        )];
        if let Some(pod) = &bound.pod {
            // The node is told for information, its pod is what binds.
            all.push((Resource::of::<Pod>(), namespace, pod));
        } else if let Some(node) = &bound.node {
            all.push((Resource::of::<Node>(), None, node));
        }
        if let Some(secret) = &bound.secret {
            all.push((Resource::of::<Secret>(), namespace, secret));
        }
        let holds = all.into_iter().all(|(resource, namespace, named)| {
            find(resource, namespace, &named.name)
                .is_some_and(|object| object.uid() == named.uid && !is_over(&object, now))
        });
        if holds {
            Ok(())
        } else {
            Err(Fault::Invalidated)
        }
    }

    /// The user that the token speaks for.
    pub(crate) fn identity(&self) -> Identity {
        let bound = &self.bound;
        let mut identity =
            Identity::of_service_account(&bound.namespace, &bound.serviceaccount.name);
        identity.uid.clone_from(&bound.serviceaccount.uid);
        let mut extra = |key: String, value: String| identity.extra.insert(key, vec![value]);
        extra(CREDENTIAL_ID.to_owned(), format!("JTI={}", self.jti));
        for (kind, named) in [("node", &bound.node), ("pod", &bound.pod)] {
            let key = |what| format!("authentication.kubernetes.io/{kind}-{what}");
            if let Some(named) = named {
                extra(key("name"), named.name.clone());
                if !named.uid.is_empty() {
                    extra(key("uid"), named.uid.clone());
                }
            }
        }
        identity
    }
}

/// Whether an object was to be gone a while ago.
fn is_over(object: &Object, now: Timestamp) -> bool {
    if !may_be_going(object.bytes()) {
        return false;
    }
    let value = object.value().unwrap_or_default();
    match &value["metadata"]["deletionTimestamp"] {
        Value::String(at) => at
            .parse::<Timestamp>()
            .is_ok_and(|at| now.duration_since(at) > LEEWAY),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn claims() -> Claims {
        serde_json::from_value(json!({
            "aud": ["api", "vault"], "exp": NOW + 60, "iat": NOW, "nbf": NOW, "iss": ISSUER, "jti": "id",
            "kubernetes.io": {
                "namespace": "ns", "serviceaccount": {"name": "sa", "uid": "u1"},
                "pod": {"name": "p", "uid": "u2"}, "node": {"name": "n", "uid": "u3"},
            },
            "sub": "system:serviceaccount:ns:sa",
        }))
        .unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn time_issuer_and_audience() {
        let wanted = |all: &[&str]| all.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
        let api = wanted(&["api"]);
        assert_eq!(claims().judge(&api, at(NOW)), Ok(api.clone()));
        assert_eq!(
            claims().judge(&wanted(&["x", "vault", "api"]), at(NOW)),
            Ok(wanted(&["vault", "api"]))
        );
        assert_eq!(claims().judge(&api, at(NOW + 60)), Err(Fault::Expired));
        assert_eq!(claims().judge(&api, at(NOW - 1)), Err(Fault::NotYet));
        assert_eq!(
            claims()
                .judge(&wanted(&["x"]), at(NOW))
                .unwrap_err()
                .to_string(),
            r#"token audiences ["api", "vault"] is invalid for the target audiences ["x"]"#
        );
        let foreign = Claims {
            iss: "https://elsewhere".into(),
            ..claims()
        };
        assert_eq!(foreign.judge(&api, at(NOW)), Err(Fault::NotOurs));
        let other = Claims {
            sub: "system:serviceaccount:ns:admin".into(),
            ..claims()
        };
        assert_eq!(other.judge(&api, at(NOW)), Err(Fault::NotOurs));
    }

    #[test]
    fn it_ends_with_what_it_is_bound_to() {
        let object = |uid: &str, going: Option<i64>| {
            let going = going.map(|s| at(s).to_string());
            let json = json!({"metadata": {"name": "x", "uid": uid, "deletionTimestamp": going}});
            Object::from_stored(json.to_string().as_bytes(), 1).unwrap()
        };
        let judge = |account: Option<Object>, pod: Option<Object>| {
            let find = |resource: &Resource, namespace: Option<&str>, name: &str| match (
                resource.plural,
                namespace,
                name,
            ) {
                ("serviceaccounts", Some("ns"), "sa") => account.clone(),
                ("pods", Some("ns"), "p") => pod.clone(),
                other => panic!("{other:?} was asked for"),
            };
            claims().still_bound(find, at(NOW))
        };
        let (account, pod) = (object("u1", None), object("u2", None));
        let there = |o: &Object| Some(o.clone());
        assert_eq!(judge(there(&account), there(&pod)), Ok(()));
        assert_eq!(
            judge(there(&account), Some(object("u2", Some(NOW - 60)))),
            Ok(())
        );
        for (account, pod) in [
            (None, there(&pod)),
            (there(&account), None),
            (Some(object("another", None)), there(&pod)),
            (there(&account), Some(object("another", None))),
            (there(&account), Some(object("u2", Some(NOW - 61)))),
        ] {
            assert_eq!(judge(account, pod), Err(Fault::Invalidated));
        }
    }

    #[test]
    fn the_user_is_kubernetes_own() {
        let identity = claims().identity();
        assert_eq!(identity.user, "system:serviceaccount:ns:sa");
        assert_eq!(identity.uid, "u1");
        assert_eq!(
            identity.groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:ns",
                "system:authenticated"
            ]
        );
        let extra: Vec<String> = identity
            .extra
            .iter()
            .map(|(key, values)| format!("{key}={}", values.join(",")))
            .collect();
        assert_eq!(
            extra,
            [
                "authentication.kubernetes.io/credential-id=JTI=id",
                "authentication.kubernetes.io/node-name=n",
                "authentication.kubernetes.io/node-uid=u3",
                "authentication.kubernetes.io/pod-name=p",
                "authentication.kubernetes.io/pod-uid=u2",
            ]
        );
    }
}
