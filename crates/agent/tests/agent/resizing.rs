//! Pods that are to have other resources while they are there.

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use client::Patch;

use crate::bench::Bench;

impl Bench {
    /// Has the pod's only container want these resources, as its subresource would.
    async fn wish(&self, name: &str, resources: Value) {
        let pod = self.pod(name).await;
        let mut containers = pod["spec"]["containers"].clone();
        containers[0]["resources"] = resources;
        let generation = pod["metadata"]["generation"].as_i64().unwrap_or(1) + 1;
        let patch =
            json!({"metadata": {"generation": generation}, "spec": {"containers": containers}});
        let pods = self.client.of::<Pod>();
        let patched = pods
            .patch("default", name, &Patch::Merge(patch), None)
            .await;
        patched.unwrap();
    }

    /// The condition of that type, or null.
    async fn condition(&self, name: &str, kind: &str) -> Value {
        let pod = self.pod(name).await;
        let conditions = pod["status"]["conditions"].as_array().cloned();
        let mut all = conditions.into_iter().flatten();
        all.find(|c| c["type"] == kind).unwrap_or_default()
    }

    /// How many cores the node has.
    async fn cores(&self) -> i64 {
        let node = self.client.of::<Node>().get("", "n1").await.unwrap();
        let allocatable = node.status.unwrap().allocatable.unwrap();
        allocatable["cpu"].0.parse().unwrap()
    }

    async fn status_of(&self, name: &str) -> Value {
        self.pod(name).await["status"]["containerStatuses"][0].clone()
    }
}

