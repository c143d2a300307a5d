//! What runs on the leader alone: the scheduler and the controllers.

use apiserver::ApiServer;
use client::Client;
use store::Store;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::becomes;

/// Runs scheduler and controllers while this server leads, until `ending`.
pub(super) async fn run(server: ApiServer, store: Store, ending: CancellationToken) {
    let mut leadership = store.leadership();
    let mut ready = server.ready();
    loop {
        let leads = leadership.wait_for(|l| l.is_leader);
        tokio::select! {
            () = ending.cancelled() => return,
            result = leads => if result.is_err() { return },
        }
        tokio::select! {
            () = ending.cancelled() => return,
            gone = becomes(&mut ready, true) => if gone { return },
        }
        let term = CancellationToken::new();
        tracing::info!("leading: scheduler and controllers start");
        let client = |name: &str| {
            let groups = [apiserver::ca::MASTERS.to_owned()];
            Client::new(server.transport(format!("system:{name}"), groups), name)
        };
        let mut parts = JoinSet::new();
        parts.spawn(scheduler::run(client("kube-scheduler"), term.clone()));
        parts.spawn(controllers::run(
            client("kube-controller-manager"),
            server.ca_certificate().to_owned(),
            term.clone(),
        ));
        tokio::select! {
            () = ending.cancelled() => {}
            _ = leadership.wait_for(|l| !l.is_leader) => {}
            // Nothing ends them but a fault of theirs; both begin again then.
            Some(ended) = parts.join_next() => {
                tracing::error!(error = ?ended.err(), "the scheduler or the controllers ended by themselves");
            }
        }
        term.cancel();
        // They must have let go before a next term begins here; their writes are conditional, so
        // that the next leader's do not clash with what is still under way.
        while parts.join_next().await.is_some() {}
        tracing::info!("no longer leading");
        if ending.is_cancelled() {
            return;
        }
    }
}
