//! Paths through the proxy: what is passed on of them, and where redirects lead.

use http::Uri;
use http::uri::PathAndQuery;
use url::Url;

/// The segments of a path before what is passed on, with the empty one before the first slash:
/// `/api/v1/namespaces/NS/pods/NAME/proxy`.
const SEGMENTS: usize = 8;

/// A path in two parts, as it came: nothing in it is decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prefix<'a> {
    /// Up to `proxy`, without a slash at its end.
    pub(super) prefix: &'a str,
    /// What is passed on, without its first slash; none where not even that is there.
    pub(super) rest: Option<&'a str>,
}

impl<'a> Prefix<'a> {
    pub(super) fn of(uri: &'a Uri) -> Self {
        let path = uri.path();
        let slash = path.match_indices('/').nth(SEGMENTS - 1);
        match slash {
            Some((at, _)) => Self {
                prefix: path.get(..at).unwrap_or_default(),
                rest: path.get(at + 1..),
            },
            None => Self {
                prefix: path,
                rest: None,
            },
        }
    }

    /// What the pod is asked for.
    pub(super) fn passed_on(&self, uri: &Uri) -> Uri {
        let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
        let path = format!("/{}{query}", self.rest.unwrap_or_default());
        // They are parts of a URI that was one.
        let path = PathAndQuery::try_from(path).unwrap_or_else(|_| PathAndQuery::from_static("/"));
        Uri::from(path)
    }

    /// Where a redirect leads, through this server; none where it leads elsewhere, or is relative to where it came from.
    /// `host` is that which the client asked for, and the pod was told of.
    pub(super) fn rewrite(&self, location: &str, host: Option<&str>) -> Option<String> {
        let path = match location.strip_prefix('/') {
            // A host without a scheme.
            Some(rest) if rest.starts_with('/') => {
                return self.of_host(&format!("http:{location}"), host);
            }
            Some(_) => location,
            None => return self.of_host(location, host),
        };
        let inside = path.strip_prefix(self.prefix);
        match inside.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#'])) {
            true => None,
            false => Some(format!("{}{path}", self.prefix)),
        }
    }

    /// The same of one with a host: only of the host that was asked.
    fn of_host(&self, location: &str, host: Option<&str>) -> Option<String> {
        let url = Url::parse(location).ok()?;
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        if host != Some(authority) {
            return None;
        }
        let path = &url[url::Position::BeforePath..];
        Some(self.rewrite(path, host).unwrap_or_else(|| path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PODS: &str = "/api/v1/namespaces/ns/pods/web:80/proxy";

    #[test]
    fn what_is_passed_on() {
        for (rest, query, want) in [
            (None, "", "/"),
            (Some(""), "", "/"),
            (Some("a/b"), "?x=%2F&y", "/a/b?x=%2F&y"),
            (Some("a%2Fb/"), "", "/a%2Fb/"),
            (Some("/twice//"), "", "//twice//"),
        ] {
            let path = rest.map(|r| format!("/{r}")).unwrap_or_default();
            let uri: Uri = format!("{PODS}{path}{query}").parse().unwrap();
            let prefix = Prefix::of(&uri);
            assert_eq!((prefix.prefix, prefix.rest), (PODS, rest));
            assert_eq!(prefix.passed_on(&uri).to_string(), want);
        }
    }

    #[test]
    fn where_redirects_lead() {
        let uri: Uri = format!("{PODS}/a").parse().unwrap();
        let prefix = Prefix::of(&uri);
        for (location, want) in [
            ("/login", Some(format!("{PODS}/login"))),
            ("/login/?next=%2F", Some(format!("{PODS}/login/?next=%2F"))),
            ("/", Some(format!("{PODS}/"))),
            ("login", None),
            ("../up", None),
            ("", None),
            (&format!("{PODS}/b"), None),
            (&format!("{PODS}x"), Some(format!("{PODS}{PODS}x"))),
            ("https://api:6443/x", Some(format!("{PODS}/x"))),
            ("http://api:6443", Some(format!("{PODS}/"))),
            ("//api:6443/x", Some(format!("{PODS}/x"))),
            ("https://api/x", None),
            ("https://elsewhere/x", None),
            ("//elsewhere/x", None),
            ("mailto:somebody", None),
        ] {
            assert_eq!(
                prefix.rewrite(location, Some("api:6443")),
                want,
                "{location}"
            );
        }
    }
}
