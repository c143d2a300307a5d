//! Replays what was asked of a real Kubernetes 1.36 API server, in order, and compares the answers.

mod server;

use bytes::Bytes;
use serde_json::{Value, json};
use server::Server;

/// What is not answered as Kubernetes answers it, and why. Each is still asked; its status must be
/// the one given here.
const UNMET: &[(&str, u16, &str)] = &[];

#[tokio::test(flavor = "multi_thread")]
async fn as_kubernetes_answers() {
    let server = Server::start().await;
    let recorded: Vec<Value> = serde_json::from_str(include_str!("data/answers.json")).unwrap();
    let mut versions = Versions::default();
    let mut failed = Vec::new();
    for (i, exchange) in recorded.iter().enumerate() {
        let what = exchange["what"].as_str().unwrap();
        before(&server, what, &mut versions).await;
        let answer = server.send(request(exchange, &versions)).await;
        let wanted = u16::try_from(exchange["status"].as_u64().unwrap()).unwrap();
        let got = String::from_utf8_lossy(&answer.body).into_owned();
        let (got, want) = (tidy(what, &got), tidy(what, &text(&exchange["answer"])));
        let warning = answer.headers.get("warning").map(|w| w.to_str().unwrap());
        let met = answer.code == wanted
            && got == want
            && warning == exchange["warning"].as_str()
            && answer.headers["content-type"] == exchange["answerType"].as_str().unwrap();
        match UNMET.iter().find(|(w, _, _)| *w == what) {
            Some(_) if met => failed.push(format!("{i} {what}: is met now, take it off the list")),
            Some((_, code, why)) if answer.code != *code => {
                failed.push(format!(
                    "{i} {what} ({why}): {} not {code}: {got}",
                    answer.code
                ));
            }
            None if !met => failed.push(format!(
                "{i} {what}: {} want {wanted}, warning {warning:?}\n  got  {got}\n  want {want}",
                answer.code
            )),
            _ => {}
        }
    }
    assert!(
        failed.is_empty(),
        "{}\n{} differ",
        failed.join("\n"),
        failed.len()
    );
}

/// Versions that later requests name.
#[derive(Default)]
struct Versions {
    before_w: String,
    w_created: String,
}

/// What was done between the recorded requests.
async fn before(server: &Server, what: &str, versions: &mut Versions) {
    let maps = "/api/v1/namespaces/demo/configmaps";
    match what {
        "watch what followed, with a bookmark" => {
            let list = server.get(&format!("{maps}?limit=1")).await.expect(200);
            versions.before_w = list["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .to_owned();
            let w = json!({"metadata": {"name": "w"}, "data": {"a": "1"}});
            let w = server.post(maps, w).await.expect(201);
            versions.w_created = w["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .to_owned();
            let labels = json!({"metadata": {"labels": {"l": "1"}}});
            let merge = "application/merge-patch+json";
            server
                .call("PATCH", &format!("{maps}/w"), merge, labels)
                .await
                .expect(200);
        }
        // The recorded cluster had a scheduler, and no node that took the pod.
        "pod: change what may not change" => {
            let unschedulable = json!({"status": {"conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "no nodes available to schedule pods", "observedGeneration": 2,
                "lastTransitionTime": "2026-11-21T10:00:00Z"}]}});
            let status = "/api/v1/namespaces/demo/pods/p/status?fieldManager=kube-scheduler";
            let strategic = "application/strategic-merge-patch+json";
            server
                .call("PATCH", status, strategic, unschedulable)
                .await
                .expect(200);
        }
        "delete what a finalizer holds" => {
            let hold = json!({"metadata": {"finalizers": ["demo.example/hold"]}});
            let merge = "application/merge-patch+json";
            server
                .call("PATCH", &format!("{maps}/yy"), merge, hold)
                .await
                .expect(200);
        }
        _ => {}
    }
}

fn request(exchange: &Value, versions: &Versions) -> http::Request<Bytes> {
    let what = exchange["what"].as_str().unwrap();
    let version = if what.starts_with("watch with a selector") {
        &versions.w_created
    } else {
        &versions.before_w
    };
    let path = exchange["path"].as_str().unwrap().replace("<rv>", version);
    let mut request = http::Request::builder()
        .method(exchange["method"].as_str().unwrap())
        .uri(path);
    for (field, header) in [("contentType", "content-type"), ("accept", "accept")] {
        if let Some(value) = exchange[field].as_str() {
            request = request.header(header, value);
        }
    }
    if what.starts_with("who am I") || what.starts_with("forbidden") {
        request = request
            .header("impersonate-user", "jane")
            .header("impersonate-group", "dev");
    }
    let body = exchange.get("body").map(text).unwrap_or_default();
    request.body(Bytes::from(body)).unwrap()
}

/// A recorded body: text as it is, anything else as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// What can be compared: without what differs from run to run, and what Kubernetes alone says.
fn tidy(what: &str, body: &str) -> String {
    let lines: Vec<String> = serde_json::Deserializer::from_str(body)
        .into_iter::<Value>()
        .map(|value| match value {
            Ok(mut value) => {
                scrub(&mut value);
                if what.starts_with("aggregated discovery") || what.starts_with("versions of") {
                    // Which resources there are is the api crate's to test.
                    value = json!({"kind": value["kind"], "apiVersion": value["apiVersion"]});
                }
                value.to_string()
            }
            Err(_) => body.to_owned(),
        })
        .collect();
    lines.join("\n")
}

/// Replaces what differs from run to run.
fn scrub(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(scrub),
        Value::Object(map) => {
            map.remove("description");
            // How many there were besides those that were made here.
            map.remove("remainingItemCount");
            // Go leaves an empty map out and shows an empty time; neither means anything.
            map.retain(|key, value| {
                let empty_data = key == "data" && value == &json!({});
                let no_time = key == "lastProbeTime" && value.is_null();
                !empty_data && !no_time
            });
            for (key, value) in map.iter_mut() {
                match (key.as_str(), &value) {
                    ("uid", Value::String(_)) => *value = "<uid>".into(),
                    ("resourceVersion", Value::String(_)) => *value = "<rv>".into(),
                    ("continue", Value::String(_)) => *value = "<token>".into(),
                    ("message", Value::String(text)) => *value = uuids(&differences(text)).into(),
                    ("name", Value::String(name)) if name.starts_with("g-") => {
                        *value = "g-".into();
                    }
                    (_, Value::String(text)) if text.parse::<jiff::Timestamp>().is_ok() => {
                        *value = "<time>".into();
                    }
                    _ => scrub(value),
                }
            }
        }
        _ => {}
    }
}

/// Of a diff, which Kubernetes makes of its Go structures, the values that differ.
fn differences(text: &str) -> String {
    let Some((first, diff)) = text.split_once('\n') else {
        return text.to_owned();
    };
    if !first.contains("may not change fields other than") {
        return text.to_owned();
    }
    let mut told = vec![first.to_owned()];
    for line in diff.lines().filter(|line| line.starts_with(['-', '+'])) {
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        told.push(format!("{} {}", &name[..1], value.trim_end_matches(',')));
    }
    told.join("\n")
}

fn uuids(text: &str) -> String {
    text.split(' ')
        .map(|word| {
            let bare = word.trim_matches(|c: char| !c.is_ascii_hexdigit());
            if bare.len() == 36 && bare.matches('-').count() == 4 {
                word.replace(bare, "<uid>")
            } else {
                word.to_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}
