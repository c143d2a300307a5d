//! The Secrets of the Ingresses that the nodes serve.

use std::collections::{BTreeMap, BTreeSet};

use api::ingress::{Classes, ELDER};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

/// Which Ingresses name which Secrets, and whose these Ingresses are.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    /// Ingresses with certificates, by namespace and name.
    ingresses: BTreeMap<(String, String), Certified>,
    /// (namespace, name) of a Secret → the names of the Ingresses that name it.
    secrets: BTreeMap<(String, String), BTreeSet<String>>,
    /// All IngressClasses by name, and what they come to.
    named: BTreeMap<String, IngressClass>,
    classes: Classes,
}

/// What counts of an Ingress.
#[derive(Debug)]
struct Certified {
    /// As much of it as says whose it is.
    ingress: Ingress,
    secrets: BTreeSet<String>,
}

impl Certified {
    /// None: it has no certificates.
    fn of(mut ingress: Ingress) -> Option<Self> {
        let spec = ingress.spec.take()?;
        let secrets = spec.tls.into_iter().flatten().filter_map(|t| t.secret_name);
        let secrets: BTreeSet<String> = secrets.filter(|name| !name.is_empty()).collect();
        let mut said = Ingress::default();
        said.spec.get_or_insert_default().ingress_class_name = spec.ingress_class_name;
        let annotations = ingress.metadata.annotations.as_mut();
        let elder = annotations.and_then(|all| all.remove_entry(ELDER));
        said.metadata.annotations = elder.map(|elder| BTreeMap::from([elder]));
        let certified = Self {
            ingress: said,
            secrets,
        };
        Some(certified).filter(|certified| !certified.secrets.is_empty())
    }
}

impl Certificates {
    /// Takes up an Ingress as stored.
    pub(crate) fn put(&mut self, namespace: &str, name: &str, json: &[u8]) {
        self.remove(namespace, name);
        // An unreadable one is one that no node serves.
        let ingress = serde_json::from_slice(json).ok();
        let Some(certified) = ingress.and_then(Certified::of) else {
            return;
        };
        for secret in &certified.secrets {
            let key = (namespace.to_owned(), secret.clone());
            let names = self.secrets.entry(key).or_default();
            names.insert(name.to_owned());
        }
        let key = (namespace.to_owned(), name.to_owned());
        self.ingresses.insert(key, certified);
    }

    /// Forgets an Ingress.
    pub(crate) fn remove(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let certified = self.ingresses.remove(&key);
        for secret in certified.into_iter().flat_map(|c| c.secrets) {
            let key = (namespace.to_owned(), secret);
            if let Some(names) = self.secrets.get_mut(&key) {
                names.remove(name);
                if names.is_empty() {
                    self.secrets.remove(&key);
                }
            }
        }
    }

    /// Takes up an IngressClass as stored.
    pub(crate) fn put_class(&mut self, name: &str, json: &[u8]) {
        match serde_json::from_slice(json) {
            Ok(class) => self.named.insert(name.to_owned(), class),
            // One that cannot be read is nobody's.
            Err(_) => self.named.remove(name),
        };
        self.classes = Classes::new(self.named.values());
    }

    /// Forgets an IngressClass.
    pub(crate) fn remove_class(&mut self, name: &str) {
        self.named.remove(name);
        self.classes = Classes::new(self.named.values());
    }

    /// Whether an Ingress of this namespace that the nodes serve has its certificate in this Secret.
    pub(crate) fn are_in(&self, namespace: &str, secret: &str) -> bool {
        let key = (namespace.to_owned(), secret.to_owned());
        let names = self.secrets.get(&key).into_iter().flatten();
        names
            .filter_map(|name| self.ingresses.get(&(namespace.to_owned(), name.clone())))
            .any(|certified| self.classes.takes(&certified.ingress))
    }
}

#[cfg(test)]
mod tests {
    use api::ingress::CONTROLLER;
    use serde_json::{Value, json};

    use super::*;

    fn class(name: &str, controller: &str) -> Vec<u8> {
        let class = json!({"metadata": {"name": name}, "spec": {"controller": controller}});
        class.to_string().into_bytes()
    }

    /// An index that knows the class `carob` as the nodes' and `nginx` as another's.
    fn with_classes() -> Certificates {
        let mut index = Certificates::default();
        for (name, controller) in [("carob", CONTROLLER), ("nginx", "k8s.io/ingress-nginx")] {
            index.put_class(name, &class(name, controller));
        }
        index
    }

    #[test]
    fn a_secret_counts_while_the_nodes_serve_an_ingress_that_names_it() {
        let mut index = with_classes();
        let put = |index: &mut Certificates, ingress: Value| {
            index.put("ns", "i", ingress.to_string().as_bytes());
            index.are_in("ns", "s")
        };
        let tls = || json!([{"secretName": "s"}]);
        let named = |class| json!({"spec": {"ingressClassName": class, "tls": tls()}});
        let elder = |class| {
            let annotations = json!({ELDER: class, "other": "x"});
            json!({"metadata": {"annotations": annotations}, "spec": {"tls": tls()}})
        };
        assert!(put(&mut index, named("carob")));
        assert!(!put(&mut index, named("nginx")));
        assert!(!put(&mut index, named("none")));
        assert!(put(&mut index, elder("carob")));
        assert!(!put(&mut index, elder("nginx")));
        assert!(!put(&mut index, json!({"spec": {"tls": tls()}})));
        // Classes come and go after the Ingresses that name them.
        assert!(!put(&mut index, named("late")));
        index.put_class("late", &class("late", CONTROLLER));
        assert!(index.are_in("ns", "s"));
        index.put_class("late", &class("late", "another.example/one"));
        assert!(!index.are_in("ns", "s"));
        index.put_class("late", &class("late", CONTROLLER));
        index.remove_class("late");
        assert!(!index.are_in("ns", "s"));
    }

    #[test]
    fn a_secret_counts_while_any_ingress_names_it() {
        let mut index = with_classes();
        let ingress = |secret: &str| {
            let tls = json!([{"hosts": ["a"], "secretName": secret}, {}]);
            let ingress = json!({"spec": {"ingressClassName": "carob", "tls": tls}});
            ingress.to_string().into_bytes()
        };
        index.put("ns", "one", &ingress("s"));
        index.put("ns", "two", &ingress("s"));
        assert!(index.are_in("ns", "s") && !index.are_in("other", "s"));
        index.put("ns", "one", &ingress("t"));
        assert!(index.are_in("ns", "s") && index.are_in("ns", "t"));
        index.remove("ns", "two");
        assert!(!index.are_in("ns", "s"));
        index.put("ns", "one", b"{}");
        assert!(!index.are_in("ns", "t"));
        index.put("ns", "broken", b"{\"spec\":7}");
    }
}
