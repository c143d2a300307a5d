//! `metrics.k8s.io`: what pods and nodes use. Nothing of it is stored: the nodes' agents are asked when somebody wants to
//! know, and what they do not answer is left out.

mod answers;
mod words;

use std::collections::BTreeSet;

use api::{Object, Resource, Status};
use http::StatusCode;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde::Deserialize;
use serde_json::Map;

use super::list::catch_up;
use super::shape::Shaper;
use crate::body::Response;
use crate::cache::Selection;
use crate::dispatch::Call;
use crate::options::ListOptions;
use crate::request::Verb;

pub(crate) use answers::Answers;

/// Answers a get or a list.
pub(super) async fn serve(call: &Call) -> Result<Response, Status> {
    match call.verb {
        Verb::Get => get(call).await,
        Verb::List => list(call).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// What the metrics are of, which has their names and labels.
fn users(call: &Call) -> &'static Resource {
    match call.resource.namespaced {
        true => Resource::of::<Pod>(),
        false => Resource::of::<Node>(),
    }
}

async fn get(call: &Call) -> Result<Response, Status> {
    let (users, name) = (users(call), call.name());
    let key = users.key(call.namespace(), name);
    let user = call.server.read(key.as_bytes()).await?;
    let user = user.ok_or_else(|| Status::not_found(users, name))?;
    let measured = measured(call, vec![user]).await?;
    let object = measured
        .first()
        .ok_or_else(|| words::unknown(call.resource, call.namespace(), name))?;
    Shaper::new(call).object(StatusCode::OK, object)
}

async fn list(call: &Call) -> Result<Response, Status> {
    if ListOptions::read(&call.query, false)?.continued.is_some() {
        // However few are asked for: all of it is of one moment.
        return Err(Status::bad_request("this list has one page only"));
    }
    let users = users(call);
    let selection = Selection::read(users, call.namespace(), None, &call.query)?;
    catch_up(&call.server).await?;
    let cache = &call.server.inner.cache;
    let shelf = cache.shelf(users).ok_or_else(Status::method_not_allowed)?;
    let (snapshot, _) = cache.snapshot(shelf);
    let selected = selection.of(&snapshot).cloned().collect();
    let measured = measured(call, selected).await?;
    let shaper = Shaper::new(call);
    aside(move || shaper.list(StatusCode::OK, &Map::new(), &measured)).await?
}

/// The metrics of those of the users, pods or nodes, whose node answers and knows any.
async fn measured(call: &Call, users: Vec<Object>) -> Result<Vec<Object>, Status> {
    let pods = call.resource.namespaced;
    let placed = aside(move || placed(users, pods)).await?;
    let nodes: BTreeSet<String> = placed.iter().map(|(_, node)| node.clone()).collect();
    let answers = answers::all(&call.server, nodes).await;
    aside(move || {
        let made = placed.iter().filter_map(|(user, node)| {
            let usage = answers.get(node)?;
            let object = match pods {
                true => words::pod(user, usage)?,
                false => words::node(user, usage)?,
            };
            Some(Object::unstored(&object))
        });
        made.collect::<Result<Vec<Object>, _>>()
            .map_err(|e| Status::internal(e.to_string()))
    })
    .await?
}

/// Pods and nodes may be many: not on a thread that others' requests wait for.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Status::internal(format!("making the metrics: {e}")))
}

/// The users with the nodes that know of them: nodes themselves, and those that pods are bound to.
fn placed(users: Vec<Object>, pods: bool) -> Vec<(Object, String)> {
    #[derive(Deserialize)]
    struct Bound {
        spec: Option<Spec>,
    }
    #[derive(Deserialize)]
    struct Spec {
        #[serde(rename = "nodeName")]
        node_name: Option<String>,
    }
    let node = |user: &Object| match pods {
        true => user.view::<Bound>().ok()?.spec?.node_name,
        false => Some(user.name().to_owned()),
    };
    let known = users.into_iter().filter_map(|user| {
        let node = node(&user).filter(|node| !node.is_empty())?;
        Some((user, node))
    });
    known.collect()
}
