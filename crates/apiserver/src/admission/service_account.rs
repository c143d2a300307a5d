//! A new pod's service account: it is there, its token is mounted, its secrets pull the images.

use api::static_pods::{has_secrets, is_mirror};
use api::{Resource, Status};
use k8s_openapi::api::core::v1::ServiceAccount;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

use super::admit::{find, refused, writes};
use crate::dispatch::Call;
use crate::handlers::letters;

/// The account of pods that name none.
pub(super) const DEFAULT: &str = "default";
/// Where a container finds its token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What the volume's name begins with.
const VOLUME: &str = "kube-api-access-";
/// Seconds that a token is good for: an hour, and what tells these tokens from those asked for.
const EXPIRATION: i64 = 3607;
/// Set to `true`, an account's pods refer to no secret that the account does not list.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

/// What of a ServiceAccount counts here; read for every new pod, so no more than that.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Account {
    metadata: Metadata,
    automount_service_account_token: Option<bool>,
    image_pull_secrets: Vec<Reference>,
    secrets: Vec<Reference>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reference {
    name: String,
}

/// The account that a pod asks for.
pub(super) fn name_of(spec: &Value) -> &str {
    let given = |field: &str| spec[field].as_str().filter(|name| !name.is_empty());
    given("serviceAccountName")
        .or_else(|| given("serviceAccount"))
        .unwrap_or(DEFAULT)
}

/// The plugin.
pub(super) fn admit(call: &Call, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
    if old.is_some() || !writes(call, "", "pods") {
        return Ok(());
    }
    if is_mirror(new) {
        // It is what its node runs already: nothing is added to it.
        return judge_mirror(&new["spec"]).map_err(|why| refused(call, new, why));
    }
    let name = name_of(&new["spec"]).to_owned();
    let accounts = Resource::of::<ServiceAccount>();
    let Some(account) = find::<Account>(call, accounts, call.namespace(), &name) else {
        let namespace = call.namespace().unwrap_or_default();
        let why = format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        );
        return Err(refused(call, new, &why));
    };
    if let Some(spec) = new["spec"].as_object_mut() {
        complete(spec, &name, &account, &letters());
    }
    judge(&new["spec"], &name, &account).map_err(|why| refused(call, new, &why))
}

/// Refuses a mirror what its node could not have given to the pod that it stands for.
fn judge_mirror(spec: &Value) -> Result<(), &'static str> {
    let fields = ["serviceAccountName", "serviceAccount"];
    let accounts = fields.map(|field| spec[field].as_str().unwrap_or_default());
    if accounts.iter().any(|name| !name.is_empty()) {
        return Err("a mirror pod may not reference service accounts");
    }
    if has_secrets(spec) {
        return Err("a mirror pod may not reference secrets");
    }
    let volumes = items(spec, "volumes");
    let mut sources = volumes
        .iter()
        .flat_map(|volume| items(&volume["projected"], "sources"));
    if sources.any(|source| !source["serviceAccountToken"].is_null()) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

/// Gives the pod what it has of its account. `suffix` ends the name of the token's volume.
fn complete(spec: &mut Map<String, Value>, name: &str, account: &Account, suffix: &str) {
    spec.insert("serviceAccountName".to_owned(), name.into());
    let asked = spec.get("automountServiceAccountToken");
    let asked = asked.and_then(Value::as_bool);
    if asked.or(account.automount_service_account_token) != Some(false) {
        mount(spec, suffix);
    }
    let secrets = spec.get("imagePullSecrets").and_then(Value::as_array);
    if secrets.is_none_or(Vec::is_empty) && !account.image_pull_secrets.is_empty() {
        let names = account.image_pull_secrets.iter();
        let names: Vec<Value> = names.map(|secret| json!({"name": secret.name})).collect();
        spec.insert("imagePullSecrets".to_owned(), names.into());
    }
}

/// Mounts the token wherever nothing else is mounted in its place. A pod that brings a volume of
/// such a name, being a copy of another, mounts that.
fn mount(spec: &mut Map<String, Value>, suffix: &str) {
    let volumes = spec.get("volumes").and_then(Value::as_array);
    let brought = volumes
        .into_iter()
        .flatten()
        .filter_map(|volume| volume["name"].as_str())
        .find(|name| name.starts_with(VOLUME))
        .map(str::to_owned);
    let has_volume = brought.is_some();
    let name = brought.unwrap_or_else(|| format!("{VOLUME}{suffix}"));
    let mut wanted = false;
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            wanted |= mount_in(container, &name);
        }
    }
    if wanted && !has_volume {
        push(spec, "volumes", volume(&name));
    }
}

