//! Ingresses, which every node serves: requests from outside go to the pods behind the Service that a rule names.
//!
//! | part | what it does |
//! |---|---|
//! | `rules` | what Ingresses come to: which Service a request is for. Pure |
//! | `certificates` | by which certificate a host is served |
//! | `headers` | what becomes of headers on their way. Pure |
//! | `proxy` | the way of a request to a pod, and of the answer back |
//! | `serve` | clients' connections |
//! | `room` | the places that these take |
//! | `doors` | the node's two ports |
//!
//! This file follows the objects and brings the rest up to them.

mod certificates;
mod doors;
mod headers;
mod proxy;
mod quiet;
mod room;
mod rules;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::ingress::{PORTS, Ports};
use client::{Client, EventType, Informer, Key, ListOptions, Object, Recorder, View};
use imbl::ordmap::DiffItem;
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use network::entrance::Entrance;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use certificates::{Certificates, Found};
use doors::{Doors, tries};
use proxy::{Limits, Proxy};
use rules::{Compiled, Router};

use crate::word::Word;

/// How long after something could not be done it is tried again, at first and at last.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_AT_LAST: Duration = Duration::from_secs(30);

/// What a node's part in Ingresses is made of.
pub(crate) struct Setup {
    /// The node's name.
    pub(crate) node: String,
    /// The node's address.
    pub(crate) address: Ipv4Addr,
    /// At which ports; where one is not given the usual ones are tried.
    pub(crate) ports: Ports,
    /// The way to the API.
    pub(crate) client: Client,
    /// Where events go.
    pub(crate) recorder: Recorder,
    /// The way into the pods' network.
    pub(crate) entrance: Entrance,
    /// The nodes, of which its own says at which ports it serves.
    pub(crate) nodes: Informer<Node>,
}

/// Serves Ingresses. It never returns: drop it.
pub(crate) async fn follow(setup: Setup) {
    let certificates = match Certificates::new() {
        Ok(certificates) => Arc::new(certificates),
        Err(error) => return tracing::error!(%error, "Ingresses cannot be served"),
    };
    let tls = match serve::tls(certificates.clone()) {
        Ok(tls) => tls,
        Err(error) => return tracing::error!(%error, "Ingresses cannot be served"),
    };
    let proxy = Proxy::new(Arc::new(setup.entrance.clone()), Limits::default());
    let proxy = Arc::new(proxy);
    let following = Following {
        word: Word::new(
            PORTS,
            &setup.node,
            setup.client.clone(),
            setup.nodes.clone(),
        ),
        ingresses: Informer::start(setup.client.of(), ListOptions::default()),
        classes: Informer::start(setup.client.of(), ListOptions::default()),
        doors: Doors::new(setup.address, tries(setup.ports), proxy.clone(), tls),
        secrets: BTreeMap::new(),
        changed: Arc::default(),
        secrets_changed: Arc::default(),
        seen: None,
        compiled: Compiled::default(),
        missing: Vec::new(),
        said: BTreeSet::new(),
        certificates,
        proxy,
        setup,
    };
    following.run().await;
}

/// What Ingresses are compiled of.
type Views = (View<Ingress>, View<IngressClass>);

/// An event about an Ingress: its reason and what it says.
type Said = (Key, &'static str, String);

struct Following {
    setup: Setup,
    ingresses: Informer<Ingress>,
    classes: Informer<IngressClass>,
    /// Those that Ingresses name, each followed by itself: a node may read no others.
    secrets: BTreeMap<Key, Followed<Secret>>,
    /// Something that is followed is not as it was.
    changed: Arc<Notify>,
    /// One of the Secrets is among it.
    secrets_changed: Arc<AtomicBool>,
    /// What was looked at last, and what came of it.
    seen: Option<Views>,
    compiled: Compiled,
    /// The certificates that there are not, and why.
    missing: Vec<(Key, String)>,
    certificates: Arc<Certificates>,
    proxy: Arc<Proxy>,
    doors: Doors,
    /// At which ports the Node says that it serves.
    word: Word,
    /// The events that there were; they are not told again while their reason lasts.
    said: BTreeSet<Said>,
}

/// A copy of objects whose changes are told.
struct Followed<T> {
    informer: Informer<T>,
    _telling: AbortOnDropHandle<()>,
}

impl<T: Object + Send + Sync + 'static> Followed<T> {
    fn new(informer: Informer<T>, tell: impl Fn() + Send + 'static) -> Self {
        let mut changes = informer.subscribe();
        let of = informer.clone();
        let telling = tokio::spawn(async move {
            // That there is nothing is news, too.
            of.synced().await;
            drop(of);
            loop {
                tell();
                changes.next().await;
            }
        });
        Self {
            informer,
            _telling: AbortOnDropHandle::new(telling),
        }
    }
}

