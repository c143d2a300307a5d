//! Commands that look at files, and make and remove them.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, UNIX_EPOCH};

use super::{Container, Ran, fails, said};

fn usual() -> Container {
    let files = [
        ("a.txt", "one\ntwo\nthree\n"),
        ("dir/b", "bee"),
        ("dir/.hidden", ""),
    ];
    let container = Container::with(&files);
    fs::create_dir(container.root().join("void")).unwrap();
    symlink("a.txt", container.root().join("link")).unwrap();
    container
}

#[tokio::test]
async fn what_was_touched() {
    let container = usual();
    let root = container.root();
    let old = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for name in ["a.txt", "dir"] {
        fs::File::open(root.join(name))
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
    container
        .all(&[
            ("touch link dir new dir/b", "", said("")),
            ("touch -c never", "", said("")),
            ("cat new", "", said("")),
            ("cat dir/b", "", said("bee")),
            ("touch", "", fails(1, "touch: missing operand\n")),
            (
                "touch no/new",
                "",
                fails(1, "touch: no/new: No such file or directory\n"),
            ),
            ("touch new/", "", fails(1, "touch: new/: Not a directory\n")),
            (
                "touch -t 1 new",
                "",
                fails(1, "touch: unrecognized option: -t\n"),
            ),
        ])
        .await;
    for name in ["a.txt", "dir"] {
        let changed = fs::metadata(root.join(name)).unwrap().modified().unwrap();
        assert!(changed > old, "{name}");
    }
    assert!(!root.join("never").exists());
    let mut fixed = usual();
    fixed.view.mounts[0].read_only = true;
    for words in ["touch a.txt", "touch new"] {
        let name = words.split(' ').next_back().unwrap();
        let why = format!("touch: {name}: Read-only file system\n");
        fixed.all(&[(words, "", fails(1, &why))]).await;
    }
}

#[tokio::test]
async fn what_is_there() {
    let all = "a.txt\ndir\nlink\nvoid\n";
    let deep = ".:\na.txt\ndir\nlink\nvoid\n\n./dir:\nb\n\n./void:\n";
    let container = usual();
    let file = container.root().join("a.txt");
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let opened = fs::File::options().write(true).open(&file).unwrap();
    opened.set_modified(time).unwrap();
    container
        .all(&[
            ("ls", "", said(all)),
            ("ls -1 /", "", said(all)),
            ("ls -r", "", said("void\nlink\ndir\na.txt\n")),
            ("ls -S a.txt dir/b", "", said("a.txt\ndir/b\n")),
            ("ls -Sr a.txt dir/b", "", said("dir/b\na.txt\n")),
            ("ls -t a.txt dir/b", "", said("dir/b\na.txt\n")),
            ("ls -F", "", said("a.txt\ndir/\nlink@\nvoid/\n")),
            ("ls -d dir", "", said("dir\n")),
            ("ls dir/../dir/.", "", said("b\n")),
            ("ls -A dir", "", said(".hidden\nb\n")),
            ("ls --all dir", "", said(".\n..\n.hidden\nb\n")),
            ("ls dir a.txt", "", said("a.txt\n\ndir:\nb\n")),
            ("ls -R", "", said(deep)),
            (
                "ls -l a.txt",
                "",
                said("-rw-r----- 1 - - 14 2001-09-09 01:46 a.txt\n"),
            ),
            ("ls void", "", said("")),
            (
                "ls /nope",
                "",
                fails(1, "ls: /nope: No such file or directory\n"),
            ),
            ("ls a.txt/", "", fails(1, "ls: a.txt/: Not a directory\n")),
            ("ls -lZ", "", fails(1, "ls: unrecognized option: -Z\n")),
            (
                "ls --zap=1",
                "",
                fails(1, "ls: unrecognized option: --zap\n"),
            ),
            (
                "ls --all=1",
                "",
                fails(1, "ls: option takes no value: --all\n"),
            ),
            ("pwd", "", said("/\n")),
        ])
        .await;
    let ran = container.run(&["ls", "-l"], "").await;
    let text = String::from_utf8(ran.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("total "), "{text}");
    assert!(
        lines[2].starts_with('d') && lines[2].ends_with(" dir"),
        "{text}"
    );
    assert!(
        lines[3].starts_with('l') && lines[3].ends_with(" link -> a.txt"),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_in_files() {
    let long = "x".repeat(1 << 20);
    let too_long = "tail: -: what is asked for is longer than 1 MiB\n";
    let container = usual();
    container
        .all(&[
            ("cat a.txt - dir/b", "+", said("one\ntwo\nthree\n+bee")),
            ("cat", "in", said("in")),
            ("cat link", "", said("one\ntwo\nthree\n")),
            (
                "cat nope dir/b",
                "",
                Ran::of("bee", "cat: nope: No such file or directory\n", 1),
            ),
            ("cat dir", "", fails(1, "cat: dir: Is a directory\n")),
            (
                "cat -n a.txt",
                "",
                fails(1, "cat: unrecognized option: -n\n"),
            ),
            ("head -n1 a.txt", "", said("one\n")),
            ("head -2 a.txt", "", said("one\ntwo\n")),
            ("head -c 5 a.txt", "", said("one\nt")),
            ("head -n 0 a.txt", "", said("")),
            ("head -n x", "", fails(1, "head: invalid number 'x'\n")),
            (
                "head -n -1 a.txt",
                "",
                fails(1, "head: counting from the other end is not supported\n"),
            ),
            (
                "head -n1 a.txt dir/b",
                "",
                said("==> a.txt <==\none\n\n==> dir/b <==\nbee"),
            ),
            ("tail -n 1 a.txt", "", said("three\n")),
            ("tail -n 2", "a\nb\nc", said("b\nc")),
            ("tail -n 0", "a\nb\nc", said("")),
            ("tail", "l\n".repeat(30).as_str(), said(&"l\n".repeat(10))),
            ("tail -c+5 a.txt", "", said("two\nthree\n")),
            ("tail -c +1 dir/b", "", said("bee")),
            ("tail -c 3 a.txt", "", said("ee\n")),
            ("tail -c 99 a.txt", "", said("one\ntwo\nthree\n")),
            ("tail -n +2 a.txt", "", said("two\nthree\n")),
            ("tail -n +9 a.txt", "", said("")),
            ("tail -c 1048576", format!("ab{long}").as_str(), said(&long)),
            (
                "tail -n 1",
                format!("{long}{long}").as_str(),
                fails(1, too_long),
            ),
            (
                "tail -f a.txt",
                "",
                fails(1, "tail: unrecognized option: -f\n"),
            ),
        ])
        .await;
}

#[tokio::test]
async fn what_is_made_and_removed() {
    let container = usual();
    let exists = |name: &str| {
        fails(
            1,
            &format!("mkdir: can't create directory '{name}': File exists\n"),
        )
    };
    let nowhere = "mkdir: can't create directory 'p/q': No such file or directory\n";
    container
        .all(&[
            ("mkdir x", "", said("")),
            ("mkdir x", "", exists("x")),
            ("mkdir p/q", "", fails(1, nowhere)),
            ("mkdir -p p/q/r p/s", "", said("")),
            ("mkdir -p p/q/r", "", said("")),
            ("mkdir -p a.txt/z", "", exists("a.txt/z")),
            ("mkdir -p /", "", said("")),
            ("mkdir", "", fails(1, "mkdir: missing operand\n")),
            (
                "mkdir -m 700 y",
                "",
                fails(1, "mkdir: unrecognized option: -m\n"),
            ),
            (
                "rm x",
                "",
                fails(1, "rm: can't remove 'x': Is a directory\n"),
            ),
            ("rm -r x p", "", said("")),
            (
                "rm nope",
                "",
                fails(1, "rm: can't remove 'nope': No such file or directory\n"),
            ),
            ("rm -rf nope dir", "", said("")),
            (
                "rm -r .",
                "",
                fails(1, "rm: refusing to remove '.' or '..'\n"),
            ),
            (
                "rm -r void/..",
                "",
                fails(1, "rm: refusing to remove '.' or '..'\n"),
            ),
            (
                "rm -rf /",
                "",
                fails(1, "rm: can't remove '/': Device or resource busy\n"),
            ),
            ("rm -f", "", said("")),
            ("rm", "", fails(1, "rm: missing operand\n")),
            ("rm -i link", "", fails(1, "rm: unrecognized option: -i\n")),
            ("rm link", "", said("")),
        ])
        .await;
    let left = [("a.txt", "one\ntwo\nthree\n"), ("void", "/")];
    let left = left.map(|(name, what)| (name.to_owned(), what.to_owned()));
    assert_eq!(container.tree("root"), BTreeMap::from(left));
}

#[tokio::test]
async fn what_is_asked() {
    let container = usual();
    for (question, code) in [
        ("", 1),
        ("word", 0),
        ("! word", 1),
        ("-d dir", 0),
        ("! -d dir", 1),
        ("-d a.txt", 1),
        ("-d nope", 1),
        ("-e link", 0),
        ("-f link", 0),
        ("-L link", 0),
        ("-h a.txt", 1),
        ("-s a.txt", 0),
        ("-s dir/.hidden", 1),
        ("-r a.txt", 0),
        ("-w a.txt", 0),
        ("-x dir", 0),
        ("-n x", 0),
        ("-z x", 1),
        ("a = a", 0),
        ("a != a", 1),
        ("a == b", 1),
        ("2 -lt 10", 0),
        ("2 -ge 10", 1),
        ("! 2 -eq 2", 1),
        ("! = !", 0),
    ] {
        let words: Vec<&str> = question
            .split(' ')
            .filter(|word| !word.is_empty())
            .collect();
        let asked: Vec<&str> = [&["test"][..], &words].concat();
        assert_eq!(
            container.run(&asked, "").await,
            fails(code, ""),
            "{question}"
        );
        let asked: Vec<&str> = [&["["][..], &words, &["]"]].concat();
        assert_eq!(
            container.run(&asked, "").await,
            fails(code, ""),
            "{question}"
        );
    }
    container
        .all(&[
            ("test a -lt 1", "", fails(2, "test: a: bad number\n")),
            ("test -q x", "", fails(2, "test: -q: unknown operand\n")),
            ("test a ~ b", "", fails(2, "test: ~: unknown operand\n")),
            (
                "test -d dir -a -e dir",
                "",
                fails(2, "test: -a and -o are not supported: use && and ||\n"),
            ),
            ("test a b c d e", "", fails(2, "test: too many arguments\n")),
            ("[ -d dir", "", fails(2, "[: missing ]\n")),
        ])
        .await;
}

/// However many they are, and however long.
#[tokio::test]
async fn what_is_held_of_directories_is_bounded() {
    let container = Container::with(&[("many/f", "")]);
    let deep = vec!["d".repeat(250); 13].join("/");
    let inner = container.root().join(&deep);
    fs::create_dir_all(&inner).unwrap();
    for at in 0..3_000 {
        fs::create_dir(inner.join(at.to_string())).unwrap();
    }
    let why = format!("ls: ./{deep}: there are too many directories\n");
    let ran = container.run(&["ls", "-R"], "").await;
    assert_eq!((ran.code, ran.stderr), (1, why));
    for at in 0..33_000 {
        let name = format!("many/{at:0>255}");
        symlink("a", container.root().join(name)).unwrap();
    }
    let why = "ls: many: Value too large for defined data type\n";
    assert_eq!(container.run(&["ls", "many"], "").await, fails(1, why));
}

/// Guests choose their files' names.
#[tokio::test]
async fn names_order_no_terminal_about() {
    let container = Container::with(&[("in/a\x1b[2J\nb", "")]);
    std::os::unix::net::UnixListener::bind(container.root().join("in/s\x1bs")).unwrap();
    let missing = "cat: no?[2J: No such file or directory\n";
    let refused = "tar: in/s?s: no file, directory or link; not archived\n\
        tar: Exiting with failure status due to previous errors\n";
    for (words, due) in [
        (&["cat", "no\x1b[2J"][..], fails(1, missing)),
        (
            &["tar", "cvf", "f.tar", "in"],
            Ran::of("in/\nin/a?[2J?b\n", refused, 2),
        ),
        (&["ls", "in"], said("a\x1b[2J\nb\ns\x1bs\n")),
    ] {
        assert_eq!(container.run(words, "").await, due, "{words:?}");
    }
    let seen = container.run_at(&["ls", "in"], "", true).await;
    assert_eq!(seen, said("a?[2J?b\ns?s\n"));
}
