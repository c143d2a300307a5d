use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::{Encoding, media_types, tree};

const CORE: &[u8] = b"\0asm\x01\0\0\0core";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0component";

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      initContainers:
      - name: prepare
        image: ./tools/Prepare_It.wasm
      containers:
      - name: web
        image: ./web.wasm
      - name: other
        image: hello:v1
      volumes:
      - name: share
        image: {reference: ./share}
";

fn source(dir: &Path) -> PathBuf {
    let root = dir.join("demo");
    for below in ["tools", "share/deep", "more", ".git"] {
        fs::create_dir_all(root.join(below)).unwrap();
    }
    let files: [(&str, &[u8]); 8] = [
        ("web.yaml", WEB.as_bytes()),
        ("more/config.yml", b"# two\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n"),
        (".git/junk.yaml", b"]["),
        ("share/data.yaml", b"this: is data, no manifest\n"),
        ("share/deep/file", b"deep"),
        ("web.wasm", COMPONENT),
        ("tools/Prepare_It.wasm", CORE),
        ("unused.wasm", b"not even wasm"),
    ];
    for (name, content) in files {
        fs::write(root.join(name), content).unwrap();
    }
    root
}

fn built(dir: &Path) -> PathBuf {
    let out = dir.join("demo.tar");
    build(&source(dir), &out, &mut |_| {}).unwrap();
    out
}

fn open(file: &Path) -> Result<Bundle, Error> {
    Bundle::open(file, &mut |_| {})
}

#[test]
fn a_bundle_holds_what_its_source_names() {
    let dir = tempfile::tempdir().unwrap();
    let (mut reading, mut bytes) = (Vec::new(), (0, 0));
    let out = dir.path().join("demo.tar");
    let summary = build(&source(dir.path()), &out, &mut |progress| match progress {
        Progress::Reading { path } => reading.push(path),
        Progress::Bytes { done, total } => bytes = (done, total),
    })
    .unwrap();
    assert_eq!(reading, ["tools/Prepare_It.wasm", "web.wasm", "share"]);
    assert!(bytes.0 == bytes.1 && bytes.0 > 0);
    assert_eq!(summary, inspect(&out).unwrap());
    assert_eq!(summary.size, fs::metadata(&out).unwrap().len());
    let files: Vec<(&str, Vec<&str>)> = summary
        .manifests
        .iter()
        .map(|m| {
            (
                m.file.as_str(),
                m.objects.iter().map(String::as_str).collect(),
            )
        })
        .collect();
    assert_eq!(
        files,
        [
            ("more/config.yml", vec!["ConfigMap/a", "ConfigMap/b"]),
            ("web.yaml", vec!["Deployment/web"])
        ]
    );
    assert!(
        summary.modules[0]
            .image
            .starts_with("tools/prepare-it@sha256:"),
        "{summary}"
    );

    let bundle = open(&out).unwrap();
    let web = bundle
        .manifests()
        .iter()
        .find(|d| d.title() == "Deployment/web")
        .unwrap();
    let spec = web.value.pointer("/spec/template/spec").unwrap();
    let image = |pointer: &str| spec.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    assert_eq!(image("/initContainers/0/image"), summary.modules[0].image);
    assert_eq!(image("/containers/0/image"), summary.modules[1].image);
    assert_eq!(image("/containers/1/image"), "hello:v1");
    assert_eq!(image("/volumes/0/image/reference"), summary.trees[0].image);
    assert_eq!(bundle.manifests()[1].line, 6);
}

#[test]
fn uploads_are_standard_artifacts() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = open(&built(dir.path())).unwrap();
    let uploads = bundle.uploads().unwrap();
    let names: Vec<&str> = uploads
        .iter()
        .map(|(name, _)| name.repository.as_str())
        .collect();
    assert_eq!(names, ["tools/prepare-it", "web", "share"]);
    for (name, upload) in &uploads {
        assert_eq!(name.digest, Some(upload.digest));
        assert_eq!(Digest::of(&upload.manifest), upload.digest);
        for blob in &upload.blobs {
            let mut content = Vec::new();
            blob.content.open().read_to_end(&mut content).unwrap();
            assert_eq!(Digest::of(&content), blob.descriptor.digest);
        }
    }
    // The same module pushed by itself has the same digest.
    let alone = crate::Upload::module(&dir.path().join("demo/web.wasm")).unwrap();
    assert_eq!(alone.digest, uploads[1].1.digest);
    assert_eq!(alone.blobs[1].descriptor.media_type, media_types::WASM);
    // The tree can be unpacked, and holds the data that looks like a manifest.
    let archive = uploads[2].1.blobs[1].content.open();
    let target = dir.path().join("unpacked");
    tree::unpack(archive, Encoding::Plain, &target, &tree::Limits::default()).unwrap();
    assert_eq!(
        fs::read(target.join("data.yaml")).unwrap(),
        b"this: is data, no manifest\n"
    );
    assert_eq!(fs::read(target.join("deep/file")).unwrap(), b"deep");
}

