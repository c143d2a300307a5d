//! Pods from files of the node, and their mirrors.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent::Memory;
use client::{DeleteOptions, Patch};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::bench::{Bench, FREE, files_below};

/// What a file says of a pod of one container with this script.
fn manifest(b: &Bench, name: &str, script: &[&str]) -> Value {
    let image = format!("file://{}", b.dir.path().join("hello.wasm").display());
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": image, "args": script}]},
    })
}

fn write(b: &Bench, file: &str, text: &str) {
    fs::write(b.manifests().join(file), text).unwrap();
}

fn put(b: &Bench, name: &str, script: &[&str]) {
    let file = format!("{name}.yaml");
    write(b, &file, &manifest(b, name, script).to_string());
}

fn hash(pod: &Value) -> String {
    let hash = &pod["metadata"]["annotations"]["kubernetes.io/config.hash"];
    hash.as_str().unwrap_or_default().to_owned()
}

/// The mirror of a pod that runs; its directory is found by its name from now on.
async fn running(b: &Bench, name: &str) -> Value {
    b.until_phase(name, "Running").await;
    let mirror = b.pod(name).await;
    b.uids
        .lock()
        .unwrap()
        .insert(name.to_owned(), hash(&mirror));
    mirror
}

/// Waits until a pod runs that is made of something else than this one.
async fn replaced(b: &Bench, name: &str, old: &Value) -> Value {
    b.until("replaced", async |b| {
        let pod = b.pod(name).await;
        !hash(&pod).is_empty() && hash(&pod) != hash(old) && pod["status"]["phase"] == "Running"
    })
    .await;
    running(b, name).await
}

