//! A probe by a command, and a hook by one.

use std::time::Duration;

use runtime::output::Capture;
use tokio::time::timeout;

use super::Outcome;
use super::room::Rooms;
use crate::exec::{Command, Ready, Streams};

/// How much is kept of what is told of a command, as an event takes no more: its words, and what it prints.
const LONGEST: usize = 1 << 10;

/// Runs a probe's command: all is well if it exits with 0 in time, which counts from when it can be run.
pub(super) async fn check(command: Command, rooms: Rooms<'_>, within: Duration) -> Outcome {
    let words = command.words.join(" ");
    let ready = command.ready().await;
    let _room = rooms.enter().await;
    match timeout(within, run(ready)).await {
        Ok((0, _)) => Outcome::Success,
        Ok((_, output)) => Outcome::Failure(output),
        Err(_) => Outcome::Failure(format!("command {words:?} timed out")),
    }
}

/// Runs a hook's command.
///
/// # Errors
/// When it exits with anything but 0, in the kubelet's words.
pub(in crate::driver) async fn tell_by(command: Command) -> Result<(), String> {
    let words = command.words.join(" ");
    match run(command.ready().await).await {
        (0, _) => Ok(()),
        (code, output) => {
            let mut why = format!("command '{words}' exited with {code}: {output}");
            why.truncate(why.floor_char_boundary(LONGEST));
            Err(why)
        }
    }
}

/// The exit code, and what was printed.
async fn run(command: Ready) -> (i32, String) {
    let output = Capture::new(LONGEST);
    let code = command.run(Streams::into_one(&output)).await;
    (code, output.text())
}
