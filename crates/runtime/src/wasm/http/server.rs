//! A server: its ports, its requests and its end.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use network::{Listener, MOST_WAITING, PodNet, SocketError};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::admission::Admission;
use super::{Outgoing, connection};
use crate::gate::Account;
use crate::memory::Memory;
use crate::running::Stop;
use crate::wasm::guest::Component;
use crate::wasm::link::ServerCode;
use crate::wasm::room::{Counted, Places};
use crate::wasm::world::Worlds;
use crate::{Exit, Handler, StartError};

/// Where a server listens that is given no port.
const DEFAULT_PORT: u16 = 8080;

/// The most connections of one server at a time. Further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 2_048;

/// What a server is made of.
pub(in crate::wasm) struct Plan {
    pub(in crate::wasm) code: ServerCode,
    pub(in crate::wasm) ports: Vec<u16>,
    pub(in crate::wasm) net: PodNet,
    pub(in crate::wasm) worlds: Worlds,
    /// Where what all instances have is counted.
    pub(in crate::wasm) memory: Arc<Memory>,
    pub(in crate::wasm) admission: Arc<Admission>,
    pub(in crate::wasm) outgoing: Outgoing,
    pub(in crate::wasm) account: Arc<Account>,
    pub(in crate::wasm) places: Places,
    pub(in crate::wasm) handler: Handler,
    pub(in crate::wasm) stop: Arc<Stop>,
    pub(in crate::wasm) counted: Counted,
}

/// What answers one server's requests.
pub(super) struct Server {
    pub(super) proxy: ProxyPre<Component>,
    pub(super) worlds: Worlds,
    /// The pod's address.
    pub(super) address: Ipv4Addr,
    pub(super) memory: Arc<Memory>,
    pub(super) outgoing: Outgoing,
    pub(super) places: Places,
    pub(super) handler: Handler,
    pub(super) admission: Arc<Admission>,
    pub(super) stop: Arc<Stop>,
    account: Arc<Account>,
    /// Connections, and what else is not over yet.
    tasks: TaskTracker,
    span: Span,
}

impl Server {
    /// Runs this at the server's expense, until it ends or the server must.
    pub(super) fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let (stop, token) = (self.stop.clone(), self.tasks.token());
        let work = async move {
            let _token = token;
            tokio::select! {
                biased;
                _ = stop.due(true) => {}
                () = work => {}
            }
        };
        self.account
            .spawn_holding(work.instrument(self.span.clone()));
    }
}

/// Listens from now on. What it returns answers until the server's end, and tells how that was.
///
/// # Errors
/// When a port cannot be one.
pub(in crate::wasm) fn serve(
    plan: Plan,
    exit: watch::Sender<Option<Exit>>,
) -> Result<impl Future<Output = ()> + Send + 'static, StartError> {
    let ports = ports(&plan.ports)?;
    let listeners = listen(&plan.net, &ports);
    let counted = plan.counted;
    let server = Arc::new(Server {
        proxy: plan.code.proxy,
        worlds: plan.worlds,
        address: plan.net.address(),
        memory: plan.memory,
        outgoing: plan.outgoing,
        places: plan.places,
        handler: plan.handler,
        admission: plan.admission,
        stop: plan.stop,
        account: plan.account,
        tasks: TaskTracker::new(),
        span: Span::current(),
    });
    Ok(async move {
        let ended = match listeners {
            Ok(listeners) => until_end(&server, listeners).await,
            Err(why) => {
                // As a program of its own would.
                server.worlds.stderr().print(why).await;
                Exit::Code(1)
            }
        };
        drop(counted);
        exit.send_replace(Some(ended));
    })
}

fn ports(asked: &[u16]) -> Result<BTreeSet<u16>, StartError> {
    if asked.contains(&0) {
        return Err(StartError::Invalid("a server listens at no port 0".into()));
    }
    Ok(match asked {
        [] => BTreeSet::from([DEFAULT_PORT]),
        asked => asked.iter().copied().collect(),
    })
}

fn listen(net: &PodNet, ports: &BTreeSet<u16>) -> Result<Vec<Listener>, String> {
    let listen = |port: &u16| {
        let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, *port);
        let failed = |error: SocketError| format!("cannot listen at port {port}: {error}");
        let bound = net.bind_stream(at).map_err(failed)?;
        Ok(Listener::new(Arc::new(bound), MOST_WAITING))
    };
    ports.iter().map(listen).collect()
}

/// Answers requests until the end that is asked for from outside. Nothing of the server runs afterwards.
async fn until_end(server: &Arc<Server>, listeners: Vec<Listener>) -> Exit {
    tracing::info!(ports = listeners.len(), "server listens");
    let mut accepting = JoinSet::new();
    let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    for listener in listeners {
        accepting.spawn(accept(server.clone(), listener, connections.clone()));
    }
    let stop = server.stop.clone();
    stop.begun().await;
    // Connections see it, too: idle ones end now, others with the answer under way.
    accepting.shutdown().await;
    server.tasks.close();
    let ended = tokio::select! {
        biased;
        exit = stop.due(true) => exit,
        () = server.tasks.wait() => Exit::Code(0),
    };
    // What sits out its quota is to see that its time is over.
    server.account.expedite();
    server.tasks.wait().await;
    tracing::info!(code = ended.code(), "server ended");
    ended
}

async fn accept(server: Arc<Server>, listener: Listener, connections: Arc<Semaphore>) {
    // It is never closed.
    while let Ok(permit) = connections.clone().acquire_owned().await {
        let stream = listener.accept().await;
        let serve = connection::serve(server.clone(), stream);
        server.spawn(async move {
            serve.await;
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told_or_the_usual_one() {
        let of = |asked: &[u16]| ports(asked).map(|ports| ports.into_iter().collect::<Vec<_>>());
        assert_eq!(of(&[]).unwrap(), [8080]);
        assert_eq!(of(&[443, 80, 443]).unwrap(), [80, 443]);
        assert!(of(&[80, 0]).is_err());
    }
}
