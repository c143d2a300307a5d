//! What a request is about, read from its method, path and query alone.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

/// What is to be done, in RBAC's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    /// A method that maps to no verb (OPTIONS, TRACE, …).
    Other,
}

impl Verb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Other => "other",
        }
    }

    /// Whether it makes or changes something, or lets it go.
    pub(crate) fn writes(self) -> bool {
        !matches!(self, Verb::Get | Verb::List | Verb::Watch | Verb::Other)
    }
}

/// A request for a resource of the API: `/api/v1/…` or `/apis/GROUP/VERSION/…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// What follows the subresource, as `proxy` has it, without a leading slash.
    pub(crate) rest: Option<String>,
}

impl ResourcePath {
    /// Reads a path. None: it is not one of a resource (discovery, health, metrics, …).
    pub(crate) fn parse(path: &str) -> Option<ResourcePath> {
        let mut parts = path.strip_prefix('/')?.split('/').map(decode);
        let (group, version) = match parts.next()?.as_ref() {
            "api" => (String::new(), parts.next()?.into_owned()),
            "apis" => (parts.next()?.into_owned(), parts.next()?.into_owned()),
            _ => return None,
        };
        let parts: Vec<Cow<'_, str>> = parts.collect();
        let parts: Vec<&str> = parts.iter().map(Cow::as_ref).collect();
        let own = |s: &str| Some(s.to_owned());
        let (namespace, plural, rest): (Option<String>, &str, &[&str]) = match parts.as_slice() {
            [] | [""] => return None,
            // `/namespaces/NS/RESOURCE…`, but status and finalize are subresources of the namespace.
            ["namespaces", ns, sub @ ("status" | "finalize")] => {
                return Some(ResourcePath {
                    group,
                    version,
                    plural: "namespaces".to_owned(),
                    namespace: own(ns),
                    name: own(ns),
                    subresource: own(sub),
                    rest: None,
                });
            }
            ["namespaces", ns, plural, rest @ ..] if !plural.is_empty() => (own(ns), plural, rest),
            ["namespaces", ns, ..] if !ns.is_empty() => {
                (own(ns), "namespaces", parts.get(1..2).unwrap_or_default())
            }
            [plural, rest @ ..] => (None, plural, rest),
        };
        let filled = |i: usize| rest.get(i).filter(|s| !s.is_empty()).and_then(|s| own(s));
        Some(ResourcePath {
            group,
            version,
            plural: plural.to_owned(),
            namespace,
            name: filled(0),
            subresource: filled(1),
            rest: (rest.len() > 2).then(|| rest.get(2..).unwrap_or_default().join("/")),
        })
    }

    /// Whether such a request is passed on as it is: this server reads neither what it accepts nor its body.
    pub(crate) fn passes_on(&self) -> bool {
        let proxied = matches!(self.plural.as_str(), "pods" | "services");
        self.group.is_empty() && proxied && self.subresource.as_deref() == Some("proxy")
    }

    /// What is to be done with it.
    pub(crate) fn verb(&self, method: &Method, query: &Query) -> Verb {
        match *method {
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE if self.name.is_some() => Verb::Delete,
            Method::DELETE => Verb::DeleteCollection,
            // Of one object there is nothing to watch by its path: as in Kubernetes it is got.
            Method::GET | Method::HEAD if self.name.is_some() => Verb::Get,
            Method::GET | Method::HEAD if query.flag("watch") => Verb::Watch,
            Method::GET | Method::HEAD => Verb::List,
            _ => Verb::Other,
        }
    }
}

fn decode(part: &str) -> Cow<'_, str> {
    percent_decode_str(part).decode_utf8_lossy()
}

/// A query string's parameters, decoded, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Query {
        Query(
            url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// A parameter's first value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// A parameter's first value that is not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|v| !v.is_empty())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// A boolean as Kubernetes reads it: present and neither `false` nor `0`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|v| !matches!(v, "false" | "False" | "FALSE" | "f" | "F" | "0"))
    }

    /// An integer. An error is worded as Go's strconv words it.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, String> {
        match self.text(name) {
            None => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(path: &str) -> String {
        match ResourcePath::parse(path) {
            None => "-".to_owned(),
            Some(p) => format!(
                "{}|{}|{}|{}|{}|{}|{}",
                p.group,
                p.version,
                p.namespace.unwrap_or_default(),
                p.plural,
                p.name.unwrap_or_default(),
                p.subresource.unwrap_or_default(),
                p.rest.unwrap_or_default(),
            ),
        }
    }

    #[test]
    fn paths() {
        for (path, want) in [
            ("/api", "-"),
            ("/api/v1", "-"),
            ("/api/v1/", "-"),
            ("/apis/apps/v1", "-"),
            ("/version", "-"),
            ("/api/v1/pods", "|v1||pods|||"),
            ("/api/v1/namespaces", "|v1||namespaces|||"),
            ("/api/v1/namespaces/a", "|v1|a|namespaces|a||"),
            ("/api/v1/namespaces/a/status", "|v1|a|namespaces|a|status|"),
            (
                "/api/v1/namespaces/a/finalize",
                "|v1|a|namespaces|a|finalize|",
            ),
            ("/api/v1/namespaces/a/pods", "|v1|a|pods|||"),
            ("/api/v1/namespaces/a/pods/", "|v1|a|pods|||"),
            ("/api/v1/namespaces/a/pods/p/log", "|v1|a|pods|p|log|"),
            (
                "/api/v1/namespaces/a/pods/p/proxy/x/y",
                "|v1|a|pods|p|proxy|x/y",
            ),
            ("/api/v1/nodes/n%2F1", "|v1||nodes|n/1||"),
            (
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                "apps|v1|a|deployments|d|scale|",
            ),
        ] {
            assert_eq!(short(path), want, "{path}");
        }
    }

    #[test]
    fn verbs() {
        let verb = |method: Method, path: &str, query: &str| {
            ResourcePath::parse(path)
                .unwrap()
                .verb(&method, &Query::parse(Some(query)))
                .as_str()
        };
        assert_eq!(verb(Method::GET, "/api/v1/pods", ""), "list");
        assert_eq!(verb(Method::GET, "/api/v1/pods", "watch=1"), "watch");
        assert_eq!(verb(Method::GET, "/api/v1/pods", "watch=false"), "list");
        assert_eq!(verb(Method::GET, "/api/v1/nodes/n", ""), "get");
        assert_eq!(verb(Method::GET, "/api/v1/nodes/n", "watch=true"), "get");
        assert_eq!(
            verb(Method::DELETE, "/api/v1/nodes", ""),
            "deletecollection"
        );
        assert_eq!(verb(Method::DELETE, "/api/v1/nodes/n", ""), "delete");
        assert_eq!(verb(Method::OPTIONS, "/api/v1/nodes/n", ""), "other");
    }

    #[test]
    fn numbers() {
        let query = Query::parse(Some("limit=x&timeoutSeconds=7&a=1&a=2"));
        assert_eq!(
            query.integer("limit").unwrap_err(),
            "strconv.ParseInt: parsing \"x\": invalid syntax"
        );
        assert_eq!(query.integer("timeoutSeconds"), Ok(Some(7)));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
    }
}
