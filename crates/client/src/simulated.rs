//! A small API server in memory, for tests of what stands on a [`Client`].
//!
//! It keeps objects of any kind without looking into them: revisions, conflicts, lists in pages,
//! watches with bookmarks, label and field selectors for equality, merge patches, `status`,
//! `binding` and service accounts' `token`s. It neither defaults nor validates. Faults are injected by its methods.

mod objects;
mod request;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use api::status::Status;
use bytes::Bytes;
use futures::{StreamExt, future, stream};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::{
    objects::{Objects, Outcome},
    request::{Selection, Target},
};
use crate::{Body, BoxFuture, Client, Error, Transport, full};

/// The server. Its clones are the same one.
#[derive(Clone)]
pub struct Simulated {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// The latest revision; watches wait for it.
    revision: watch::Sender<u64>,
    /// Raised to break all watches that run.
    generation: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    objects: Objects,
    requests: Vec<String>,
    failures: Vec<Fault>,
    latency: Duration,
}

/// What befalls a request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    method: Method,
    path_end: String,
    kind: FaultKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum FaultKind {
    /// It never arrives.
    Lost,
    /// It is carried out, but its answer never arrives.
    AnswerLost,
    /// It is answered by this code.
    Code(u16),
}

impl std::fmt::Debug for Simulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulated").finish_non_exhaustive()
    }
}

impl Default for Simulated {
    fn default() -> Self {
        Simulated::new()
    }
}

impl Simulated {
    /// An empty cluster.
    #[must_use]
    pub fn new() -> Self {
        Simulated {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                revision: watch::Sender::new(1),
                generation: watch::Sender::new(0),
            }),
        }
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self, field_manager: &str) -> Client {
        Client::new(Arc::new(self.clone()), field_manager)
    }

    /// The latest revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        *self.shared.revision.borrow()
    }

    /// How many watches run.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.shared.generation.receiver_count()
    }

    /// Forgets all history: a watch from any revision before now gets 410.
    pub fn compact(&self) {
        self.shared.state.lock().objects.compact();
    }

    /// Breaks every watch that runs.
    pub fn break_watches(&self) {
        self.shared
            .generation
            .send_modify(|generation| *generation += 1);
    }

    /// The next request with this method whose path ends so never arrives.
    pub fn lose(&self, method: &Method, path_end: &str) {
        self.fault(method, path_end, FaultKind::Lost);
    }

    /// The next request with this method whose path ends so is carried out, but its answer lost.
    pub fn lose_answer(&self, method: &Method, path_end: &str) {
        self.fault(method, path_end, FaultKind::AnswerLost);
    }

    /// The next request with this method whose path ends so is refused by this code.
    pub fn refuse(&self, method: &Method, path_end: &str, code: u16) {
        self.fault(method, path_end, FaultKind::Code(code));
    }

    /// Every request takes this long from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.state.lock().latency = latency;
    }

    /// All requests so far, as `METHOD path?query`, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.state.lock().requests.clone()
    }

    fn fault(&self, method: &Method, path_end: &str, kind: FaultKind) {
        self.shared.state.lock().failures.push(Fault {
            method: method.clone(),
            path_end: path_end.to_owned(),
            kind,
        });
    }

    async fn answer(&self, request: Request<Bytes>) -> Result<Response<Body>, Error> {
        let (latency, fault) = self.shared.state.lock().arrive(&request);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let lost = |what: &str| Error::transport("simulated", what.to_owned());
        match fault {
            None => Ok(self.carry_out(&request)),
            Some(FaultKind::Lost) => Err(lost("request lost")),
            Some(FaultKind::AnswerLost) => {
                self.carry_out(&request);
                Err(lost("answer lost"))
            }
            Some(FaultKind::Code(code)) => Ok(refusal(&Status {
                code,
                reason: "",
                message: "refused by the test".to_owned(),
                details: None,
            })),
        }
    }

    fn carry_out(&self, request: &Request<Bytes>) -> Response<Body> {
        let Some(target) = Target::parse(request.uri()) else {
            return refusal(&Status::no_such_resource());
        };
        match self.dispatch(request, &target) {
            Ok(response) => response,
            Err(status) => refusal(&status),
        }
    }

    fn dispatch(
        &self,
        request: &Request<Bytes>,
        target: &Target,
    ) -> Result<Response<Body>, Status> {
        let mut state = self.shared.state.lock();
        let objects = &mut state.objects;
        let body = || request::body(request);
        let subresource = target.subresource.as_deref();
        let outcome = match (request.method().as_str(), subresource) {
            ("GET", None) if target.name.is_none() => {
                let selection = Selection::parse(request.uri())?;
                if selection.watch {
                    let from = selection.revision;
                    objects.check_history(from)?;
                    drop(state);
                    return Ok(self.watch(target.clone(), selection));
                }
                return Ok(success(StatusCode::OK, &objects.list(target, &selection)));
            }
            ("GET", None | Some("status")) => Outcome::Same(objects.get(target)?),
            ("POST", None) => objects.create(target, body()?)?,
            ("POST", Some("binding")) => objects.bind(target, &body()?)?,
            ("POST", Some("token")) => objects.token(target, body()?)?,
            ("PUT", None | Some("status")) => objects.update(target, body()?)?,
            ("PATCH", None | Some("status")) => objects.patch(target, body()?)?,
            ("DELETE", None) => objects.delete(target, &body().unwrap_or_default())?,
            _ => return Err(Status::method_not_allowed()),
        };
        let revision = objects.revision();
        drop(state);
        self.shared.revision.send_if_modified(|latest| {
            let changed = *latest != revision;
            *latest = revision;
            changed
        });
        Ok(match outcome {
            Outcome::Created(object) | Outcome::Issued(object) => {
                success(StatusCode::CREATED, &object)
            }
            Outcome::Changed(object) | Outcome::Same(object) => success(StatusCode::OK, &object),
            Outcome::Bound => success(StatusCode::CREATED, &Status::created()),
        })
    }

    fn watch(&self, target: Target, selection: Selection) -> Response<Body> {
        let generation = *self.shared.generation.borrow();
        let state = Watching {
            server: self.clone(),
            revisions: self.shared.revision.subscribe(),
            generations: self.shared.generation.subscribe(),
            generation,
            seen: selection.revision,
            shown: BTreeSet::new(),
            target,
            selection,
            started: false,
        };
        let frames = stream::unfold(state, Watching::next)
            .flat_map(|lines| stream::iter(lines.map_or_else(|error| vec![Err(error)], split)));
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        json_type(&mut response);
        response
    }
}