#[test]
fn the_same_source_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let first = built(dir.path());
    let other = tempfile::tempdir().unwrap();
    let root = source(other.path());
    let renamed = other.path().join("renamed");
    fs::rename(root, &renamed).unwrap();
    // Other times and modes of the files change nothing.
    let web = fs::File::options()
        .write(true)
        .open(renamed.join("web.wasm"))
        .unwrap();
    web.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    web.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let second = other.path().join("second.tar");
    build(&renamed, &second, &mut |_| {}).unwrap();
    assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
}

#[test]
fn every_truncation_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let file = built(dir.path());
    let whole = fs::read(&file).unwrap();
    for length in
        (0..whole.len())
            .step_by(97)
            .chain([whole.len() - 1, whole.len() - 512, whole.len() - 1024])
    {
        fs::write(&file, &whole[..length]).unwrap();
        assert!(
            open(&file).is_err(),
            "cut after {length} of {} bytes",
            whole.len()
        );
    }
    let mut longer = whole.clone();
    longer.extend([0; 512]);
    fs::write(&file, longer).unwrap();
    assert!(open(&file).is_err());
}

#[test]
fn every_altered_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let file = built(dir.path());
    let whole = fs::read(&file).unwrap();
    // A stride prime to 512 meets headers, content and padding alike.
    for at in (0..whole.len()).step_by(13) {
        let mut altered = whole.clone();
        altered[at] ^= 0x01;
        fs::write(&file, altered).unwrap();
        assert!(open(&file).is_err(), "byte {at} of {}", whole.len());
    }
}

/// A layout written as `build` does, but from what the test gives it.
fn forged(
    path: &Path,
    config: &Config,
    layers: Vec<(&str, &str)>,
    extra: &[&[u8]],
    blobs: &[&[u8]],
) {
    let mut all: std::collections::BTreeMap<Digest, Vec<u8>> = blobs
        .iter()
        .chain(extra)
        .map(|b| (Digest::of(b), b.to_vec()))
        .collect();
    let mut add = |media_type: &str, content: Vec<u8>| {
        let descriptor = Descriptor::of(media_type, &content);
        all.insert(descriptor.digest, content);
        descriptor
    };
    let layers = layers.into_iter().map(|(file, text)| {
        let mut layer = add(media_types::YAML, text.as_bytes().to_vec());
        layer
            .annotations
            .insert(media_types::TITLE.to_owned(), file.to_owned());
        layer
    });
    let layers = layers.collect();
    let config_blob = add(
        media_types::BUNDLE_CONFIG,
        serde_json::to_vec(config).unwrap(),
    );
    let manifest = add(
        media_types::MANIFEST,
        layout::manifest(&config_blob, layers).encode(),
    );
    let mut writer = layout::Writer::new(fs::File::create(path).unwrap());
    writer.file("oci-layout", layout::OCI_LAYOUT).unwrap();
    writer
        .file("index.json", &layout::index(config, &manifest).unwrap())
        .unwrap();
    for (digest, content) in &all {
        writer
            .blob(digest, content.len() as u64, &content[..])
            .unwrap();
    }
    writer.finish().unwrap();
}

const POD: &str = "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: ./a.wasm}]}\n";

