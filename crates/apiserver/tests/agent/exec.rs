//! Commands as the agent of these tests runs them.

use bytes::Bytes;
use client::node::exec_request::What as Asked;
use client::node::exec_response::What as Said;
use client::node::{ExecRequest, ExecResponse, ExecTarget};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::Agent;

/// Bytes of each piece that is printed by `flood` and `spill`.
pub(crate) const PIECE: usize = 16 << 10;
/// Pieces that `spill` prints: no more than there is room for on their way, so that it ends although nobody reads them.
pub(crate) const PIECES: usize = 16;

/// A command that runs, and who hears of it.
pub(super) struct Command {
    pub(super) agent: Agent,
    pub(super) target: ExecTarget,
    pub(super) requests: Streaming<ExecRequest>,
    pub(super) responses: mpsc::Sender<Result<ExecResponse, Status>>,
}

impl Command {
    /// Does what its first word says until it has ended, or is broken off.
    pub(super) async fn run(mut self) {
        let (number, call) = (self.target.call, self.agent.entered(self.target.call));
        let (agent, responses) = (self.agent.clone(), self.responses.clone());
        agent.ran.lock().push(self.target.clone());
        let exit = tokio::select! {
            biased;
            () = call.cancelled() => None,
            () = responses.closed() => None,
            exit = self.exit() => exit,
        };
        agent.calls.lock().remove(&number);
        let last = match exit {
            Some(Ok(code)) => Ok(response(Said::Exit(code))),
            Some(Err(status)) => Err(status),
            None => return agent.broken_off.send_modify(|count| *count += 1),
        };
        let _ = responses.send(last).await;
        agent.exits.send_modify(|count| *count += 1);
    }

    /// Its exit code; none where its requests end before it has.
    async fn exit(&mut self) -> Option<Result<i32, Status>> {
        match self.next().await? {
            Asked::Start(_) => self.agent.started.send_modify(|count| *count += 1),
            other => panic!("{other:?}"),
        }
        if self.target.attach {
            return self.terminal().await;
        }
        let command = std::mem::take(&mut self.target.command);
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["echo", words @ ..] => {
                let line = format!("{}\n", words.join(" "));
                self.say(Said::Stdout(line.into())).await;
            }
            ["cat"] => loop {
                match self.next().await? {
                    Asked::Stdin(bytes) => self.say(Said::Stdout(bytes)).await,
                    Asked::StdinEnd(_) => break,
                    other => panic!("{other:?}"),
                }
            },
            ["sizes"] => loop {
                match self.next().await? {
                    Asked::Size(size) => {
                        let line = format!("{}x{}\n", size.width, size.height);
                        self.say(Said::Stdout(line.into())).await;
                    }
                    Asked::StdinEnd(_) => break,
                    other => panic!("{other:?}"),
                }
            },
            ["fail", code] => {
                self.say(Said::Stderr("failed\n".into())).await;
                return Some(Ok(code.parse().unwrap()));
            }
            ["crash"] => return Some(Err(Status::internal("the guest's engine is gone"))),
            ["deaf"] => return std::future::pending().await,
            ["flood"] => loop {
                self.print().await;
                self.agent.flooded.send_modify(|count| *count += 1);
            },
            ["spill"] => {
                for _ in 0..PIECES {
                    self.print().await;
                }
            }
            other => panic!("{other:?} is no command of these tests"),
        }
        Some(Ok(0))
    }

    /// A container's own: shows what is typed, and its sizes, until `end` is.
    async fn terminal(&mut self) -> Option<Result<i32, Status>> {
        loop {
            match self.next().await? {
                Asked::Stdin(bytes) if bytes == "end" => return Some(Ok(0)),
                Asked::Stdin(bytes) => self.say(Said::Stdout(bytes)).await,
                Asked::Size(size) => {
                    let line = format!("{}x{}", size.width, size.height);
                    self.say(Said::Stdout(line.into())).await;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn next(&mut self) -> Option<Asked> {
        self.requests.message().await.ok()??.what
    }

    async fn print(&self) {
        self.say(Said::Stdout(Bytes::from(vec![7; PIECE]))).await;
    }

    async fn say(&self, said: Said) {
        // Who is gone is noticed elsewhere.
        let _ = self.responses.send(Ok(response(said))).await;
    }
}

fn response(said: Said) -> ExecResponse {
    ExecResponse { what: Some(said) }
}
