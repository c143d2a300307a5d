//! One request from its head to its answer: who asks, may they, what serves it.

mod rights;

use std::sync::atomic::Ordering;
use std::time::Duration;

use api::table::Include;
use api::{Resource, Status};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use hyper::upgrade::OnUpgrade;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{Instrument, Span, debug, field, info, info_span};

use crate::aside;
use crate::body::Response;
use crate::connection::Connection;
use crate::identity::Identity;
use crate::metrics::Kind;
use crate::negotiate::{self, Form, Media, Shape};
use crate::payload::{BODY_LIMIT, JOIN_LIMIT, Payload};
use crate::request::{Query, ResourcePath, Verb};
use crate::{ApiServer, handlers, health, join, rbac, respond, tokens, users};

/// How long a request may take at most, unless it is a stream.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long an answer waits at most until what it changed of rights counts here: mostly a millisecond.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(5);

/// A request for a resource, with everything that a handler needs.
pub(crate) struct Call {
    pub(crate) server: ApiServer,
    pub(crate) identity: Identity,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) verb: Verb,
    pub(crate) resource: &'static Resource,
    pub(crate) path: ResourcePath,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    /// The connection itself, where the client asked for another protocol on it.
    pub(crate) upgrade: Option<OnUpgrade>,
    pub(crate) form: Form,
    pub(crate) body: Bytes,
    /// The body of a request that is passed on.
    pub(crate) unread_body: Mutex<Option<Payload>>,
    pub(crate) connection: Connection,
    /// What the body has that nothing reads: said of a write that is refused, too.
    pub(crate) unread: Mutex<Vec<String>>,
}

impl Call {
    /// The namespace, if the resource has them and the path names one.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.path
            .namespace
            .as_deref()
            .filter(|_| self.resource.namespaced)
    }

    /// The object's name; empty for collections.
    pub(crate) fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or_default()
    }

    /// The store's key of the object that the path names.
    pub(crate) fn key(&self) -> String {
        self.resource.key(self.namespace(), self.name())
    }

    /// 404 for the object that the path names.
    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(self.resource, self.name())
    }
}

/// Writes the object's uid into the request's span, so that its way can be followed.
pub(crate) fn record_uid(uid: &str) {
    Span::current().record("uid", uid);
}

impl ApiServer {
    /// Answers one request.
    pub(crate) async fn handle(
        &self,
        connection: Connection,
        request: Request<Payload>,
    ) -> Response {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let path = ResourcePath::parse(head.uri.path());
        let query = Query::parse(head.uri.query());
        let span = span(&head.method, &head.uri, path.as_ref(), &connection.identity);
        let _in_flight = InFlight::new(self);
        let (kind, response) = async {
            let refused = match self.led() {
                Err(status) if !health::serves(head.uri.path()) => Some(respond::status(&status)),
                _ => None,
            };
            let answered = match path {
                _ if let Some(response) = refused => {
                    (Kind::of_path(&head.method, head.uri.path()), response)
                }
                Some(path) => {
                    self.resource_request(connection, path, query, head, body)
                        .await
                }
                None => {
                    let kind = Kind::of_path(&head.method, head.uri.path());
                    let answer = self
                        .path_request(&connection, &query, &head, body)
                        .await
                        .unwrap_or_else(|status| respond::status(&status));
                    (kind, answer)
                }
            };
            let took = started.elapsed();
            let code = answered.1.status().as_u16();
            Span::current().record("code", code);
            if answered.0.is_routine() {
                debug!(?took, "answered");
            } else {
                info!(?took, "answered");
            }
            answered
        }
        .instrument(span)
        .await;
        self.inner
            .metrics
            .request(kind, response.status().as_u16(), started.elapsed());
        response
    }

    /// Who the connection or the request's token says it is.
    pub(super) async fn authenticate(
        &self,
        identity: &Identity,
        headers: &HeaderMap,
    ) -> Result<Identity, Status> {
        // A certificate comes first, as in Kubernetes. Join tokens are shown elsewhere.
        let token = tokens::bearer(headers).filter(|_| identity.is_anonymous());
        let Some(token) = token else {
            return Ok(identity.clone());
        };
        match self.believe(token, &tokens::own_audiences()).await? {
            Ok(bearer) => {
                Span::current().record("user", &bearer.identity.user);
                Ok(bearer.identity)
            }
            Err(fault) => {
                debug!(%fault, "a token is not believed");
                Err(Status::unauthorized("Unauthorized"))
            }
        }
    }

