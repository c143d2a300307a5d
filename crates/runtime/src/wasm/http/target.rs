//! Whom an outgoing request is for, and what it is called on the wire.

use http::Uri;
use http::uri::Scheme;
use wasmtime_wasi_http::Error;

/// The server of an outgoing request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// A name or an IPv4 address.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

impl Target {
    /// Whom a request for this URI goes to.
    ///
    /// # Errors
    /// When it names nobody.
    pub(super) fn of(uri: &Uri) -> Result<Self, Error> {
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if tls => 443,
            None => 80,
        };
        let host = authority.host();
        if port == 0 || host.is_empty() {
            return Err(Error::HttpRequestUriInvalid);
        }
        let host = host.to_owned();
        Ok(Self { host, port, tls })
    }
}

/// The URI as a server is told it, which knows its own name (RFC 9112, section 3.2.1).
///
/// # Errors
/// When it has no path that can be written so.
pub(super) fn origin_form(uri: &Uri) -> Result<Uri, Error> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let built = match path.starts_with('?') {
        true => Uri::builder().path_and_query(format!("/{path}")),
        false => Uri::builder().path_and_query(path),
    };
    built.build().map_err(|_| Error::HttpRequestUriInvalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let to = |host: &str, port, tls| {
            let host = host.to_owned();
            Some(Target { host, port, tls })
        };
        for (uri, target) in [
            ("http://web/a", to("web", 80, false)),
            ("https://web", to("web", 443, true)),
            ("http://user:secret@web:81", to("web", 81, false)),
            ("https://10.0.0.1:8443/x", to("10.0.0.1", 8443, true)),
            ("http://web:0/", None),
            ("/a", None),
        ] {
            assert_eq!(Target::of(&uri.parse().unwrap()).ok(), target, "{uri}");
        }
    }

    #[test]
    fn what_servers_are_told() {
        for (uri, told) in [
            ("http://web", "/"),
            ("http://web/a?b=c", "/a?b=c"),
            ("http://web?b=c", "/?b=c"),
        ] {
            assert_eq!(origin_form(&uri.parse().unwrap()).unwrap(), told, "{uri}");
        }
    }
}
