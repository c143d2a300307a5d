//! Roots, and the volumes in them.

use std::os::fd::AsRawFd as _;

use super::*;
use serde_json::json;

fn pod(container: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"containers": [container], "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]},
    }))
    .unwrap()
}

/// Where on the host a mount lies.
fn place(mount: &Mount) -> PathBuf {
    match &mount.host {
        Host::Path(path) | Host::Own(path) => path.clone(),
        Host::File(file) => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
    }
}

/// A volume whose files are replaced, as a ConfigMap's are.
fn replaced(path: &Path) -> Made {
    Made {
        is_replaced: true,
        ..Made::new(path, true)
    }
}

#[test]
fn the_root_and_what_is_mounted_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let (root, data, config) = (
        dir.path().join("root"),
        dir.path().join("data"),
        dir.path().join("config"),
    );
    fs::create_dir_all(&data).unwrap();
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("x.conf"), "x").unwrap();
    let volumes = BTreeMap::from([
        ("data".to_owned(), Made::new(&data, false)),
        ("config".to_owned(), replaced(&config)),
    ]);
    let pod = pod(
        json!({"name": "m", "workingDir": "/srv/here", "volumeMounts": [
            {"name": "data", "mountPath": "/data", "subPath": "a/b"},
            {"name": "data", "mountPath": "/all", "readOnly": true},
            {"name": "config", "mountPath": "/etc/app/x.conf", "subPath": "x.conf"},
        ]}),
    );
    let mounts = make(
        &root,
        None,
        &pod,
        &pod.containers()[0],
        &volumes,
        Some("10.128.0.7".parse().unwrap()),
    )
    .unwrap();
    let seen: Vec<_> = mounts
        .iter()
        .map(|m| (m.guest.as_str(), place(m).join(&m.beneath), m.read_only))
        .collect();
    assert_eq!(
        seen,
        [
            ("/", root.join(""), false),
            ("/data", data.join("a/b"), false),
            ("/all", data.join(""), true)
        ]
    );
    assert_eq!(fs::read(root.join("etc/app/x.conf")).unwrap(), b"x");
    assert!(root.join("srv/here").is_dir() && root.join("tmp").is_dir());
    let hosts = fs::read_to_string(root.join("etc/hosts")).unwrap();
    assert!(
        hosts.contains("10.128.0.7\tweb\n") && hosts.contains("1.2.3.4\ta\tb\n"),
        "{hosts}"
    );
    fs::write(root.join("tmp/old"), "").unwrap();
    make(&root, None, &pod, &pod.containers()[0], &volumes, None).unwrap();
    assert!(!root.join("tmp/old").exists(), "each start has a new root");
}

#[test]
fn a_message_can_be_left_in_a_root_that_is_read_only() {
    let dir = tempfile::tempdir().unwrap();
    let (root, data) = (dir.path().join("root"), dir.path().join("data"));
    fs::create_dir_all(&data).unwrap();
    let volumes = BTreeMap::from([("data".to_owned(), Made::new(&data, false))]);
    let writable = |read_only: bool, path: &str| {
        let pod = pod(json!({
            "name": "m", "terminationMessagePath": path,
            "securityContext": {"readOnlyRootFilesystem": read_only},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }));
        let mounts = make(&root, None, &pod, &pod.containers()[0], &volumes, None).unwrap();
        let writable = mounts.iter().filter(|m| !m.read_only);
        let host = |m: &Mount| fs::canonicalize(place(m)).unwrap();
        writable
            .map(|m| (m.guest.clone(), host(m)))
            .collect::<Vec<_>>()
    };
    let at = |guest: &str, host: &Path| (guest.to_owned(), host.to_owned());
    let data = at("/data", &fs::canonicalize(&data).unwrap());
    let root = fs::canonicalize(dir.path()).unwrap().join("root");
    for path in ["/dev/termination-log", "/end"] {
        let file = root.join(path.trim_start_matches('/'));
        assert_eq!(writable(true, path), [at(path, &file), data.clone()]);
        assert_eq!(fs::read(file).unwrap(), b"");
    }
    let log = "/dev/termination-log";
    assert_eq!(writable(false, log), [at("/", &root), data.clone()]);
    assert!(root.join("dev").is_dir() && !root.join("dev/termination-log").exists());
    for path in ["/data/end", "/data", "/tmp", "/"] {
        assert_eq!(writable(true, path), std::slice::from_ref(&data), "{path}");
    }
}

