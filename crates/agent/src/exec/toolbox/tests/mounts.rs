//! What the mounts let commands do, and that nothing leads out of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use runtime::Mount;
use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::{Container, fails, mount, said};

/// A volume that may not be changed, one in it that may, and a part of a third.
fn mounted() -> Container {
    let mut container = Container::with(&[("own", "root")]);
    for (path, text) in [
        ("fixed/f", "fixed"),
        ("deep/g", "deep"),
        ("third/in/side/h", "third"),
    ] {
        let path = container.outside(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let fixed = mount(&container.outside("fixed"), "/data", true);
    let deep = mount(&container.outside("deep"), "/data/sub/deep", false);
    let third = Mount {
        beneath: "in/side".to_owned(),
        ..mount(&container.outside("third"), "/third/", false)
    };
    container.view.mounts.extend([fixed, deep, third]);
    container
}

#[tokio::test]
async fn the_longest_mount_decides() {
    let container = mounted();
    let busy = |name: &str| {
        fails(
            1,
            &format!("rm: can't remove '{name}': Device or resource busy\n"),
        )
    };
    let fixed = "Read-only file system\n";
    container
        .all(&[
            (
                "ls / /data /data/sub third",
                "",
                said("/:\ndata\nown\nthird\n\n/data:\nf\nsub\n\n/data/sub:\ndeep\n\nthird:\nh\n"),
            ),
            ("ls -d /data/sub/", "", said("/data/sub/\n")),
            (
                "cat /data/f /data/sub/deep/g /third/h",
                "",
                said("fixeddeepthird"),
            ),
            ("test -w /data/f", "", fails(1, "")),
            ("test -w /data/sub/deep/g", "", said("")),
            (
                "sh -c echo>/data/f",
                "",
                fails(1, &format!("sh: can't create /data/f: {fixed}")),
            ),
            (
                "rm /data/f",
                "",
                fails(1, &format!("rm: can't remove '/data/f': {fixed}")),
            ),
            (
                "mkdir /data/n",
                "",
                fails(
                    1,
                    &format!("mkdir: can't create directory '/data/n': {fixed}"),
                ),
            ),
            ("mkdir -p /data/sub/deep/y", "", said("")),
            ("sh -c echo>/third/new", "", said("")),
            ("rm -r /data", "", busy("/data")),
            ("rm -rf /data/sub", "", busy("/data/sub")),
            ("rm -r /third", "", busy("/third")),
            ("rm -r /data/sub/deep/y /data/sub/deep/g", "", said("")),
        ])
        .await;
    assert_eq!(container.tree("deep"), BTreeMap::new());
    let third = [
        ("in", "/"),
        ("in/side", "/"),
        ("in/side/h", "third"),
        ("in/side/new", "\n"),
    ];
    let third = third.map(|(name, what)| (name.to_owned(), what.to_owned()));
    assert_eq!(container.tree("third"), BTreeMap::from(third));
    assert_eq!(container.tree("fixed").len(), 1);
}

#[tokio::test]
async fn nothing_leads_out() {
    let container = Container::with(&[("dir/b", "bee")]);
    fs::create_dir(container.outside("secret")).unwrap();
    fs::write(container.outside("secret/key"), "key").unwrap();
    let link = |to: &str, name: &str| symlink(to, container.root().join(name)).unwrap();
    link("../secret", "out");
    link("/etc", "etc");
    link("dir", "in");
    link("dir/../../secret/key", "key");
    let denied = "Operation not permitted\n";
    container
        .all(&[
            ("cat in/b", "", said("bee")),
            ("ls in/", "", said("b\n")),
            ("ls -F in", "", said("in@\n")),
            ("ls -F in/", "", said("b\n")),
            ("ls -d in/", "", said("in/\n")),
            (
                "rm in/",
                "",
                fails(1, "rm: can't remove 'in/': Not a directory\n"),
            ),
            (
                "rm -r in/",
                "",
                fails(1, "rm: can't remove 'in/': Not a directory\n"),
            ),
            (
                "cat out/key",
                "",
                fails(1, &format!("cat: out/key: {denied}")),
            ),
            ("cat key", "", fails(1, &format!("cat: key: {denied}"))),
            (
                "cat etc/hostname",
                "",
                fails(1, &format!("cat: etc/hostname: {denied}")),
            ),
            (
                "cat ../secret/key",
                "",
                fails(1, "cat: ../secret/key: No such file or directory\n"),
            ),
            ("ls out", "", said("out\n")),
            ("ls out/", "", fails(1, &format!("ls: out/: {denied}"))),
            (
                "ls -d out/key",
                "",
                fails(1, &format!("ls: out/key: {denied}")),
            ),
            (
                "sh -c echo>out/new",
                "",
                fails(1, &format!("sh: can't create out/new: {denied}")),
            ),
            (
                "sh -c echo>>key",
                "",
                fails(1, &format!("sh: can't create key: {denied}")),
            ),
            (
                "mkdir out/new",
                "",
                fails(
                    1,
                    &format!("mkdir: can't create directory 'out/new': {denied}"),
                ),
            ),
            (
                "rm out/key",
                "",
                fails(1, &format!("rm: can't remove 'out/key': {denied}")),
            ),
            (
                "rm -rf out/key",
                "",
                fails(1, &format!("rm: can't remove 'out/key': {denied}")),
            ),
            ("test -e key", "", fails(1, "")),
            ("test -d out", "", fails(1, "")),
            ("rm -r out etc", "", said("")),
        ])
        .await;
    assert_eq!(
        container.tree("secret"),
        BTreeMap::from([("key".to_owned(), "key".to_owned())])
    );
    assert!(fs::metadata("/etc").unwrap().is_dir());
}

#[tokio::test]
async fn what_is_no_file_is_not_waited_for() {
    let mut container = Container::with(&[("file", "text")]);
    container
        .view
        .mounts
        .push(mount(Path::new("/dev"), "/dev", false));
    symlink("file", container.root().join("known")).unwrap();
    symlink("nothing", container.root().join("nowhere")).unwrap();
    let _socket = UnixListener::bind(container.root().join("socket")).unwrap();
    let pipe = container.root().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let not_archived = "tar: pipe: no file, directory or link; not archived\n\
        tar: Exiting with failure status due to previous errors\n";
    container
        .all(&[
            ("cat pipe", "", fails(1, "cat: pipe: Not a regular file\n")),
            (
                "cat /dev/zero",
                "",
                fails(1, "cat: /dev/zero: Not a regular file\n"),
            ),
            (
                "sh -c echo>pipe",
                "",
                fails(1, "sh: can't create pipe: Not a regular file\n"),
            ),
            (
                "cat socket",
                "",
                fails(1, "cat: socket: Not a regular file\n"),
            ),
            (
                "sh -c echo>nowhere",
                "",
                fails(1, "sh: can't create nowhere: No such file or directory\n"),
            ),
            ("sh -c echo>known", "", said("")),
            ("sh -c echo>>known", "", said("")),
            ("cat file", "", said("\n\n")),
            (
                "sh -c echo>/dev/zero",
                "",
                fails(1, "sh: can't create /dev/zero: Not a regular file\n"),
            ),
            ("sh -c echo>/dev/null", "", said("")),
            ("test -f pipe", "", fails(1, "")),
            ("ls -F pipe", "", said("pipe|\n")),
            ("tar cf f.tar pipe", "", fails(2, not_archived)),
        ])
        .await;
}

#[tokio::test]
async fn however_deep_it_is() {
    let container = Container::with(&[("deep/f", "")]);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = rustix::fs::open(container.root().join("deep"), flags, Mode::empty()).unwrap();
    for _ in 0..3_000 {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "d", flags, Mode::empty()).unwrap();
    }
    drop(at);
    for command in [&["ls", "-R", "deep"][..], &["tar", "cf", "f.tar", "deep"]] {
        let ran = container.run(command, "").await;
        assert_ne!(ran.code, 0);
        assert!(
            ran.stderr.contains("File name too long\n"),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(container.run(&["rm", "-r", "deep"], "").await, said(""));
    assert!(!container.root().join("deep").exists());
}

#[tokio::test]
async fn a_mount_may_be_a_single_file() {
    let mut container = Container::with(&[("etc/f", "")]);
    let file = container.outside("f");
    fs::write(&file, "old").unwrap();
    container.view.mounts.push(mount(&file, "/etc/f", false));
    container
        .all(&[
            ("cat /etc/f", "", said("old")),
            ("ls /etc", "", said("f\n")),
            ("ls -F /etc/f", "", said("/etc/f\n")),
        ])
        .await;
    let ran = container.run(&["sh", "-c", "echo new > /etc/f"], "").await;
    assert_eq!(ran, said(""));
    assert_eq!(fs::read_to_string(&file).unwrap(), "new\n");
    for refused in ["rm /etc/f", "cat /etc/f/x", "ls /etc/f/", "mkdir /etc/f"] {
        let words: Vec<&str> = refused.split(' ').collect();
        assert_ne!(container.run(&words, "").await.code, 0, "{refused}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "new\n");
    container.view.mounts[1].read_only = true;
    let ran = container.run(&["sh", "-c", "echo no > /etc/f"], "").await;
    assert_ne!(ran.code, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "new\n");
}
