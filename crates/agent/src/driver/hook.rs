//! One lifecycle hook of a container, run.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::time::Instant;

use super::Driver;
use super::cell::Cell;
use super::probe::{Dialer, Rooms, one_line, port_of, tell, tell_by};
use crate::pod::{EventKind, HookKind, Observation, PodView as _};

/// What hooks call themselves, as the kubelet's do.
const USER_AGENT: &str = "kube-lifecycle/1.36";
/// As good as for ever: a hook without a time of its own has as long as its instance runs.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Driver {
    /// Runs a hook of an instance, and tells what came of it: nothing, where the instance ends before, or its time does.
    pub(super) async fn run_hook(
        &self,
        cell: &Arc<Cell>,
        container: String,
        attempt: u32,
        kind: HookKind,
        within: Option<Duration>,
    ) {
        let (pod, address, running) = {
            let state = cell.state.lock();
            let address = state.net.as_ref().map(|net| net.address());
            let running = state.running.get(&container);
            let running = running.map(|instance| instance.running.clone());
            (Arc::clone(&state.pod), address, running)
        };
        let spec = pod.container(&container);
        let hook = spec.and_then(|spec| Some((spec, kind.of(spec)?)));
        let (Some((spec, hook)), Some(address), Some(running)) = (hook, address, running) else {
            return;
        };
        let dialer = Dialer {
            network: &self.0.tools.network,
            address,
            rooms: Rooms {
                pod: &cell.probes,
                node: &self.0.probes,
            },
        };
        let deadline = Instant::now() + within.unwrap_or(FOR_EVER);
        let run = async {
            let Some(action) = &hook.exec else {
                return run(hook, spec, &dialer, deadline).await;
            };
            let words = action.command.clone().unwrap_or_default();
            let command = self.command(cell, &cell.state.lock(), &container, words);
            match command {
                Some(command) => tell_by(command).await,
                // Its instance has ended, which is waited for below.
                None => std::future::pending().await,
            }
        };
        let ran = tokio::select! {
            // What is over is over, also where the hook says the same of its own time.
            biased;
            _ = running.wait() => return,
            () = tokio::time::sleep_until(deadline) => {
                tracing::info!(pod = %cell.key, container, %kind, "a hook has taken all of its time");
                return;
            }
            ran = run => ran,
        };
        let label = pod.label();
        let error = ran.err().map(|why| worded(hook, &container, &label, &why));
        if let Some(error) = &error {
            tracing::warn!(pod = %cell.key, uid = %cell.uid, container, %kind, error, "a hook has failed");
            let reason = match kind {
                HookKind::PostStart => "FailedPostStartHook",
                HookKind::PreStop => "FailedPreStopHook",
            };
            // No more than that, as the kubelet has it: many may read events, and a hook may have printed a secret.
            let message = format!("{kind}Hook failed");
            self.event(cell, Some(&container), EventKind::Warning, reason, message);
        }
        let hooked = Observation::Hooked {
            container,
            attempt,
            kind,
            error,
        };
        self.learned(cell, hooked).await;
    }
}

/// What came of a hook that failed, in the kubelet's words.
fn worded(hook: &LifecycleHandler, container: &str, pod: &str, why: &str) -> String {
    let what = if let Some(exec) = &hook.exec {
        let words = one_line(exec.command.as_deref().unwrap_or_default());
        format!("Exec lifecycle hook ([{words}])")
    } else if let Some(get) = &hook.http_get {
        let path = get.path.as_deref().unwrap_or_default();
        format!("HTTP lifecycle hook ({path})")
    } else if let Some(socket) = &hook.tcp_socket {
        match &socket.port {
            IntOrString::Int(port) => format!("TCP lifecycle hook ({port})"),
            IntOrString::String(name) => format!("TCP lifecycle hook ({name})"),
        }
    } else {
        return format!("Cannot run handler: {why}");
    };
    format!("{what} for Container {container:?} in Pod {pod:?} failed - error: {why}")
}

