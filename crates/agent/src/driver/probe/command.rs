//! A probe by a command, and a hook by one.

use std::time::Duration;

use runtime::Sink;
use runtime::output::Capture;
use tokio::time::timeout;

use super::Outcome;
use super::room::Rooms;
use crate::exec::{Command, Streams};

/// How much is kept of what is told of a command: of its words, and of what it prints. An event takes no more.
const LONGEST: usize = 1 << 10;

/// Runs a probe's command: all is well if it exits with 0 in time, which counts from when it can be run.
pub(super) async fn check(command: Command, rooms: Rooms<'_>, within: Duration) -> Outcome {
    let words = one_line(&command.words);
    let ready = command.ready().await;
    let _room = rooms.enter().await;
    let output = Capture::new(LONGEST);
    match timeout(within, ready.run(Streams::into_one(&output))).await {
        Ok(0) => Outcome::Success,
        Ok(_) => Outcome::Failure(output.text()),
        Err(_) => Outcome::Failure(format!("command {words:?} timed out")),
    }
}

/// Runs a hook's command.
///
/// # Errors
/// When it exits with anything but 0, in the kubelet's words.
pub(in crate::driver) async fn tell_by(command: Command) -> Result<(), String> {
    let words = one_line(&command.words);
    let (stdout, stderr) = (Capture::new(LONGEST), Capture::new(LONGEST));
    let streams = Streams {
        stderr: Sink::new(stderr.clone()),
        ..Streams::into_one(&stdout)
    };
    match command.ready().await.run(streams).await {
        0 => Ok(()),
        code => {
            let (stdout, stderr) = (stdout.text(), stderr.text());
            let output = stdout + &stderr;
            Err(format!(
                "command '{words}' exited with {code}: {stderr}, message: {output:?}"
            ))
        }
    }
}

/// A command's words as they are told.
pub(in crate::driver) fn one_line(words: &[String]) -> String {
    let mut words = words.join(" ");
    words.truncate(words.floor_char_boundary(LONGEST));
    words
}
