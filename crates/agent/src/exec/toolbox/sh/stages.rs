//! Commands that a pipe joins, all in the shell's own task: dropped, all end.

use std::future::poll_fn;
use std::task::Poll;

use futures::future::BoxFuture;
use tokio::io::duplex;

use super::super::CANNOT_RUN;
use super::super::bounds::MOST_AT_ONCE;
use super::super::streams::{CHUNK, Input, Output};
use super::Shell;
use super::grammar::Command;

impl Shell {
    /// Runs them side by side; the last one's exit code counts.
    pub(super) async fn pipe(&self, commands: &[Command]) -> i32 {
        let Some(_room) = self.call.bounds.side_by_side(commands.len()) else {
            let why = format!("more than {MOST_AT_ONCE} commands at once");
            self.call.clone().complain(&why).await;
            return CANNOT_RUN;
        };
        let mut input = self.call.stdin.clone();
        let mut running: Vec<Option<BoxFuture<'_, i32>>> = Vec::new();
        for (at, command) in commands.iter().enumerate() {
            let mut shell = self.clone();
            shell.call.stdin = input;
            shell.call.typed &= at == 0;
            if at + 1 < commands.len() {
                let (reader, writer) = duplex(CHUNK);
                shell.call.stdout = Output::new(writer);
                shell.call.terminal = false;
                input = Input::new(reader);
            } else {
                input = Input::empty();
            }
            running.push(Some(Box::pin(async move {
                shell.command(command).await;
                shell.status
            })));
        }
        let mut status = 0;
        poll_fn(|cx| {
            let last = running.len() - 1;
            for (at, stage) in running.iter_mut().enumerate() {
                let Some(Poll::Ready(ended)) = stage.as_mut().map(|s| s.as_mut().poll(cx)) else {
                    continue;
                };
                // Its ends of the pipes are closed by this.
                *stage = None;
                if at == last {
                    status = ended;
                }
            }
            match running.iter().all(Option::is_none) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        status
    }
}
