//! Pods whose image is changed before their containers run, or takes long to be compiled.

use std::time::Duration;

use client::Patch;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::{Value, json};

use crate::bench::Bench;

impl Bench {
    /// Another module than everybody has, as an image.
    fn other_image(&self) -> String {
        let file = self.dir.path().join("other.wasm");
        std::fs::write(&file, b"\0asm\x01\0\0\0other").unwrap();
        format!("file://{}", file.display())
    }

    async fn set_image(&self, pod: &str, image: &str) {
        let containers = json!([{"name": "main", "image": image}]);
        let patch = Patch::Strategic(json!({"spec": {"containers": containers}}));
        let pods = self.client.of::<Pod>();
        pods.patch("default", pod, &patch, None).await.unwrap();
    }

    /// What the container is said to run, and what that is.
    async fn image_of(&self, pod: &str) -> [Value; 2] {
        self.until_phase(pod, "Running").await;
        let status = &self.pod(pod).await["status"]["containerStatuses"][0];
        [status["image"].clone(), status["imageID"].clone()]
    }
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_what_the_spec_names_when_it_starts() {
    let b = Bench::new().await;
    let other = b.other_image();
    b.create(
        "other",
        json!({"containers": [{"name": "main", "image": other}]}),
    )
    .await;
    b.create("usual", json!({"containers": [{"name": "main"}]}))
        .await;
    let wanted = b.image_of("other").await;
    assert_ne!(wanted, b.image_of("usual").await);

    // It has its module, and lacks something else.
    let env = json!([{"configMapRef": {"name": "settings"}}]);
    b.create(
        "lacks",
        json!({"containers": [{"name": "main", "envFrom": env}]}),
    )
    .await;
    b.until_waiting("lacks", "CreateContainerConfigError").await;
    b.set_image("lacks", &other).await;
    let settings = json!({"metadata": {"name": "settings", "namespace": "default"}});
    let settings: ConfigMap = serde_json::from_value(settings).unwrap();
    b.client.of().create(&settings).await.unwrap();
    assert_eq!(b.image_of("lacks").await, wanted);

    // Its module is being compiled.
    b.prepares.send_replace(false);
    b.create("slow", json!({"containers": [{"name": "main"}]}))
        .await;
    b.until("compiling", async |b| {
        b.events("slow").await.iter().any(|e| e.starts_with("Pull"))
    })
    .await;
    b.set_image("slow", &other).await;
    b.until("compiling both", async |b| {
        b.times_said("slow", "Pulled").await == 2
    })
    .await;
    b.prepares.send_replace(true);
    assert_eq!(b.image_of("slow").await, wanted);
    // Neither was anything started that was not to be.
    for name in ["lacks", "slow"] {
        let status = &b.pod(name).await["status"]["containerStatuses"][0];
        assert_eq!(status["restartCount"], 0);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_compiler_is_told_so() {
    let b = Bench::new().await;
    let other = b.other_image();
    let main = |image: &str| json!({"containers": [{"name": "main", "image": image}]});
    b.prepares.send_replace(false);
    b.create("slow", main(&other)).await;
    b.until("told", async |b| {
        b.times_said("slow", "Compiling").await > 0
    })
    .await;
    b.prepares.send_replace(true);
    b.until_phase("slow", "Running").await;
    assert_eq!(b.times_said("slow", "Compiling").await, 1);
    // It is compiled already, whatever else it waits for.
    b.prepares.send_replace(false);
    b.create("again", main(&other)).await;
    b.until("there", async |b| b.times_said("again", "Pulled").await > 0)
        .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    b.prepares.send_replace(true);
    b.until_phase("again", "Running").await;
    assert_eq!(b.times_said("again", "Compiling").await, 0);
}
