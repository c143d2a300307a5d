//! RuntimeClasses at a server: those that every cluster has, and what becomes of pods that name one.

mod server;

use serde_json::{Value, json};
use server::Server;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": spec,
    });
    pod["spec"]["containers"] = json!([{"name": "c", "image": "i"}]);
    pod
}

/// The message of a refusal by admission.
#[track_caller]
fn forbidden(answer: server::Answer) -> String {
    let status = answer.expect(403);
    assert_eq!(status["reason"], "Forbidden");
    status["message"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_a_runtime_class_run_as_it_says() {
    let server = Server::start().await;
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    // Those that every cluster has.
    for name in ["carob", "dense"] {
        let class = server.get(&format!("{classes}/{name}")).await.expect(200);
        assert_eq!(class["handler"], name);
    }
    let of = |class: &str| json!({"runtimeClassName": class});
    let dense = server.post(PODS, pod("d", of("dense"))).await.expect(201);
    assert_eq!(dense["spec"]["runtimeClassName"], "dense");
    assert_eq!(dense["spec"].get("overhead"), None);
    assert_eq!(
        forbidden(server.post(PODS, pod("a", of("costly"))).await),
        "pods \"a\" is forbidden: pod rejected: RuntimeClass \"costly\" not found"
    );
    let class = json!({
        "metadata": {"name": "costly"},
        "handler": "dense",
        "overhead": {"podFixed": {"cpu": "250m", "memory": "1Mi"}},
        "scheduling": {
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "fast", "operator": "Exists"}],
        },
    });
    // What comes of it is told by nobody any more.
    let made = server.post(classes, class).await;
    assert!(!made.headers.contains_key("warning"));
    made.expect(201);
    let made = server.post(PODS, pod("a", of("costly"))).await;
    let spec = made.expect(201)["spec"].clone();
    assert_eq!(
        spec["overhead"],
        json!({"cpu": "250m", "memory": "1Mi"}),
        "{spec}"
    );
    assert_eq!(spec["nodeSelector"], json!({"disk": "fast"}));
    let tolerated = spec["tolerations"].as_array().unwrap();
    assert_eq!(
        tolerated.len(),
        3,
        "those of lost nodes and the class': {spec}"
    );
    assert_eq!(tolerated[2]["key"], "fast");
    let mut other = of("costly");
    other["nodeSelector"] = json!({"disk": "slow"});
    assert_eq!(
        forbidden(server.post(PODS, pod("b", other)).await),
        "pods \"b\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[disk] = fast; \
         pod.spec.nodeSelector[disk] = slow"
    );
    let mut other = of("costly");
    other["overhead"] = json!({"cpu": "1"});
    assert_eq!(
        forbidden(server.post(PODS, pod("b", other)).await),
        "pods \"b\" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined \
         Overhead"
    );
    assert_eq!(
        forbidden(
            server
                .post(PODS, pod("b", json!({"overhead": {"cpu": "1"}})))
                .await
        ),
        "pods \"b\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass \
         defined Overhead"
    );
}
