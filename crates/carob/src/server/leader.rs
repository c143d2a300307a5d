//! What runs on the leader alone: the scheduler and the controllers.

use apiserver::ApiServer;
use client::Client;
use store::Store;
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
        let scheduler = tokio::spawn(scheduler::run(client("kube-scheduler"), term.clone()));
        let controllers = tokio::spawn(controllers::run(
            client("kube-controller-manager"),
            server.ca_certificate().to_owned(),
            term.clone(),
        ));
        tokio::select! {
            () = ending.cancelled() => {}
            _ = leadership.wait_for(|l| !l.is_leader) => {}
        }
        term.cancel();
        // They must have let go before a next term begins here; their writes are conditional, so
        // that the next leader's do not clash with what is still under way.
        let _ = tokio::join!(scheduler, controllers);
        tracing::info!("no longer leading");
        if ending.is_cancelled() {
            return;
        }
    }
}
