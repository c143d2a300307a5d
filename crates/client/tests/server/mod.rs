//! An HTTPS server that carries requests on to another transport.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::authority::Authority;
use client::{
    Body, Error, Transport, full,
    simulated::Simulated,
    tls::{self, ClientAuth, Identity},
};
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy)]
pub(crate) enum Behaviour {
    /// Answers.
    Serve,
    /// Refuses without having taken the request.
    NotReady,
    /// Takes the request, and breaks the connection.
    Vanish,
    /// Takes the request, and says nothing.
    Hang,
}

pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    taken: AtomicUsize,
    cluster: Simulated,
}

impl Server {
    pub(crate) async fn start(ca: &Authority, cluster: &Simulated) -> Self {
        let identity = ca.identity_of("system:carob:server:s1", tls::SERVERS);
        Server::start_as(&identity, cluster).await
    }

    pub(crate) async fn start_as(identity: &Identity, cluster: &Simulated) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour::Serve),
            taken: AtomicUsize::new(0),
            cluster: cluster.clone(),
        });
        let stop = CancellationToken::new();
        let config = identity.server_config(ClientAuth::Optional).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let accept = accept(listener, acceptor, Arc::clone(&shared));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            stopped.run_until_cancelled(accept).await;
        });
        Server {
            address,
            shared,
            stop,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock() = behaviour;
    }

    /// How many requests have reached it.
    pub(crate) fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::SeqCst)
    }

    /// Closes the listener and every connection.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

async fn accept(listener: TcpListener, acceptor: tokio_rustls::TlsAcceptor, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else {
                return;
            };
            let service = service_fn(|request| answer(request, &shared));
            // A broken connection is what some of the tests are about.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(tls), service)
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Result<Response<Body>, Error> {
    shared.taken.fetch_add(1, Ordering::SeqCst);
    let behaviour = *shared.behaviour.lock();
    match behaviour {
        Behaviour::Serve => {}
        Behaviour::NotReady => {
            let mut response = Response::new(full("not ready"));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            let seconds = header::HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
            return Ok(response);
        }
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Vanish => return Err(Error::transport("test", "the connection is broken")),
    }
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|error| Error::transport("test", error))?
        .to_bytes();
    shared.cluster.send(Request::from_parts(parts, body)).await
}
