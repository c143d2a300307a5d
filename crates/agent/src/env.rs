//! A container's environment and command line, as the kubelet builds them.

mod expand;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use client::Client;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret};

use crate::downward;
use crate::pod::PodView as _;
use crate::resources;
use expand::expand;
pub(crate) use expand::{with_sub_paths, words_of_probe};

/// What a container may ask of its surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) pod_ip: Option<IpAddr>,
    pub(crate) host_ips: Vec<IpAddr>,
    /// What is told of Services.
    pub(crate) service_links: Vec<(String, String)>,
    /// What a missing limit stands for: the node's cores and bytes of memory.
    pub(crate) node: resources::Amounts,
}

/// The data of the ConfigMaps and Secrets that a container names, `None` for those that do not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    config_maps: BTreeMap<String, Option<BTreeMap<String, String>>>,
    secrets: BTreeMap<String, Option<BTreeMap<String, String>>>,
}

impl Objects {
    /// Reads what `container` names from the API.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses.
    pub(crate) async fn read(
        client: &Client,
        pod: &Pod,
        container: &Container,
    ) -> Result<Self, client::Error> {
        let (config_maps, secrets) = named(container);
        let mut all = Self::default();
        for name in config_maps {
            let found = client
                .of::<ConfigMap>()
                .find(pod.namespace(), &name)
                .await?;
            all.config_maps
                .insert(name, found.map(|o| o.data.unwrap_or_default()));
        }
        for name in secrets {
            let found = client.of::<Secret>().find(pod.namespace(), &name).await?;
            all.secrets
                .insert(name, found.map(|o| text(o.data.unwrap_or_default())));
        }
        Ok(all)
    }

    fn config_map(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.config_maps.get(name)?.as_ref()
    }

    fn secret(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.secrets.get(name)?.as_ref()
    }
}

fn text(data: BTreeMap<String, k8s_openapi::ByteString>) -> BTreeMap<String, String> {
    data.into_iter()
        .map(|(k, v)| (k, String::from_utf8_lossy(&v.0).into_owned()))
        .collect()
}

fn named(container: &Container) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut names = (BTreeSet::new(), BTreeSet::new());
    for from in container.env_from.iter().flatten() {
        names
            .0
            .extend(from.config_map_ref.iter().map(|r| r.name.clone()));
        names
            .1
            .extend(from.secret_ref.iter().map(|r| r.name.clone()));
    }
    for from in container
        .env
        .iter()
        .flatten()
        .filter_map(|e| e.value_from.as_ref())
    {
        names
            .0
            .extend(from.config_map_key_ref.iter().map(|r| r.name.clone()));
        names
            .1
            .extend(from.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    names
}

/// The environment of a container: what the cluster says, `envFrom`, then `env`; the later one wins.
///
/// # Errors
/// What is missing, in the kubelet's words: the message of `CreateContainerConfigError`.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    objects: &Objects,
    facts: &Facts,
) -> Result<Vec<(String, String)>, String> {
    let mut env = Env::default();
    env.set("HOSTNAME", pod.nodename());
    for (name, value) in &facts.service_links {
        env.set(name, value.clone());
    }
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let data = if let Some(r) = &from.config_map_ref {
            found(objects.config_map(&r.name), r.optional, || {
                format!("configmap \"{}\" not found", r.name)
            })?
        } else if let Some(r) = &from.secret_ref {
            found(objects.secret(&r.name), r.optional, || {
                format!("secret \"{}\" not found", r.name)
            })?
        } else {
            None
        };
        for (key, value) in data.into_iter().flatten() {
            env.set(&format!("{prefix}{key}"), value.clone());
        }
    }
    for var in container.env.iter().flatten() {
        if let Some(value) = value(pod, container, objects, facts, var, &env)? {
            env.set(&var.name, value);
        }
    }
    Ok(env.all)
}

/// A container's argv: `command` and `args` with their `$(NAME)`s replaced; without `command`, `module` stands first.
pub(crate) fn argv(container: &Container, module: &str, env: &[(String, String)]) -> Vec<String> {
    let known: BTreeMap<&str, &str> = env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let expanded = |text: &String| expand(text, |name| known.get(name).copied());
    let command = container.command.as_deref().filter(|c| !c.is_empty());
    let mut argv = match command {
        Some(command) => command.iter().map(expanded).collect(),
        None => vec![module.to_owned()],
    };
    argv.extend(container.args.iter().flatten().map(expanded));
    argv
}

