//! Trees of files from images.

use std::io::Read as _;
use std::os::unix::fs::symlink;

use images::Upload;

use super::*;
use crate::image::Error as ImageError;

/// Puts a tree into the registry, with `text` in its files.
pub(super) fn push(dir: &Path, server: &Objects, image: &str, text: &str) {
    let (repository, tag) = image.split_once(':').unwrap();
    let files = dir.join("tree");
    fs::create_dir_all(files.join("deep")).unwrap();
    fs::write(files.join("a"), text).unwrap();
    fs::write(files.join("deep/f"), text).unwrap();
    symlink("deep", files.join("current")).unwrap();
    symlink("deep/f", files.join("file")).unwrap();
    let archive = dir.join("tree.tar");
    let upload = Upload::tree(&files, &archive).unwrap();
    let mut images = server.images.lock();
    let below = format!("/v2/{repository}");
    images.insert(format!("{below}/manifests/{tag}"), upload.manifest.clone());
    for blob in &upload.blobs {
        let mut bytes = Vec::new();
        blob.content.open().read_to_end(&mut bytes).unwrap();
        let digest = blob.descriptor.digest;
        images.insert(format!("{below}/blobs/{digest}"), bytes.into());
    }
    fs::remove_dir_all(files).unwrap();
    fs::remove_file(archive).unwrap();
}

/// A volume with the files of an image, and the directory that it lies in.
pub(crate) async fn image() -> (tempfile::TempDir, Made) {
    let b = Bench::new();
    let made = b.make(&examples::of("image", Path::new("/")).volume).await;
    (b.dir, made.unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_image_is_pulled_as_its_policy_says() {
    let b = Bench::new();
    let make = async |image: &str, policy: Option<&str>| {
        let source = json!({"reference": image, "pullPolicy": policy});
        let pod = pod(&json!({"name": "v", "image": source}));
        let made = b.with(&pod, set_up).await;
        let asked = std::mem::take(&mut *b.server.pulled.lock());
        let asked = asked.iter().filter(|path| path.contains("/manifests/"));
        let text = made.map(|all| fs::read_to_string(all["v"].path.join("a")).unwrap());
        (text, asked.count())
    };
    let is = |(text, asked): (Result<String, Failure>, usize)| (text.unwrap(), asked);
    let (never, asked) = make("files:v1", Some("Never")).await;
    let Err(Failure::Image(ImageError { reason, message })) = never else {
        panic!("{never:?}");
    };
    assert_eq!((reason, asked), ("ErrImageNeverPull", 0));
    let why = "Container image \"files:v1\" is not present with pull policy of Never";
    let why = format!("volume \"v\": failed to pull image \"files:v1\": {why}");
    assert_eq!(message, why);

    let one = |asked| ("1".to_owned(), asked);
    assert_eq!(is(make("files:v1", None).await), one(1));
    push(b.dir.path(), &b.server, "files:v1", "2");
    for policy in [None, Some("IfNotPresent"), Some("Never")] {
        let found = is(make("files:v1", policy).await);
        assert_eq!(found, one(0), "{policy:?}");
    }
    let two = |asked| ("2".to_owned(), asked);
    assert_eq!(is(make("files:v1", Some("Always")).await), two(1));
    assert_eq!(is(make("files:v1", None).await), two(0));

    // Without a policy the latest is asked for again.
    for text in ["3", "4"] {
        push(b.dir.path(), &b.server, "files:latest", text);
        assert_eq!(is(make("files", None).await), (text.to_owned(), 1));
    }
    b.server.images.lock().clear();
    let (gone, asked) = make("files", None).await;
    assert!(matches!(gone, Err(Failure::Image(_))), "{gone:?}");
    assert_eq!(asked, 1);
    assert_eq!(is(make("files", Some("IfNotPresent")).await).0, "4");
}
