//! What stands in a container's `image:`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{Digest, Error};

/// A reference to an image: a name in some registry, or a file of the node's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// `file:///path/to/module.wasm`: an absolute path on the node.
    File(PathBuf),
    /// `[HOST/]NAME[:TAG][@sha256:…]`.
    Name(Name),
}

/// An image's name in a registry: `[HOST/]REPOSITORY[:TAG][@DIGEST]`. With both a tag and a digest, the
/// digest decides and the tag is for people to read, as everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The registry's host, with its port if one was given; `None` is the cluster's own registry. As in
    /// docker's rule, the part before the first slash is a host if it holds a dot or a colon or is
    /// `localhost`.
    pub host: Option<String>,
    /// The repository, such as `greeter` or `team/greeter`: at most 255 characters.
    pub repository: String,
    /// The tag, at most 128 characters.
    pub tag: Option<String>,
    /// The digest of the manifest.
    pub digest: Option<Digest>,
}

impl Name {
    /// The name of the manifest `digest` in the cluster's own repository `repository`.
    pub fn pinned(repository: &str, digest: Digest) -> Result<Name, Error> {
        check_repository(repository).map_err(|reason| invalid(repository, reason))?;
        Ok(Name {
            host: None,
            repository: repository.to_owned(),
            tag: None,
            digest: Some(digest),
        })
    }

    /// The tag, or `latest` if neither a tag nor a digest was given.
    pub fn tag_or_latest(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// What stands last in the URL of its manifest: the digest if there is one, else the tag.
    pub fn manifest_reference(&self) -> String {
        match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.tag_or_latest().to_owned(),
        }
    }
}

impl Reference {
    /// The default of a container's `imagePullPolicy` for this image, by Kubernetes' rule: `true` (Always)
    /// for the tag `latest` and for none at all, unless a digest pins it.
    pub fn pull_always_by_default(&self) -> bool {
        match self {
            Reference::File(_) => true,
            Reference::Name(name) => name.digest.is_none() && name.tag_or_latest() == "latest",
        }
    }
}

fn invalid(text: &str, reason: impl Into<String>) -> Error {
    Error::Reference {
        text: text.chars().take(300).collect(),
        reason: reason.into(),
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference, Error> {
        if let Some(path) = text.strip_prefix("file://") {
            if !path.starts_with('/') {
                return Err(invalid(
                    text,
                    "the path of a file reference is absolute, as in file:///srv/hello.wasm",
                ));
            }
            if path.len() > 4096 || path.contains('\0') || path.ends_with('/') {
                return Err(invalid(text, "not the path of a file"));
            }
            return Ok(Reference::File(PathBuf::from(path)));
        }
        text.parse().map(Reference::Name)
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Name, Error> {
        if text.is_empty() {
            return Err(invalid(text, "it is empty"));
        }
        if text.contains("://") {
            return Err(invalid(
                text,
                "only file:// is taken; write a registry's image as HOST/NAME:TAG",
            ));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|error: Error| invalid(text, error.to_string()))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (host, rest) = match rest.split_once('/') {
            Some((first, rest)) if is_host(first) => {
                check_host(first).map_err(|reason| invalid(text, reason))?;
                (Some(first.to_owned()), rest)
            }
            _ => (None, rest),
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        check_repository(repository).map_err(|reason| invalid(text, reason))?;
        if let Some(tag) = tag {
            check_tag(tag).map_err(|reason| invalid(text, reason))?;
        }
        Ok(Name {
            host,
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::File(path) => write!(f, "file://{}", path.display()),
            Reference::Name(name) => fmt::Display::fmt(name, f),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}/")?;
        }
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

/// A DNS name, an IPv4 address or an IPv6 address in brackets, and maybe a port.
fn check_host(host: &str) -> Result<(), String> {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            address
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| format!("{host:?} is not a registry's host"))?;
            (
                None,
                port.strip_prefix(':').or((port.is_empty()).then_some("")),
            )
        }
        None => match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), Some("")),
        },
    };
    let label_fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name_fits = name.is_none_or(|name| name.len() <= 253 && name.split('.').all(label_fits));
    let port_fits = match port {
        Some("") => !host.ends_with(':'),
        Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => false,
    };
    if name_fits && port_fits {
        Ok(())
    } else {
        Err(format!("{host:?} is not a registry's host"))
    }
}