/// Variables in the order in which they were first set.
#[derive(Default)]
struct Env {
    all: Vec<(String, String)>,
    /// Where each of them is.
    places: BTreeMap<String, usize>,
}

impl Env {
    fn set(&mut self, name: &str, value: String) {
        // What the guest could not read back is left out, as the kubelet leaves it out.
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return;
        }
        match self.places.get(name) {
            Some(place) => self.all[*place].1 = value,
            None => {
                self.places.insert(name.to_owned(), self.all.len());
                self.all.push((name.to_owned(), value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        let place = self.places.get(name)?;
        Some(&self.all[*place].1)
    }
}

fn found<T>(
    object: Option<T>,
    optional: Option<bool>,
    missing: impl FnOnce() -> String,
) -> Result<Option<T>, String> {
    match object {
        Some(object) => Ok(Some(object)),
        None if optional == Some(true) => Ok(None),
        None => Err(missing()),
    }
}

fn value(
    pod: &Pod,
    container: &Container,
    objects: &Objects,
    facts: &Facts,
    var: &EnvVar,
    env: &Env,
) -> Result<Option<String>, String> {
    if let Some(value) = var.value.as_deref().filter(|v| !v.is_empty()) {
        return Ok(Some(expand(value, |name| env.get(name))));
    }
    match &var.value_from {
        None => Ok(Some(String::new())),
        Some(from) => value_from(pod, container, objects, facts, from),
    }
}

fn value_from(
    pod: &Pod,
    container: &Container,
    objects: &Objects,
    facts: &Facts,
    from: &EnvVarSource,
) -> Result<Option<String>, String> {
    if let Some(r) = &from.field_ref {
        return field(pod, facts, &r.field_path).map(Some);
    }
    if let Some(r) = &from.resource_field_ref {
        return downward::resource(pod, Some(container), r, &facts.node).map(Some);
    }
    let namespace = pod.namespace();
    let (data, name, key, optional, kind) = if let Some(r) = &from.config_map_key_ref {
        (
            objects.config_map(&r.name),
            &r.name,
            &r.key,
            r.optional,
            "ConfigMap",
        )
    } else if let Some(r) = &from.secret_key_ref {
        (
            objects.secret(&r.name),
            &r.name,
            &r.key,
            r.optional,
            "Secret",
        )
    } else {
        return Err("env: valueFrom names nothing that carob knows".to_owned());
    };
    let missing = || format!("{} \"{name}\" not found", kind.to_lowercase());
    let Some(data) = found(data, optional, missing)? else {
        return Ok(None);
    };
    found(data.get(key).cloned(), optional, || {
        format!("couldn't find key {key} in {kind} {namespace}/{name}")
    })
}

fn field(pod: &Pod, facts: &Facts, path: &str) -> Result<String, String> {
    let spec = pod.pod_spec();
    let ips = || {
        facts
            .host_ips
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let pod_ip = || facts.pod_ip.map(|ip| ip.to_string()).unwrap_or_default();
    Ok(match path {
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_default(),
        "status.hostIP" => ips().first().cloned().unwrap_or_default(),
        "status.hostIPs" => ips().join(","),
        "status.podIP" | "status.podIPs" => pod_ip(),
        _ => return downward::field(pod, path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts() -> Facts {
        Facts {
            pod_ip: Some("10.128.0.7".parse().unwrap()),
            host_ips: vec!["127.0.0.1".parse().unwrap()],
            service_links: vec![("WEB_PORT".to_owned(), "tcp://10.96.0.9:80".to_owned())],
            node: resources::Amounts {
                milli_cpu: 2000,
                memory: 1 << 30,
                ephemeral: 1 << 40,
            },
        }
    }

    fn pod(container: serde_json::Value) -> Pod {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "labels": {"app": "x"}},
            "spec": {"nodeName": "n1", "serviceAccountName": "sa", "containers": [container]},
        });
        serde_json::from_value(pod).unwrap()
    }

    fn objects() -> Objects {
        let data = BTreeMap::from([
            ("k".to_owned(), "v".to_owned()),
            ("l".to_owned(), "w".to_owned()),
        ]);
        let there = |name: &str| BTreeMap::from([(name.to_owned(), Some(data.clone()))]);
        Objects {
            config_maps: there("c"),
            secrets: there("s"),
        }
    }

    fn resolve(container: serde_json::Value) -> Result<Vec<(String, String)>, String> {
        let pod = pod(container);
        environment(&pod, &pod.containers()[0], &objects(), &facts())
    }

    #[test]
    fn everything_that_can_be_named() {
        let from = |kind: &str, name: &str, key: &str| json!({kind: {"name": name, "key": key}});
        let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
        let limit = |resource: &str, divisor: &str| json!({"resourceFieldRef": {"resource": resource, "divisor": divisor}});
        let env = resolve(json!({
            "name": "main",
            "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}},
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "none", "optional": true}}],
            "env": [
                {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(NONE)-$$(A)-$(P_k)"}, {"name": "E"},
                {"name": "C", "valueFrom": from("configMapKeyRef", "c", "k")},
                {"name": "S", "valueFrom": from("secretKeyRef", "s", "l")},
                {"name": "O", "valueFrom": {"secretKeyRef": {"name": "s", "key": "no", "optional": true}}},
                {"name": "NAME", "valueFrom": field("metadata.name")},
                {"name": "APP", "valueFrom": field("metadata.labels['app']")},
                {"name": "NODE", "valueFrom": field("spec.nodeName")},
                {"name": "IP", "valueFrom": field("status.podIP")},
                {"name": "HOST", "valueFrom": field("status.hostIP")},
                {"name": "CPU", "valueFrom": limit("limits.cpu", "0")},
                {"name": "MCPU", "valueFrom": limit("limits.cpu", "1m")},
                {"name": "MEM", "valueFrom": limit("limits.memory", "1Mi")},
                {"name": "A", "value": "2"}, {"name": "WEB", "value": "$(WEB_PORT)"},
            ],
        }));
        let lines: Vec<String> = env
            .unwrap()
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        let want = "HOSTNAME=web WEB_PORT=tcp://10.96.0.9:80 P_k=v P_l=w A=2 B=1-$(NONE)-$(A)-v E= C=v S=w NAME=web APP=x NODE=n1 IP=10.128.0.7 \
                    HOST=127.0.0.1 CPU=1 MCPU=250 MEM=64 WEB=tcp://10.96.0.9:80";
        assert_eq!(lines.join(" "), want);
    }

    #[test]
    fn what_is_missing_is_said_in_the_kubelets_words() {
        let env = |from: serde_json::Value| {
            resolve(json!({"name": "m", "env": [{"name": "X", "valueFrom": from}]}))
        };
        let table = [
            (
                json!({"configMapKeyRef": {"name": "no", "key": "k"}}),
                "configmap \"no\" not found",
            ),
            (
                json!({"configMapKeyRef": {"name": "c", "key": "no"}}),
                "couldn't find key no in ConfigMap shop/c",
            ),
            (
                json!({"secretKeyRef": {"name": "no", "key": "k"}}),
                "secret \"no\" not found",
            ),
            (
                json!({"secretKeyRef": {"name": "s", "key": "no"}}),
                "couldn't find key no in Secret shop/s",
            ),
            (
                json!({"fieldRef": {"fieldPath": "spec.nope"}}),
                "unsupported fieldPath: spec.nope",
            ),
        ];
        for (from, want) in table {
            assert_eq!(env(from).unwrap_err(), want);
        }
        let all = resolve(json!({"name": "m", "envFrom": [{"configMapRef": {"name": "no"}}]}));
        assert_eq!(all.unwrap_err(), "configmap \"no\" not found");
    }

    #[test]
    fn argv_begins_with_the_command_or_the_module() {
        let env = [("A".to_owned(), "1".to_owned())];
        let argv = |c: serde_json::Value| {
            argv(&serde_json::from_value(c).unwrap(), "hello.wasm", &env).join("|")
        };
        assert_eq!(
            argv(json!({"name": "m", "args": ["x", "$(A)", "$(B)"]})),
            "hello.wasm|x|1|$(B)"
        );
        assert_eq!(
            argv(json!({"name": "m", "command": ["c", "$$(A)"], "args": ["x"]})),
            "c|$(A)|x"
        );
        assert_eq!(argv(json!({"name": "m"})), "hello.wasm");
    }
}