#[test]
fn a_single_file_is_a_mount_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (root, data) = (dir.path().join("root"), dir.path().join("data"));
    fs::create_dir_all(data.join("deep")).unwrap();
    fs::write(data.join("deep/f"), "old").unwrap();
    let made = |path: &Path, read_only| Made::new(path, read_only);
    let volumes = BTreeMap::from([
        ("rw".to_owned(), made(&data, false)),
        ("ro".to_owned(), made(&data, true)),
        ("replaced".to_owned(), replaced(&data)),
        ("file".to_owned(), made(&data.join("deep/f"), false)),
        // As a claim is that this pod may only read.
        (
            "claim".to_owned(),
            Made {
                read_only: true,
                ..made(&data, false)
            },
        ),
    ]);
    let pod = pod(json!({"name": "m", "volumeMounts": [
        {"name": "rw", "mountPath": "/app"},
        {"name": "ro", "mountPath": "/app/x", "subPath": "deep/f"},
        {"name": "rw", "mountPath": "/etc/f", "subPath": "deep/f", "readOnly": true},
        {"name": "file", "mountPath": "/g"},
        {"name": "replaced", "mountPath": "/h", "subPath": "deep/f"},
        {"name": "ro", "mountPath": "/i", "subPath": "deep/f"},
        {"name": "claim", "mountPath": "/c", "subPath": "deep/f"},
    ]}));
    let mounts = make(&root, None, &pod, &pod.containers()[0], &volumes, None).unwrap();
    let seen = mounts[1..].iter().map(|m| (m.guest.as_str(), m.read_only));
    let due = [
        ("/app", false),
        ("/app/x", true),
        ("/etc/f", true),
        ("/g", false),
        ("/i", true),
        ("/c", true),
    ];
    assert_eq!(seen.collect::<Vec<_>>(), due);
    let held = |m: &&Mount| matches!(m.host, Host::File(_));
    assert_eq!(mounts.iter().filter(held).count(), 5);
    // They show where they are, and what was copied has its contents.
    assert_eq!(fs::read(root.join("etc/f")).unwrap(), b"");
    assert_eq!(fs::read(root.join("h")).unwrap(), b"old");
    // What takes the name is another file.
    fs::write(data.join("new"), "new").unwrap();
    fs::rename(data.join("new"), data.join("deep/f")).unwrap();
    for mount in &mounts[2..] {
        assert_eq!(fs::read(place(mount)).unwrap(), b"old", "{mount:?}");
    }
}

#[test]
fn only_the_pods_own_directories_are_sure_to_stay() {
    let mount = |host: &str, beneath: &str| Mount {
        host: Path::new(host).into(),
        beneath: beneath.to_owned(),
        guest: "/".to_owned(),
        read_only: false,
    };
    let table = [
        (mount("/pods/1/containers/c/0/root", ""), true),
        (mount("/pods/1/volumes/v", ""), true),
        (mount("/shm/1/v", ""), true),
        // A guest may rename what it can write to.
        (mount("/pods/1/volumes/v", "sub"), false),
        (mount("/pods/11/volumes/v", ""), false),
        (mount("/srv", ""), false),
    ];
    for (mount, stays) in table {
        let own = ["/pods/1", "/shm/1"].map(|path| Some(PathBuf::from(path)));
        let made = staying(vec![mount.clone()], &own);
        let is_own = matches!(made[0].host, Host::Own(_));
        assert_eq!(is_own, stays, "{mount:?}");
    }
}

