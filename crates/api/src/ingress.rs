//! Which Ingresses the nodes' agents serve, and where they say so.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use serde::Serialize;

/// The controller that an IngressClass names whose Ingresses the nodes serve.
pub const CONTROLLER: &str = "carob.dev/ingress";
/// Says of an IngressClass that new Ingresses which name none get it.
pub const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// How Ingresses named their class before they had a field for it.
pub const ELDER: &str = "kubernetes.io/ingress.class";
/// At which of its ports a Node serves Ingresses: `http=80,https=443`. Absent where it does not.
pub const PORTS: &str = "carob.dev/ingress-ports";

/// All IngressClasses, as far as they tell whose an Ingress is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// Whether each is ours.
    ours: BTreeMap<String, bool>,
}

impl Classes {
    /// What these classes come to.
    pub fn new<'a>(classes: impl IntoIterator<Item = &'a IngressClass>) -> Self {
        let class = |class: &IngressClass| {
            let spec = class.spec.as_ref();
            let ours = spec.and_then(|spec| spec.controller.as_deref()) == Some(CONTROLLER);
            (class.metadata.name.clone().unwrap_or_default(), ours)
        };
        Self {
            ours: classes.into_iter().map(class).collect(),
        }
    }

    /// Whether the nodes serve an Ingress. One without a class was made while there was no default one, and is
    /// nobody's.
    pub fn takes(&self, ingress: &Ingress) -> bool {
        let spec = ingress.spec.as_ref();
        let field = spec.and_then(|spec| spec.ingress_class_name.as_ref());
        let annotations = ingress.metadata.annotations.as_ref();
        let class = field.or_else(|| annotations?.get(ELDER));
        class.and_then(|class| self.ours.get(class)) == Some(&true)
    }
}

/// Where a node serves Ingresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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

    fn class(name: &str, controller: &str) -> IngressClass {
        let object = json!({"metadata": {"name": name}, "spec": {"controller": controller}});
        serde_json::from_value(object).expect("a class")
    }

    #[test]
    fn whose_an_ingress_is() {
        let classes = Classes::new(&[
            class("carob", CONTROLLER),
            class("plain", CONTROLLER),
            class("nginx", "k8s.io/ingress-nginx"),
        ]);
        let named = |class: &str| json!({"spec": {"ingressClassName": class}});
        let elder = |class: &str| json!({"metadata": {"annotations": {ELDER: class}}});
        for (ingress, due) in [
            (named("carob"), true),
            (named("plain"), true),
            (named("nginx"), false),
            (named("gone"), false),
            (elder("plain"), true),
            (elder("nginx"), false),
            (json!({}), false),
        ] {
            let text = ingress.to_string();
            let read = |value: Value| serde_json::from_value::<Ingress>(value).expect("an Ingress");
            assert_eq!(classes.takes(&read(ingress)), due, "{text}");
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
