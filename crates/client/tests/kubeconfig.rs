//! Kubeconfig files, found, merged and read.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use client::{
    kubeconfig::{self, Credentials, Error, Sources},
    tls::Identity,
};

fn identity(mark: &str) -> Identity {
    Identity {
        cert_pem: format!("cert {mark}\n"),
        key_pem: format!("key {mark}\n"),
        ca_pem: format!("ca {mark}\n"),
    }
}

fn explicit(path: &Path) -> Sources {
    Sources {
        explicit: Some(path.to_owned()),
        ..Sources::default()
    }
}

#[tokio::test]
async fn what_is_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/config");
    let server = "https://127.0.0.1:6443";
    kubeconfig::write(&path, "carob", server, &identity("1")).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds a key");
    let context = explicit(&path).load(None).unwrap();
    assert_eq!(context.name, "carob");
    assert_eq!(context.server, server);
    assert_eq!(context.namespace, "default");
    assert_eq!(context.ca_pem, "ca 1\n");
    let expected = Credentials::Certificate {
        cert_pem: "cert 1\n".into(),
        key_pem: "key 1\n".into(),
    };
    assert_eq!(context.credentials, expected);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("current-context: carob"), "{text}");
    assert!(!text.contains("null"), "{text}");
}

const FOREIGN: &str = r"
apiVersion: v1
kind: Config
preferences: {colors: true}
current-context: work
clusters:
- name: work
  cluster: {server: 'https://work.example', certificate-authority: ca.pem, extensions: [{name: x}]}
contexts:
- name: work
  context: {cluster: work, user: me, namespace: team}
users:
- name: me
  user:
    exec: {command: login, apiVersion: client.authentication.k8s.io/v1}
";

#[tokio::test]
async fn merging_keeps_what_it_does_not_know() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    fs::write(&path, FOREIGN).unwrap();
    let linked = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &linked).unwrap();
    for mark in ["1", "2"] {
        kubeconfig::merge(&linked, "carob", "https://127.0.0.1:1", &identity(mark))
            .await
            .unwrap();
    }
    assert!(fs::symlink_metadata(&linked).unwrap().is_symlink());
    let context = explicit(&path).load(None).unwrap();
    assert_eq!(
        (context.name.as_str(), context.ca_pem.as_str()),
        ("carob", "ca 2\n")
    );
    let text = fs::read_to_string(&path).unwrap();
    for kept in [
        "colors: true",
        "name: x",
        "command: login",
        "namespace: team",
    ] {
        assert!(text.contains(kept), "{kept} is lost:\n{text}");
    }
    assert_eq!(text.matches("name: carob").count(), 3, "{text}");
    assert!(!directory.path().join("config.lock").exists());

    kubeconfig::remove(&path, "carob").await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("carob"), "{text}");
    assert!(text.contains("command: login"), "{text}");
    kubeconfig::remove(&directory.path().join("absent"), "carob")
        .await
        .unwrap();
    assert!(!directory.path().join("absent").exists());
}

#[tokio::test]
async fn a_broken_file_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    fs::write(&path, "clusters: {").unwrap();
    let merged = kubeconfig::merge(&path, "carob", "https://127.0.0.1:1", &identity("1")).await;
    assert!(matches!(merged, Err(Error::Syntax { .. })), "{merged:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "clusters: {");
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_waited_for_and_then_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    let lock = directory.path().join("config.lock");
    fs::write(&lock, "").unwrap();
    let merged = kubeconfig::merge(&path, "carob", "https://127.0.0.1:1", &identity("1")).await;
    let error = merged.unwrap_err().to_string();
    assert!(error.contains("config.lock"), "{error}");
    assert!(lock.exists(), "it is somebody else's");
    let other = lock.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fs::remove_file(other).unwrap();
    });
    let merged = kubeconfig::merge(&path, "carob", "https://127.0.0.1:1", &identity("1")).await;
    merged.unwrap();
    assert!(!lock.exists());
}

#[test]
fn files_are_found_as_kubectl_finds_them() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second, absent] = ["first", "second", "absent"].map(|n| directory.path().join(n));
    let ca = BASE64_STANDARD.encode("ca");
    fs::write(&first, "clusters: null\ncurrent-context: ''\n").unwrap();
    fs::write(
        &second,
        format!(
            "current-context: b\ncontexts: [{{name: b, context: {{cluster: c, user: ''}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://h:1', \
             certificate-authority-data: {ca}}}}}]\n"
        ),
    )
    .unwrap();
    let list = std::env::join_paths([&absent, &first, &second]).unwrap();
    let sources = Sources {
        environment: Some(list),
        home: Some(directory.path().to_owned()),
        ..Sources::default()
    };
    let context = sources.load(None).unwrap();
    assert_eq!(context.server, "https://h:1");
    assert_eq!(context.credentials, Credentials::None);
    assert_eq!(
        sources.merge_target(),
        Some(first.clone()),
        "the first that exists"
    );

    let nowhere = Sources {
        home: Some(directory.path().to_owned()),
        ..Sources::default()
    };
    let target = directory.path().join(".kube/config");
    assert_eq!(nowhere.merge_target(), Some(target));
    assert!(matches!(nowhere.load(None), Err(Error::NoContext(_))));
    assert!(matches!(
        explicit(&absent).load(None),
        Err(Error::Io { .. })
    ));
    let missing = sources.load(Some("other")).unwrap_err().to_string();
    assert!(missing.contains(r#"no context "other""#), "{missing}");
}

#[test]
fn what_can_not_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    fs::write(directory.path().join("ca.pem"), "ca from a file").unwrap();
    fs::write(&path, FOREIGN).unwrap();
    let error = explicit(&path).load(None).unwrap_err().to_string();
    assert_eq!(error, r#"context "work": exec is not supported"#);
    let token = FOREIGN.replace(
        "    exec: {command: login, apiVersion: client.authentication.k8s.io/v1}",
        "    token: abc",
    );
    fs::write(&path, &token).unwrap();
    let context = explicit(&path).load(None).unwrap();
    assert_eq!(
        context.ca_pem, "ca from a file",
        "relative to the kubeconfig"
    );
    assert_eq!(context.credentials, Credentials::Token("abc".into()));
    assert_eq!(context.namespace, "team");
    let insecure = token.replace(
        "certificate-authority: ca.pem",
        "insecure-skip-tls-verify: true",
    );
    fs::write(&path, insecure).unwrap();
    let error = explicit(&path).load(None).unwrap_err().to_string();
    assert!(error.contains("insecure-skip-tls-verify"), "{error}");
}