/// One frame a line, cut in the middle, so that readers have to put lines together.
fn split(lines: Vec<Value>) -> Vec<Result<Frame<Bytes>, Error>> {
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(line.to_string().as_bytes());
        text.push(b'\n');
    }
    let text = Bytes::from(text);
    let middle = text.len() / 2;
    vec![
        Ok(Frame::data(text.slice(..middle))),
        Ok(Frame::data(text.slice(middle..))),
    ]
}

impl Transport for Simulated {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, Error>> {
        Box::pin(self.answer(request))
    }
}

impl State {
    fn arrive(&mut self, request: &Request<Bytes>) -> (Duration, Option<FaultKind>) {
        let line = format!("{} {}", request.method(), request.uri());
        self.requests.push(line);
        let path = request.uri().path();
        let fault = self
            .failures
            .iter()
            .position(|fault| fault.method == request.method() && path.ends_with(&fault.path_end))
            .map(|at| self.failures.remove(at).kind);
        (self.latency, fault)
    }
}

/// A watch that runs.
struct Watching {
    server: Simulated,
    revisions: watch::Receiver<u64>,
    generations: watch::Receiver<u64>,
    generation: u64,
    seen: u64,
    /// The keys of objects within the selection, to tell entering and leaving from changing.
    shown: BTreeSet<String>,
    target: Target,
    selection: Selection,
    started: bool,
}

impl Watching {
    /// The next lines; `None` ends the watch.
    async fn next(mut self) -> Option<(Result<Vec<Value>, Error>, Self)> {
        loop {
            if *self.generations.borrow() != self.generation {
                self.generation = u64::MAX;
                let error = Error::transport("simulated", "the watch was broken");
                return Some((Err(error), self));
            }
            if self.generation == u64::MAX {
                return None;
            }
            let lines = self.lines();
            if !lines.is_empty() {
                return Some((Ok(lines), self));
            }
            let revised = std::pin::pin!(self.revisions.changed());
            let broken = std::pin::pin!(self.generations.changed());
            future::select(revised, broken).await;
        }
    }

    fn lines(&mut self) -> Vec<Value> {
        self.revisions.borrow_and_update();
        let state = self.server.shared.state.lock();
        if !self.started {
            self.started = true;
            self.shown = state
                .objects
                .shown_at(&self.target, &self.selection, self.seen);
        }
        let mut lines =
            state
                .objects
                .events(&self.target, &self.selection, self.seen, &mut self.shown);
        let revision = state.objects.revision();
        if lines.is_empty() && revision > self.seen {
            lines.push(json!({
                "type": "BOOKMARK",
                "object": { "metadata": { "resourceVersion": revision.to_string() } },
            }));
        }
        self.seen = revision;
        lines
    }
}

fn success(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = code;
    json_type(&mut response);
    response
}

fn refusal(status: &Status) -> Response<Body> {
    let mut response = Response::new(full(status.to_bytes()));
    *response.status_mut() =
        StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_type(&mut response);
    response
}

fn json_type(response: &mut Response<Body>) {
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
}
