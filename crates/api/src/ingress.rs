//! Which Ingresses the nodes' agents serve, and where they say so.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

/// The controller that an IngressClass names whose Ingresses the nodes serve.
pub const CONTROLLER: &str = "carob.dev/ingress";
/// Says of an IngressClass that it is for Ingresses that name none.
pub const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// How Ingresses named their class before they had a field for it.
const ELDER: &str = "kubernetes.io/ingress.class";
/// At which of its ports a Node serves Ingresses: `http=80,https=443`. Absent where it does not.
pub const PORTS: &str = "carob.dev/ingress-ports";

/// All IngressClasses, as far as they tell whose an Ingress is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// Whether each is ours.
    ours: BTreeMap<String, bool>,
    /// Ingresses without a class are ours.
    default: bool,
}

impl Classes {
    /// What these classes come to.
    pub fn new<'a>(classes: impl IntoIterator<Item = &'a IngressClass>) -> Self {
        let mut all = Self::default();
        for class in classes {
            let spec = class.spec.as_ref();
            let ours = spec.and_then(|spec| spec.controller.as_deref()) == Some(CONTROLLER);
            let annotations = class.metadata.annotations.as_ref();
            let default = annotations.and_then(|all| all.get(IS_DEFAULT));
            all.default |= ours && default.is_some_and(|value| value == "true");
            let name = class.metadata.name.clone().unwrap_or_default();
            all.ours.insert(name, ours);
        }
        all
    }

    /// Whether the nodes serve an Ingress.
    pub fn takes(&self, ingress: &Ingress) -> bool {
        let spec = ingress.spec.as_ref();
        let field = spec.and_then(|spec| spec.ingress_class_name.as_ref());
        let annotations = ingress.metadata.annotations.as_ref();
        let class = field.or_else(|| annotations?.get(ELDER));
        match class {
            Some(class) => self.ours.get(class).copied().unwrap_or(false),
            None => self.default,
        }
    }
}

/// Where a node serves Ingresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// In the clear.
    pub http: Option<u16>,
    /// By TLS.
    pub https: Option<u16>,
}

impl Ports {
    /// What a Node says of itself by [`PORTS`]. What is malformed counts as not said.
    pub fn parse(text: &str) -> Self {
        let mut ports = Self::default();
        for (scheme, number) in text.split(',').filter_map(|word| word.split_once('=')) {
            let number = number.parse().ok().filter(|number| *number != 0);
            match scheme {
                "http" => ports.http = number,
                "https" => ports.https = number,
                _ => {}
            }
        }
        ports
    }

    /// The ports there are, in the order of their schemes.
    pub fn all(self) -> impl Iterator<Item = u16> {
        self.http.into_iter().chain(self.https)
    }
}

impl std::fmt::Display for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = [("http", self.http), ("https", self.https)];
        let said = words
            .into_iter()
            .filter_map(|(scheme, port)| Some((scheme, port?)));
        for (at, (scheme, port)) in said.enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{scheme}={port}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn class(name: &str, controller: &str, default: &str) -> IngressClass {
        let object = json!({"metadata": {"name": name, "annotations": {IS_DEFAULT: default}},
            "spec": {"controller": controller}});
        serde_json::from_value(object).expect("a class")
    }

    #[test]
    fn whose_an_ingress_is() {
        let ours = || class("carob", CONTROLLER, "true");
        let plain = || class("plain", CONTROLLER, "false");
        let other = || class("nginx", "k8s.io/ingress-nginx", "true");
        let all = vec![ours(), plain(), other()];
        let named = |class: &str| json!({"spec": {"ingressClassName": class}});
        let elder = |class: &str| json!({"metadata": {"annotations": {ELDER: class}}});
        for (classes, ingress, due) in [
            (all.clone(), named("carob"), true),
            (all.clone(), named("plain"), true),
            (all.clone(), named("nginx"), false),
            (all.clone(), named("gone"), false),
            (all.clone(), elder("plain"), true),
            (all.clone(), elder("nginx"), false),
            (all.clone(), json!({}), true),
            (vec![plain(), other()], json!({}), false),
            (Vec::new(), json!({}), false),
        ] {
            let text = ingress.to_string();
            let read = |value: Value| serde_json::from_value::<Ingress>(value).expect("an Ingress");
            assert_eq!(Classes::new(&classes).takes(&read(ingress)), due, "{text}");
        }
    }

    #[test]
    fn ports_are_told_and_read() {
        for (text, http, https) in [
            ("http=80,https=443", Some(80), Some(443)),
            ("https=8443", None, Some(8443)),
            ("", None, None),
        ] {
            let ports = Ports { http, https };
            assert_eq!(
                (Ports::parse(text), ports.to_string()),
                (ports, text.to_owned())
            );
        }
        for odd in ["http=0", "http=65536", "http", "gopher=70", "http=,=1"] {
            assert_eq!(Ports::parse(odd), Ports::default(), "{odd}");
        }
    }
}