impl Following {
    async fn run(mut self) {
        // Before all is known nothing is closed that an agent before this one had open, nor its word taken back.
        self.setup.nodes.synced().await;
        self.ingresses.synced().await;
        self.classes.synced().await;
        let tell = || {
            let changed = self.changed.clone();
            move || changed.notify_one()
        };
        let _all = (
            Followed::new(self.ingresses.clone(), tell()),
            Followed::new(self.classes.clone(), tell()),
            self.word.follow(tell()),
        );
        let mut pause = RETRY;
        loop {
            let opened = self.bring_up().await;
            let ports = self.doors.ports().to_string();
            let told = self.word.say(&ports).await;
            let changed = self.changed.clone();
            if opened && told {
                pause = RETRY;
                changed.notified().await;
            } else {
                let _ = tokio::time::timeout(pause, changed.notified()).await;
                pause = (pause * 2).min(RETRY_AT_LAST);
            }
        }
    }

    /// Brings everything up to the objects as they are now. Whether all ports are open that should be.
    async fn bring_up(&mut self) -> bool {
        let router = self.compile();
        // What is said from now on is looked at again.
        let secrets_changed = self.secrets_changed.swap(false, Ordering::AcqRel);
        if router.is_some() || secrets_changed {
            let wanted = &self.compiled.certificates;
            self.missing = self.certificates.set(wanted, |key| self.secret(key));
        }
        if let Some(router) = router {
            self.proxy.set_router(router);
        }
        let failed = self.doors.set(!self.compiled.ours.is_empty()).await;
        self.say(&failed);
        failed.is_empty()
    }

    /// Where requests go, if that may be elsewhere than before: most of what changes of Ingresses is their status.
    fn compile(&mut self) -> Option<Router> {
        let fresh = (self.ingresses.view(), self.classes.view());
        if !is_news(&mut self.seen, fresh.clone()) {
            return None;
        }
        let all = fresh.0.iter().map(|(_, ingress)| &**ingress);
        self.compiled = Compiled::new(all, fresh.1.iter().map(|(_, class)| &**class));
        self.follow_secrets();
        Some(std::mem::take(&mut self.compiled.router))
    }

    fn follow_secrets(&mut self) {
        let wanted = self.compiled.certificates.iter();
        let wanted: BTreeSet<&Key> = wanted.map(|wanted| &wanted.secret).collect();
        self.secrets.retain(|key, _| wanted.contains(key));
        for key in wanted {
            if !self.secrets.contains_key(key) {
                let one = ListOptions::named(&key.namespace, &key.name);
                let informer = Informer::start(self.setup.client.of(), one);
                let (told, changed) = (self.secrets_changed.clone(), self.changed.clone());
                let followed = Followed::new(informer, move || {
                    told.store(true, Ordering::Release);
                    changed.notify_one();
                });
                self.secrets.insert(key.clone(), followed);
            }
        }
    }

    fn secret(&self, key: &Key) -> Found {
        let Some(followed) = self.secrets.get(key).map(|followed| &followed.informer) else {
            return Found::NotYet;
        };
        match followed.get(key) {
            Some(secret) => Found::Is(secret),
            None if followed.is_synced() => Found::Missing,
            None => Found::NotYet,
        }
    }

    /// Tells of what has no effect, and of ports that cannot be served.
    fn say(&mut self, failed: &[String]) {
        let of = |reason, all: &[(Key, String)]| -> Vec<Said> {
            let all = all.iter().cloned();
            all.map(|(key, what)| (key, reason, what)).collect()
        };
        let mut said = BTreeSet::from_iter(of("RuleIgnored", &self.compiled.ignored));
        said.extend(of("CertificateNotUsed", &self.missing));
        for what in failed {
            tracing::warn!(what, "a port for Ingresses cannot be served");
            for key in &self.compiled.ours {
                let what = format!("node {} cannot serve {what}", self.setup.node);
                said.insert((key.clone(), "PortNotServed", what));
            }
        }
        for (key, reason, what) in said.difference(&self.said) {
            if let Some(ingress) = self.ingresses.get(key) {
                let about = client::reference(&*ingress);
                let kind = EventType::Warning;
                self.setup
                    .recorder
                    .event(&about, kind, reason, what.as_str());
            }
        }
        self.said = said;
    }
}

/// Whether something else may come of what there is now. The next is compared with that in either case: else what once
/// changed without effect would be looked at again for ever.
fn is_news(seen: &mut Option<Views>, fresh: Views) -> bool {
    let old = seen.replace(fresh);
    let same = old.as_ref().zip(seen.as_ref());
    !same.is_some_and(|(old, fresh)| is_same(old, fresh))
}

/// Whether the same comes of both. What does not differ costs nothing.
fn is_same((ingresses, classes): &Views, new: &Views) -> bool {
    let of_ingresses = ingresses.diff(&new.0).all(|change| match change {
        DiffItem::Update { old, new } => rules::is_same(old.1, new.1),
        DiffItem::Add(..) | DiffItem::Remove(..) => false,
    });
    of_ingresses && classes.diff(&new.1).next().is_none()
}

#[cfg(test)]
mod tests;
