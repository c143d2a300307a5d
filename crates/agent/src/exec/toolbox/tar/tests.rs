//! Archives out of containers and into them, honest and other ones.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::time::{Duration, UNIX_EPOCH};

use tar::{Builder, EntryType, Header};

use super::super::tests::{Container, Ran, fails, mount, said};

const FAILED: &str = "tar: Exiting with failure status due to previous errors\n";
const CUT: &str = "tar: Removing leading `/' from member names\n";

fn source() -> Container {
    let long = format!("dir/{0}/{0}/{0}/end", "n".repeat(90));
    let container = Container::with(&[
        ("dir/a", "one"),
        ("dir/sub/b", "two"),
        ("dir/big", &"0123456789".repeat(100_000)),
        (&long, "far"),
    ]);
    let root = container.root();
    fs::create_dir(root.join("dir/void")).unwrap();
    symlink("sub/b", root.join("dir/link")).unwrap();
    symlink("x".repeat(200), root.join("dir/long")).unwrap();
    fs::set_permissions(root.join("dir/a"), Permissions::from_mode(0o755)).unwrap();
    let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let opened = fs::File::options().write(true).open(root.join("dir/sub/b"));
    opened.unwrap().set_modified(time).unwrap();
    container
}

/// As `kubectl cp` does it, both ways.
#[tokio::test]
async fn what_comes_out_goes_in() {
    let from = source();
    let out = from.run(&["tar", "cf", "-", "-C", "dir", "."], "").await;
    assert_eq!((out.code, out.stderr.as_str()), (0, ""));
    assert_eq!(out.stdout.len() % 512, 0);
    for words in [
        &["tar", "-xmf", "-", "-C", "/into"][..],
        &[
            "tar",
            "--no-same-permissions",
            "--no-same-owner",
            "-xmf",
            "-",
            "-C",
            "/into",
        ],
        &["tar", "xf", "-", "--directory=into"],
        &["tar", "xfC", "-", "into"],
    ] {
        let into = Container::with(&[("into/kept", "kept"), ("into/a", "replaced")]);
        assert_eq!(into.run(words, &out.stdout).await, said(""), "{words:?}");
        let mut due = from.tree("root/dir");
        due.insert("kept".to_owned(), "kept".to_owned());
        assert_eq!(into.tree("root/into"), due, "{words:?}");
        let about = |name: &str| fs::metadata(into.root().join("into").join(name)).unwrap();
        assert_eq!(about("a").mode() & 0o100, 0o100);
        let old = about("sub/b").mtime() == 1_000_000_000;
        assert_eq!(old, !words.contains(&"-xmf"), "{words:?}");
    }
}

#[tokio::test]
async fn names_in_archives() {
    let container = Container::with(&[("dir/a", "one"), ("dir/sub/b", "two"), ("c", "three")]);
    let out = container.run(&["tar", "cf", "-", "/dir", "c"], "").await;
    assert_eq!((out.code, out.stderr.as_str()), (0, CUT));
    let archive = out.stdout;
    // How kubectl goes on where a copy was broken off.
    let rest = container
        .run(&["sh", "-c", "tar cf - /dir c | tail -c+513"], "")
        .await;
    assert_eq!(rest.code, 0);
    assert!(rest.stdout == archive[512..]);
    for (words, due) in [
        (
            &["tar", "tf", "-"][..],
            said("dir/\ndir/a\ndir/sub/\ndir/sub/b\nc\n"),
        ),
        (
            &["tar", "-t", "dir/sub/", "c"],
            said("dir/sub/\ndir/sub/b\nc\n"),
        ),
        (
            &["tar", "tf", "-", "."],
            said("dir/\ndir/a\ndir/sub/\ndir/sub/b\nc\n"),
        ),
        (&["tar", "xvf", "-", "-C", "dir", "./c"], said("c\n")),
        (&["tar", "xvf", "-", "-C", "dir", "dir/a"], said("dir/a\n")),
        (
            &["tar", "t", "no"],
            fails(2, &format!("tar: no: Not found in archive\n{FAILED}")),
        ),
    ] {
        assert_eq!(container.run(words, &archive).await, due, "{words:?}");
    }
    assert_eq!(
        fs::read(container.root().join("dir/dir/a")).unwrap(),
        b"one"
    );
    let cut = "tar: Removing leading `../' from member names\n";
    for (words, due) in [
        (
            &["tar", "cvf", "x.tar", "-C", "dir", "a", "-C", "sub", "b"][..],
            said("a\nb\n"),
        ),
        (&["tar", "tf", "x.tar"], said("a\nb\n")),
        (&["tar", "cf", "x.tar", "../c"], fails(0, cut)),
        (&["tar", "tf", "x.tar"], said("c\n")),
        (
            &["tar", "cf", "x.tar", "nope"],
            fails(
                2,
                &format!("tar: nope: Cannot stat: No such file or directory\n{FAILED}"),
            ),
        ),
        (
            &["tar", "cvf", "-", "c"],
            Ran {
                stderr: "c\n".to_owned(),
                ..container.run(&["tar", "c", "c"], "").await
            },
        ),
    ] {
        assert_eq!(container.run(words, "").await, due, "{words:?}");
    }
}