fn main_of(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_is_a_pod_that_the_api_sees() {
    let b = Bench::new().await;
    let before = Instant::now();
    put(&b, "web", &["print up", "forever"]);
    let mirror = running(&b, "web-n1").await;
    assert!(before.elapsed() < Duration::from_secs(1));
    let node = b.client.of::<Node>().get("", "n1").await.unwrap();
    let (metadata, status) = (&mirror["metadata"], &mirror["status"]);
    assert_eq!(
        metadata["ownerReferences"],
        json!([{
            "apiVersion": "v1", "kind": "Node", "name": "n1", "uid": node.metadata.uid, "controller": true,
        }])
    );
    assert_eq!(
        metadata["annotations"]["kubernetes.io/config.mirror"],
        hash(&mirror)
    );
    assert_eq!(
        metadata["annotations"]["kubernetes.io/config.source"],
        "file"
    );
    assert_eq!(metadata["labels"], json!({"app": "web"}));
    assert_eq!(mirror["spec"]["nodeName"], "n1");
    assert_eq!(status["podIP"], "10.128.0.3");
    assert_eq!(b.log("web-n1", "main", 0), "up\n");
    // Users' tools look for events by the hash.
    let events = b.events("web-n1").await;
    assert!(
        events.iter().any(|e| e.starts_with("Started: ")),
        "{events:?}"
    );

    // It goes as a deleted one does, and nothing stays of it.
    put(&b, "web", &["drain 3s", "forever"]);
    let second = replaced(&b, "web-n1", &mirror).await;
    assert_eq!(
        files_below(&b.dir.path().join("agent/pods")),
        [hash(&second)]
    );
    let before = Instant::now();
    fs::remove_file(b.manifests().join("web.yaml")).unwrap();
    b.until_phase("web-n1", "gone").await;
    assert_eq!(before.elapsed().as_secs(), 3);
    b.until("removed", async |b| !b.pod_dir("web-n1").exists())
        .await;
    seconds(60).await;
    assert_eq!(b.phase("web-n1").await, "gone");
}

#[tokio::test(start_paused = true)]
async fn an_edited_file_is_another_pod_after_the_old_one() {
    let b = Bench::new().await;
    put(&b, "web", &["print one", "forever"]);
    let first = running(&b, "web-n1").await;
    let before = Instant::now();
    put(&b, "web", &["drain 3s", "print two", "forever"]);
    let second = replaced(&b, "web-n1", &first).await;
    assert!(before.elapsed() < Duration::from_secs(1));
    assert_eq!(b.log("web-n1", "main", 0), "two\n");
    assert_eq!(main_of(&second)["restartCount"], 0);

    // The second one takes its time: the third waits for that.
    let before = Instant::now();
    put(&b, "web", &["print three", "forever"]);
    seconds(2).await;
    assert_eq!(hash(&b.pod("web-n1").await), hash(&second));
    assert_eq!(files_below(&b.dir.path().join("agent/pods")).len(), 1);
    let third = replaced(&b, "web-n1", &second).await;
    assert_eq!(before.elapsed().as_secs(), 3);
    // Its content is the same, however it is written.
    let again = serde_json::to_string_pretty(&manifest(&b, "web", &["print three", "forever"]));
    write(&b, "web.yaml", &again.unwrap());
    seconds(5).await;
    assert_eq!(hash(&b.pod("web-n1").await), hash(&third));
    assert_eq!(
        main_of(&b.pod("web-n1").await)["containerID"],
        main_of(&third)["containerID"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_mirror_is_only_a_mirror() {
    let b = Bench::new().await;
    put(&b, "web", &["forever"]);
    let first = running(&b, "web-n1").await;
    let pods = b.client.of::<Pod>();
    let change = Patch::Merge(json!({
        "metadata": {"labels": {"app": "other"}}, "spec": {"activeDeadlineSeconds": 1},
        "status": {"phase": "Failed"},
    }));
    pods.patch("default", "web-n1", &change, None)
        .await
        .unwrap();
    let is_silent = Patch::Merge(json!({"status": {"phase": "Failed"}}));
    let status = Some("status");
    pods.patch("default", "web-n1", &is_silent, status)
        .await
        .unwrap();
    seconds(30).await;
    let second = b.pod("web-n1").await;
    assert_eq!(second["status"]["phase"], "Running");
    assert_eq!(main_of(&second), main_of(&first));

    // Deleted, whichever way, it is made again, and is what the file says.
    for grace in [None, Some(30)] {
        let before = b.pod("web-n1").await["metadata"]["uid"].clone();
        match grace {
            None => {
                let options = DeleteOptions::default();
                pods.delete("default", "web-n1", &options).await.unwrap();
            }
            Some(grace) => b.begin_deletion("web-n1", grace).await,
        }
        b.until("made again", async |b| {
            let pod = b.pod("web-n1").await;
            pod["metadata"]["uid"].is_string()
                && pod["metadata"]["uid"] != before
                && pod["status"]["phase"] == "Running"
        })
        .await;
        let again = b.pod("web-n1").await;
        assert_eq!(main_of(&again), main_of(&first));
        assert_eq!(again["metadata"]["labels"], json!({"app": "web"}));
        assert!(again["metadata"]["deletionTimestamp"].is_null());
    }
    let killed = b.times_said("web-n1", "Killing").await;
    assert_eq!(killed, 0);

    // A mirror of nothing goes.
    let forged = json!({
        "metadata": {"name": "forged", "namespace": "default", "annotations": {"kubernetes.io/config.mirror": "x"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "x:1"}]},
    });
    pods.create(&serde_json::from_value(forged).unwrap())
        .await
        .unwrap();
    b.until_phase("forged", "gone").await;
    assert_eq!(files_below(&b.dir.path().join("agent/pods")).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broken_file_stands_for_what_it_said_and_its_fault_is_told() {
    let mut b = Bench::new().await;
    put(&b, "web", &["forever"]);
    let first = running(&b, "web-n1").await;
    write(
        &b,
        "web.yaml",
        "metadata: {name: web}\nspec:\n  containers: [\n",
    );
    let file = b.manifests().join("web.yaml");
    let told = async |b: &Bench| {
        let said = format!("FailedValidation: {}: ", file.display());
        let events = b.events("n1").await;
        events.into_iter().find(|e| e.starts_with(&said))
    };
    b.until("told", async |b| told(b).await.is_some()).await;
    let fault = told(&b).await.unwrap();
    assert!(fault.contains("line "), "{fault}");
    seconds(30).await;
    assert_eq!(main_of(&b.pod("web-n1").await), main_of(&first));
    assert_eq!(b.times_said("n1", "FailedValidation").await, 1);

    // It does so for the next agent, too.
    b.kill().await;
    b.start();
    b.until("running again", async |b| {
        main_of(&b.pod("web-n1").await)["restartCount"] == 1
    })
    .await;
    assert_eq!(hash(&b.pod("web-n1").await), hash(&first));
    put(&b, "web", &["print good", "forever"]);
    replaced(&b, "web-n1", &first).await;

    // A second file of the same name says nothing.
    write(
        &b,
        "xweb.yaml",
        &manifest(&b, "web", &["forever"]).to_string(),
    );
    b.until("told of the other", async |b| {
        let events = b.events("n1").await;
        events
            .iter()
            .any(|e| e.contains("xweb.yaml") && e.ends_with("is that of \"web.yaml\" already"))
    })
    .await;
    assert_eq!(b.log("web-n1", "main", 0), "good\n");
}

#[tokio::test(start_paused = true)]
async fn what_runs_and_what_has_ended_outlives_the_agent() {
    let mut b = Bench::new().await;
    put(&b, "web", &["forever"]);
    let mut job = manifest(&b, "job", &["exit 0"]);
    job["spec"]["restartPolicy"] = json!("Never");
    write(&b, "job.json", &job.to_string());
    let web = running(&b, "web-n1").await;
    b.until_phase("job-n1", "Succeeded").await;
    b.stop().await;
    assert_eq!(
        main_of(&b.pod("web-n1").await)["state"]["terminated"]["exitCode"],
        143
    );
    // Another file comes while nobody looks; then one goes.
    put(&b, "late", &["forever"]);
    b.start();
    b.until("running again", async |b| {
        main_of(&b.pod("web-n1").await)["restartCount"] == 1
    })
    .await;
    let again = b.pod("web-n1").await;
    assert_eq!(again["metadata"]["uid"], web["metadata"]["uid"]);
    assert_eq!(again["status"]["podIP"], web["status"]["podIP"]);
    running(&b, "late-n1").await;
    assert_eq!(b.phase("job-n1").await, "Succeeded");
    assert_eq!(main_of(&b.pod("job-n1").await)["restartCount"], 0);
    b.kill().await;
    fs::remove_file(b.manifests().join("job.json")).unwrap();
    b.start();
    b.until_phase("job-n1", "gone").await;
    b.until("removed", async |b| {
        files_below(&b.dir.path().join("agent/pods")).len() == 2
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_server_is_needed_once_the_node_has_its_addresses() {
    let mut b = Bench::new().await;
    put(&b, "web", &["print up", "forever"]);
    running(&b, "web-n1").await;
    b.create(
        "plain",
        json!({"containers": [{"name": "main", "args": ["forever"]}]}),
    )
    .await;
    b.until_phase("plain", "Running").await;
    let address = b.pod("plain").await["status"]["podIP"].clone();
    b.kill().await;
    b.is_cut.store(true, Ordering::Relaxed);
    b.server.break_watches();
    b.start();
    let log = b.pod_dir("web-n1").join("logs/main/1.0.log");
    b.until("running again", async |_| log.exists()).await;
    put(&b, "late", &["print late", "forever"]);
    let late = async |b: &Bench| {
        let pods = b.dir.path().join("agent/pods");
        let mut pods = files_below(&pods).into_iter().map(|uid| pods.join(uid));
        let said = |dir: std::path::PathBuf| fs::read_to_string(dir.join("logs/main/0.0.log"));
        pods.any(|dir| said(dir).is_ok_and(|text| text.contains("late")))
    };
    b.until("another one", async |b| late(b).await).await;
    seconds(60).await;
    b.is_cut.store(false, Ordering::Relaxed);
    running(&b, "late-n1").await;
    b.until("told", async |b| {
        main_of(&b.pod("web-n1").await)["restartCount"] == 1
    })
    .await;
    b.until("all again", async |b| {
        main_of(&b.pod("plain").await)["restartCount"] == 1
    })
    .await;
    // Nobody got it meanwhile.
    assert_eq!(b.pod("plain").await["status"]["podIP"], address);
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_the_api_that_has_the_name_keeps_it() {
    let b = Bench::new().await;
    b.create(
        "web-n1",
        json!({"containers": [{"name": "main", "args": ["forever"]}]}),
    )
    .await;
    b.until_phase("web-n1", "Running").await;
    let plain = b.pod("web-n1").await;
    put(&b, "web", &["print from a file", "forever"]);
    b.until("both run", async |b| {
        files_below(&b.dir.path().join("agent/pods")).len() == 2
    })
    .await;
    seconds(60).await;
    assert_eq!(main_of(&b.pod("web-n1").await), main_of(&plain));
    b.begin_deletion("web-n1", 1).await;
    b.until("mirrored", async |b| {
        !hash(&b.pod("web-n1").await).is_empty()
    })
    .await;
    running(&b, "web-n1").await;
    assert_eq!(b.log("web-n1", "main", 0), "from a file\n");
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_fails_until_its_file_asks_for_less() {
    let b = Bench::new().await;
    let mut big = manifest(&b, "big", &["forever"]);
    big["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100000"}});
    write(&b, "big.yaml", &big.to_string());
    b.until_phase("big-n1", "Failed").await;
    let failed = b.pod("big-n1").await;
    assert_eq!(failed["status"]["reason"], "OutOfcpu");
    seconds(60).await;
    put(&b, "big", &["forever"]);
    replaced(&b, "big-n1", &failed).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_new_waits_for_those_that_were_here() {
    let mut b = Bench::new().await;
    let node = b.client.of::<Node>().get("", "n1").await.unwrap();
    let node = serde_json::to_value(node).unwrap();
    let all = node["status"]["allocatable"]["cpu"].clone();
    assert!(all.is_string(), "{node}");
    let resources = json!({"requests": {"cpu": all}});
    b.create(
        "plain",
        json!({"containers": [{"name": "main", "args": ["forever"], "resources": resources}]}),
    )
    .await;
    b.until_phase("plain", "Running").await;
    let mut web = manifest(&b, "web", &["forever"]);
    web["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
    b.kill().await;
    write(&b, "web.yaml", &web.to_string());
    b.start();
    b.until_phase("web-n1", "Failed").await;
    assert_eq!(b.pod("web-n1").await["status"]["reason"], "OutOfcpu");
    b.until("running again", async |b| {
        main_of(&b.pod("plain").await)["restartCount"] == 1
    })
    .await;

    // It is not known without a server whether they still are. They are not.
    b.kill().await;
    b.is_cut.store(true, Ordering::Relaxed);
    b.server.break_watches();
    let options = DeleteOptions::default();
    let pods = b.client.of::<Pod>();
    pods.delete("default", "plain", &options).await.unwrap();
    web["metadata"]["labels"] = json!({"app": "another"});
    write(&b, "web.yaml", &web.to_string());
    b.start();
    seconds(60).await;
    b.is_cut.store(false, Ordering::Relaxed);
    b.until("in its room", async |b| {
        let pod = b.pod("web-n1").await;
        pod["metadata"]["labels"]["app"] == "another" && pod["status"]["phase"] == "Running"
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_range_of_addresses_is_taken_up_by_the_next_start() {
    let mut b = Bench::new().await;
    put(&b, "web", &["drain 3s", "forever"]);
    let first = running(&b, "web-n1").await;
    let before = Instant::now();
    assert_eq!(first["status"]["podIP"], "10.128.0.3");
    let range = Patch::Merge(json!({"spec": {"podCIDR": "10.129.0.0/18"}}));
    let nodes = b.client.of::<Node>();
    nodes.patch("", "n1", &range, None).await.unwrap();
    let (task, _) = b.agent.take().unwrap();
    let why = task.await.unwrap_err().into_panic();
    let why = why.downcast::<String>().unwrap();
    assert!(why.contains("PodRangeMoved"), "{why}");
    // What ran has ended as it does with the agent.
    assert_eq!(before.elapsed().as_secs(), 3);
    let ended = b.pod("web-n1").await;
    let exit = &main_of(&ended)["state"]["terminated"]["exitCode"];
    assert_eq!(exit, 0, "{ended}");
    b.start();
    b.until("at another address", async |b| {
        b.pod("web-n1").await["status"]["podIP"] == "10.129.0.3"
    })
    .await;
    assert_eq!(hash(&b.pod("web-n1").await), hash(&first));
}

#[tokio::test(start_paused = true)]
async fn no_lack_of_its_node_ends_it_or_keeps_it_away() {
    let b = Bench::new().await;
    put(&b, "web", &["allocate 50000000", "forever"]);
    running(&b, "web-n1").await;
    *b.memory.lock().unwrap() = Memory {
        available: 0,
        ..FREE
    };
    b.until("short of memory", async |b| {
        b.times_said("n1", "EvictionThresholdMet").await > 0
    })
    .await;
    seconds(60).await;
    assert_eq!(b.phase("web-n1").await, "Running");
    put(&b, "late", &["forever"]);
    running(&b, "late-n1").await;
}

#[tokio::test(start_paused = true)]
async fn a_link_that_leads_to_another_directory_is_followed() {
    let mut b = Bench::new().await;
    put(&b, "old", &["forever"]);
    running(&b, "old-n1").await;
    b.stop().await;
    let (dir, manifests) = (b.dir.path().to_owned(), b.manifests());
    let of = |name: &str| dir.join(name);
    let link = |to: &str| {
        std::os::unix::fs::symlink(of(to), of("link")).unwrap();
        fs::rename(of("link"), &manifests).unwrap();
    };
    fs::rename(&manifests, of("first")).unwrap();
    link("first");
    fs::create_dir(of("second")).unwrap();
    let new = manifest(&b, "new", &["forever"]).to_string();
    fs::write(of("second/new.yaml"), new).unwrap();
    b.start();
    b.until("running again", async |b| {
        main_of(&b.pod("old-n1").await)["restartCount"] == 1
    })
    .await;
    link("second");
    running(&b, "new-n1").await;
    b.until_phase("old-n1", "gone").await;
    // What happens there is told of at once.
    let before = Instant::now();
    fs::remove_file(b.manifests().join("new.yaml")).unwrap();
    b.until_phase("new-n1", "gone").await;
    assert!(before.elapsed() < Duration::from_secs(5));
}
