//! Admission on a server: accounts, limits, classes of storage, priorities; what an update may make and
//! a deletion may say, and of what writers are warned.

mod server;

use serde_json::{Value, json};
use server::Server;

const DEFAULT: &str = "/api/v1/namespaces/default";
const MERGE: &str = "application/merge-patch+json";

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

/// The message of a refusal by admission.
#[track_caller]
fn forbidden(answer: server::Answer) -> String {
    let status = answer.expect(403);
    assert_eq!(status["reason"], "Forbidden");
    status["message"].as_str().unwrap().to_owned()
}

async fn apply(server: &Server, name: &str, body: Value) -> server::Answer {
    let path = format!("{DEFAULT}/pods/{name}?fieldManager=m");
    server
        .call("PATCH", &path, "application/apply-patch+yaml", body)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_under_an_account_that_is_there() {
    let server = Server::start().await;
    let pods = format!("{DEFAULT}/pods");
    let none = json!({"serviceAccountName": "robot"});
    let because =
        "error looking up service account default/robot: serviceaccount \"robot\" not found";
    let refused = server.post(&pods, pod("a", none.clone())).await;
    assert_eq!(
        forbidden(refused),
        format!("pods \"a\" is forbidden: {because}")
    );
    let refused = apply(&server, "a", pod("a", none.clone())).await;
    assert_eq!(
        forbidden(refused),
        format!("pods \"a\" is forbidden: {because}")
    );
    let mut unnamed = pod("", none.clone());
    unnamed["metadata"] = json!({"generateName": "web-"});
    let refused = server.post(&pods, unnamed.clone()).await;
    assert_eq!(
        forbidden(refused),
        format!("pods \"web-\" is forbidden: {because}")
    );

    let robot = json!({
        "metadata": {"name": "robot"},
        "imagePullSecrets": [{"name": "registry"}],
        "automountServiceAccountToken": false,
        "secrets": null,
    });
    let accounts = format!("{DEFAULT}/serviceaccounts");
    server.post(&accounts, robot).await.expect(201);
    let made = server.post(&pods, unnamed).await.expect(201);
    assert!(
        made["metadata"]["name"]
            .as_str()
            .unwrap()
            .starts_with("web-")
    );
    assert_eq!(made["spec"]["serviceAccount"], "robot");
    assert_eq!(
        made["spec"]["imagePullSecrets"],
        json!([{"name": "registry"}])
    );
    assert_eq!(made["spec"].get("volumes"), None);
    let mut asked = none;
    asked["automountServiceAccountToken"] = true.into();
    let made = apply(&server, "b", pod("b", asked.clone()))
        .await
        .expect(201);
    let volume = made["spec"]["volumes"][0]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(volume.starts_with("kube-api-access-"));
    // Applying the same again leaves what was added.
    let again = apply(&server, "b", pod("b", asked)).await.expect(200);
    assert_eq!(again, made);
}

/// The controller of namespaces makes the account a moment after the namespace.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_in_a_new_namespace_waits_for_its_account() {
    let server = Server::start().await;
    for i in 0..5 {
        let name = format!("new-{i}");
        let namespace = json!({"metadata": {"name": name}});
        server
            .post("/api/v1/namespaces", namespace)
            .await
            .expect(201);
        let path = format!("/api/v1/namespaces/{name}/pods");
        server.post(&path, pod("p", json!({}))).await.expect(201);
    }
    let gone = server.post("/api/v1/namespaces/none/pods", pod("p", json!({})));
    gone.await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_given_and_kept() {
    let server = Server::start().await;
    let limits = json!({
        "metadata": {"name": "l"},
        "spec": {"limits": [
            {"type": "Container", "default": {"cpu": "500m"}, "min": {"cpu": "100m"},
                "maxLimitRequestRatio": {"cpu": "5"}},
            {"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}},
        ]},
    });
    let made = server.post(&format!("{DEFAULT}/limitranges"), limits).await;
    assert!(!made.headers.contains_key("warning"));
    made.expect(201);
    let pods = format!("{DEFAULT}/pods");
    let filled = server.post(&pods, pod("a", json!({}))).await.expect(201);
    let filled_by_apply = apply(&server, "b", pod("b", json!({}))).await.expect(201);
    for made in [filled, filled_by_apply] {
        assert_eq!(
            made["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "500m"}})
        );
        assert_eq!(made["status"]["qosClass"], "Burstable");
        assert_eq!(
            made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
            "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
        );
    }
    let small = json!({"containers": [{"name": "c", "image": "i",
        "resources": {"requests": {"cpu": "1m"}}}]});
    assert_eq!(
        forbidden(server.post(&pods, pod("c", small)).await),
        "pods \"c\" is forbidden: [minimum cpu usage per Container is 100m, but request is 1m, \
         cpu max limit to request ratio per Container is 5, but provided ratio is 500.000000]"
    );
    // What is not valid is told of first.
    let wrong = json!({"containers": [{"name": "C", "image": "i"}]});
    server.post(&pods, pod("c", wrong)).await.expect(422);

    let claims = format!("{DEFAULT}/persistentvolumeclaims");
    let claim = |storage: &str| {
        json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": storage}}}})
    };
    let too_much = "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi";
    let refused = forbidden(server.post(&claims, claim("3Gi")).await);
    assert_eq!(
        refused,
        format!("persistentvolumeclaims \"v\" is forbidden: {too_much}")
    );
    server.post(&claims, claim("1Gi")).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_resized_within_limits() {
    let server = Server::start().await;
    let cpu = |request: &str, limit: &str| json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
    let with = |resources: Value| json!({"containers": [{"name": "c", "image": "i", "resources": resources}]});
    let pods = format!("{DEFAULT}/pods");
    let made = server
        .post(&pods, pod("a", with(cpu("100m", "200m"))))
        .await;
    let mut made = made.expect(201);
    let path = format!("{pods}/a/resize");
    let patch = async |resources: Value| {
        let patch = json!({"spec": with(resources)});
        let kind = "application/strategic-merge-patch+json";
        server.call("PATCH", &path, kind, patch).await
    };
    let resized = patch(cpu("300m", "400m")).await.expect(200);
    assert_eq!(
        resized["spec"]["containers"][0]["resources"],
        cpu("300m", "400m")
    );
    assert_eq!(resized["metadata"]["generation"], 2);
    assert_eq!(server.get(&path).await.expect(200)["spec"], resized["spec"]);
    // Whoever puts a whole pod there changes nothing else of it.
    made["metadata"]["resourceVersion"] = Value::Null;
    made["metadata"]["labels"] = json!({"a": "b"});
    made["spec"]["containers"][0]["image"] = "other".into();
    made["spec"]["containers"][0]["resources"] = cpu("350m", "400m");
    let put = server.call("PUT", &path, "application/json", made).await;
    let put = put.expect(200);
    assert_eq!(put["metadata"]["labels"], Value::Null);
    assert_eq!(put["spec"]["containers"][0]["image"], "i");
    assert_eq!(
        put["spec"]["containers"][0]["resources"],
        cpu("350m", "400m")
    );
    assert_eq!(put["metadata"]["generation"], 3);
    let removed =
        json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": null}}}]}});
    let removed = server.call(
        "PATCH",
        &path,
        "application/strategic-merge-patch+json",
        removed,
    );
    let message = removed.await.expect(422)["message"].clone();
    assert_eq!(
        message,
        "Pod \"a\" is invalid: spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"
    );
    let limits = json!({"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}});
    server
        .post(&format!("{DEFAULT}/limitranges"), limits)
        .await
        .expect(201);
    assert_eq!(
        forbidden(patch(cpu("350m", "2")).await),
        "pods \"a\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
    patch(cpu("350m", "1")).await.expect(200);
    // Nothing makes a pod by this way.
    let path = format!("{pods}/none/resize");
    server
        .call("PUT", &path, "application/json", pod("none", json!({})))
        .await
        .expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_gets_the_default_class_and_is_held() {
    let server = Server::start().await;
    let claims = format!("{DEFAULT}/persistentvolumeclaims");
    let claim = |name: &str, class: Value| {
        json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
            "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}}})
    };
    let made = server
        .post(&claims, claim("a", Value::Null))
        .await
        .expect(201);
    assert_eq!(made["spec"]["storageClassName"], "local-path");
    let default = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    let class = json!({"metadata": {"name": "fast", "annotations": default}, "provisioner": "p"});
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    server.post(classes, class).await.expect(201);
    for (name, given, chosen) in [
        ("b", Value::Null, json!("fast")),
        ("c", json!(""), json!("")),
        ("d", json!("slow"), json!("slow")),
    ] {
        let made = server.post(&claims, claim(name, given)).await.expect(201);
        assert_eq!(made["spec"]["storageClassName"], chosen, "{name}");
        let held = json!(["kubernetes.io/pvc-protection"]);
        assert_eq!(made["metadata"]["finalizers"], held);
    }
    // It is set at birth: an update may take it away again.
    let free = json!({"metadata": {"finalizers": null}});
    let freed = server
        .call("PATCH", &format!("{claims}/d"), MERGE, free)
        .await;
    assert_eq!(freed.expect(200)["metadata"].get("finalizers"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn priorities_follow_from_classes() {
    let server = Server::start().await;
    let pods = format!("{DEFAULT}/pods");
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = |name: &str| {
        json!({"metadata": {"name": name}, "value": 7, "globalDefault": true,
            "preemptionPolicy": "Never"})
    };
    let refused = server.post(&pods, pod("a", json!({"priority": 7}))).await;
    assert_eq!(
        forbidden(refused),
        "pods \"a\" is forbidden: the integer value of priority (7) must not be provided in pod spec; \
         priority admission controller computed 0 from the given PriorityClass name"
    );
    server.post(classes, class("all")).await.expect(201);
    assert_eq!(
        forbidden(server.post(classes, class("other")).await),
        "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass all is already marked \
         as default. Only one default can exist"
    );
    let made = server
        .post(&pods, pod("a", json!({"priority": 7})))
        .await
        .expect(201);
    let spec = &made["spec"];
    assert_eq!(
        json!([
            spec["priority"],
            spec["priorityClassName"],
            spec["preemptionPolicy"]
        ]),
        json!([7, "all", "Never"])
    );
    let system = json!({"priorityClassName": "system-node-critical"});
    let made = server.post(&pods, pod("s", system)).await.expect(201);
    assert_eq!(made["spec"]["priority"], 2_000_001_000);
    // A replacement that leaves it all out changes nothing.
    let mut bare = pod("a", json!({}));
    for field in [
        "serviceAccountName",
        "volumes",
        "containers",
        "priorityClassName",
    ] {
        bare["spec"][field] = spec[field].clone();
    }
    let path = format!("{pods}/a");
    let kept = server
        .call("PUT", &path, "application/json", bare)
        .await
        .expect(200);
    assert_eq!(kept["spec"], *spec);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_makes_what_is_claimed_by_updates() {
    let server = Server::start().await;
    let json = "application/json";
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = |version: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "l", "resourceVersion": version}, "spec": {"holderIdentity": "a"}})
    };
    let path = format!("{leases}/l");
    // Who names a version means what is there.
    server
        .call("PUT", &path, json, lease("7"))
        .await
        .expect(404);
    let made = server.call("PUT", &path, json, lease("")).await.expect(201);
    assert_eq!(made["spec"]["holderIdentity"], "a");
    let again = server.call("PUT", &path, json, lease("")).await.expect(200);
    assert_eq!(again, made);
    for (group, kind, plural, body, code) in [
        (
            "rbac.authorization.k8s.io/v1",
            "Role",
            "roles",
            json!({"rules": []}),
            201,
        ),
        ("apps/v1", "Deployment", "deployments", json!({}), 404),
    ] {
        let mut body = body;
        body["apiVersion"] = group.into();
        body["kind"] = kind.into();
        body["metadata"] = json!({"name": "x"});
        let path = format!("/apis/{group}/namespaces/default/{plural}/x");
        server.call("PUT", &path, json, body).await.expect(code);
    }
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    let path = format!("{DEFAULT}/configmaps/m");
    server.call("PUT", &path, json, map).await.expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_are_told_what_they_hardly_mean() {
    let server = Server::start().await;
    let warned = |answer: &server::Answer| -> Vec<String> {
        let texts = answer.headers.get_all("warning").iter();
        texts
            .map(|text| text.to_str().unwrap().to_owned())
            .collect()
    };
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "nodeSelector": {"beta.kubernetes.io/os": "linux"},
        "containers": [{"name": "c", "image": "i"}]}});
    let old = "deprecated since v1.14; use \\\"kubernetes.io/os\\\" instead";
    let made = server.post(&format!("{DEFAULT}/pods"), pod.clone()).await;
    let told = format!("299 - \"spec.nodeSelector[beta.kubernetes.io/os]: {old}\"");
    assert_eq!(warned(&made), [told]);
    let mut template = pod;
    template["metadata"] = json!({"labels": {"a": "b"}});
    let selector = json!({"matchLabels": {"a": "b"}});
    let web = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"selector": selector, "template": template}});
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let told = [format!(
        "299 - \"spec.template.spec.nodeSelector[beta.kubernetes.io/os]: {old}\""
    )];
    let applied = format!("{path}/web?fieldManager=m");
    let apply = "application/apply-patch+yaml";
    let made = server.call("PATCH", &applied, apply, web).await;
    assert_eq!((made.code, warned(&made)), (201, told.to_vec()));
    let merge = "application/merge-patch+json";
    for (change, want) in [
        (json!({"spec": {"replicas": 3}}), told.to_vec()),
        (json!({"metadata": {"labels": {"a": "b"}}}), Vec::new()),
    ] {
        let made = server
            .call("PATCH", &format!("{path}/web"), merge, change)
            .await;
        assert_eq!((made.code, warned(&made)), (200, want));
    }
    let listed = server.get(&format!("{DEFAULT}/endpoints")).await;
    let told =
        "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
    assert_eq!(warned(&listed), [told]);
    // How many there are of how many, as a table.
    let table = http::Request::get(format!("{path}/web/scale"))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let table = server.send(table.body(bytes::Bytes::new()).unwrap()).await;
    let row = table.expect(200)["rows"][0]["cells"].clone();
    assert_eq!(
        row.as_array().unwrap()[..3],
        [json!("web"), json!(3), json!(0)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_a_deletion_are_judged() {
    let server = Server::start().await;
    let path = format!("{DEFAULT}/configmaps/none");
    let refused = "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: ";
    for (options, why) in [
        (
            json!({"propagationPolicy": "Never"}),
            "Unsupported value: \"Never\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        ),
        (
            json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
            "Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set",
        ),
    ] {
        let answer = server
            .call("DELETE", &path, "application/json", options)
            .await;
        assert_eq!(answer.expect(422)["message"], format!("{refused}{why}"));
    }
    let query = format!("{path}?propagationPolicy=Never");
    server
        .call("DELETE", &query, "", Value::Null)
        .await
        .expect(422);
}