#[test]
fn a_directory_of_files_that_are_replaced_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("volume");
    fs::create_dir_all(volume.join("..1/deep/er")).unwrap();
    fs::write(volume.join("..1/deep/er/f"), "old").unwrap();
    std::os::unix::fs::symlink("..1", volume.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/deep", volume.join("deep")).unwrap();
    let made = Made {
        is_replaced: true,
        ..Made::new(&volume, true)
    };
    let volumes = BTreeMap::from([("v".to_owned(), made)]);
    let container: Container = serde_json::from_value(json!({"name": "c", "volumeMounts": [
        {"name": "v", "mountPath": "/part", "subPath": "deep"},
        {"name": "v", "mountPath": "/whole"},
        {"name": "v", "mountPath": "/etc/f", "subPath": "deep/er/f"},
    ]}))
    .unwrap();
    let root = dir.path().join("0/root");
    for _ in 0..2 {
        let mounts = make(&root, None, &Pod::default(), &container, &volumes, None).unwrap();
        let part = &mounts[1];
        assert!(part.read_only && part.guest == "/part");
        assert_eq!(fs::read(place(part).join("er/f")).unwrap(), b"old");
        assert!(place(part).starts_with(dir.path().join("0/sub-paths")));
        assert_eq!(place(&mounts[2]), volume);
        assert_eq!(fs::read(root.join("etc/f")).unwrap(), b"old");
    }
}

/// All that files below this directory hold.
fn held_below(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let held = |path: PathBuf| match path.is_dir() {
        true => held_below(&path),
        false => vec![fs::read_to_string(path).unwrap()],
    };
    entries.flat_map(held).collect()
}

#[test]
fn what_lies_in_memory_is_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, disk) = (dir.path().join("memory"), dir.path().join("disk"));
    let volumes = ["secret", "beside"].map(|name| {
        let volume = memory.join(name);
        fs::create_dir_all(volume.join("deep")).unwrap();
        (name.to_owned(), replaced(&volume))
    });
    let volumes = BTreeMap::from(volumes);
    let pod = pod(json!({"name": "m", "volumeMounts": [
        {"name": "secret", "mountPath": "/part", "subPath": "deep"},
        {"name": "secret", "mountPath": "/etc/f", "subPath": "deep/f"},
        {"name": "beside", "mountPath": "/whole"},
        {"name": "secret", "mountPath": "/whole/f", "subPath": "deep/f"},
    ]}));
    let container = &pod.containers()[0];
    let mut before: Vec<Vec<Mount>> = Vec::new();
    for (attempt, secret) in ["hunter2", "hunter3"].into_iter().enumerate() {
        fs::write(memory.join("secret/deep/new"), secret).unwrap();
        fs::rename(memory.join("secret/deep/new"), memory.join("secret/deep/f")).unwrap();
        let root = disk.join(format!("containers/m/{attempt}/root"));
        // As one that did not get to its end, and is begun once more.
        make(&root, Some(&memory), &pod, container, &volumes, None).unwrap();
        let mounts = make(&root, Some(&memory), &pod, container, &volumes, None).unwrap();
        let copies = cell::copies_in(&memory, "m").join(attempt.to_string());
        assert_eq!(place(&mounts[1]), copies.join("0"));
        for (mount, at) in [(2, "/etc/f"), (4, "/whole/f")] {
            let mount = &mounts[mount];
            assert!(matches!(mount.host, Host::File(_)), "{mount:?}");
            assert!(mount.read_only && mount.guest == at, "{mount:?}");
        }
        let shown = |mounts: &[Mount]| {
            let files = [
                place(&mounts[1]).join("f"),
                place(&mounts[2]),
                place(&mounts[4]),
            ];
            files.map(|file| fs::read_to_string(file).unwrap())
        };
        assert_eq!(shown(&mounts), [secret; 3]);
        for mounts in &before {
            assert_eq!(
                shown(mounts),
                ["hunter2"; 3],
                "they have it from their start"
            );
        }
        before.push(mounts);
        // The place of the file shows, and nothing of it.
        assert_eq!(fs::read(root.join("etc/f")).unwrap(), b"");
        let held = held_below(&disk);
        assert!(!held.is_empty() && held.iter().all(|text| !text.contains("hunter")));
    }
}
