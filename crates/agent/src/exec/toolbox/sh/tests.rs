//! What the shell understands, and what it refuses.

use super::super::MOST_WORDS;
use super::super::tests::{Container, Ran, fails, said};

fn container() -> Container {
    let mut container = Container::with(&[
        ("dir/b", "bee"),
        ("script", "echo from $A\ncd dir\npwd; exit 5\necho never\n"),
        ("self", "sh self"),
        ("half", "echo one\necho 'two\n"),
    ]);
    let env = [("A", "x  y"), ("E", ""), ("HOME", "/dir")];
    container.view.env = env
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    container
}

#[tokio::test]
async fn the_grammar() {
    let no_file = "cat: nope: No such file or directory\n";
    let no_dir = "sh: cd: can't cd to /nope: No such file or directory\n";
    let not_dir = "sh: cd: can't cd to script: Not a directory\n";
    for (text, due) in [
        ("", said("")),
        ("  # nothing\n\n", said("")),
        ("echo a; echo b", said("a\nb\n")),
        ("echo a\necho b # c\n", said("a\nb\n")),
        ("echo a#b", said("a#b\n")),
        ("echo a;", said("a\n")),
        ("true && echo y || echo n", said("y\n")),
        ("false && echo y || echo n", said("n\n")),
        ("false || false || echo n && echo m", said("n\nm\n")),
        ("echo a &&\n\necho b ||\necho c", said("a\nb\n")),
        (
            "echo 'a  b' \"c $A d\" e\\ f g\\\nh",
            said("a  b c x  y d e f gh\n"),
        ),
        ("echo $A", said("x y\n")),
        ("echo \"$A\"", said("x  y\n")),
        ("echo a${A}b", said("ax yb\n")),
        ("echo $E $NOPE end", said("end\n")),
        ("echo \"$E\" end", said(" end\n")),
        ("echo '' end", said(" end\n")),
        (
            "echo 'it'\\''s' \"a\\\"b\\$c\\x\"",
            said("it's a\"b$c\\x\n"),
        ),
        ("echo $ \"$\" a$", said("$ $ a$\n")),
        ("echo '$A `x` *' \"*?\" \\*", said("$A `x` * *? *\n")),
        ("echo a=b [ ] { }", said("a=b [ ] { }\n")),
        ("false; echo $?; echo \"$?\"", said("1\n0\n")),
        ("exit 7; echo no", fails(7, "")),
        ("false; exit", fails(1, "")),
        ("exit 256", said("")),
        ("sh -c 'exit 3' || echo $?", said("3\n")),
        (":; : && echo y", said("y\n")),
        ("exec echo a; echo never", said("a\n")),
        ("exec $E; echo on", said("on\n")),
        ("exec false", fails(1, "")),
        ("exec nope; echo no", fails(127, "sh: nope: not found\n")),
        ("exec cat < dir/b | cat; echo on", said("beeon\n")),
        ("exec env C=1 printenv C", said("1\n")),
        (
            "nope; echo $?",
            Ran::of("127\n", "sh: nope: not found\n", 0),
        ),
        (
            "/tmp/x.wasm; echo $?",
            Ran::of("126\n", "sh: not supported: running /tmp/x.wasm\n", 0),
        ),
        ("/bin/echo a", said("a\n")),
        // Redirections.
        (
            "echo hi > f; cat < f; echo more >> f; cat f",
            said("hi\nhi\nmore\n"),
        ),
        (
            "> made; [ -f made ] && [ ! -s made ] && echo empty",
            said("empty\n"),
        ),
        ("cat nope > all 2>&1; cat all", said(no_file)),
        ("cat nope 2>all >/dev/null; cat all", said(no_file)),
        ("cat nope 2> /dev/null || echo none", said("none\n")),
        ("nope 2>/dev/null", fails(127, "")),
        ("echo oops >&2", fails(0, "oops\n")),
        ("cat < /dev/null", said("")),
        (
            "cat < nope; echo $?",
            Ran::of("1\n", "sh: can't open nope: No such file or directory\n", 0),
        ),
        ("echo a > $A", fails(1, "sh: ambiguous redirect\n")),
        ("echo a 2 >f; cat f", said("a 2\n")),
        // The directory.
        ("cd dir && pwd && cat b; cd ..; pwd", said("/dir\nbee/\n")),
        ("cd; pwd; echo $PWD", said("/dir\n/dir\n")),
        ("cd /nope", fails(1, no_dir)),
        ("cd script", fails(1, not_dir)),
        ("cd dir | true; pwd", said("/\n")),
        // Pipes.
        ("echo a | cat | cat", said("a\n")),
        ("echo a |\ncat", said("a\n")),
        ("false | true", said("")),
        ("true | false", fails(1, "")),
        ("exit 3 | true; echo $?", said("0\n")),
        ("nope | cat", Ran::of("", "sh: nope: not found\n", 0)),
        ("nope 2>&1 | cat", said("sh: nope: not found\n")),
        ("echo a | cat - dir/b | tail -c 4", said("\nbee")),
    ] {
        assert_eq!(
            container().run(&["sh", "-c", text], "").await,
            due,
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_is_refused_is_named() {
    let end = "syntax error: unexpected end of the command";
    for (text, why) in [
        ("sleep 1 &", "not supported: & (commands in the background)"),
        ("for i in a; do echo $i; done", "not supported: for"),
        ("echo first; if true; then echo; fi", "not supported: if"),
        ("while true", "not supported: while"),
        ("! true", "not supported: !"),
        ("{ echo; }", "not supported: {"),
        (
            "f() { echo; }",
            "not supported: ( ) (subshells and functions)",
        ),
        ("(echo a)", "not supported: ( ) (subshells and functions)"),
        ("export A=1", "not supported: export"),
        ("echo a; exec > f", "not supported: exec without a command"),
        (
            "A=1",
            "not supported: A= (assignments; env A=VALUE COMMAND is)",
        ),
        (
            "A=$A echo",
            "not supported: A= (assignments; env A=VALUE COMMAND is)",
        ),
        (
            "echo $(ls)",
            "not supported: $( (the output of a command, and sums)",
        ),
        ("echo `ls`", "not supported: ` (the output of a command)"),
        (
            "echo \"`ls`\"",
            "not supported: ` (the output of a command)",
        ),
        (
            "ls *.txt",
            "not supported: * and ? (patterns; quoted, they are letters)",
        ),
        (
            "ls a?",
            "not supported: * and ? (patterns; quoted, they are letters)",
        ),
        (
            "ls [ab]",
            "not supported: [ ] (patterns; quoted, they are letters)",
        ),
        ("ls ~", "not supported: ~ (there are no home directories)"),
        ("echo ${A:-x}", "not supported: ${ } with more than a name"),
        ("echo $1", "not supported: $1"),
        ("echo \"$@\"", "not supported: $@"),
        ("echo $'a'", "not supported: $'"),
        ("cat << E", "not supported: << (here-documents)"),
        ("cat <(ls)", "not supported: ( ) (subshells and functions)"),
        ("echo 3>f", "not supported: redirecting stream 3 so"),
        ("echo 12>f", "not supported: redirecting stream 12 so"),
        ("echo >&f", "not supported: >& but for >&1 and >&2"),
        ("echo &>f", "not supported: & (commands in the background)"),
        ("echo a;; echo b", "not supported: ;;"),
        ("echo 'a", end),
        ("echo \"a", end),
        ("echo a\\", end),
        ("echo ${A", end),
        ("echo a &&", end),
        ("echo a |", end),
        ("echo a >", end),
        ("| cat", "syntax error: unexpected \"|\""),
        ("; echo", "syntax error: unexpected \";\""),
        ("echo || || echo", "syntax error: unexpected \"||\""),
        ("echo > ; echo", "syntax error: unexpected \";\""),
    ] {
        let due = fails(2, &format!("sh: {why}\n"));
        assert_eq!(
            container().run(&["sh", "-c", text], "").await,
            due,
            "{text}"
        );
    }
    let pipes = ["cat"; 17].join("|");
    let due = fails(2, "sh: not supported: more than 16 commands in a pipe\n");
    assert_eq!(container().run(&["sh", "-c", &pipes], "").await, due);
}

#[tokio::test]
async fn how_it_is_called() {
    let container = container();
    let long = format!("echo {}", "x".repeat(200 << 10));
    container
        .all(&[
            ("sh script", "", Ran::of("from x y\n/dir\n", "", 5)),
            ("/bin/sh ./script", "", Ran::of("from x y\n/dir\n", "", 5)),
            (
                "sh half",
                "",
                Ran::of(
                    "one\n",
                    "sh: syntax error: unexpected end of the command\n",
                    2,
                ),
            ),
            (
                "sh nofile",
                "",
                fails(127, "sh: nofile: No such file or directory\n"),
            ),
            (
                "sh self",
                "",
                fails(126, "sh: commands run each other too deeply\n"),
            ),
            ("sh", "echo a\ncat\nrest\n", said("a\nrest\n")),
            ("sh", "cd dir\npwd", said("/dir\n")),
            (
                "sh",
                "cd dir\nfor\npwd\n",
                fails(2, "sh: not supported: for\n"),
            ),
            ("sh", long.as_str(), fails(2, "sh: a command is too long\n")),
            (
                "sh -x script",
                "",
                fails(2, "sh: unrecognized option: -x\n"),
            ),
            (
                "sh -c",
                "",
                fails(2, "sh: option requires an argument: -c\n"),
            ),
            (
                "sh -c pwd name",
                "",
                fails(2, "sh: not supported: parameters: name\n"),
            ),
            (
                "sh script 1",
                "",
                fails(2, "sh: not supported: parameters: 1\n"),
            ),
        ])
        .await;
    let binary = container.run(&["sh"], b"\xff\n").await;
    assert_eq!(binary, fails(2, "sh: a command is no UTF-8\n"));
}

#[tokio::test]
async fn a_failure_ends_the_shell_where_it_is_asked_to() {
    for (text, due) in [
        ("false; echo no", fails(1, "")),
        ("true && false; echo no", fails(1, "")),
        ("true | false; echo no", fails(1, "")),
        ("nope; echo no", fails(127, "sh: nope: not found\n")),
        ("false || echo a; false && echo no; echo b", said("a\nb\n")),
        ("false | true; sh -c 'false; echo own'", said("own\n")),
    ] {
        for option in ["-ec", "-lec"] {
            let ran = container().run(&["sh", option, text], "").await;
            assert_eq!(ran, due, "{text}");
        }
    }
    let lines = container().run(&["sh", "-e"], "false\necho no\n").await;
    assert_eq!(lines, fails(1, ""));
    let login = container().run(&["sh", "-lc", "false; echo on"], "").await;
    assert_eq!(login, said("on\n"));
}

#[tokio::test]
async fn a_person_is_prompted() {
    let typed = "echo a\necho 'b\nc'\nnope\nfor\nexit 4\nnever\n";
    let ran = container().run_at(&["sh"], typed, true).await;
    let said = "sh: nope: not found\nsh: not supported: for\n";
    assert_eq!(ran, Ran::of("$ a\n$ > b\nc\n$ $ $ ", said, 4));
    let piped = "echo pwd | sh; sh < self; echo end\n";
    let ran = container().run_at(&["sh", "-c", piped], "", true).await;
    let said = "sh: commands run each other too deeply\n";
    assert_eq!(ran, Ran::of("/\nend\n", said, 0));
    let ran = container().run_at(&["sh"], "false\n", true).await;
    assert_eq!(ran, Ran::of("$ $ ", "", 1));
}

#[tokio::test]
async fn whoever_writes_waits_for_whoever_reads() {
    let many = vec![b'x'; 1 << 20];
    let container = container();
    let ran = container
        .run(&["sh", "-c", "cat | cat | tail -c 3"], &many)
        .await;
    assert_eq!(ran, said("xxx"));
    let ran = container
        .run(&["sh", "-c", "cat | head -c 3; echo $?"], &many)
        .await;
    assert_eq!(ran, said("xxx0\n"));
    let ran = container
        .run(
            &["sh", "-c", "tar cf - dir | head -c 1 > one; test -s one"],
            "",
        )
        .await;
    assert_eq!(ran, said(""));
}

#[tokio::test]
async fn commands_that_wait_for_nothing_can_be_cancelled() {
    let (little, nested) = (":;".repeat(1_000), "sh -c :;".repeat(1_000));
    for text in [little, nested, format!(": '{}'", "x".repeat(100_000))] {
        let container = container();
        // Each time with a new budget, of which one poll takes no more.
        tokio::task::yield_now().await;
        let words = ["sh", "-c", &text];
        let mut running = Box::pin(container.run(&words, ""));
        assert!(futures::poll!(&mut running).is_pending(), "{text:.20}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_commands_have_bounds_together() {
    let mut container = container();
    let pipe = ["sleep 1"; 10].join("|");
    for (name, value) in [("PIPE", pipe), ("MANY", ":;".repeat(1_000))] {
        container.view.env.push((name.to_owned(), value));
    }
    let ran = container.run(&["sh", "-c", "sh -c \"$PIPE\""], "").await;
    assert_eq!(ran, said(""));
    let both = "sh -c \"$PIPE\" | sh -c \"$PIPE\"";
    let due = fails(126, "sh: more than 16 commands at once\n");
    assert_eq!(container.run(&["sh", "-c", both], "").await, due);
    let many = "sh -c \"$MANY\";".repeat(200);
    let twice = "sh: more than 100000 commands\n".repeat(2);
    assert_eq!(
        container.run(&["sh", "-c", &many], "").await,
        fails(126, &twice)
    );
    let variable = ("WIDE".to_owned(), "x ".repeat(MOST_WORDS + 1));
    container.view.env.push(variable);
    for text in [": $WIDE", ": a$WIDE", "echo $WIDE"] {
        let due = fails(126, "sh: Argument list too long\n");
        assert_eq!(container.run(&["sh", "-c", text], "").await, due, "{text}");
    }
    let lines = format!("echo '{}'\n", "\n".repeat(2_000));
    let due = fails(2, "sh: a command has too many lines\n");
    assert_eq!(container.run(&["sh"], &lines).await, due);
}