/// Whether it was not mounted yet.
fn mount_in(container: &mut Value, volume: &str) -> bool {
    let mounts = container["volumeMounts"].as_array();
    if mounts.is_some_and(|m| m.iter().any(|m| m["mountPath"] == MOUNT_PATH)) {
        return false;
    }
    let Some(container) = container.as_object_mut() else {
        return false;
    };
    let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
    push(container, "volumeMounts", mount);
    true
}

/// Puts an item behind a list that may not be there.
fn push(object: &mut Map<String, Value>, list: &str, item: Value) {
    let place = object.entry(list).or_insert(Value::Null);
    match place {
        Value::Array(items) => items.push(item),
        place => *place = json!([item]),
    }
}

/// The token, the cluster's CA and the namespace, in one directory.
fn volume(name: &str) -> Value {
    let namespace = json!({"apiVersion": "v1", "fieldPath": "metadata.namespace"});
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": EXPIRATION, "path": "token"}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
            ],
        },
    })
}

fn items(value: &Value, list: &str) -> Vec<Value> {
    value[list].as_array().cloned().unwrap_or_default()
}

/// The secrets that a container's environment comes from, each with what refers to it.
fn uses(container: &Value) -> Vec<(String, String)> {
    let name = |reference: &Value| reference["name"].as_str().map(str::to_owned);
    let env = items(container, "env").into_iter().filter_map(|env| {
        let secret = name(&env["valueFrom"]["secretKeyRef"])?;
        Some((format!("envVar {}", name(&env).unwrap_or_default()), secret))
    });
    let from = items(container, "envFrom").into_iter();
    let from = from.filter_map(|from| Some(("envFrom".to_owned(), name(&from["secretRef"])?)));
    env.chain(from).collect()
}