/// The distribution specification's rule: components of `[a-z0-9]+` joined by `.`, `_`, `__` or dashes,
/// joined by slashes.
pub(crate) fn check_repository(repository: &str) -> Result<(), String> {
    if repository.len() > 255 {
        return Err("the name is longer than 255 characters".to_owned());
    }
    if repository.split('/').all(component_fits) {
        Ok(())
    } else {
        Err(format!(
            "{repository:?} is not a repository's name: lower-case letters and digits, joined by '.', '_', '-' or '/'"
        ))
    }
}

fn component_fits(component: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
        return false;
    }
    bytes.split(alphanumeric).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

/// The distribution specification's rule: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub(crate) fn check_tag(tag: &str) -> Result<(), String> {
    let mut bytes = tag.bytes();
    let fits = tag.len() <= 128
        && bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if fits {
        Ok(())
    } else {
        Err(format!(
            "{tag:?} is not a tag: at most 128 letters, digits, '.', '_' and '-'"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn name(host: Option<&str>, repository: &str, tag: Option<&str>, pinned: bool) -> Reference {
        Reference::Name(Name {
            host: host.map(str::to_owned),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest: pinned.then(|| DIGEST.parse().unwrap()),
        })
    }

    #[test]
    fn taken_apart_and_written_again() {
        let table = [
            ("hello".to_owned(), name(None, "hello", None, false)),
            (
                "hello:v1".to_owned(),
                name(None, "hello", Some("v1"), false),
            ),
            (
                "team/a__b/c-d.e:V_1".to_owned(),
                name(None, "team/a__b/c-d.e", Some("V_1"), false),
            ),
            (format!("hello@{DIGEST}"), name(None, "hello", None, true)),
            (
                format!("hello:v1@{DIGEST}"),
                name(None, "hello", Some("v1"), true),
            ),
            (
                "ghcr.io/org/app:1.2".to_owned(),
                name(Some("ghcr.io"), "org/app", Some("1.2"), false),
            ),
            (
                "localhost/app".to_owned(),
                name(Some("localhost"), "app", None, false),
            ),
            (
                "localhost:5000/app".to_owned(),
                name(Some("localhost:5000"), "app", None, false),
            ),
            (
                "[::1]:5000/app:x".to_owned(),
                name(Some("[::1]:5000"), "app", Some("x"), false),
            ),
            (
                "file:///srv/a b.wasm".to_owned(),
                Reference::File("/srv/a b.wasm".into()),
            ),
        ];
        for (text, want) in table {
            assert_eq!(text.parse::<Reference>().unwrap(), want, "{text}");
            assert_eq!(want.to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            ":",
            "@",
            "/",
            "Hello",
            "hello:",
            "hello:-x",
            "hello/",
            "/hello",
            "a//b",
            "hello@sha256:00",
            "hello@",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "http://x/y",
            "file://rel.wasm",
            "file:///dir/",
            "a b",
            "a:b:c",
            "host:99999/x",
            "host.:5/x",
            "[::1/x",
            "[zz]:1/x",
            "reg.io:/x",
            "reg.io/",
            "../x",
            "./x.wasm",
            "hé",
            "a/../b",
            "_peer/x",
            "hello:täg",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(256).parse::<Reference>().is_err());
        assert!(
            format!("a:{}", "t".repeat(129))
                .parse::<Reference>()
                .is_err()
        );
    }

    #[test]
    fn pull_policy_follows_the_tag() {
        let always = |text: &str| text.parse::<Reference>().unwrap().pull_always_by_default();
        assert!(always("hello"));
        assert!(always("hello:latest"));
        assert!(!always("hello:v1"));
        assert!(!always(&format!("hello@{DIGEST}")));
    }
}
