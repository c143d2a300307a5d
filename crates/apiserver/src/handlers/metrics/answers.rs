//! What the nodes' agents answer: each is asked once by all who want to know within a second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::{Resource, Status};
use client::node::node_client::NodeClient;
use client::node::{ContainerStats, NodeStats, StatsRequest, StatsResponse};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::ApiServer;
use crate::handlers::agents::{self, Purpose};

/// How long an agent has to answer. Who waits for many waits for no more than this either.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long an answer, or that there was none, holds.
const HOLDS: Duration = Duration::from_secs(1);
/// An answer's size at most: some 200 bytes a container. Decoded it may be twenty times as large, should an agent mean ill.
const MOST_BYTES: usize = 8 << 20;

/// What is used on a node.
#[derive(Debug)]
pub(super) struct Usage {
    /// When it was so, by the node's clock.
    pub(super) at: Timestamp,
    pub(super) node: NodeStats,
    /// The containers that run, by their pods' uids.
    pub(super) pods: BTreeMap<String, Vec<ContainerStats>>,
}

impl Usage {
    pub(super) fn read(stats: StatsResponse) -> Self {
        let pods = stats.pods.into_iter();
        Self {
            at: Timestamp::from_nanosecond(stats.time.into()).unwrap_or_default(),
            node: stats.node.unwrap_or_default(),
            pods: pods.map(|pod| (pod.uid, pod.containers)).collect(),
        }
    }
}

/// What all of these nodes that answer in time say.
pub(super) async fn all(
    server: &ApiServer,
    nodes: BTreeSet<String>,
) -> BTreeMap<String, Arc<Usage>> {
    let resource = Resource::of::<Node>();
    let is_there = |node: &str| server.inner.cache.get(resource, None, node).is_some();
    server.inner.answers.sweep(is_there);
    let asked: Vec<(String, Asked)> = nodes
        .into_iter()
        .map(|node| {
            let (own, of) = (server.clone(), node.clone());
            let fetch = async move {
                let stats = stats(&own, &of).await;
                stats
                    .inspect_err(|why| tracing::debug!(node = of, why = why.message, "no metrics"))
                    .ok()
            };
            let asked = server.inner.answers.ask(&node, fetch);
            (node, asked)
        })
        .collect();
    // All were asked at once: none waits for the one before.
    let mut known = BTreeMap::new();
    for (node, asked) in asked {
        if let Some(usage) = asked.answered().await {
            known.insert(node, usage);
        }
    }
    known
}

/// Asks an agent.
async fn stats(server: &ApiServer, name: &str) -> Result<StatsResponse, Status> {
    let internal = |why: &dyn std::fmt::Display| Status::internal(why.to_string());
    let resource = Resource::of::<Node>();
    let node = server.inner.cache.get(resource, None, name);
    let node = node.ok_or_else(|| Status::not_found(resource, name))?;
    let node: Node = node.view().map_err(|e| internal(&e))?;
    let at = (name, agents::address_of(name, node)?);
    let line = agents::line(server, at, Purpose::Containers).map_err(|e| internal(&e))?;
    let _held = line.hold(name)?;
    let mut agent = NodeClient::new(line.channel).max_decoding_message_size(MOST_BYTES);
    let stats = agent.stats(StatsRequest {}).await;
    stats
        .map(tonic::Response::into_inner)
        .map_err(|status| internal(&status.message()))
}

/// The last answers, and those that are on their way, by node.
#[derive(Default)]
pub(crate) struct Answers(Mutex<BTreeMap<String, Asked>>);

/// A question to an agent.
#[derive(Clone)]
struct Asked(watch::Receiver<Option<Answer>>);

#[derive(Clone)]
struct Answer {
    at: Instant,
    usage: Option<Arc<Usage>>,
}

