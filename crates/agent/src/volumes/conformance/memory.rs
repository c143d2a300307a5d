//! What lies in memory: `emptyDir`s by their medium, and whatever may be secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use k8s_openapi::api::core::v1::Volume;
use serde_json::{Value, json};

use super::super::kind::KINDS;
use super::super::{Context, Made, Outcome, refusal, renew, tear_down};
use super::{Bench, examples, pod};
use crate::pod::Host;

#[tokio::test(start_paused = true)]
async fn a_volume_in_memory_lies_there_and_nowhere_else() {
    let b = Bench::new();
    let volume = json!({"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}});
    let memory = b.memory.clone().unwrap();
    let made = b.make(&volume).await.unwrap();
    assert_eq!(made, Made::new(memory.join("v"), false));
    fs::write(made.path.join("mine"), "x").unwrap();
    assert_eq!(b.make(&volume).await.unwrap(), made);
    assert!(made.path.join("mine").exists());
    assert!(!b.volumes().exists());
    tear_down(&memory).unwrap();
    assert!(!memory.exists());
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(start_paused = true)]
async fn what_may_be_secret_lies_in_memory() {
    let b = Bench::new();
    let memory = b.memory.clone().unwrap();
    let mut there = Vec::new();
    for kind in KINDS {
        let volume = examples::of(kind.field(), &b.dir.path().join("host")).volume;
        let made = b.make(&volume).await.unwrap();
        if made.path.starts_with(&memory) {
            there.push(kind.field());
            assert_eq!(made.path, memory.join("v"));
            assert!(!b.volumes().join(kind.field()).exists(), "{volume}");
        }
    }
    assert_eq!(there, ["downwardAPI", "projected", "secret"]);
    for dir in memory.ancestors().take(3) {
        assert_eq!(mode(dir), 0o700);
    }
}

impl Bench {
    /// Makes the volume `v` anew while guests have it.
    async fn again(&self, volume: &Value, made: &Made) -> Outcome {
        let stale = BTreeSet::from(["v".to_owned()]);
        let made = BTreeMap::from([("v".to_owned(), made.clone())]);
        let renewed = async |cx: &Context<'_>| renew(cx, &made, &stale).await;
        self.with(&pod(volume), renewed).await
    }
}

const SECRET: &str = "/api/v1/namespaces/shop/secrets/s";

#[tokio::test(start_paused = true)]
async fn a_node_without_memory_has_it_on_its_disk_for_nobody_else() {
    let mut b = Bench::new();
    let volume = json!({"name": "v", "secret": {"secretName": "s"}});
    let memory = b.memory.take().unwrap();
    let on_disk = b.make(&volume).await.unwrap();
    assert_eq!(on_disk.path, b.volumes().join("secret/v"));
    assert_eq!(mode(&on_disk.path), 0o700);
    let password = |made: &Made| fs::read_to_string(made.path.join("password")).unwrap();
    assert_eq!(password(&on_disk), "hunter2");

    // Guests have it open: it stays there, whatever else there is.
    b.memory = Some(memory.clone());
    let changed = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop"}, "data": {"password": "bmV3"}});
    b.server
        .changed
        .lock()
        .insert(SECRET.to_owned(), Some(changed));
    let renewed = b.again(&volume, &on_disk).await;
    assert_eq!(renewed.made["v"], on_disk);
    assert_eq!(password(&on_disk), "new");
    assert!(!memory.exists());

    // The next agent's guests begin anew.
    let in_memory = b.make(&volume).await.unwrap();
    assert_eq!(in_memory.path, memory.join("v"));
    assert_eq!(password(&in_memory), "new");
    assert!(!on_disk.path.exists(), "nothing of it stays on the disk");
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_has_made_in_memory_is_left_alone() {
    let b = Bench::new();
    let others = b.dir.path().join("others");
    fs::create_dir_all(others.join("agent/pod/v")).unwrap();
    symlink(&others, b.dir.path().join("machine")).unwrap();
    let volume = json!({"name": "v", "secret": {"secretName": "s"}});
    let made = b.make(&volume).await.unwrap();
    assert_eq!(made.path, b.volumes().join("secret/v"));
    let untouched = fs::read_dir(others.join("agent/pod/v")).unwrap();
    assert_eq!(untouched.count(), 0);
    // So it is when it was cleaned up while guests use it.
    fs::remove_file(b.dir.path().join("machine")).unwrap();
    let made = b.make(&volume).await.unwrap();
    assert!(made.path.starts_with(b.memory.as_ref().unwrap()));
    fs::remove_dir_all(b.dir.path().join("machine")).unwrap();
    symlink(&others, b.dir.path().join("machine")).unwrap();
    let renewed = b.again(&volume, &made).await;
    let why = renewed.unmade[0].why.to_string();
    assert!(why.ends_with("machine is somebody else's"), "{why}");
}

#[test]
fn what_a_node_has_not_is_said() {
    let of = |source: Value, host: &Host| {
        let volume: Volume =
            serde_json::from_value(json!({"name": "v", "emptyDir": source})).unwrap();
        refusal(&[volume], host)
    };
    let (none, some) = (
        Host::default(),
        Host {
            memory: Some("/memory".into()),
            ..Host::default()
        },
    );
    let memory = json!({"medium": "Memory", "sizeLimit": "1Mi"});
    assert_eq!(of(memory.clone(), &some), None);
    assert_eq!(of(json!({"sizeLimit": "1Mi"}), &none), None);
    for (source, host, why) in [
        (memory, &none, "this node has no file system in memory"),
        (
            json!({"medium": "HugePages-2Mi"}),
            &some,
            "medium HugePages-2Mi: guests have no huge pages",
        ),
        (
            json!({"medium": "Tape"}),
            &some,
            "medium Tape is not supported by carob yet",
        ),
    ] {
        let said = format!("spec.volumes[0].emptyDir: {why}");
        assert_eq!(of(source, host), Some(said));
    }
}