#[tokio::test]
async fn of_nothing_no_archive_is_made() {
    let container = Container::with(&[("f", "f")]);
    let missing = |name: &str| format!("tar: {name}: Cannot stat: No such file or directory\n");
    let (nope, never) = (
        missing("/nope"),
        missing("f/never").replace("No such file or", "Not a"),
    );
    for (words, stderr) in [
        ("tar cf - /nope", format!("{nope}{FAILED}")),
        ("tar cf - /nope f/never", format!("{nope}{never}{FAILED}")),
    ] {
        container.all(&[(words, "", fails(2, &stderr))]).await;
    }
    // What is there is archived still.
    let ran = container.run(&["tar", "cf", "-", "/nope", "f"], "").await;
    assert_eq!((ran.code, ran.stderr), (2, format!("{CUT}{nope}{FAILED}")));
    let listed = container.run(&["tar", "tf", "-"], &ran.stdout).await;
    assert_eq!(listed, said("f\n"));
}

#[tokio::test]
async fn how_it_is_called() {
    let container = Container::with(&[("f", "f")]);
    container
        .all(&[
            ("tar", "", fails(1, "tar: one of -c, -t and -x is needed\n")),
            (
                "tar cf -",
                "",
                fails(1, "tar: an empty archive is refused\n"),
            ),
            (
                "tar xtf -",
                "",
                fails(1, "tar: only one of -c, -t and -x can be done\n"),
            ),
            (
                "tar czf - f",
                "",
                fails(1, "tar: unrecognized option: -z\n"),
            ),
            (
                "tar xf - --strip-components=1",
                "",
                fails(1, "tar: unrecognized option: --strip-components\n"),
            ),
            (
                "tar xf",
                "",
                fails(1, "tar: option requires an argument: f\n"),
            ),
            (
                "tar xf nope",
                "",
                fails(
                    2,
                    &format!("tar: nope: Cannot open: No such file or directory\n{FAILED}"),
                ),
            ),
            (
                "tar xC f",
                "",
                fails(
                    2,
                    &format!("tar: f: Cannot open: Not a directory\n{FAILED}"),
                ),
            ),
            (
                "tar xC no",
                "",
                fails(
                    2,
                    &format!("tar: no: Cannot open: No such file or directory\n{FAILED}"),
                ),
            ),
        ])
        .await;
    let shown = container.run_at(&["tar", "c", "f"], "", true).await;
    assert_eq!(
        shown,
        fails(
            1,
            "tar: the archive is not shown on a terminal: use -f FILE\n"
        )
    );
}

/// An archive of members that no library would write.
struct Hostile(Builder<Vec<u8>>);

impl Hostile {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn add(&mut self, kind: EntryType, name: &str, link: &str, content: &str) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o6777);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, content.as_bytes()).unwrap();
    }

    fn file(&mut self, name: &str, content: &str) {
        self.add(EntryType::Regular, name, "", content);
    }

    fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// What is outside of `into`, in the root and beside it.
fn target() -> Container {
    let mut container = Container::with(&[("into/f", "old"), ("kept/g", "kept")]);
    fs::create_dir(container.outside("beside")).unwrap();
    fs::write(container.outside("beside/g"), "kept").unwrap();
    symlink("../kept/g", container.root().join("into/known")).unwrap();
    symlink("../../beside", container.root().join("into/out")).unwrap();
    symlink("../kept", container.root().join("into/side")).unwrap();
    let fixed = mount(&container.outside("beside"), "/into/fixed", true);
    container.view.mounts.push(fixed);
    container
}

