use std::fs;
use std::os::unix::fs::symlink;

use super::super::tests::{Container, Ran, fails, said};
use super::LONGEST;

fn container() -> Container {
    let container = Container::with(&[
        ("a", "one\nTwo\nthree"),
        ("dir/b", "two\n\n"),
        ("dir/sub/c", "a.c\nabc\n"),
    ]);
    symlink("../a", container.root().join("dir/link")).unwrap();
    fs::create_dir(container.root().join("dir/void")).unwrap();
    container
}

#[tokio::test]
async fn lines_that_match() {
    let no_file = "grep: nope: No such file or directory\n";
    container()
        .all(&[
            ("grep o a", "", said("one\nTwo\n")),
            ("grep e$ a", "", said("one\nthree\n")),
            ("grep two a", "", fails(1, "")),
            ("grep -i two a", "", said("Two\n")),
            ("grep -v o a", "", said("three\n")),
            ("grep -n e a", "", said("1:one\n3:three\n")),
            ("grep -c e a", "", said("2\n")),
            ("grep -vc e a", "", said("1\n")),
            ("grep -c x a", "", Ran::of("0\n", "", 1)),
            ("grep -q e a", "", said("")),
            ("grep -q x a", "", fails(1, "")),
            ("grep -l o a dir/b dir/sub/c", "", said("a\ndir/b\n")),
            ("grep -e one -e three a", "", said("one\nthree\n")),
            ("grep -E one|three a", "", said("one\nthree\n")),
            ("grep one|three a", "", fails(1, "")),
            ("grep a.c dir/sub/c", "", said("a.c\nabc\n")),
            ("grep -F a.c dir/sub/c", "", said("a.c\n")),
            ("grep o", "foo\nbar\n", said("foo\n")),
            (
                "grep -n o - a",
                "o\n",
                said("(standard input):1:o\na:1:one\na:2:Two\n"),
            ),
            ("grep -c ^$ a dir/b", "", said("a:0\ndir/b:1\n")),
            ("grep -- -x", "-x\n", said("-x\n")),
            ("grep o nope a", "", Ran::of("a:one\na:Two\n", no_file, 2)),
            ("grep -q o nope a", "", Ran::of("", no_file, 0)),
            ("grep o dir", "", fails(2, "grep: dir: Is a directory\n")),
            ("grep", "", fails(2, "grep: missing operand\n")),
            (
                "grep -P x a",
                "",
                fails(2, "grep: unrecognized option: -P\n"),
            ),
            (
                "grep [ a",
                "",
                fails(2, "grep: invalid pattern: unclosed [\n"),
            ),
        ])
        .await;
    let lines = container().run(&["grep", "one\nthree", "a"], "").await;
    assert_eq!(lines, said("one\nthree\n"));
}

#[tokio::test]
async fn trees_are_gone_through_in_order() {
    container()
        .all(&[
            ("grep -r o", "", said("./a:one\n./a:Two\n./dir/b:two\n")),
            ("grep -rl c dir", "", said("dir/sub/c\n")),
            ("grep -r one dir", "", fails(1, "")),
            // What is named itself is followed.
            ("grep -r one dir/link", "", said("dir/link:one\n")),
            (
                "grep -r one nope",
                "",
                fails(2, "grep: nope: No such file or directory\n"),
            ),
        ])
        .await;
}

#[tokio::test]
async fn what_is_long() {
    let container = Container::with(&[]);
    // Lines that several reads bring, and one without an end.
    let many = format!("{0}x\n{0}\n{0}x", "a".repeat(100_000));
    let ran = container.run(&["grep", "-c", "x"], &many).await;
    assert_eq!(ran, said("2\n"));
    let bytes = container.run(&["grep", "b"], b"\xff b\n\xff\n").await;
    assert_eq!((bytes.code, bytes.stdout.as_slice()), (0, &b"\xff b\n"[..]));
    let line = "a".repeat(LONGEST + (64 << 10) + 1);
    let why = "grep: -: a line is longer than 1 MiB\n";
    assert_eq!(container.run(&["grep", "a"], &line).await, fails(2, why));
}
