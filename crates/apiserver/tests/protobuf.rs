//! Protobuf for those who take nothing else.

mod server;

use api::codec::{Expected, FieldValidation, Format, decode};
use api::schema;
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use server::{Answer, Server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

fn request(path: &str, accept: &str) -> http::Request<Bytes> {
    let request = http::Request::get(path).header("accept", accept);
    request.body(Bytes::new()).unwrap()
}

fn of_kind(body: &[u8], api_version: &str, kind: &str) -> Value {
    let expected = Expected {
        api_version,
        kind,
        ty: schema::of_kind(api_version, kind).expect("a type"),
    };
    decode(body, expected, Format::Protobuf, FieldValidation::Strict)
        .unwrap_or_else(|status| panic!("{kind}: {}", status.message))
        .value
}

async fn get(server: &Server, path: &str, accept: &str) -> Answer {
    let answer = server.send(request(path, accept)).await;
    assert_eq!(answer.headers["content-type"], PROTOBUF, "{path}");
    answer
}

async fn with_a_map() -> Server {
    let server = Server::start().await;
    let map = json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "data": {"k": "v"}, "immutable": true});
    server.post(MAPS, map).await.expect(201);
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_lists_metadata_and_errors() {
    let server = with_a_map().await;
    let one = format!("{MAPS}/a");
    let json = server.get(&one).await.json();
    assert_eq!(
        of_kind(&get(&server, &one, PROTOBUF).await.body, "v1", "ConfigMap"),
        json
    );

    let partial = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let shown = get(&server, &one, &partial).await.body;
    let shown = of_kind(&shown, "meta.k8s.io/v1", "PartialObjectMetadata");
    assert_eq!(shown["metadata"], json["metadata"]);

    let list = get(&server, MAPS, PROTOBUF).await.body;
    assert!(list.starts_with(b"k8s\0"));
    let metadata_list = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let listed = get(&server, MAPS, &metadata_list).await.body;
    let listed = of_kind(&listed, "meta.k8s.io/v1", "PartialObjectMetadataList");
    let items = listed["items"].as_array().expect("items");
    assert!(
        items
            .iter()
            .any(|item| item["metadata"] == json["metadata"])
    );
    // One is not the other.
    for (path, accept) in [(MAPS, &partial), (one.as_str(), &metadata_list)] {
        assert_eq!(get(&server, path, accept).await.code, 406, "{path}");
    }

    let missing = get(&server, &format!("{MAPS}/b"), PROTOBUF).await;
    assert_eq!(missing.code, 404);
    let status = of_kind(&missing.body, "v1", "Status");
    assert_eq!(
        (&status["reason"], &status["code"]),
        (&json!("NotFound"), &json!(404))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_form_in_protobuf_is_refused() {
    let server = with_a_map().await;
    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1");
    assert_eq!(server.send(request(MAPS, &table)).await.code, 406);
}

/// The events that are framed in `body`: each behind its length.
fn events(mut body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some((length, rest)) = body.split_first_chunk::<4>() {
        let (event, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        // Field 1: what happened. Field 2: the object, in an envelope inside one that says that it is raw.
        assert_eq!(event[0], 0x0a);
        let kind = event[2..2 + usize::from(event[1])].to_vec();
        let object = event
            .windows(4)
            .position(|bytes| bytes == b"k8s\0")
            .expect("an object");
        found.push((String::from_utf8(kind).unwrap(), event[object..].to_vec()));
        body = rest;
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_frame_their_events() {
    let server = with_a_map().await;
    let json = server.get(&format!("{MAPS}/a")).await.json();
    let path = format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Da");
    let transport = server.server.transport("admin", ["system:masters"]);
    let mut response = transport.send(request(&path, PROTOBUF)).await.unwrap();
    assert_eq!(
        response.headers()["content-type"],
        format!("{PROTOBUF};stream=watch")
    );
    let first = response
        .body_mut()
        .frame()
        .await
        .expect("an event")
        .unwrap();
    let first = events(&first.into_data().unwrap());
    assert_eq!(first[0].0, "ADDED");
    assert_eq!(of_kind(&first[0].1, "v1", "ConfigMap"), json);

    // A watch that cannot go on from where its client was says so by an event, and ends.
    let again = server.restarted().await;
    let old = format!("{MAPS}?watch=1&resourceVersion=1");
    let ended = again.send(request(&old, PROTOBUF)).await;
    let ended = events(&ended.body);
    assert_eq!(ended[0].0, "ERROR");
    assert_eq!(of_kind(&ended[0].1, "v1", "Status")["code"], 410);
}