#[tokio::test]
async fn nothing_is_written_elsewhere() {
    let mut archive = Hostile::new();
    archive.file("../up", "x");
    archive.file("a/../../up", "x");
    archive.file("/abs", "abs");
    archive.add(EntryType::Symlink, "etc", "/etc", "");
    archive.add(EntryType::Symlink, "far", "../../kept", "");
    archive.add(EntryType::Symlink, "up", "../kept", "");
    archive.add(EntryType::Symlink, "a/near", "../last", "");
    archive.file("side/g", "x");
    archive.file("side/new", "x");
    archive.file("out/g", "x");
    archive.add(EntryType::Directory, "side/dir/", "", "");
    archive.add(EntryType::Directory, "side", "", "");
    archive.file("known", "new");
    archive.add(EntryType::Link, "h1", "/etc/passwd", "");
    archive.add(EntryType::Link, "h2", "../kept/g", "");
    archive.add(EntryType::Link, "h3", "side/g", "");
    archive.add(EntryType::Link, "h4", "fixed/g", "");
    archive.add(EntryType::Link, "h5", "side", "");
    archive.add(EntryType::Link, "abs", "abs", "");
    archive.add(EntryType::Link, "hard", "abs", "");
    archive.add(EntryType::Char, "dev", "", "");
    archive.add(EntryType::Block, "disk", "", "");
    archive.add(EntryType::Fifo, "pipe", "", "");
    archive.file("fixed/g", "x");
    archive.add(EntryType::new(b'V'), "label", "", "");
    archive.file("f/x", "x");
    archive.file("last", "last");
    let container = target();
    let ran = container
        .run(&["tar", "xf", "-", "-C", "into"], archive.done())
        .await;
    let denied = "Operation not permitted";
    let links = "Too many levels of symbolic links";
    let stderr = [
        "../up: Member name contains '..'",
        "a/../../up: Member name contains '..'",
        "Removing leading `/' from member names",
        "etc: a symbolic link that may lead outside: /etc",
        "far: a symbolic link that may lead outside: ../../kept",
        "up: a symbolic link that may lead outside: ../kept",
        &format!("side/g: Cannot open: {links}"),
        &format!("side/new: Cannot open: {links}"),
        &format!("out/g: Cannot open: {links}"),
        &format!("side/dir/: Cannot open: {links}"),
        "side: Cannot open: File exists",
        "h1: Cannot hard link to '/etc/passwd': No such file or directory",
        &format!("h2: Cannot hard link to '../kept/g': {denied}"),
        &format!("h3: Cannot hard link to 'side/g': {links}"),
        "h4: Cannot hard link to 'fixed/g': Read-only file system",
        &format!("h5: Cannot hard link to 'side': {denied}"),
        &format!("abs: Cannot hard link to 'abs': {denied}"),
        &format!("dev: Cannot mknod: {denied}"),
        &format!("disk: Cannot mknod: {denied}"),
        &format!("pipe: Cannot mknod: {denied}"),
        "fixed/g: Cannot open: Read-only file system",
        "label: Unknown file type 'V'",
        "f/x: Cannot open: Not a directory",
        "Exiting with failure status due to previous errors",
    ];
    let stderr: String = stderr.iter().map(|line| format!("tar: {line}\n")).collect();
    assert_eq!(ran, fails(2, &stderr));
    let into = container.tree("root/into");
    let into: Vec<String> = into
        .iter()
        .map(|(name, what)| format!("{name} {what}"))
        .collect();
    assert_eq!(
        into,
        [
            "a /",
            "a/near ->../last",
            "abs abs",
            "f old",
            "hard abs",
            "known new",
            "last last",
            "out ->../../beside",
            "side ->../kept"
        ]
    );
    assert_eq!(
        container.tree("root/kept").into_iter().collect::<Vec<_>>(),
        [("g".into(), "kept".into())]
    );
    assert_eq!(
        container.tree("beside").into_iter().collect::<Vec<_>>(),
        [("g".into(), "kept".into())]
    );
    let modes = |name: &str| {
        fs::metadata(container.root().join("into").join(name))
            .unwrap()
            .mode()
    };
    assert_eq!(modes("last") & 0o7022, 0);
    assert!(!container.outside("up").exists() && !container.root().join("up").exists());
}

#[tokio::test]
async fn what_is_damaged_ends() {
    let mut archive = Hostile::new();
    archive.file("first", "one");
    archive.file("second", &"x".repeat(2_000));
    let archive = archive.done();
    let container = Container::with(&[]);
    let torn = format!("tar: Unexpected EOF in archive\n{FAILED}");
    // Two blocks of the first, one and a half of the second.
    let ran = container
        .run(&["tar", "xf", "-"], &archive[..512 * 3 + 700])
        .await;
    assert_eq!(ran, fails(2, &torn));
    assert_eq!(fs::read(container.root().join("first")).unwrap(), b"one");
    let ran = container.run(&["tar", "xf", "-"], "x".repeat(2_000)).await;
    assert_eq!((ran.code, ran.stdout), (2, Vec::new()));
    assert!(
        ran.stderr
            .starts_with("tar: This does not look like a tar archive: "),
        "{}",
        ran.stderr
    );
    assert_eq!(container.run(&["tar", "xf", "-"], "").await, said(""));
    let mut archive = Hostile::new();
    let records = format!("{} path={}\n", 4_200 + 11, "p".repeat(4_200));
    archive.add(EntryType::XHeader, "pax", "", &records);
    archive.file("named", "");
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..2].copy_from_slice(b"\xff\n");
    header.set_entry_type(EntryType::Regular);
    header.set_size(0);
    header.set_cksum();
    archive.0.append(&header, &b""[..]).unwrap();
    archive.file("after", "others");
    let why = "its name, or where it leads, is too long, or no UTF-8";
    let long = "p".repeat(4_096);
    let refused = format!("tar: {long}: {why}\ntar: \u{fffd}?: {why}\n{FAILED}");
    let ran = container.run(&["tar", "xf", "-"], archive.done()).await;
    assert_eq!(ran, fails(2, &refused));
    assert_eq!(fs::read(container.root().join("after")).unwrap(), b"others");
    let mut archive = Hostile::new();
    archive.add(EntryType::XHeader, "pax", "", "19 size=8589934592\n");
    archive.file("large", "");
    let size = format!("tar: large: its size is not in its header\n{FAILED}");
    let ran = container.run(&["tar", "xf", "-"], archive.done()).await;
    assert_eq!(ran, fails(2, &size));
}
