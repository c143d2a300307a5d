//! Requests that are odd, and contents that are.

use super::*;

#[tokio::test]
async fn strange_requests_get_an_answer_in_ocis_form() {
    let cluster = cluster(1);
    for (method, uri, code) in [
        ("GET", "/v2/x", "NAME_UNKNOWN"),
        ("POST", "/v2/", "UNSUPPORTED"),
        ("BREW", "/v2/a/manifests/v1", "UNSUPPORTED"),
        ("GET", "/v2/a/blobs/sha256:zz", "DIGEST_INVALID"),
        ("GET", "/v2/a/blobs/..", "DIGEST_INVALID"),
        ("PATCH", "/v2/a/blobs/uploads/s-9.x", "BLOB_UPLOAD_UNKNOWN"),
        (
            "POST",
            "/v2/a/blobs/uploads/?digest=sha512:00",
            "DIGEST_INVALID",
        ),
    ] {
        assert_eq!(
            cluster.send(1, method, uri, &[], b"").await.code(),
            code,
            "{method} {uri}"
        );
    }
}

#[tokio::test]
async fn a_tree_in_a_file_can_be_pushed_and_pulled() {
    let cluster = cluster(1);
    let dir = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(dir.path().join("f")).unwrap();
    file.write_all(b"data").unwrap();
    let archive = tempfile::NamedTempFile::new().unwrap();
    let upload = crate::Upload::tree(dir.path(), archive.path()).unwrap();
    for blob in &upload.blobs {
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut blob.content.open(), &mut content).unwrap();
        cluster.push_blob(1, "data", &content).await;
    }
    let answer = cluster
        .put_manifest(1, "data", "v1", &upload.manifest)
        .await;
    assert_eq!(answer.status, StatusCode::CREATED);
}
