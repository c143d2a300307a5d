//! `emptyDir`s by their medium.

use std::fs;

use k8s_openapi::api::core::v1::Volume;
use serde_json::{Value, json};

use super::super::{Made, refusal, tear_down};
use super::Bench;
use crate::pod::Host;

#[tokio::test(start_paused = true)]
async fn a_volume_in_memory_lies_there_and_nowhere_else() {
    let b = Bench::new();
    let volume = json!({"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}});
    let memory = b.dir.path().join("machine/agent/pod");
    let made = b.make(&volume).await.unwrap();
    assert_eq!(made, Made::new(memory.join("v"), false));
    fs::write(made.path.join("mine"), "x").unwrap();
    assert_eq!(b.make(&volume).await.unwrap(), made);
    assert!(made.path.join("mine").exists());
    assert!(!b.volumes().exists());
    tear_down(&memory).unwrap();
    assert!(!memory.exists());
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