    async fn resource_request(
        &self,
        connection: Connection,
        path: ResourcePath,
        query: Query,
        head: http::request::Parts,
        body: Payload,
    ) -> (Kind, Response) {
        let verb = path.verb(&head.method, &query);
        let resource = api::resource::by_path(&path.group, &path.version, &path.plural);
        let kind = Kind::of_resource(verb, &path, resource);
        let media = negotiate::form(&head.headers).map_or(Media::Json, |form| form.media);
        // One that is passed on may be answered whenever it is.
        let limit = (!path.passes_on()).then(|| timeout(&query));
        let served = Box::pin(async {
            let call = self.call(connection, path, query, head, body, verb, resource);
            self.serve_call(call.await?).await
        });
        let answer = match limit {
            Some(limit) => tokio::time::timeout(limit, served)
                .await
                .unwrap_or_else(|_| Ok(respond::overdue())),
            None => served.await,
        };
        (
            kind,
            answer.unwrap_or_else(|status| respond::error(&status, media)),
        )
    }

    /// Serves a call. What it changes of anybody's rights counts here before it is answered.
    async fn serve_call(&self, call: Call) -> Result<Response, Status> {
        let rights = call.resource.group == rbac::GROUP && call.verb.writes();
        let answer = match weight(&call) {
            ..aside::LARGE => handlers::serve(call).await,
            _ => self.inner.aside.run(Box::pin(handlers::serve(call))).await,
        };
        if rights {
            let revision = self.inner.store.state().revision();
            self.inner.cache.reach(revision, IN_FORCE_WITHIN).await;
        }
        answer
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one request, each moved into the call"
    )]
    async fn call(
        &self,
        connection: Connection,
        path: ResourcePath,
        query: Query,
        mut head: http::request::Parts,
        body: Payload,
        verb: Verb,
        resource: Option<&'static Resource>,
    ) -> Result<Call, Status> {
        let headers = head.headers;
        let identity = self.identify(&connection.identity, &headers).await?;
        self.authorize(&identity, verb, &path, &query, resource)
            .await?;
        let resource = resource.ok_or_else(Status::no_such_resource)?;
        allowed_here(resource, verb, &path)?;
        let form = match path.passes_on() {
            true => Form::JSON,
            false => form(&headers, verb, &query)?,
        };
        let (body, unread_body) = match path.passes_on() {
            true => (Bytes::new(), Some(body)),
            false => (body.read(&self.inner.room, BODY_LIMIT).await?, None),
        };
        Ok(Call {
            server: self.clone(),
            identity,
            method: head.method,
            uri: head.uri,
            verb,
            resource,
            path,
            query,
            headers,
            upgrade: head.extensions.remove(),
            form,
            body,
            unread_body: Mutex::new(unread_body),
            connection,
            unread: Mutex::default(),
        })
    }

    /// A path that is no resource's: discovery, health, metrics, joining.
    async fn path_request(
        &self,
        connection: &Connection,
        query: &Query,
        head: &http::request::Parts,
        body: Payload,
    ) -> Result<Response, Status> {
        let path = head.uri.path();
        if join::serves(path) {
            let body = body.read(&self.inner.room, JOIN_LIMIT).await?;
            return Box::pin(self.join_request(&connection.identity, head, body)).await;
        }
        let identity = self.identify(&connection.identity, &head.headers).await?;
        if users::serves(path) {
            let body = body.read(&self.inner.room, JOIN_LIMIT).await?;
            return Box::pin(self.user_request(&identity, head, body)).await;
        }
        self.authorize_path(&identity, &head.method, path).await?;
        if let Some(response) = self.health(path, query).await {
            return Ok(response);
        }
        if let Some(response) = self.document(path, query, &head.headers).await? {
            return Ok(response);
        }
        Ok(crate::body::text(
            http::StatusCode::NOT_FOUND,
            "404 page not found\n",
        ))
    }
}

/// How many bytes a write has to work on: its body, and the object that it changes.
fn weight(call: &Call) -> usize {
    if !call.verb.writes() {
        return 0;
    }
    let stored = match call.name() {
        "" => None,
        _ => call.server.local(call.key().as_bytes()),
    };
    call.body.len() + stored.map_or(0, |entry| entry.value.len())
}

/// Counts a request until it is answered or dropped.
struct InFlight<'a>(&'a ApiServer);

