//! `carob port-forward`: ports of this machine that lead into a pod.

mod carry;
mod ports;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::kubeconfig::Context as Cluster;
use client::{Client, Object};
use k8s_openapi::Resource as _;
use k8s_openapi::api::core::v1::{Pod, Service};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::commands::pods::{pod_of, runs};
use crate::target::{self, Scope};
use ports::{Asked, Mapped};

/// Connections at a time: further ones wait to be accepted.
const MOST: usize = 256;
/// How long nothing is accepted once the process has run out of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// Forward ports of this machine into a pod.
#[derive(Debug, clap::Args)]
pub(crate) struct PortForward {
    /// The pod, or TYPE/NAME of what has pods, such as service/NAME
    #[arg(value_name = "POD")]
    pod: String,
    /// The ports, by number or name, of a Service its own; without LOCAL the same here, and a free one for :REMOTE
    #[arg(value_name = "[LOCAL:]REMOTE", required = true)]
    ports: Vec<Asked>,
    /// Where to listen
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    address: IpAddr,
    #[command(flatten)]
    scope: Scope,
}

impl PortForward {
    pub(crate) async fn run(self) -> Result<()> {
        let (cluster, namespace) = self.scope.context()?;
        let client = target::client(&cluster)?;
        let (pod, ports) = self.target(&client, &namespace).await?;
        let door = Arc::new(Door {
            cluster,
            path: format!("/api/v1/namespaces/{namespace}/pods/{pod}/portforward"),
            room: Arc::new(Semaphore::new(MOST)),
        });
        let mut listeners = Vec::new();
        for port in ports {
            let at = (self.address, port.local);
            let listener = TcpListener::bind(at).await;
            let listener =
                listener.with_context(|| format!("cannot listen at {} port {}", at.0, at.1))?;
            let at = listener.local_addr()?;
            listeners.push((listener, at, port.remote));
        }
        // From here on Ctrl-C is an end in order.
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut listening = JoinSet::new();
        for (listener, at, remote) in listeners {
            println!("Forwarding from {at} -> {remote}");
            let local = at.port();
            listening.spawn(Arc::clone(&door).serve(listener, Mapped { local, remote }));
        }
        interrupted.recv().await;
        Ok(())
    }

    /// The pod, and where the ports lead in it.
    async fn target(&self, client: &Client, namespace: &str) -> Result<(String, Vec<Mapped>)> {
        let name = pod_of(client, namespace, &self.pod).await?;
        let pod = client.of::<Pod>().get(namespace, &name).await?;
        if !runs(&pod) {
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
            let phase = phase.unwrap_or("Unknown");
            bail!("pod {name} is not running: its phase is {phase}");
        }
        let service = match self.pod.split_once('/') {
            Some((kind, service)) if target::resource(kind)?.kind == Service::KIND => {
                Some(client.of::<Service>().get(namespace, service).await?)
            }
            _ => None,
        };
        let mapped = self.ports.iter().map(|port| match &service {
            Some(service) => port.of_service(service, &pod),
            None => port.of_pod(&pod),
        });
        Ok((pod.name().to_owned(), mapped.collect::<Result<_>>()?))
    }
}

/// The way into the pod.
struct Door {
    cluster: Cluster,
    path: String,
    room: Arc<Semaphore>,
}

impl Door {
    /// Takes the connections of a port, for ever.
    async fn serve(self: Arc<Self>, listener: TcpListener, port: Mapped) {
        let mut open = JoinSet::new();
        loop {
            // It is never closed.
            let Ok(room) = Arc::clone(&self.room).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = open.join_next() => continue,
            };
            match accepted {
                Ok((local, _)) => {
                    println!("Handling connection for {}", port.local);
                    open.spawn(Arc::clone(&self).forward(local, port, room));
                }
                Err(error) => {
                    eprintln!("carob: port {}: {error}", port.local);
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }

    async fn forward(self: Arc<Self>, local: TcpStream, port: Mapped, _room: OwnedSemaphorePermit) {
        let Mapped { local: at, remote } = port;
        let path = format!("{}?ports={remote}", self.path);
        if let Err(error) = carry::carry(&self.cluster, &path, local).await {
            eprintln!("carob: {at} -> {remote}: {error:#}");
        }
    }
}
