//! What a node says of itself in an annotation of its Node.

use client::{Client, Informer, Key, Object as _, Patch};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

/// One such annotation. What is in it is looked up in the Node as it is, which may have been deleted and made again.
pub(crate) struct Word {
    annotation: &'static str,
    key: Key,
    client: Client,
    nodes: Informer<Node>,
    /// What was said last, and the version of the Node that has it: the copy of the Nodes may be behind.
    last: Option<(u64, String)>,
}

impl Word {
    /// Of the node of that name, by a copy of the Nodes that has it.
    pub(crate) fn new(
        annotation: &'static str,
        node: &str,
        client: Client,
        nodes: Informer<Node>,
    ) -> Self {
        Self {
            annotation,
            key: Key::new("", node),
            client,
            nodes,
            last: None,
        }
    }

    /// What the Node says; nothing where it has no such annotation. None: there is no Node.
    pub(crate) fn said(&self) -> Option<String> {
        let node = self.nodes.get(&self.key)?;
        let last = self.last.as_ref();
        if let Some((_, text)) = last.filter(|(version, _)| node.revision() < *version) {
            return Some(text.clone());
        }
        let annotations = node.metadata.annotations.as_ref();
        let said = annotations.and_then(|all| all.get(self.annotation));
        Some(said.cloned().unwrap_or_default())
    }

    /// Writes it into the Node, unless it is there. Whether there is nothing to be tried again: a Node that is not there is
    /// a change to come.
    pub(crate) async fn say(&mut self, text: &str) -> bool {
        if self.said().is_none_or(|said| said == text) {
            return true;
        }
        let value = Some(text).filter(|text| !text.is_empty());
        let patch = Patch::Merge(json!({"metadata": {"annotations": {(self.annotation): value}}}));
        let nodes = self.client.of::<Node>();
        match nodes.patch("", &self.key.name, &patch, None).await {
            Ok(node) => self.last = Some((node.revision(), text.to_owned())),
            Err(error) => {
                let annotation = self.annotation;
                tracing::warn!(annotation, %error, "the node could not be told of");
                return false;
            }
        }
        true
    }

    /// Tells of each change of the Node, for as long as the result is kept.
    pub(crate) fn follow(&self, tell: impl Fn() + Send + 'static) -> AbortOnDropHandle<()> {
        let mut changes = self.nodes.subscribe();
        let key = self.key.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                if changes.next().await.contains(&key) {
                    tell();
                }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use client::simulated::Simulated;
    use client::{DeleteOptions, ListOptions};

    use super::*;

    const ANNOTATION: &str = "carob.dev/test";

    fn node() -> Node {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
        serde_json::from_value(node).expect("a Node")
    }

    async fn annotation(client: &Client) -> Option<String> {
        let node = client.of::<Node>().get("", "n").await.expect("a Node");
        node.metadata.annotations?.remove(ANNOTATION)
    }

    #[tokio::test]
    async fn a_node_that_is_made_again_hears_it_again() {
        let server = Simulated::new();
        let client = server.client("test");
        let all = client.of::<Node>();
        let made = all.create(&node()).await.expect("made");
        let nodes = Informer::<Node>::start(client.of(), ListOptions::default());
        nodes.reached(made.revision()).await;
        let mut word = Word::new(ANNOTATION, "n", client.clone(), nodes.clone());
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let _following = word.follow(move || {
            // Told for as long as somebody listens.
            let _ = told.send(());
        });
        for text in ["a", "b", ""] {
            assert!(word.say(text).await);
            let due = Some(text.to_owned()).filter(|text| !text.is_empty());
            assert_eq!(annotation(&client).await, due);
            // Whether or not the copy has it yet.
            assert_eq!(word.said().as_deref(), Some(text));
        }
        assert!(word.say("a").await);
        let gone = all.delete("", "n", &DeleteOptions::default()).await;
        gone.expect("deleted");
        let wait = async {
            while word.said().is_some() {
                heard.recv().await.expect("the Nodes are followed");
            }
            assert!(word.say("a").await, "there is nothing to be told");
            all.create(&node()).await.expect("made again");
            while word.said().is_none() {
                heard.recv().await.expect("the Nodes are followed");
            }
            assert_eq!(word.said().as_deref(), Some(""));
            assert!(word.say("a").await);
            assert_eq!(annotation(&client).await.as_deref(), Some("a"));
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        waited.expect("in time");
    }
}