impl<'a> InFlight<'a> {
    fn new(server: &'a ApiServer) -> InFlight<'a> {
        server
            .inner
            .metrics
            .inflight
            .fetch_add(1, Ordering::Relaxed);
        InFlight(server)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0
            .inner
            .metrics
            .inflight
            .fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether the path and verb go with the resource: its scope, its verbs, its subresources'.
fn allowed_here(resource: &Resource, verb: Verb, path: &ResourcePath) -> Result<(), Status> {
    // `/api/v1/namespaces/NAME` reads as both a namespace and a name.
    let own_namespace = resource.plural == "namespaces" && resource.group.is_empty();
    if !resource.namespaced && path.namespace.is_some() && !own_namespace {
        return Err(Status::no_such_resource());
    }
    if resource.namespaced && path.namespace.is_none() {
        if path.name.is_some() {
            return Err(Status::no_such_resource());
        }
        if !matches!(verb, Verb::List | Verb::Watch) {
            return Err(Status::method_not_allowed());
        }
    }
    let served = match &path.subresource {
        None => {
            let on_object = matches!(verb, Verb::Get | Verb::Update | Verb::Patch | Verb::Delete);
            let on_collection = matches!(verb, Verb::List | Verb::Create | Verb::DeleteCollection);
            let right_place = match &path.name {
                Some(_) => !on_collection,
                None => !on_object,
            };
            right_place && resource.has_verb(verb.as_str())
        }
        Some(name) => resource
            .subresource(name)
            .ok_or_else(Status::no_such_resource)?
            .verbs
            .contains(&verb.as_str()),
    };
    if served {
        Ok(())
    } else {
        Err(Status::method_not_allowed())
    }
}

/// The form of answer that is asked for, where it goes with what is to be done.
fn form(headers: &HeaderMap, verb: Verb, query: &Query) -> Result<Form, Status> {
    let form = negotiate::form(headers).ok_or_else(|| {
        Status::not_acceptable(
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )
    })?;
    fits(form.shape, verb)?;
    shown_in_rows(form, query)?;
    Ok(form)
}

/// Whether the answer is one object, or a list, as the metadata that is asked for says.
fn fits(shape: Shape, verb: Verb) -> Result<(), Status> {
    let there = match (shape, verb) {
        (Shape::Metadata { list: false }, Verb::List) => "PartialObjectMetadataList",
        (
            Shape::Metadata { list: true },
            Verb::Get | Verb::Watch | Verb::Create | Verb::Update | Verb::Patch,
        ) => "PartialObjectMetadata",
        _ => return Ok(()),
    };
    let there = format!("application/json;as={there};g=meta.k8s.io;v=v1");
    Err(Status::not_acceptable(&there))
}

/// Whether what a table's rows are to carry of their objects is one of the words for it.
fn shown_in_rows(form: Form, query: &Query) -> Result<(), Status> {
    match query.text("includeObject") {
        Some(given) if form.shape == Shape::Table && Include::parse(given).is_none() => Err(
            Status::bad_request(format!("unrecognized includeObject value: {given:?}")),
        ),
        _ => Ok(()),
    }
}

/// The time that a request has: `timeout=10s`, at most what every request has.
fn timeout(query: &Query) -> Duration {
    let asked = query.text("timeout").and_then(|t| {
        let (number, unit) = match t.strip_suffix("ms") {
            Some(n) => (n, 0.001),
            None => match (t.strip_suffix('s'), t.strip_suffix('m')) {
                (Some(n), _) => (n, 1.0),
                (_, Some(n)) => (n, 60.0),
                _ => (t, 1.0),
            },
        };
        let seconds = number.parse::<f64>().ok()? * unit;
        Duration::try_from_secs_f64(seconds).ok()
    });
    asked
        .filter(|t| !t.is_zero())
        .map_or(TIMEOUT, |t| t.min(TIMEOUT))
}

fn span(method: &Method, uri: &Uri, path: Option<&ResourcePath>, identity: &Identity) -> Span {
    let path = path.map(|p| {
        (
            p.plural.as_str(),
            p.namespace.as_deref().unwrap_or_default(),
            p.name.as_deref().unwrap_or_default(),
            p.subresource.as_deref().unwrap_or_default(),
        )
    });
    let (resource, namespace, name, subresource) = path.unwrap_or((uri.path(), "", "", ""));
    info_span!(
        "request",
        %method,
        resource,
        namespace,
        name,
        subresource,
        // A token says who it is later.
        user = (!identity.is_anonymous()).then_some(identity.user.as_str()),
        // Whom the user impersonates.
        r#as = field::Empty,
        uid = field::Empty,
        code = field::Empty,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        let of = |q: &str| timeout(&Query::parse(Some(q)));
        assert_eq!(of(""), TIMEOUT);
        assert_eq!(of("timeout=1s"), Duration::from_secs(1));
        assert_eq!(of("timeout=500ms"), Duration::from_millis(500));
        assert_eq!(of("timeout=10m"), TIMEOUT);
        assert_eq!(of("timeout=x"), TIMEOUT);
        assert_eq!(of("timeout=-1s"), TIMEOUT);
    }
}
