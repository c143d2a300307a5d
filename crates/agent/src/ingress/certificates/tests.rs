use k8s_openapi::ByteString;
use rcgen::generate_simple_self_signed;

use super::*;

/// A Secret with a certificate for some names.
fn secret(names: &[&str]) -> Secret {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = generate_simple_self_signed(names).expect("a certificate");
    of(&made.cert.pem(), &made.signing_key.serialize_pem())
}

fn of(certificate: &str, key: &str) -> Secret {
    let data = [("tls.crt", certificate), ("tls.key", key)];
    let data = data.map(|(name, text)| (name.to_owned(), ByteString(text.as_bytes().to_vec())));
    Secret {
        type_: Some(TYPE.to_owned()),
        data: Some(data.into()),
        ..Secret::default()
    }
}

fn wanted(ingress: &str, secret: &str, hosts: &[&str]) -> Wanted {
    Wanted {
        ingress: Key::new("d", ingress),
        secret: Key::new("d", secret),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
    }
}

/// The names in what is shown to clients that ask for a host.
fn shown(certificates: &Certificates, host: &str) -> String {
    let shown = certificates.by_name(host);
    names(&shown.cert[0]).expect("readable").join(",")
}

#[test]
fn chosen_by_name() {
    let certificates = Certificates::new().expect("certificates");
    let secrets: HashMap<_, _> = [
        ("own", &["own.x", "*.own.x"][..]),
        ("given", &["a.x", "*.given.x"]),
        ("later", &["later.x"]),
    ]
    .map(|(name, names)| (Key::new("d", name), Arc::new(secret(names))))
    .into();
    let find = |key: &Key| secrets.get(key).cloned().map_or(Found::Missing, Found::Is);
    let all = [
        wanted("i", "own", &[]),
        wanted("i", "given", &["Given.x", "*.b.x"]),
        wanted("j", "later", &["given.x", "later.x"]),
    ];
    assert_eq!(certificates.set(&all, find), []);
    for (host, due) in [
        ("own.x", "own.x,*.own.x"),
        ("OWN.X.", "own.x,*.own.x"),
        ("one.own.x", "own.x,*.own.x"),
        ("two.one.own.x", NOBODYS),
        ("given.x", "a.x,*.given.x"),
        ("c.b.x", "a.x,*.given.x"),
        ("a.x", NOBODYS),
        ("later.x", "later.x"),
        ("", NOBODYS),
    ] {
        assert_eq!(shown(&certificates, host), due, "{host}");
    }
    // What is wanted no more is shown no more.
    assert_eq!(certificates.set(&all[2..], find), []);
    assert_eq!(shown(&certificates, "given.x"), "later.x");
    assert_eq!(shown(&certificates, "own.x"), NOBODYS);
}

#[test]
fn what_is_missing_or_malformed_is_said_and_the_rest_served() {
    let good = secret(&["good.x"]);
    let other = secret(&["other.x"]);
    let part = |secret: &Secret, name: &str| {
        let data = secret.data.as_ref().expect("data");
        String::from_utf8(data[name].0.clone()).expect("PEM")
    };
    let opaque = Secret {
        type_: Some("Opaque".to_owned()),
        ..good.clone()
    };
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (found, due) in [
        (Found::Missing, "there is no such Secret"),
        (
            Found::Is(Arc::new(opaque)),
            "its type is not kubernetes.io/tls",
        ),
        (Found::Is(Arc::new(of("", "k"))), "it has no tls.crt"),
        (
            Found::Is(Arc::new(of("c", "k"))),
            "tls.crt has no certificate",
        ),
        (
            Found::Is(Arc::new(of(garbled, "k"))),
            "tls.crt is malformed",
        ),
        (
            Found::Is(Arc::new(of(&part(&good, "tls.crt"), "k"))),
            "tls.key has no private key",
        ),
        (
            Found::Is(Arc::new(of(
                &part(&good, "tls.crt"),
                &part(&other, "tls.key"),
            ))),
            "its key cannot be used",
        ),
    ] {
        let certificates = Certificates::new().expect("certificates");
        let good = Arc::new(good.clone());
        let find = |key: &Key| match key.name.as_str() {
            "good" => Found::Is(good.clone()),
            _ => found.clone(),
        };
        let all = [wanted("i", "bad", &["bad.x"]), wanted("i", "good", &[])];
        let said = certificates.set(&all, find);
        assert_eq!(said.len(), 1, "{due}");
        assert!(said[0].1.contains(due), "{} {due}", said[0].1);
        assert!(
            said[0]
                .1
                .starts_with("the certificate of Secret d/bad is not used: ")
        );
        assert_eq!(shown(&certificates, "good.x"), "good.x");
        assert_eq!(shown(&certificates, "bad.x"), NOBODYS);
    }
    let certificates = Certificates::new().expect("certificates");
    let early = certificates.set(&[wanted("i", "s", &[])], |_| Found::NotYet);
    assert_eq!(early, [], "nothing is said before it was looked for");
}

#[test]
fn secrets_are_read_once() {
    let certificates = Certificates::new().expect("certificates");
    let version = |secret: &Secret, version: &str| {
        let mut secret = secret.clone();
        secret.metadata.resource_version = Some(version.to_owned());
        Arc::new(secret)
    };
    let (one, two) = (secret(&["one.x"]), secret(&["two.x"]));
    let all = [wanted("i", "s", &["a.x"]), wanted("j", "s", &["b.x"])];
    let shown = |found: &Arc<Secret>| {
        let said = certificates.set(&all, |_| Found::Is(found.clone()));
        assert_eq!(said, []);
        let [a, b] = ["a.x", "b.x"].map(|host| certificates.by_name(host));
        assert!(Arc::ptr_eq(&a, &b));
        a
    };
    let first = shown(&version(&one, "1"));
    assert!(Arc::ptr_eq(&first, &shown(&version(&one, "1"))));
    let second = shown(&version(&two, "2"));
    assert_eq!(names(&second.cert[0]).expect("readable"), ["two.x"]);
    // What is wanted no more is forgotten.
    assert_eq!(certificates.set(&[], |_| Found::NotYet), []);
    assert!(!Arc::ptr_eq(&second, &shown(&version(&two, "2"))));
}
