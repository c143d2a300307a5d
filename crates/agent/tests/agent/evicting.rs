//! Pods that end because they, or all together, use too much.

use std::fs::{self, File};
use std::time::Duration;

use agent::{Disk, Memory};
use k8s_openapi::api::core::v1::Node;
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::bench::{Bench, EMPTY, FREE};
use super::claims;

const MIB: u64 = 1 << 20;

fn memory_left(b: &Bench, available: u64) {
    *b.memory.lock().unwrap() = Memory { available, ..FREE };
}

/// Half a MiB less than has to be.
fn little_memory_left(b: &Bench) {
    memory_left(b, 100 * MIB - MIB / 2);
}

fn disk_left(b: &Bench, available: u64) {
    *b.disk.lock().unwrap() = Disk { available, ..EMPTY };
}

/// A condition of an object: its status and reason.
fn condition(object: &Value, kind: &str) -> (String, String) {
    let all = object["status"]["conditions"].as_array();
    let of = all.into_iter().flatten().find(|c| c["type"] == kind);
    let text = |field: &str| {
        let text = of.and_then(|c| c[field].as_str());
        text.unwrap_or_default().to_owned()
    };
    (text("status"), text("reason"))
}

async fn pressure(b: &Bench, kind: &str) -> String {
    let node = b.client.of::<Node>().get("", "n1").await.unwrap();
    condition(&serde_json::to_value(node).unwrap(), kind).0
}