/// Does what a hook says that is no command.
async fn run(
    hook: &LifecycleHandler,
    spec: &Container,
    dialer: &Dialer<'_>,
    deadline: Instant,
) -> Result<(), String> {
    if let Some(get) = &hook.http_get {
        let port = port_of(spec, &get.port)?;
        tell(dialer, get, port, USER_AGENT, deadline).await
    } else if let Some(socket) = &hook.tcp_socket {
        let host = socket.host.as_deref().unwrap_or_default();
        let port = port_of(spec, &socket.port)?;
        dialer.dial(host, port, deadline).await.map(drop)
    } else if let Some(sleep) = &hook.sleep {
        let secs = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(secs)).await;
        Ok(())
    } else {
        Err("missing hook handler".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use network::{Listener, Network};
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::probe::Room;
    use super::*;

    /// Runs a hook in a pod that listens at port 80 and answers the first request with this.
    async fn of_a_pod(hook: Value, answer: &'static str) -> (Result<(), String>, String) {
        let network = Network::new("10.128.0.0/24".parse().unwrap());
        let pod = network.join("uid").unwrap();
        let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 80);
        let listener = Listener::new(Arc::new(pod.bind_stream(at).unwrap()), 8);
        let heard = tokio::spawn(async move {
            let mut io = listener.accept().await.into_io();
            let mut heard = Vec::new();
            while !heard.ends_with(b"\r\n\r\n") && io.read_buf(&mut heard).await.unwrap() > 0 {}
            io.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(heard).unwrap()
        });
        let (of_pod, of_node) = (Room::of_pod(), Room::of_node());
        let dialer = Dialer {
            network: &network,
            address: pod.address(),
            rooms: Rooms {
                pod: &of_pod,
                node: &of_node,
            },
        };
        let hook: LifecycleHandler = serde_json::from_value(hook).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let ran = run(&hook, &Container::default(), &dialer, deadline).await;
        let heard = match ran.is_ok() {
            true => heard.await.unwrap(),
            false => String::new(),
        };
        (ran, heard)
    }

    #[test]
    fn failures_are_told_in_the_kubelets_words() {
        let long = "x".repeat(2000);
        let cut = "x".repeat(1 << 10);
        let table = [
            (
                json!({"exec": {"command": ["sh", "-c", "exit 1"]}}),
                "Exec lifecycle hook ([sh -c exit 1])",
            ),
            (
                json!({"exec": {"command": [long]}}),
                &format!("Exec lifecycle hook ([{cut}])"),
            ),
            (
                json!({"httpGet": {"path": "/a?b", "port": 1}}),
                "HTTP lifecycle hook (/a?b)",
            ),
            (json!({"tcpSocket": {"port": 1}}), "TCP lifecycle hook (1)"),
            (
                json!({"tcpSocket": {"port": "web"}}),
                "TCP lifecycle hook (web)",
            ),
        ];
        for (hook, what) in table {
            let hook = serde_json::from_value(hook).unwrap();
            let told = worded(&hook, "c", "p_ns(u-1)", "it was late");
            let rest = r#" for Container "c" in Pod "p_ns(u-1)" failed - error: it was late"#;
            assert_eq!(told, format!("{what}{rest}"));
        }
        let none = LifecycleHandler::default();
        let told = worded(&none, "c", "p", "missing hook handler");
        assert_eq!(told, "Cannot run handler: missing hook handler");
    }

    #[tokio::test]
    async fn requests_are_answered_by_anything() {
        let failure = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
        let hook = json!({"httpGet": {"port": 80, "path": "/leave?now",
            "httpHeaders": [{"name": "X-Why", "value": "end"}]}});
        let (ran, heard) = of_a_pod(hook, failure).await;
        assert_eq!(ran, Ok(()));
        let heard = heard.to_lowercase();
        assert!(heard.starts_with("get /leave?now http/1.1\r\n"), "{heard}");
        for header in ["user-agent: kube-lifecycle/1.36", "x-why: end"] {
            assert!(heard.contains(header), "{heard}");
        }
        let (ran, _) = of_a_pod(json!({"httpGet": {"port": 80}}), "").await;
        let why = ran.unwrap_err();
        assert!(
            why.ends_with("EOF") && why.starts_with("Get \"http://10.128.0."),
            "{why}"
        );
    }

    #[tokio::test]
    async fn connections_are_enough() {
        let (ran, heard) = of_a_pod(json!({"tcpSocket": {"port": 80}}), "").await;
        assert_eq!((ran, heard), (Ok(()), String::new()));
        let (ran, _) = of_a_pod(json!({"tcpSocket": {"port": 81}}), "").await;
        assert!(ran.unwrap_err().ends_with("connect: connection refused"));
    }

    #[tokio::test(start_paused = true)]
    async fn sleep_takes_its_time() {
        let (of_pod, of_node) = (Room::of_pod(), Room::of_node());
        let network = Network::new("10.128.0.0/24".parse().unwrap());
        let dialer = Dialer {
            network: &network,
            address: Ipv4Addr::LOCALHOST,
            rooms: Rooms {
                pod: &of_pod,
                node: &of_node,
            },
        };
        for seconds in [0, 7] {
            let hook = serde_json::from_value(json!({"sleep": {"seconds": seconds}})).unwrap();
            let began = Instant::now();
            let deadline = began + Duration::from_secs(60);
            let ran = run(&hook, &Container::default(), &dialer, deadline).await;
            assert_eq!((ran, began.elapsed().as_secs()), (Ok(()), seconds));
        }
    }
}
