//! One request: its turn, its instance, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderValue, Method, StatusCode, Uri, Version, header};
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::admission::Turn;
use super::answer::{Answer, Instance};
use super::server::Server;
use crate::Exit;
use crate::wasm::guest::{self, Limiter};
use crate::wasm::room::Place;

/// Streams, fields, files and sockets that a request's instance may hold: fewer than a [program](guest::RESOURCES), for of
/// these instances a server has a thousand.
const RESOURCES: usize = 1_024;

/// How much of a request's path is printed.
const PATH_SHOWN: usize = 200;

/// What a handler answers.
type Told = Result<Response<HyperOutgoingBody>, ErrorCode>;

/// What is remembered of a request for its answer.
struct Asked {
    method: Method,
    uri: Uri,
}

impl Asked {
    /// The request as lines on standard error name it. Methods and URIs contain neither spaces nor controls.
    fn name(&self) -> String {
        let mut path = self.uri.path();
        if path.len() > PATH_SHOWN {
            path = &path[..path.floor_char_boundary(PATH_SHOWN)];
        }
        format!("{} {path}", self.method)
    }
}

/// Answers a request with an instance of its own.
pub(super) async fn answer(
    server: Arc<Server>,
    mut request: Request<Incoming>,
) -> Response<Answer> {
    let refuse = |status, words| Answer::plain(&server, status, words);
    if !has_authority(&mut request, &server) {
        return refuse(StatusCode::BAD_REQUEST, "a request without a host\n");
    }
    if !super::fits(request.headers()) {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return refuse(status, "the request's header is too large\n");
    }
    let Ok(turn) = server.admission.admit().await else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "too many requests wait\n");
    };
    let Some(place) = server.places.one() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the node is full\n");
    };
    let asked = Asked {
        method: request.method().clone(),
        uri: request.uri().clone(),
    };
    let (respond, mut responded) = oneshot::channel();
    let broken = Arc::new(AtomicBool::new(false));
    let run = run(
        server.clone(),
        request,
        respond,
        turn,
        place,
        broken.clone(),
    );
    let mut instance: Instance = Box::pin(run);
    let (told, instance) = tokio::select! {
        biased;
        () = &mut instance => (responded.try_recv().ok(), None),
        told = &mut responded => match told {
            Ok(told) => (Some(told), Some(instance)),
            // It has dropped what it could answer by; its end may say why.
            Err(_) => {
                instance.await;
                (None, None)
            }
        },
    };
    let failed = || refuse(StatusCode::INTERNAL_SERVER_ERROR, "the handler failed\n");
    match told {
        // It is over already, and nothing of its answer was sent.
        Some(Ok(_)) if instance.is_none() && broken.load(Ordering::Acquire) => failed(),
        Some(Ok(response)) => Answer::of(&server, &asked.method, response, instance, broken),
        Some(Err(code)) => {
            // It may have something to do still.
            if let Some(rest) = instance {
                server.spawn(rest);
            }
            report(&server, &asked, &format!("answered with {code:?}")).await;
            failed()
        }
        None => {
            // What broke it was told when it did.
            if !broken.load(Ordering::Acquire) {
                report(&server, &asked, "the handler returned without an answer").await;
            }
            failed()
        }
    }
}

/// Sees that a request says whom it is for, as `wasi:http` demands. Only clients of HTTP/1.0 need not.
fn has_authority(request: &mut Request<Incoming>, server: &Server) -> bool {
    if request.uri().authority().is_some() {
        return true;
    }
    if let Some(host) = request.headers().get(header::HOST) {
        return host.to_str().is_ok();
    }
    let own = HeaderValue::from_str(&server.address.to_string());
    match own {
        Ok(own) if request.version() == Version::HTTP_10 => {
            request.headers_mut().insert(header::HOST, own);
            true
        }
        _ => false,
    }
}

/// Runs an instance from its beginning to its end.
async fn run(
    server: Arc<Server>,
    request: Request<Incoming>,
    respond: oneshot::Sender<Told>,
    turn: Turn,
    _place: Place,
    broken: Arc<AtomicBool>,
) {
    let asked = Asked {
        method: request.method().clone(),
        uri: request.uri().clone(),
    };
    let mut store = guest::component_store(
        server.proxy.engine(),
        server.worlds.one(),
        Limiter::new(server.memory.clone(), server.handler),
        server.stop.clone(),
        server.outgoing.clone(),
    );
    store.data_mut().table.set_max_capacity(RESOURCES);
    let handled = async {
        let request = store
            .data_mut()
            .http()
            .new_incoming_request(Scheme::Http, request)?;
        let answer = store.data_mut().http().new_response_outparam(respond)?;
        let instance = server.proxy.instantiate_async(&mut store).await?;
        let handler = instance.wasi_http_incoming_handler();
        handler.call_handle(&mut store, request, answer).await
    };
    let handled = handled.await;
    turn.learn(store.data().held());
    if let Err(error) = handled {
        // Before the store is dropped, which ends the body.
        broken.store(true, Ordering::Release);
        drop(store);
        let why = match guest::exit(&error) {
            Exit::Trap { backtrace } => backtrace,
            Exit::OutOfMemory => error.root_cause().to_string(),
            exit => format!("the handler exited with code {}", exit.code()),
        };
        report(&server, &asked, &why).await;
    }
}

async fn report(server: &Server, asked: &Asked, why: &str) {
    let line = format!("{}: {why}", asked.name());
    server.worlds.stderr().print(line).await;
}