impl Asked {
    /// Whether there is no need to ask again.
    fn holds(&self) -> bool {
        match &*self.0.borrow() {
            Some(answer) => answer.at.elapsed() < HOLDS,
            // Whoever asks has the sender, unless it is torn down.
            None => self.0.has_changed().is_ok(),
        }
    }

    async fn answered(mut self) -> Option<Arc<Usage>> {
        let answer = self.0.wait_for(Option::is_some).await.ok()?;
        answer.as_ref()?.usage.clone()
    }
}

impl Answers {
    /// Forgets what holds no longer, and what is of nodes that are there no more.
    fn sweep(&self, is_there: impl Fn(&str) -> bool) {
        let mut all = self.0.lock();
        all.retain(|node, asked| asked.holds() && is_there(node));
    }

    /// The question that is on its way or was answered just now, or else a new one.
    fn ask(
        &self,
        node: &str,
        fetch: impl Future<Output = Option<StatsResponse>> + Send + 'static,
    ) -> Asked {
        let mut all = self.0.lock();
        if let Some(asked) = all.get(node).filter(|asked| asked.holds()) {
            return asked.clone();
        }
        let (answers, answer) = watch::channel(None);
        let by = Instant::now() + PATIENCE;
        // A task of its own: who asked first may go before it is answered.
        tokio::spawn(async move {
            let stats = tokio::time::timeout_at(by, fetch).await;
            let usage = stats.ok().flatten().map(Usage::read);
            answers.send_replace(Some(Answer {
                at: Instant::now(),
                usage: usage.map(Arc::new),
            }));
        });
        let asked = Asked(answer);
        all.insert(node.to_owned(), asked.clone());
        asked
    }
}

#[cfg(test)]
mod tests {
    use std::future;

    use super::*;

    fn said(time: i64) -> Option<StatsResponse> {
        Some(StatsResponse {
            time,
            ..StatsResponse::default()
        })
    }

    /// Asks, and gets the answer that is given now or was before.
    async fn ask(answers: &Answers, node: &str, time: i64) -> Option<i128> {
        let asked = answers.ask(node, future::ready(said(time)));
        Some(asked.answered().await?.at.as_nanosecond())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_for_a_second() {
        let answers = Answers::default();
        assert_eq!(ask(&answers, "a", 1).await, Some(1));
        assert_eq!(ask(&answers, "b", 2).await, Some(2));
        tokio::time::advance(HOLDS / 2).await;
        assert_eq!(ask(&answers, "a", 3).await, Some(1));
        tokio::time::advance(HOLDS / 2).await;
        assert_eq!(ask(&answers, "a", 4).await, Some(4));
        // What is not asked for again does not stay.
        let kept = || -> Vec<String> { answers.0.lock().keys().cloned().collect() };
        answers.sweep(|_| true);
        assert_eq!(kept(), ["a"]);
        answers.ask("c", future::ready(None));
        answers.sweep(|node| node != "a");
        assert_eq!(kept(), ["c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_waited_for_once() {
        let answers = Answers::default();
        let start = Instant::now();
        let silent = || answers.ask("dead", future::pending());
        let first = silent();
        tokio::time::advance(PATIENCE / 2).await;
        // Whoever comes later waits for the same, even where the first has gone.
        drop(first);
        assert!(silent().answered().await.is_none());
        let waited = start.elapsed();
        assert!(
            waited >= PATIENCE && waited < PATIENCE * 5 / 4,
            "{waited:?}"
        );
        assert!(silent().answered().await.is_none());
        assert_eq!(start.elapsed(), waited);
        tokio::time::advance(HOLDS).await;
        assert_eq!(ask(&answers, "dead", 5).await, Some(5));
    }

    #[tokio::test]
    async fn a_question_that_fails_is_asked_again() {
        let answers = Answers::default();
        let torn = answers.ask("b", async { panic!("torn down") });
        assert!(torn.answered().await.is_none());
        assert_eq!(ask(&answers, "b", 7).await, Some(7));
    }
}
