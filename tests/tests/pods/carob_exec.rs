//! `carob exec`: a command in a container, as if it ran here.

use carob_tests::{Cluster, Outcome, check, with_input};

use super::pod;

pub(super) fn runs(cluster: &Cluster) -> Outcome {
    let spec = "{terminationGracePeriodSeconds: 1, containers: [{name: main, image: greeter}]}";
    cluster.apply(&pod("host", spec))?;
    cluster.wait_for("pods/host", "/status/phase", "Running")?;
    for (command, code) in [
        (&["test", "a", "=", "a"][..], 0),
        (&["test", "a", "=", "b"], 1),
        (&["/nowhere.wasm"], 127),
    ] {
        let words = [&["exec", "host", "-c", "main", "--"], command].concat();
        let ended = cluster.carob_command(&words).output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        check(
            ended.status.code() == Some(code),
            format!("{command:?} gives {}: {said}", ended.status),
        )?;
    }
    let long = "typed ".repeat(100_000);
    let cat = cluster.carob_command(&["exec", "-i", "pod/host", "--", "cat"]);
    let back = with_input(cat, &long)?;
    check(back == long, format!("{} bytes came back", back.len()))?;
    // Nobody types anything: what is read has ended at once.
    check(
        cluster.carob("exec host -- cat")?.is_empty(),
        "words of nobody",
    )?;
    for (line, why) in [
        (
            "exec host -c other -- cat",
            "container other is not valid for pod host",
        ),
        ("exec nobody -- cat", "pods \"nobody\" not found"),
        (
            "exec -it host -- cat",
            "-t needs a terminal as standard input",
        ),
    ] {
        let said = cluster.carob_fails(line)?;
        check(said.contains(why), format!("{line}: {said}"))?;
    }
    cluster.carob("delete pod/host").map(drop)
}
