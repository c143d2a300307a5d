//! Who certificates and headers say that somebody is.

use super::*;
use crate::ca::{Ca, Profile};

#[test]
fn certificates_name_user_and_group() {
    let ca = Ca::create().unwrap();
    let issued = ca
        .issue(&Profile::Node {
            name: "n1".to_owned(),
            addresses: vec![],
        })
        .unwrap();
    let chain = client::tls::certificates(&issued.certificate).unwrap();
    let identity = Identity::of_subject(Subject::of(&chain[0]).unwrap());
    assert_eq!(identity.user, "system:node:n1");
    assert_eq!(identity.groups, ["system:nodes", "system:authenticated"]);
    assert_eq!(identity.node(), Some("n1"));
    assert!(!identity.is_superuser());
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

#[test]
fn whom_impersonation_headers_name() {
    for (lines, user, groups) in [
        (
            &[("impersonate-user", "jane")][..],
            "jane",
            &["system:authenticated"][..],
        ),
        (
            &[
                ("impersonate-user", "jane"),
                ("impersonate-group", "a"),
                ("impersonate-group", "b"),
            ],
            "jane",
            &["a", "b", "system:authenticated"],
        ),
        (
            &[
                ("impersonate-user", "jane"),
                ("impersonate-group", "system:authenticated"),
            ],
            "jane",
            &["system:authenticated"],
        ),
        (
            &[
                ("impersonate-user", "jane"),
                ("impersonate-group", "system:unauthenticated"),
            ],
            "jane",
            &["system:unauthenticated"],
        ),
        (
            &[("impersonate-user", "system:anonymous")],
            "system:anonymous",
            &["system:unauthenticated"],
        ),
        (
            &[("impersonate-user", "system:serviceaccount:ns:sa")],
            "system:serviceaccount:ns:sa",
            &[
                "system:serviceaccounts",
                "system:serviceaccounts:ns",
                "system:authenticated",
            ],
        ),
        (
            &[
                ("impersonate-user", "system:serviceaccount:ns:sa"),
                ("impersonate-group", "a"),
            ],
            "system:serviceaccount:ns:sa",
            &["a", "system:authenticated"],
        ),
        // Nobody's name, so that of a user like any other.
        (
            &[("impersonate-user", "system:serviceaccount:ns:a:b")],
            "system:serviceaccount:ns:a:b",
            &["system:authenticated"],
        ),
    ] {
        let asked = Identity::impersonation(&headers(lines)).unwrap().unwrap();
        assert_eq!(
            (asked.identity.user.as_str(), asked.identity.groups),
            (user, groups.iter().map(|g| (*g).to_owned()).collect()),
            "{lines:?}"
        );
    }
}

#[test]
fn what_must_be_allowed_for_it() {
    let asked = Identity::impersonation(&headers(&[
        ("impersonate-user", "system:serviceaccount:ns:sa"),
        ("impersonate-group", "dev"),
        ("impersonate-uid", "u1"),
        ("impersonate-extra-acme.com%2fproject", "p"),
        ("impersonate-extra-acme.com%2fproject", "q"),
    ]));
    let asked = asked.unwrap().unwrap();
    let lines: Vec<String> = asked
        .asks
        .iter()
        .map(|ask| {
            let a = ask.attributes();
            [
                a.verb,
                a.group,
                a.resource,
                a.subresource,
                a.namespace,
                a.name,
            ]
            .join(" ")
        })
        .collect();
    assert_eq!(
        lines,
        [
            "impersonate  serviceaccounts  ns sa",
            "impersonate  groups   dev",
            "impersonate authentication.k8s.io userextras acme.com/project  p",
            "impersonate authentication.k8s.io userextras acme.com/project  q",
            "impersonate authentication.k8s.io uids   u1",
        ]
    );
    assert_eq!(asked.identity.uid, "u1");
    assert_eq!(asked.identity.extra["acme.com/project"], ["p", "q"]);
}

#[test]
fn headers_that_name_nobody() {
    let of = |lines: &[(&'static str, &str)]| Identity::impersonation(&headers(lines));
    assert_eq!(of(&[]), Ok(None));
    assert_eq!(of(&[("impersonate-user", "")]), Ok(None));
    for header in [
        "impersonate-group",
        "impersonate-uid",
        "impersonate-extra-x",
    ] {
        assert_eq!(
            of(&[(header, "x")]),
            Err(BadImpersonation::Incomplete),
            "{header}"
        );
    }
    assert_eq!(
        of(&[("impersonate-user", "x"), ("impersonate-extra-%ff", "x")]),
        Err(BadImpersonation::Unreadable)
    );
    let mut headers = HeaderMap::new();
    headers.insert(
        "impersonate-user",
        HeaderValue::from_bytes(b"\xff").unwrap(),
    );
    assert_eq!(
        Identity::impersonation(&headers),
        Err(BadImpersonation::Unreadable)
    );
}