#[test]
fn well_formed_but_wrong_bundles_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forged.tar");
    let layer = Descriptor::of(media_types::WASM, CORE);
    let config_of = |layer: &Descriptor| {
        crate::Manifest::of(
            None,
            Descriptor::of(media_types::WASM_CONFIG, b"{}"),
            vec![layer.clone()],
        )
        .encode()
    };
    let manifest = config_of(&layer);
    let placed = |path: &str, manifest: &[u8]| Placed {
        path: path.to_owned(),
        manifest: Descriptor::of(media_types::MANIFEST, manifest),
    };
    let module = |path: &str| Config {
        modules: vec![placed(path, &manifest)],
        trees: vec![],
    };
    let good = module("a.wasm");
    let blobs: [&[u8]; 3] = [b"{}", CORE, &manifest];

    forged(&file, &good, vec![("pod.yaml", POD)], &[], &blobs);
    open(&file).unwrap();

    let refused = |why: &str| {
        let error = open(&file).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    };
    forged(&file, &good, vec![("pod.yaml", POD)], &[b"extra"], &blobs);
    refused("nothing refers to");
    forged(&file, &good, vec![("pod.yaml", POD)], &[], &blobs[..2]);
    refused("is missing");
    forged(&file, &good, vec![("../pod.yaml", POD)], &[], &blobs);
    refused("has no name");
    forged(
        &file,
        &good,
        vec![("b.yaml", POD), ("a.yaml", "")],
        &[],
        &blobs,
    );
    refused("out of order");
    forged(
        &file,
        &good,
        vec![("pod.yaml", &POD.replace("a.wasm", "b.wasm"))],
        &[],
        &blobs,
    );
    refused("pod.yaml:3: Module(\"b.wasm\") is not in the bundle");
    forged(&file, &good, vec![], &[], &blobs);
    refused("no manifest names");
    forged(
        &file,
        &module("../a.wasm"),
        vec![("pod.yaml", POD)],
        &[],
        &blobs,
    );
    refused("no path");

    let text = b"(module)";
    let not_wasm = config_of(&Descriptor::of(media_types::WASM, text));
    let config = Config {
        modules: vec![placed("a.wasm", &not_wasm)],
        trees: vec![],
    };
    forged(
        &file,
        &config,
        vec![("pod.yaml", POD)],
        &[],
        &[b"{}", text, &not_wasm],
    );
    refused("not a WebAssembly module");

    let mut longer = layer.clone();
    longer.size += 1;
    let wrong_size = config_of(&longer);
    let config = Config {
        modules: vec![placed("a.wasm", &wrong_size)],
        trees: vec![],
    };
    forged(
        &file,
        &config,
        vec![("pod.yaml", POD)],
        &[],
        &[b"{}", CORE, &wrong_size],
    );
    refused("descriptor says");
}

#[test]
fn other_files_are_no_bundles() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    for content in [&b""[..], b"hello", &[0; 4096], CORE, &[0x1f, 0x8b, 8, 0]] {
        fs::write(&file, content).unwrap();
        assert!(matches!(open(&file), Err(Error::Bundle(_))));
    }
    tree::pack(&source(dir.path()), fs::File::create(&file).unwrap()).unwrap();
    assert!(matches!(open(&file), Err(Error::Bundle(_))));
    assert!(matches!(
        open(dir.path()),
        Err(Error::Bundle(_) | Error::Io { .. })
    ));
}

#[test]
fn faults_of_the_source_say_where_and_leave_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let root = source(dir.path());
    let out = dir.path().join("out.tar");
    let refused = |file: &str, from: &str, to: &str, want: &str| {
        let before = fs::read_to_string(root.join(file)).unwrap();
        fs::write(root.join(file), before.replace(from, to)).unwrap();
        let error = build(&root, &out, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains(want), "{want}: {error}");
        assert!(!out.exists());
        fs::write(root.join(file), before).unwrap();
    };
    refused(
        "web.yaml",
        "./web.wasm",
        "./gone.wasm",
        "web.yaml:12: ./gone.wasm is not there",
    );
    refused(
        "web.yaml",
        "./web.wasm",
        "../web.wasm",
        "web.yaml:12: ../web.wasm leads outside",
    );
    refused(
        "web.yaml",
        "./web.wasm",
        "./share",
        "web.yaml:12: ./share is a directory",
    );
    refused(
        "web.yaml",
        "./web.wasm",
        "./unused.wasm",
        "web.yaml:12: ./unused.wasm: not a WebAssembly module",
    );
    refused(
        "web.yaml",
        "reference: ./share",
        "reference: ./web.wasm",
        "web.yaml:17: ./web.wasm is a file",
    );
    refused(
        "web.yaml",
        "reference: ./share",
        "reference: ./",
        "web.yaml:17: ./ is the bundle's own directory",
    );
    refused("web.yaml", "kind: Deployment", "kind: [", "web.yaml:");
    refused(
        "more/config.yml",
        "kind: ConfigMap",
        "kund: ConfigMap",
        "more/config.yml:2: this is no Kubernetes object",
    );
    std::os::unix::fs::symlink("/etc/hostname", root.join("link.wasm")).unwrap();
    refused(
        "web.yaml",
        "./web.wasm",
        "./link.wasm",
        "web.yaml:12: ./link.wasm leads outside",
    );
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(
        build(&empty, &out, &mut |_| {})
            .unwrap_err()
            .to_string()
            .contains("no Kubernetes manifest")
    );
}

#[test]
fn repositories_fit_the_rules() {
    for (path, want) in [
        ("web.wasm", "web"),
        ("Tools/My Tool_2.wasm", "tools/my-tool-2"),
        ("__.wasm", "unnamed"),
        ("share", "share"),
    ] {
        assert_eq!(repository(path), want);
    }
    for path in ["ünï/x.wasm".to_owned(), "x".repeat(4000)] {
        let name = repository(&path);
        assert!(Name::pinned(&name, Digest::of(b"")).is_ok(), "{name}");
    }
}

use std::io::Read as _;