/// Refuses secrets that the account does not list, where the account says so.
fn judge(spec: &Value, name: &str, account: &Account) -> Result<(), String> {
    let enforced = account.metadata.annotations.get(ENFORCE);
    if enforced.map(String::as_str) != Some("true") {
        return Ok(());
    }
    let names = |list: &[Reference]| -> BTreeSet<String> {
        list.iter().map(|secret| secret.name.clone()).collect()
    };
    let (secrets, pulling) = (names(&account.secrets), names(&account.image_pull_secrets));
    let why = format!("is not allowed because service account {name} does not reference that");
    for volume in items(spec, "volumes") {
        let secret = volume["secret"]["secretName"].as_str();
        if let Some(secret) = secret.filter(|secret| !secrets.contains(*secret)) {
            return Err(format!(
                "volume with secret.secretName={secret:?} {why} secret"
            ));
        }
    }
    for (list, called) in [
        ("initContainers", "init container"),
        ("containers", "container"),
    ] {
        for container in items(spec, list) {
            for (used, secret) in uses(&container) {
                if !secrets.contains(&secret) {
                    let container = container["name"].as_str().unwrap_or_default();
                    return Err(format!(
                        "{called} {container} with {used} referencing secret.secretName={secret:?} {why} secret"
                    ));
                }
            }
        }
    }
    for (index, secret) in items(spec, "imagePullSecrets").iter().enumerate() {
        let secret = secret["name"].as_str().unwrap_or_default();
        if !pulling.contains(secret) {
            return Err(format!(
                "imagePullSecrets[{index}].name={secret:?} {why} imagePullSecret"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(fields: Value) -> Account {
        serde_json::from_value(fields).unwrap()
    }

    fn completed(spec: Value, fields: Value) -> Value {
        let mut spec = spec;
        complete(
            spec.as_object_mut().unwrap(),
            "a",
            &account(fields),
            "xxxxx",
        );
        spec
    }

    fn mount_of(volume: &str) -> Value {
        json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH})
    }

    #[test]
    fn a_pod_names_its_account_by_either_name() {
        for (spec, name) in [
            (json!({}), "default"),
            (json!({"serviceAccountName": ""}), "default"),
            (json!({"serviceAccount": "old"}), "old"),
            (
                json!({"serviceAccountName": "new", "serviceAccount": "old"}),
                "new",
            ),
        ] {
            assert_eq!(name_of(&spec), name, "{spec}");
        }
    }

    #[test]
    fn the_token_is_mounted_where_nothing_else_is() {
        let own = json!({"name": "v", "mountPath": MOUNT_PATH});
        let made = completed(
            json!({
                "initContainers": [{"name": "i"}],
                "containers": [{"name": "c", "volumeMounts": [{"name": "w", "mountPath": "/w"}]},
                    {"name": "d", "volumeMounts": [own]}],
                "volumes": [{"name": "w"}]}),
            json!({}),
        );
        let mount = mount_of("kube-api-access-xxxxx");
        assert_eq!(made["serviceAccountName"], "a");
        assert_eq!(made["initContainers"][0]["volumeMounts"], json!([mount]));
        assert_eq!(made["containers"][0]["volumeMounts"][1], mount);
        assert_eq!(made["containers"][1]["volumeMounts"], json!([own]));
        assert_eq!(
            made["volumes"],
            json!([{"name": "w"}, volume("kube-api-access-xxxxx")])
        );
        // Nobody wants it.
        let made = completed(json!({"containers": [{"volumeMounts": [own]}]}), json!({}));
        assert_eq!(made.get("volumes"), None);
        // A copy of another pod.
        let brought = json!([{"name": "kube-api-access-other"}]);
        let made = completed(json!({"containers": [{}], "volumes": brought}), json!({}));
        assert_eq!(made["volumes"], brought);
        let mount = mount_of("kube-api-access-other");
        assert_eq!(made["containers"][0]["volumeMounts"], json!([mount]));
    }

    #[test]
    fn the_pod_s_word_on_mounting_is_above_the_account_s() {
        for (pod, account, mounted) in [
            (json!(null), json!(null), true),
            (json!(null), json!(false), false),
            (json!(null), json!(true), true),
            (json!(false), json!(true), false),
            (json!(true), json!(false), true),
        ] {
            let field = "automountServiceAccountToken";
            let made = completed(
                json!({"containers": [{}], field: pod}),
                json!({field: account}),
            );
            assert_eq!(made.get("volumes").is_some(), mounted, "{pod} {account}");
        }
    }

    #[test]
    fn pull_secrets_come_from_the_account() {
        let fields = json!({"imagePullSecrets": [{"name": "a"}, {"name": "b"}]});
        let made = completed(json!({}), fields.clone());
        assert_eq!(made["imagePullSecrets"], fields["imagePullSecrets"]);
        let own = json!([{"name": "own"}]);
        let made = completed(json!({"imagePullSecrets": own}), fields);
        assert_eq!(made["imagePullSecrets"], own);
        assert_eq!(
            completed(json!({}), json!({})).get("imagePullSecrets"),
            None
        );
    }

    #[test]
    fn a_mirror_has_nothing_of_an_account() {
        let token = json!({"serviceAccountToken": {"path": "t"}});
        for (spec, fault) in [
            (json!({"containers": [{}]}), None),
            (
                json!({"serviceAccountName": "a"}),
                Some("reference service accounts"),
            ),
            (
                json!({"serviceAccount": "a"}),
                Some("reference service accounts"),
            ),
            (
                json!({"imagePullSecrets": [{"name": "s"}]}),
                Some("reference secrets"),
            ),
            (
                json!({"volumes": [{"emptyDir": {}}, {"projected": {"sources": [token]}}]}),
                Some("use ServiceAccountToken volume projections"),
            ),
        ] {
            let fault = fault.map(|fault| format!("a mirror pod may not {fault}"));
            assert_eq!(
                judge_mirror(&spec).err().map(str::to_owned),
                fault,
                "{spec}"
            );
        }
    }

    #[test]
    fn an_account_may_say_which_secrets_its_pods_use() {
        let fields = json!({
            "metadata": {"annotations": {ENFORCE: "true"}},
            "secrets": [{"name": "s"}], "imagePullSecrets": [{"name": "p"}]});
        let env =
            |secret: &str| json!([{"name": "E", "valueFrom": {"secretKeyRef": {"name": secret}}}]);
        let because = "is not allowed because service account a does not reference that";
        for (spec, fault) in [
            (
                json!({"volumes": [{"secret": {"secretName": "s"}}, {"emptyDir": {}}]}),
                None,
            ),
            (
                json!({"volumes": [{"secret": {"secretName": "t"}}]}),
                Some(format!(
                    "volume with secret.secretName=\"t\" {because} secret"
                )),
            ),
            (
                json!({"initContainers": [{"name": "i", "env": env("t")}]}),
                Some(format!(
                    "init container i with envVar E referencing secret.secretName=\"t\" {because} secret"
                )),
            ),
            (
                json!({"containers": [{"name": "c", "env": env("s")}]}),
                None,
            ),
            (
                json!({"containers": [{"name": "c", "env": env("t")}]}),
                Some(format!(
                    "container c with envVar E referencing secret.secretName=\"t\" {because} secret"
                )),
            ),
            (
                json!({"containers": [{"name": "c", "envFrom": [
                    {"configMapRef": {"name": "t"}}, {"secretRef": {"name": "s"}}, {"secretRef": {"name": "t"}}]}]}),
                Some(format!(
                    "container c with envFrom referencing secret.secretName=\"t\" {because} secret"
                )),
            ),
            (
                json!({"imagePullSecrets": [{"name": "p"}, {"name": "q"}]}),
                Some(format!(
                    "imagePullSecrets[1].name=\"q\" {because} imagePullSecret"
                )),
            ),
        ] {
            let found = judge(&spec, "a", &account(fields.clone()));
            assert_eq!(found.err(), fault, "{spec}");
            assert_eq!(judge(&spec, "a", &account(json!({}))), Ok(()));
        }
    }
}
