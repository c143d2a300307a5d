//! Kinds that are stored while nothing acts on them: whoever creates one is told.

use api::{Object, Resource};

/// Group and plural of each, sorted, with what is not done for it.
const UNSERVED: &[(&str, &str, &str)] = &[
    ("", "replicationcontrollers", NO_PODS),
    ("", "resourcequotas", "its quota is not applied"),
    (
        "admissionregistration.k8s.io",
        "mutatingadmissionpolicies",
        NO_ADMISSION,
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings",
        NO_ADMISSION,
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        NO_ADMISSION,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicies",
        NO_ADMISSION,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
        NO_ADMISSION,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        NO_ADMISSION,
    ),
    (
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "its resources are not served",
    ),
    (
        "apiregistration.k8s.io",
        "apiservices",
        "nothing is forwarded to it",
    ),
    ("apps", "daemonsets", NO_PODS),
    ("apps", "statefulsets", NO_PODS),
    (
        "autoscaling",
        "horizontalpodautoscalers",
        "nothing is scaled",
    ),
    ("batch", "cronjobs", "no Jobs are made for it"),
    (
        "certificates.k8s.io",
        "certificatesigningrequests",
        "nothing is signed",
    ),
    ("flowcontrol.apiserver.k8s.io", "flowschemas", NO_FLOWS),
    (
        "flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations",
        NO_FLOWS,
    ),
    (
        "networking.k8s.io",
        "servicecidrs",
        "no addresses are taken from it",
    ),
    (
        "policy",
        "poddisruptionbudgets",
        "disruptions are not counted, and every eviction of a pod that it selects is refused",
    ),
    ("resource.k8s.io", "deviceclasses", NO_DEVICES),
    ("resource.k8s.io", "resourceclaims", NO_DEVICES),
    ("resource.k8s.io", "resourceclaimtemplates", NO_DEVICES),
    ("resource.k8s.io", "resourceslices", NO_DEVICES),
    ("storage.k8s.io", "csidrivers", NO_VOLUMES),
    ("storage.k8s.io", "csinodes", NO_VOLUMES),
    ("storage.k8s.io", "csistoragecapacities", NO_VOLUMES),
    ("storage.k8s.io", "volumeattachments", NO_VOLUMES),
    ("storage.k8s.io", "volumeattributesclasses", NO_VOLUMES),
];

const NO_ADMISSION: &str = "no request is judged by it";
const NO_DEVICES: &str = "no devices are handed out";
const NO_FLOWS: &str = "no request is held back by it";
const NO_PODS: &str = "no pods are made for it";
const NO_VOLUMES: &str = "no volumes come from it";

/// The type of secrets that Kubernetes fills with a token of an account.
const ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";

/// What the creator of an object is told that nothing, or less than expected, comes of.
pub(crate) fn warning(resource: &Resource, object: &Object) -> Option<String> {
    if (resource.group, resource.plural) == ("", "secrets") {
        return unfilled(object);
    }
    of_kind(resource)
}

/// Tokens that never end are not made.
fn unfilled(secret: &Object) -> Option<String> {
    let secret = secret.value().ok()?;
    (secret["type"] == ACCOUNT_TOKEN).then(|| {
        format!("carob stores Secrets of type {ACCOUNT_TOKEN} and does not fill them: tokens are asked for (kubectl create token)")
    })
}

fn of_kind(resource: &Resource) -> Option<String> {
    let wanted = (resource.group, resource.plural);
    let at = UNSERVED.binary_search_by(|(group, plural, _)| (*group, *plural).cmp(&wanted));
    let (.., missing) = UNSERVED[at.ok()?];
    Some(format!(
        "carob stores {} and does not act on it yet: {missing}",
        resource.kind
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_of_kinds_that_are_there() {
        assert!(UNSERVED.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)));
        for (group, plural, _) in UNSERVED {
            let known = api::resource::all()
                .iter()
                .find(|known| (known.group, known.plural) == (*group, *plural));
            assert!(of_kind(known.expect(plural)).is_some(), "{plural}");
        }
    }

    #[test]
    fn what_works_is_not_warned_of() {
        for kind in ["Pod", "ConfigMap", "Secret", "Namespace", "Node"] {
            let resource = api::resource::by_kind("v1", kind).expect(kind);
            assert_eq!(of_kind(resource), None);
        }
        let set = api::resource::by_kind("apps/v1", "StatefulSet").expect("StatefulSet");
        assert_eq!(
            of_kind(set).as_deref(),
            Some("carob stores StatefulSet and does not act on it yet: no pods are made for it")
        );
    }

    #[test]
    fn of_secrets_only_those_that_wait_for_a_token() {
        let secrets = api::resource::by_kind("v1", "Secret").expect("Secret");
        let told = |kind: &str| {
            let secret = format!(r#"{{"metadata":{{"name":"s"}},"type":"{kind}"}}"#);
            warning(
                secrets,
                &Object::from_stored(secret.as_bytes(), 1).expect("a secret"),
            )
        };
        assert_eq!(told("Opaque"), None);
        assert!(told(ACCOUNT_TOKEN).is_some_and(|w| w.contains("does not fill")));
    }
}
