//! What serves each verb and subresource.

mod agents;
mod apply;
mod attach;
mod binding;
mod container;
mod create;
mod delete;
mod eviction;
mod exec;
mod get;
mod list;
mod log;
mod metrics;
mod open;
mod patch;
mod portforward;
mod proxy;
mod review;
mod scale;
mod shape;
mod spdy;
mod streams;
mod token;
mod tunnel;
mod update;
mod upgrade;
mod watch;
mod websocket;
mod write;

use api::{Resource, Status};

use crate::body::Response;
use crate::dispatch::Call;
use crate::request::Verb;
use crate::respond;

pub(crate) use agents::Agents;
pub(crate) use list::catch_up;
pub(crate) use metrics::Answers;
pub(crate) use write::{letters, now};

/// Serves a call that is authorised and whose verb goes with its resource. Whatever is asked of a
/// deprecated kind, the client is told; and of a write that is refused also what of it was not read.
pub(crate) async fn serve(call: Call) -> Result<Response, Status> {
    let answer = serve_any(&call).await;
    let mut warnings = match &answer {
        Ok(_) => Vec::new(),
        Err(_) => std::mem::take(&mut *call.unread.lock()),
    };
    warnings.extend(deprecated(call.resource).map(str::to_owned));
    if warnings.is_empty() {
        return answer;
    }
    let answer = answer.unwrap_or_else(|status| respond::error(&status, call.form.media));
    Ok(respond::warn(answer, &warnings))
}

/// What Kubernetes says of kinds that others have taken the place of.
fn deprecated(resource: &Resource) -> Option<&'static str> {
    match (resource.group, resource.plural) {
        ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        ("", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        _ => None,
    }
}

async fn serve_any(call: &Call) -> Result<Response, Status> {
    if let Some(subresource) = call.path.subresource.as_deref() {
        return Box::pin(serve_subresource(call, subresource)).await;
    }
    match (call.resource.group, call.resource.plural) {
        ("authentication.k8s.io" | "authorization.k8s.io", _) => return review::review(call).await,
        ("", "bindings") => return Box::pin(binding::bind(call)).await,
        ("metrics.k8s.io", _) => return Box::pin(metrics::serve(call)).await,
        _ => {}
    }
    match call.verb {
        Verb::Get => get::get(call).await,
        Verb::List => list::list(call).await,
        Verb::Watch => watch::watch(call).await,
        Verb::Create => Box::pin(create::create(call)).await,
        Verb::Update => Box::pin(update::update(call)).await,
        Verb::Patch => Box::pin(patch::patch(call)).await,
        Verb::Delete => Box::pin(delete::delete(call)).await,
        Verb::DeleteCollection => Box::pin(delete::delete_collection(call)).await,
        Verb::Other => Err(Status::method_not_allowed()),
    }
}

async fn serve_subresource(call: &Call, subresource: &str) -> Result<Response, Status> {
    match (subresource, call.verb) {
        // Parts of the object, written as it is.
        ("status" | "approval" | "resize" | "ephemeralcontainers", Verb::Get) => {
            get::get(call).await
        }
        ("status" | "approval" | "finalize" | "resize", Verb::Update) => update::update(call).await,
        ("status" | "approval" | "resize", Verb::Patch) => patch::patch(call).await,
        ("scale", Verb::Get) => scale::get(call).await,
        ("scale", Verb::Update) => scale::update(call).await,
        ("scale", Verb::Patch) => scale::patch(call).await,
        ("binding", Verb::Create) => binding::bind(call).await,
        ("eviction", Verb::Create) => eviction::evict(call).await,
        ("log", Verb::Get) => log::log(call).await,
        ("token", Verb::Create) => token::request(call).await,
        ("attach", Verb::Get | Verb::Create) => attach::attach(call).await,
        ("exec", Verb::Get | Verb::Create) => exec::exec(call).await,
        ("portforward", Verb::Get | Verb::Create) => portforward::port_forward(call).await,
        ("proxy", _) if proxy::serves(call) => proxy::proxy(call).await,
        ("proxy", _) if proxy::serves_node(call) => proxy::node_page(call).await,
        _ => not_yet(call, subresource).await,
    }
}

/// 501 for what is listed but has no engine yet; 404 first if the object is not there.
async fn not_yet(call: &Call, subresource: &str) -> Result<Response, Status> {
    let name = match subresource {
        "proxy" => proxy::Asked::parse(call.name()).map_or(call.name(), |asked| asked.name),
        _ => call.name(),
    };
    let key = call.resource.key(call.namespace(), name);
    let object = call.server.read(key.as_bytes()).await?;
    object.ok_or_else(|| Status::not_found(call.resource, name))?;
    let message = format!(
        "carob does not serve {}/{subresource} yet",
        call.resource.qualified()
    );
    Err(Status {
        code: 501,
        reason: "NotImplemented",
        message,
        details: None,
    })
}
