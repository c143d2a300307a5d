//! From a path to what it asks for.

use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};

use super::answer::{Fault, answer, full};
use super::blob::Ask;
use super::{Body, Inner, PEER_PREFIX};
use crate::reference::{check_repository, check_tag};
use crate::{Digest, Error};

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Root,
    Catalog,
    Tags(&'a str),
    Referrers(&'a str, Digest),
    Blob(&'a str, Digest),
    Uploads(&'a str),
    Session(&'a str, &'a str),
    Manifest(&'a str, Reference<'a>),
    Peer(Digest),
}

/// What names a manifest in its repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference<'a> {
    Tag(&'a str),
    Digest(Digest),
}

impl<'a> Route<'a> {
    pub(super) fn parse(path: &'a str) -> Result<Route<'a>, Fault> {
        if let Some(digest) = path.strip_prefix(PEER_PREFIX) {
            return Ok(Route::Peer(digest.parse()?));
        }
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Route::Root),
            Some("/_catalog") => return Ok(Route::Catalog),
            Some(rest) => rest.strip_prefix('/').unwrap_or_default(),
            None => "",
        };
        // A repository's name may hold slashes, even the words below: what counts is how the path ends.
        let (before, last) = rest.rsplit_once('/').ok_or_else(|| unknown(path))?;
        let (name, route) = if let Some(name) = before.strip_suffix("/blobs/uploads") {
            (
                name,
                if last.is_empty() {
                    Route::Uploads(name)
                } else {
                    Route::Session(name, last)
                },
            )
        } else if let (Some(name), "uploads") = (before.strip_suffix("/blobs"), last) {
            (name, Route::Uploads(name))
        } else if let Some(name) = before.strip_suffix("/blobs") {
            (name, Route::Blob(name, last.parse()?))
        } else if let Some(name) = before.strip_suffix("/manifests") {
            (name, Route::Manifest(name, Reference::parse(last)?))
        } else if let (Some(name), "list") = (before.strip_suffix("/tags"), last) {
            (name, Route::Tags(name))
        } else if let Some(name) = before.strip_suffix("/referrers") {
            (name, Route::Referrers(name, last.parse()?))
        } else {
            return Err(unknown(path));
        };
        check_repository(name)
            .map_err(|reason| Fault::new(StatusCode::BAD_REQUEST, "NAME_INVALID", reason))?;
        Ok(route)
    }
}

impl<'a> Reference<'a> {
    fn parse(text: &'a str) -> Result<Reference<'a>, Fault> {
        if text.contains(':') {
            return Ok(Reference::Digest(text.parse()?));
        }
        check_tag(text)
            .map_err(|reason| Fault::new(StatusCode::BAD_REQUEST, "TAG_INVALID", reason))?;
        Ok(Reference::Tag(text))
    }

    /// The text under which [`super::Tags`] knows it.
    pub(super) fn text(&self) -> String {
        match self {
            Reference::Tag(tag) => (*tag).to_owned(),
            Reference::Digest(digest) => digest.to_string(),
        }
    }
}

fn unknown(path: &str) -> Fault {
    Fault::new(
        StatusCode::NOT_FOUND,
        "NAME_UNKNOWN",
        format!("{path} is no path of the distribution API"),
    )
}

impl Inner {
    pub(super) async fn route(&self, request: Request<Body>) -> Result<Response<Body>, Fault> {
        let path = request.uri().path().to_owned();
        let method = request.method().clone();
        match (Route::parse(&path)?, method) {
            (Route::Root, Method::GET | Method::HEAD) => full(
                answer(StatusCode::OK).header(CONTENT_TYPE, "application/json"),
                "{}",
            ),
            (Route::Catalog, Method::GET) => self.catalog(request.uri()).await,
            (Route::Tags(name), Method::GET) => self.tags_list(name, request.uri()).await,
            (Route::Referrers(name, digest), Method::GET) => {
                self.referrers(name, &digest, request.uri()).await
            }
            (Route::Blob(_, digest), Method::GET | Method::HEAD) => {
                self.get_blob(&digest, Ask::of(&request)).await
            }
            (Route::Blob(_, digest), Method::DELETE) => self.delete_blob(&digest).await,
            (Route::Uploads(name), Method::POST) => self.start_upload(name, request).await,
            (Route::Session(name, session), method) => {
                self.session(name, session, method, request).await
            }
            (Route::Manifest(name, reference), Method::GET | Method::HEAD) => {
                self.get_manifest(name, reference, request.method() == Method::HEAD)
                    .await
            }
            (Route::Manifest(name, reference), Method::PUT) => {
                self.put_manifest(name, reference, request).await
            }
            (Route::Manifest(name, reference), Method::DELETE) => {
                self.delete_manifest(name, reference).await
            }
            (Route::Peer(digest), method) => self.peer_blob(&digest, method, request).await,
            (_, method) => Err(Fault::unsupported(format!("{method} is not for {path}"))),
        }
    }
}

/// The value of a query's parameter.
pub(super) fn parameter(uri: &http::Uri, name: &str) -> Option<String> {
    url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// The digest in a query's parameter `digest`, if there is one.
pub(super) fn digest_parameter(uri: &http::Uri) -> Result<Option<Digest>, Error> {
    parameter(uri, "digest")
        .map(|digest| digest.parse())
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_their_end() {
        let digest = Digest::of(b"");
        for (path, want) in [
            ("/v2".to_owned(), Route::Root),
            ("/v2/".to_owned(), Route::Root),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/b/tags/list".to_owned(), Route::Tags("a/b")),
            (format!("/v2/a/blobs/{digest}"), Route::Blob("a", digest)),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads("a")),
            ("/v2/a/blobs/uploads".to_owned(), Route::Uploads("a")),
            (
                "/v2/blobs/uploads/blobs/uploads/x".to_owned(),
                Route::Session("blobs/uploads", "x"),
            ),
            (
                "/v2/manifests/manifests/v1".to_owned(),
                Route::Manifest("manifests", Reference::Tag("v1")),
            ),
            (
                format!("/v2/a/manifests/{digest}"),
                Route::Manifest("a", Reference::Digest(digest)),
            ),
            (
                format!("/v2/a/referrers/{digest}"),
                Route::Referrers("a", digest),
            ),
            (format!("/v2/_peer/blobs/{digest}"), Route::Peer(digest)),
        ] {
            assert_eq!(Route::parse(&path).unwrap(), want, "{path}");
        }
    }

    #[test]
    fn other_paths_are_refused() {
        for path in [
            "/",
            "",
            "/v1/",
            "/v2/x",
            "/v2/a/b",
            "/v2//tags/list",
            "/v2/../tags/list",
            "/v2/A/tags/list",
            "/v2/a/blobs/sha256:00",
            "/v2/_peer/blobs/x",
            "/v2/_peer/manifests/v1",
            "/v2/a/manifests/",
            "/v2/a/manifests/-",
            "/v2/a/tags/",
            "/v2/tags/list",
        ] {
            assert!(Route::parse(path).is_err(), "{path}");
        }
    }
}
