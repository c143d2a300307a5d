//! What serves each verb and subresource.

mod agents;
mod apply;
mod attach;
mod binding;
mod container;
mod create;
mod delete;
mod eviction;
mod get;
mod list;
mod log;
mod patch;
mod proxy;
mod review;
mod scale;
mod shape;
mod update;
mod watch;
mod write;

use api::Status;

use crate::body::Response;
use crate::dispatch::Call;
use crate::request::Verb;

pub(crate) use agents::Agents;
pub(crate) use list::catch_up;

/// Serves a call that is authorised and whose verb goes with its resource.
pub(crate) async fn serve(call: Call) -> Result<Response, Status> {
    let call = &call;
    if let Some(subresource) = call.path.subresource.as_deref() {
        return Box::pin(serve_subresource(call, subresource)).await;
    }
    match (call.resource.group, call.resource.plural) {
        ("authentication.k8s.io" | "authorization.k8s.io", _) => return review::review(call).await,
        ("", "bindings") => return Box::pin(binding::bind(call)).await,
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
        ("status" | "approval" | "finalize", Verb::Update) => update::update(call).await,
        ("status" | "approval", Verb::Patch) => patch::patch(call).await,
        ("scale", Verb::Get) => scale::get(call).await,
        ("scale", Verb::Update) => scale::update(call).await,
        ("scale", Verb::Patch) => scale::patch(call).await,
        ("binding", Verb::Create) => binding::bind(call).await,
        ("eviction", Verb::Create) => eviction::evict(call).await,
        ("log", Verb::Get) => log::log(call).await,
        ("attach", Verb::Get | Verb::Create) => attach::attach(call).await,
        ("proxy", _) if proxy::serves(call) => proxy::metrics(call).await,
        _ => not_yet(call, subresource).await,
    }
}

/// 501 for what is listed but has no engine yet; 404 first if the object is not there.
async fn not_yet(call: &Call, subresource: &str) -> Result<Response, Status> {
    let object = call.server.read(call.key().as_bytes()).await?;
    object.ok_or_else(|| call.not_found())?;
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