/// A container that does this, with so much as its limit of ephemeral storage.
fn writes(script: &[&str], limit: Option<&str>) -> Value {
    let mut main = json!({
        "name": "main", "args": script, "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    });
    if let Some(limit) = limit {
        main["resources"] = json!({"limits": {"ephemeral-storage": limit}});
    }
    main
}

/// A pod of that container, and of this volume.
async fn create(b: &Bench, name: &str, main: Value, volume: Value) {
    let spec = json!({
        "containers": [main], "volumes": [{"name": "v", "emptyDir": volume}],
    });
    b.create(name, spec).await;
}

/// What is said of a pod that was evicted.
async fn evicted(b: &Bench, name: &str) -> String {
    b.until_phase(name, "Failed").await;
    let pod = b.pod(name).await;
    assert_eq!(pod["status"]["reason"], "Evicted");
    let message = pod["status"]["message"].as_str().unwrap().to_owned();
    let said = format!("Evicted: {message}");
    b.until("said", async |b| b.events(name).await.contains(&said))
        .await;
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["exitCode"], 143);
    b.until("given back", async |b| {
        !b.pod_dir(name).join("volumes").exists()
    })
    .await;
    message
}

#[tokio::test(start_paused = true)]
async fn who_wants_more_than_is_left_goes_before_it_is_written() {
    let b = Bench::new().await;
    let volume = json!({"sizeLimit": "1Mi"});
    create(&b, "much", writes(&["write 2000000"], None), volume.clone()).await;
    assert_eq!(
        evicted(&b, "much").await,
        "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "
    );
    let pod = b.pod("much").await;
    assert_eq!(
        condition(&pod, "DisruptionTarget").0,
        "",
        "it is its own fault"
    );

    // What comes to nothing on the disk may be written for ever.
    let again = &["write 900000"; 20];
    let mut script: Vec<&str> = again.to_vec();
    script.push("forever");
    create(&b, "again", writes(&script, None), volume).await;
    b.until_phase("again", "Running").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(b.phase("again").await, "Running");
}

#[tokio::test(start_paused = true)]
async fn little_beyond_a_small_limit_is_too_much() {
    let b = Bench::new().await;
    let script = &["sleep 60s", "write 60000", "forever"];
    let volume = json!({"sizeLimit": "100Ki"});
    create(&b, "little", writes(script, None), volume).await;
    b.until_phase("little", "Running").await;
    let volume = b.pod_dir("little").join("volumes/emptyDir/v");
    fs::write(volume.join("little"), vec![1; 150_000]).unwrap();
    assert_eq!(
        evicted(&b, "little").await,
        "Usage of EmptyDir volume \"v\" exceeds the limit \"100Ki\". "
    );
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_too_large_ends_its_pod() {
    let b = Bench::new().await;
    let script = &["write 100000", "sleep 60s", "write 600000", "forever"];
    create(
        &b,
        "full",
        writes(script, None),
        json!({"sizeLimit": "1Mi"}),
    )
    .await;
    b.until_phase("full", "Running").await;
    let volume = b.pod_dir("full").join("volumes/emptyDir/v");
    fs::write(volume.join("big"), vec![1; 2 << 20]).unwrap();
    // Nobody looks before something is written.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(b.phase("full").await, "Running");
    assert_eq!(
        evicted(&b, "full").await,
        "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "
    );
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_of_roots_logs_and_volumes() {
    let b = Bench::new().await;
    let script = &["sleep 60s", "write 600000", "forever"];
    for (name, place) in [
        ("root", "containers/main/0/root/big"),
        ("logs", "logs/main/0.1.log"),
        ("volume", "volumes/emptyDir/v/big"),
    ] {
        create(&b, name, writes(script, Some("1Mi")), json!({})).await;
        b.until_phase(name, "Running").await;
        fs::write(b.pod_dir(name).join(place), vec![1; 2 << 20]).unwrap();
        assert_eq!(
            evicted(&b, name).await,
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "
        );
    }
}

#[tokio::test(start_paused = true)]
async fn volumes_in_memory_count_and_go_with_their_pods() {
    let mut b = Bench::new().await;
    let volume = json!({"medium": "Memory", "sizeLimit": "1Mi"});
    let script = &["sleep 60s", "write 600000", "forever"];
    create(&b, "fast", writes(script, None), volume.clone()).await;
    b.until_phase("fast", "Running").await;
    let memory = b.memory_dir("fast");
    assert!(!b.pod_dir("fast").join("volumes/emptyDir").exists());
    fs::write(memory.join("v/big"), vec![1; 2 << 20]).unwrap();
    assert_eq!(
        evicted(&b, "fast").await,
        "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "
    );
    b.until("removed", async |_| !memory.exists()).await;

    create(&b, "stays", writes(&["forever"], None), volume).await;
    b.until_phase("stays", "Running").await;
    let memory = b.memory_dir("stays");
    fs::write(memory.join("v/kept"), "x").unwrap();
    let orphan = memory.with_file_name("nobody");
    fs::create_dir_all(orphan.join("v")).unwrap();
    b.kill().await;
    b.start();
    b.until("swept", async |_| !orphan.exists()).await;
    b.until("running again", async |b| {
        b.pod("stays").await["status"]["containerStatuses"][0]["restartCount"] == 1
    })
    .await;
    assert!(memory.join("v/kept").exists(), "it outlives its agent");
}

#[tokio::test(start_paused = true)]
async fn guests_and_files_in_memory_have_one_limit() {
    let b = Bench::new().await;
    let script = &[
        "sleep 60s",
        "write 3000000",
        "sleep 60s",
        "allocate 2000000",
        "forever",
    ];
    let mut main = writes(script, None);
    main["resources"] = json!({"limits": {"memory": "4Mi"}});
    create(&b, "both", main, json!({"medium": "Memory"})).await;
    b.until_phase("both", "Running").await;
    fs::write(b.memory_dir("both").join("v/big"), vec![1; 3 << 20]).unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(b.phase("both").await, "Running");
    // Nothing is written when that becomes too much.
    assert_eq!(
        evicted(&b, "both").await,
        "Pod memory usage, with its EmptyDir volumes in memory, exceeds the total memory limit of containers 4Mi. "
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_deleted_and_takes_too_much_ends_sooner() {
    let b = Bench::new().await;
    let mut main = writes(&["sleep 60s", "write 2000000", "forever"], None);
    main["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 500}}});
    create(&b, "slow", main, json!({"sizeLimit": "1Mi"})).await;
    b.until_phase("slow", "Running").await;
    let deleted = tokio::time::Instant::now();
    b.begin_deletion("slow", 600).await;
    b.until("gone", async |b| b.phase("slow").await == "gone")
        .await;
    let took = deleted.elapsed();
    assert!(took < Duration::from_secs(120), "{took:?}");
    let said = "Evicted: Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ";
    b.until("said", async |b| {
        b.events("slow").await.contains(&said.to_owned())
    })
    .await;
    assert_eq!(b.times_said("slow", "Evicted").await, 1);
}

/// Three pods: one that is critical, one that keeps to what it asked for, one that does not.
async fn three(b: &Bench) {
    let main = |script: &[&str], requests: Value| json!({"name": "main", "args": script, "resources": {"requests": requests}});
    let much = main(&["allocate 50000000", "forever"], json!({}));
    let critical = json!({"priority": 2_000_000_000, "containers": [much]});
    b.create("critical", critical).await;
    let modest = main(&["allocate 1000000", "forever"], json!({"memory": "64Mi"}));
    b.create("modest", json!({"containers": [modest]})).await;
    let greedy = main(&["allocate 10000000", "forever"], json!({"memory": "1Mi"}));
    b.create("greedy", json!({"containers": [greedy]})).await;
    for name in ["critical", "modest", "greedy"] {
        b.until_phase(name, "Running").await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_pod_a_round_goes_for_lack_of_memory() {
    let b = Bench::new().await;
    three(&b).await;
    little_memory_left(&b);
    b.until_phase("greedy", "Failed").await;
    let after = tokio::time::Instant::now();
    assert_eq!(b.phase("modest").await, "Running");
    b.until_phase("modest", "Failed").await;
    assert!(after.elapsed() >= Duration::from_secs(9));
    assert_eq!(
        evicted(&b, "greedy").await,
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 101888Ki. \
         Container main was using 10000000, request is 1Mi, has larger consumption of memory. "
    );
    let pod = b.pod("greedy").await;
    let target = ("True".to_owned(), "TerminationByKubelet".to_owned());
    assert_eq!(condition(&pod, "DisruptionTarget"), target);
    assert_eq!(
        evicted(&b, "modest").await,
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 101888Ki. "
    );
    b.until("told", async |b| {
        pressure(b, "MemoryPressure").await == "True"
    })
    .await;
    assert_eq!(pressure(&b, "DiskPressure").await, "False");
    let reclaiming = "EvictionThresholdMet: Attempting to reclaim memory".to_owned();
    b.until("said", async |b| b.events("n1").await.contains(&reclaiming))
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(b.phase("critical").await, "Running");
}

#[tokio::test(start_paused = true)]
async fn nobody_ends_for_memory_that_others_of_the_machine_have() {
    let b = Bench::new().await;
    three(&b).await;
    memory_left(&b, 0);
    b.until("told", async |b| {
        pressure(b, "MemoryPressure").await == "True"
    })
    .await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    for name in ["critical", "modest", "greedy"] {
        assert_eq!(b.phase(name).await, "Running");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_under_pressure_takes_in_only_who_copes_with_it() {
    let b = Bench::new().await;
    three(&b).await;
    little_memory_left(&b);
    b.until_phase("greedy", "Failed").await;
    memory_left(&b, FREE.available);
    let main = json!({"name": "main", "args": ["forever"]});
    b.create("best-effort", json!({"containers": [main]})).await;
    b.until_phase("best-effort", "Failed").await;
    let status = b.pod("best-effort").await["status"].clone();
    assert_eq!(status["reason"], "Evicted");
    let why = "The node had condition: [MemoryPressure]. ";
    assert_eq!(status["message"], format!("Pod was rejected: {why}"));
    let said = format!("Evicted: {why}");
    b.until("said", async |b| {
        b.events("best-effort").await.contains(&said)
    })
    .await;
    let requests = json!({"requests": {"memory": "1Mi"}});
    let burstable = json!({"name": "main", "args": ["forever"], "resources": requests});
    b.create("burstable", json!({"containers": [burstable]}))
        .await;
    b.until_phase("burstable", "Running").await;

    // Not before it has been away for a while.
    tokio::time::sleep(Duration::from_secs(240)).await;
    assert_eq!(pressure(&b, "MemoryPressure").await, "True");
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(pressure(&b, "MemoryPressure").await, "False");
    let main = json!({"name": "main", "args": ["forever"]});
    b.create("later", json!({"containers": [main]})).await;
    b.until_phase("later", "Running").await;
    assert_eq!(b.phase("modest").await, "Running", "nobody goes after that");
}

#[tokio::test(start_paused = true)]
async fn who_has_written_most_goes_for_lack_of_room() {
    let b = Bench::new().await;
    for name in ["little", "much"] {
        create(&b, name, writes(&["forever"], None), json!({})).await;
        b.until_phase(name, "Running").await;
    }
    let root = b.pod_dir("much").join("containers/main/0/root/big");
    fs::write(root, vec![1; 8 << 20]).unwrap();
    disk_left(&b, 508 * MIB);
    b.until_phase("much", "Failed").await;
    disk_left(&b, EMPTY.available);
    let message = evicted(&b, "much").await;
    let low = "The node was low on resource: ephemeral-storage. Threshold quantity: 512Mi, available: 508Mi. \
               Container main was using ";
    assert!(message.starts_with(low), "{message}");
    let request = ", request is 0, has larger consumption of ephemeral-storage. ";
    assert!(message.ends_with(request), "{message}");
    assert_eq!(pressure(&b, "DiskPressure").await, "True");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(b.phase("little").await, "Running");
}

#[tokio::test(start_paused = true)]
async fn memory_that_others_have_keeps_nobody_from_making_room() {
    let b = Bench::new().await;
    create(&b, "much", writes(&["forever"], None), json!({})).await;
    b.until_phase("much", "Running").await;
    let root = b.pod_dir("much").join("containers/main/0/root/big");
    fs::write(root, vec![1; 8 << 20]).unwrap();
    memory_left(&b, 0);
    disk_left(&b, 508 * MIB);
    let message = evicted(&b, "much").await;
    let low = "The node was low on resource: ephemeral-storage. ";
    assert!(message.starts_with(low), "{message}");
}

#[tokio::test(start_paused = true)]
async fn agents_of_a_machine_take_turns() {
    let b = Bench::new().await;
    three(&b).await;
    let other = File::create(b.shared_memory().join("evicting")).unwrap();
    flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    little_memory_left(&b);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(pressure(&b, "MemoryPressure").await, "True");
    assert_eq!(b.phase("greedy").await, "Running");
    drop(other);
    evicted(&b, "greedy").await;
}

/// Others have left so much of the disk, and the agent has seen it.
async fn seen_full(b: &Bench, available: u64) {
    disk_left(b, available);
    tokio::time::sleep(Duration::from_secs(11)).await;
}

/// A pod that writes so often into the claim `data`, which fills the disk.
async fn create_writer(b: &Bench, name: &str, times: usize, priority: i32) {
    let mut script = vec!["write 8000000"; times];
    script.push("print done");
    let mut main = writes(&script, None);
    main["env"] = json!([{"name": "FILLS", "value": "yes"}]);
    let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "data"}});
    let spec = json!({
        "priority": priority, "restartPolicy": "Never", "containers": [main], "volumes": [volume],
    });
    b.create(name, spec).await;
}

#[tokio::test(start_paused = true)]
async fn who_writes_without_end_waits_at_the_threshold_and_goes() {
    let b = Bench::new().await;
    claims::bound(&b).await;
    create(&b, "innocent", writes(&["forever"], None), json!({})).await;
    b.until_phase("innocent", "Running").await;
    let volume = b.pod_dir("innocent").join("volumes/emptyDir/v");
    fs::write(volume.join("big"), vec![1; 8 << 20]).unwrap();
    seen_full(&b, 1_536 * MIB).await;
    // All at once: nobody would look in time.
    create_writer(&b, "writer", 1_000, 0).await;
    let message = evicted(&b, "writer").await;
    let low =
        "The node was low on resource: ephemeral-storage. Threshold quantity: 512Mi, available: ";
    assert!(message.starts_with(low), "{message}");
    let left = b.filled().available - 512 * MIB;
    assert!(left < 8_000_000, "it came as near as it could: {left}");
    let pod = b.pod("writer").await;
    let target = ("True".to_owned(), "TerminationByKubelet".to_owned());
    assert_eq!(condition(&pod, "DisruptionTarget"), target);
    // What it has written stays, and nobody else wants more.
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(b.phase("innocent").await, "Running");
}

#[tokio::test(start_paused = true)]
async fn who_is_never_evicted_waits_for_room() {
    let b = Bench::new().await;
    claims::bound(&b).await;
    seen_full(&b, 612 * MIB).await;
    for name in ["goes-on", "deleted"] {
        create_writer(&b, name, 100, 2_000_000_000).await;
        b.until_phase(name, "Running").await;
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(b.filled().available >= 512 * MIB);
    assert_eq!(pressure(&b, "DiskPressure").await, "True");
    for name in ["goes-on", "deleted"] {
        assert_eq!(b.phase(name).await, "Running");
    }
    // Whoever waits can be ended all the same.
    b.begin_deletion("deleted", 1).await;
    b.until_phase("deleted", "gone").await;
    disk_left(&b, EMPTY.available);
    b.until_phase("goes-on", "Succeeded").await;
    assert_eq!(b.log("goes-on", "main", 0), "done\n");
}

#[tokio::test(start_paused = true)]
async fn who_has_most_in_memory_goes_where_no_room_is_left_for_files_there() {
    let b = Bench::new().await;
    for (name, mib) in [("little", 1), ("much", 3)] {
        let volume = json!({"medium": "Memory"});
        create(&b, name, writes(&["forever"], None), volume).await;
        b.until_phase(name, "Running").await;
        let file = b.memory_dir(name).join("v/file");
        fs::write(file, vec![1; mib << 20]).unwrap();
    }
    *b.files.lock().unwrap() = Disk {
        available: 14 * MIB,
        ..EMPTY
    };
    assert_eq!(
        evicted(&b, "much").await,
        "The node was low on resource: /dev/shm. Threshold quantity: 16Mi, available: 14Mi. "
    );
    // What it has is less than is missing: others have the rest.
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(b.phase("little").await, "Running");
    for kind in ["MemoryPressure", "DiskPressure"] {
        assert_eq!(pressure(&b, kind).await, "False", "{kind}");
    }
}