fn memory(request: &str, limit: &str) -> Value {
    json!({"requests": {"memory": request}, "limits": {"memory": limit}})
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_saves_who_would_have_been_killed() {
    let b = Bench::new().await;
    let script = json!(["sleep 10m", "allocate 50000000", "forever"]);
    for name in ["saved", "killed"] {
        let main = json!({"name": "main", "args": script, "resources": memory("1Mi", "32Mi")});
        b.create(
            name,
            json!({"restartPolicy": "Never", "containers": [main]}),
        )
        .await;
        b.until_phase(name, "Running").await;
    }
    let status = b.status_of("saved").await;
    assert_eq!(status["resources"], memory("1Mi", "32Mi"));
    assert_eq!(status["allocatedResources"], json!({"memory": "1Mi"}));
    b.wish("saved", memory("2Mi", "64Mi")).await;
    b.until("it has it", async |b| {
        b.status_of("saved").await["resources"] == memory("2Mi", "64Mi")
            && b.condition("saved", "PodResizeInProgress").await.is_null()
    })
    .await;
    assert_eq!(
        b.status_of("saved").await["allocatedResources"],
        json!({"memory": "2Mi"})
    );
    b.until_phase("killed", "Failed").await;
    let status = b.status_of("saved").await;
    assert_eq!(status["restartCount"], 0);
    assert!(status["state"]["running"].is_object(), "{status}");
    let events = b.events("saved").await;
    let said = r#"{"containers":[{"name":"main","resources":{"limits":{"memory":"64Mi"},"requests":{"memory":"2Mi"}}}],"generation":2}"#;
    for expected in [
        format!("ResizeStarted: Pod resize started: {said}"),
        format!("ResizeCompleted: Pod resize completed: {said}"),
    ] {
        assert!(events.contains(&expected), "{expected}: {events:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_below_use_is_an_error_until_the_container_ends() {
    let b = Bench::new().await;
    let script = json!(["allocate 50000000", "sleep 10m", "exit 1"]);
    let main = json!({"name": "main", "args": script, "resources": memory("1Mi", "64Mi")});
    b.create("big", json!({"containers": [main]})).await;
    b.until_phase("big", "Running").await;
    b.wish("big", memory("1Mi", "32Mi")).await;
    let error = async |b: &Bench| b.condition("big", "PodResizeInProgress").await;
    b.until("refused", async |b| error(b).await["reason"] == "Error")
        .await;
    let condition = error(&b).await;
    let message = condition["message"].as_str().unwrap();
    assert!(
        message.starts_with("cannot decrease memory limits: attempting to set container \"main\" memory limit (33554432) below current usage (50000000)"),
        "{message}"
    );
    assert_eq!(condition["observedGeneration"], 2);
    assert_eq!(b.status_of("big").await["resources"], memory("1Mi", "64Mi"));
    assert_eq!(b.times_said("big", "ResizeError").await, 1);
    // The next instance has less than it wants.
    b.until("started with it", async |b| {
        b.status_of("big").await["lastState"]["terminated"]["reason"] == "OOMKilled"
    })
    .await;
    assert!(error(&b).await.is_null());
    assert_eq!(b.times_said("big", "ResizeError").await, 1);
    assert_eq!(b.status_of("big").await["resources"], memory("1Mi", "32Mi"));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_fit_waits_for_others_to_end() {
    let b = Bench::new().await;
    let cpu = |millis: i64| json!({"requests": {"cpu": format!("{millis}m")}});
    let all = b.cores().await * 1000;
    for (name, priority, millis) in [("first", 0, all / 2), ("low", 1, 10), ("high", 2, 10)] {
        let main = json!({"name": "main", "args": ["forever"], "resources": cpu(millis)});
        let spec =
            json!({"priority": priority, "terminationGracePeriodSeconds": 1, "containers": [main]});
        b.create(name, spec).await;
        b.until_phase(name, "Running").await;
    }
    let pending = async |b: &Bench, name: &str| b.condition(name, "PodResizePending").await;
    // Room for one of the two, once the first is gone.
    for name in ["low", "high"] {
        b.wish(name, cpu(all - 100)).await;
        b.until("it waits", async |b| {
            pending(b, name).await["reason"] == "Deferred"
        })
        .await;
    }
    let message = pending(&b, "low").await["message"].clone();
    let expected = format!(
        "Node didn't have enough resource: cpu, requested: {}, used: {}, capacity: {all}",
        all - 100,
        all / 2 + 10
    );
    assert_eq!(message, expected);
    assert_eq!(pending(&b, "low").await["observedGeneration"], 2);
    assert_eq!(b.times_said("low", "ResizeDeferred").await, 1);
    b.wish("first", cpu(all + 1)).await;
    b.until("never", async |b| {
        pending(b, "first").await["reason"] == "Infeasible"
    })
    .await;
    let expected = format!(
        "Node didn't have enough capacity: cpu, requested: {}, capacity: {all}",
        all + 1
    );
    assert_eq!(pending(&b, "first").await["message"], expected);
    assert_eq!(b.times_said("first", "ResizeInfeasible").await, 1);
    assert_eq!(b.status_of("first").await["resources"], cpu(all / 2));

    let pods = b.client.of::<Pod>();
    pods.delete("default", "first", &client::DeleteOptions::default())
        .await
        .unwrap();
    b.until("the more important one has it", async |b| {
        b.status_of("high").await["resources"] == cpu(all - 100)
    })
    .await;
    assert!(pending(&b, "high").await.is_null());
    b.until("the other one is told of it", async |b| {
        let message = pending(b, "low").await["message"].clone();
        message
            .as_str()
            .is_some_and(|m| m.contains(&format!("used: {}", all - 100)))
    })
    .await;
    assert_eq!(b.status_of("low").await["restartCount"], 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_ending_is_given_nothing() {
    let b = Bench::new().await;
    let cpu = |millis: i64| json!({"requests": {"cpu": format!("{millis}m")}});
    let all = b.cores().await * 1000;
    let pods = b.client.of::<Pod>();
    for (name, priority, millis, script) in [
        ("first", 0, all / 2, json!(["forever"])),
        ("ended", 2, 10, json!(["sleep 20m"])),
        ("ending", 2, 10, json!(["drain 3600s", "forever"])),
        ("living", 1, 10, json!(["forever"])),
    ] {
        let main = json!({"name": "main", "args": script, "resources": cpu(millis)});
        let grace = if name == "ending" { 3600 } else { 1 };
        let spec = json!({"restartPolicy": "Never", "priority": priority, "terminationGracePeriodSeconds": grace, "containers": [main]});
        b.create(name, spec).await;
        b.until_phase(name, "Running").await;
    }
    for name in ["ended", "ending", "living"] {
        b.wish(name, cpu(all - 100)).await;
        b.until("it waits", async |b| {
            b.condition(name, "PodResizePending").await["reason"] == "Deferred"
        })
        .await;
    }
    b.begin_deletion("ending", 3600).await;
    // Longer than `until` waits.
    tokio::time::sleep(std::time::Duration::from_secs(20 * 60)).await;
    b.until_phase("ended", "Succeeded").await;
    let options = client::DeleteOptions::default();
    pods.delete("default", "first", &options).await.unwrap();
    b.until("who lives has it", async |b| {
        b.status_of("living").await["resources"] == cpu(all - 100)
    })
    .await;
    for name in ["ended", "ending"] {
        assert_eq!(b.times_said(name, "ResizeStarted").await, 0, "{name}");
        b.until("nothing is said of it", async |b| {
            b.condition(name, "PodResizePending").await.is_null()
        })
        .await;
        // Also of who has ended it is said what it had.
        assert_eq!(
            b.status_of(name).await["allocatedResources"]["cpu"],
            "10m",
            "{name}"
        );
    }
    let state = b.status_of("ending").await["state"].clone();
    assert!(state["running"].is_object(), "{state}");
}

#[tokio::test(start_paused = true)]
async fn a_container_sees_what_it_was_started_with() {
    let b = Bench::new().await;
    let field = |of: Value| json!({"valueFrom": {"resourceFieldRef": of}});
    let mut own = field(json!({"resource": "requests.cpu", "divisor": "1m"}));
    own["name"] = json!("OWN");
    let mut named =
        field(json!({"containerName": "main", "resource": "requests.cpu", "divisor": "1m"}));
    named["name"] = json!("NAMED");
    let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
    let main = json!({
        "name": "main", "args": ["print $(OWN) $(NAMED)", "sleep 5m", "exit 1"],
        "env": [own, named], "resources": cpu("10m"),
    });
    b.create("seen", json!({"containers": [main]})).await;
    b.until_phase("seen", "Running").await;
    b.wish("seen", cpu("1000000")).await;
    b.until("it is refused", async |b| {
        b.condition("seen", "PodResizePending").await["reason"] == "Infeasible"
    })
    .await;
    b.until("it was started anew", async |b| {
        let status = b.status_of("seen").await;
        status["restartCount"] == 1 && status["state"]["running"].is_object()
    })
    .await;
    assert_eq!(b.log("seen", "main", 1), "10 10\n");
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_room_is_not_started() {
    let mut b = Bench::new().await;
    let all = b.cores().await * 1000;
    let cpu = |millis: i64| json!({"requests": {"cpu": format!("{millis}m")}});
    let pod = |millis: i64| {
        let main = json!({"name": "main", "args": ["forever"], "resources": cpu(millis)});
        json!({"terminationGracePeriodSeconds": 1, "containers": [main]})
    };
    b.create("there", pod(all - 100)).await;
    b.until_phase("there", "Running").await;
    b.create("late", pod(101)).await;
    b.until_phase("late", "Failed").await;
    let why = format!(
        "Node didn't have enough resource: cpu, requested: 101, used: {}, capacity: {all}",
        all - 100
    );
    let status = b.pod("late").await["status"].clone();
    assert_eq!(status["reason"], "OutOfcpu");
    assert_eq!(status["containerStatuses"], Value::Null);
    assert_eq!(status["message"], format!("Pod was rejected: {why}"));
    assert_eq!(b.times_said("late", "Started").await, 0);
    let events = b.events("late").await;
    assert!(events.contains(&format!("OutOfcpu: {why}")), "{events:#?}");
    // What is left goes to who asks for no more, and who asks for nothing is always taken in.
    b.create("fits", pod(100)).await;
    b.create(
        "modest",
        json!({"containers": [{"name": "main", "args": ["forever"]}]}),
    )
    .await;
    for name in ["fits", "modest"] {
        b.until_phase(name, "Running").await;
    }
    // Who was taken in stays when the agent comes back; who is new has its turn after them, whatever its name.
    b.kill().await;
    b.create("eager", pod(1)).await;
    b.start();
    for name in ["there", "fits", "modest"] {
        b.until("it runs again", async |b| {
            let status = b.status_of(name).await;
            status["restartCount"] == 1 && status["state"]["running"].is_object()
        })
        .await;
    }
    assert_eq!(b.phase("late").await, "Failed");
    b.until_phase("eager", "Failed").await;
    assert_eq!(b.pod("eager").await["status"]["reason"], "OutOfcpu");
}
