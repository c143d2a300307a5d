//! Which tokens a node may ask for: those of the pods bound to it, for the audiences that these mount.

use serde_json::Value;

/// Why what is there is not what a reference means.
pub(crate) fn another_uid(uid: &str) -> String {
    format!(
        "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
    )
}

/// Judges a node's request for a token by its spec and the pod that it names.
///
/// # Errors
/// Kubernetes' words for what is wrong with it.
pub(crate) fn node_token(node: &str, spec: &Value, pod: Option<&Value>) -> Result<(), String> {
    let reference = &spec["boundObjectRef"];
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let Some(pod) = pod.filter(|_| text("kind") == "Pod") else {
        return Err("node requested token not bound to a pod".to_owned());
    };
    match text("uid") {
        "" => return Err("node requested token with a pod binding without a uid".to_owned()),
        uid if pod["metadata"]["uid"] != uid => return Err(another_uid(uid)),
        _ => {}
    }
    if pod["spec"]["nodeName"] != node {
        return Err("node requested token bound to a pod scheduled on a different node".to_owned());
    }
    let mounted: Vec<&str> = sources(pod)
        .map(|token| token["audience"].as_str().unwrap_or_default())
        .collect();
    let own = crate::tokens::own_audiences();
    let foreign = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find(|audience| {
            let is_own = own.iter().any(|o| o == audience);
            !(mounted.contains(audience) || is_own && mounted.contains(&""))
        });
    match foreign {
        Some(audience) => Err(format!(
            "audience {audience:?} not found in pod spec volume"
        )),
        None => Ok(()),
    }
}

/// The tokens that the pod's volumes ask for.
fn sources(pod: &Value) -> impl Iterator<Item = &Value> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes
        .filter_map(|volume| volume["projected"]["sources"].as_array())
        .flatten()
        .filter_map(|source| source.get("serviceAccountToken"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_gets_the_tokens_that_its_pods_mount() {
        let pod = json!({
            "metadata": {"uid": "u"},
            "spec": {"nodeName": "n1", "volumes": [{"name": "x"}, {"projected": {"sources": [
                {"configMap": {}}, {"serviceAccountToken": {}}, {"serviceAccountToken": {"audience": "vault"}},
            ]}}]},
        });
        let own = crate::tokens::own_audiences();
        let ask = |uid: &str, audiences: &[&str]| json!({"audiences": audiences, "boundObjectRef": {"kind": "Pod", "uid": uid}});
        for audience in [own[0].as_str(), "vault"] {
            assert_eq!(node_token("n1", &ask("u", &[audience]), Some(&pod)), Ok(()));
        }
        let bare = json!({"metadata": {"uid": "u"}, "spec": {"nodeName": "n1"}});
        for (node, spec, pod, why) in [
            ("n1", json!({}), Some(&pod), "not bound to a pod"),
            ("n1", ask("u", &["vault"]), None, "not bound to a pod"),
            ("n1", ask("", &["vault"]), Some(&pod), "without a uid"),
            ("n1", ask("v", &["vault"]), Some(&pod), "(v) does not match"),
            (
                "n2",
                ask("u", &["vault"]),
                Some(&pod),
                "on a different node",
            ),
            (
                "n1",
                ask("u", &["vault", "bank"]),
                Some(&pod),
                "audience \"bank\" not found",
            ),
            (
                "n1",
                ask("u", &[own[0].as_str()]),
                Some(&bare),
                "not found in pod spec volume",
            ),
        ] {
            let error = node_token(node, &spec, pod).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
