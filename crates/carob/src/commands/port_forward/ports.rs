//! Which port leads where: as it is asked for, and as it comes to by what the pod and the Service declare.

use std::num::NonZeroU16;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// `REMOTE`, `LOCAL:REMOTE` or `:REMOTE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// 0 is a free one; none is the same as the other end's.
    local: Option<u16>,
    remote: Remote,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Remote {
    Number(NonZeroU16),
    Name(String),
}

/// A port of this machine, 0 for a free one, and the pod's port that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    pub(super) local: u16,
    pub(super) remote: u16,
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is not REMOTE, LOCAL:REMOTE or :REMOTE");
        let (local, remote) = match text.split_once(':') {
            None => (None, text),
            Some(("", remote)) => (Some(0), remote),
            Some((local, remote)) => (Some(local.parse().map_err(|_| wrong())?), remote),
        };
        let name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let remote = match remote.parse() {
            Ok(number) => Remote::Number(number),
            Err(_)
                if remote.bytes().all(name) && remote.bytes().any(|b| b.is_ascii_alphabetic()) =>
            {
                Remote::Name(remote.to_owned())
            }
            Err(_) => return Err(wrong()),
        };
        Ok(Self { local, remote })
    }
}

impl Asked {
    fn at(&self, same: u16, remote: u16) -> Mapped {
        let local = self.local.unwrap_or(same);
        Mapped { local, remote }
    }

    /// Where it leads in a pod.
    pub(super) fn of_pod(&self, pod: &Pod) -> Result<Mapped> {
        let number = match &self.remote {
            Remote::Number(number) => number.get(),
            Remote::Name(name) => declared(pod, name)?,
        };
        Ok(self.at(number, number))
    }

    /// Where it leads in a pod behind a Service, whose port it is.
    pub(super) fn of_service(&self, service: &Service, pod: &Pod) -> Result<Mapped> {
        let spec = service.spec.as_ref().context("the Service has no spec")?;
        let mut ports = spec.ports.iter().flatten();
        let Some(port) = ports.find(|port| self.means(port)) else {
            let of = service.metadata.name.as_deref().unwrap_or_default();
            match &self.remote {
                Remote::Number(number) => bail!("service {of} has no TCP port {number}"),
                Remote::Name(name) => bail!("service {of} has no TCP port {name}"),
            }
        };
        let own = number(port.port)?;
        let headless = spec.cluster_ip.as_deref() == Some("None");
        let remote = match &port.target_port {
            // Who connects to a headless Service's names connects to pods.
            _ if headless => own,
            None | Some(IntOrString::Int(0)) => own,
            Some(IntOrString::Int(target)) => number(*target)?,
            Some(IntOrString::String(name)) => declared(pod, name)?,
        };
        Ok(self.at(own, remote))
    }

    fn means(&self, port: &ServicePort) -> bool {
        let named = match &self.remote {
            Remote::Number(number) => i32::from(number.get()) == port.port,
            Remote::Name(name) => port.name.as_ref() == Some(name),
        };
        named && port.protocol.as_deref().unwrap_or("TCP") == "TCP"
    }
}

/// The TCP port that a container of the pod declares by this name.
fn declared(pod: &Pod, name: &str) -> Result<u16> {
    let spec = pod.spec.as_ref();
    let found = spec.and_then(|spec| api::ports::named(spec, name, "TCP"));
    let of = pod.metadata.name.as_deref().unwrap_or_default();
    number(found.with_context(|| format!("pod {of} has no TCP port {name}"))?)
}

fn number(port: i32) -> Result<u16> {
    let number = u16::try_from(port).ok().filter(|number| *number != 0);
    number.with_context(|| format!("{port} is no port"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Pod {
        let ports = json!([
            {"name": "web", "containerPort": 8080},
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        ]);
        let init = json!([
            {"name": "ends", "ports": [{"name": "none", "containerPort": 1}]},
            {"name": "side", "restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 2}]},
        ]);
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "initContainers": init,
            "containers": [{"name": "a"}, {"name": "b", "ports": ports}],
        }});
        serde_json::from_value(pod).expect("a pod")
    }

    fn service(cluster_ip: &str) -> Service {
        let ports = json!([
            {"name": "http", "port": 80, "targetPort": "web"},
            {"name": "admin", "port": 81, "targetPort": 9090},
            {"name": "plain", "port": 82},
            {"name": "lost", "port": 83, "targetPort": "gone"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ]);
        let service =
            json!({"metadata": {"name": "s"}, "spec": {"clusterIP": cluster_ip, "ports": ports}});
        serde_json::from_value(service).expect("a Service")
    }

    fn asked(text: &str) -> Asked {
        text.parse().expect("a port")
    }

    #[test]
    fn what_is_not_a_port_is_refused() {
        for text in [
            "", ":", "0", "a:80", "80:", "80:0", "65536", "80:65536", "65536:80", "1:2:3", "-1",
            "Web",
        ] {
            assert!(text.parse::<Asked>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn ports_of_a_pod() {
        for (text, want) in [
            ("8080", Some((8080, 8080))),
            ("80:8080", Some((80, 8080))),
            (":8080", Some((0, 8080))),
            ("0:8080", Some((0, 8080))),
            ("web", Some((8080, 8080))),
            (":web", Some((0, 8080))),
            ("1:web", Some((1, 8080))),
            ("side", Some((2, 2))),
            ("dns", None),
            ("none", None),
        ] {
            let want = want.map(|(local, remote)| Mapped { local, remote });
            assert_eq!(asked(text).of_pod(&pod()).ok(), want, "{text}");
        }
    }

    #[test]
    fn ports_of_a_service_lead_to_their_targets() {
        for (text, want) in [
            ("80", Some((80, 8080))),
            ("http", Some((80, 8080))),
            (":http", Some((0, 8080))),
            ("8000:80", Some((8000, 8080))),
            ("81", Some((81, 9090))),
            ("plain", Some((82, 82))),
            ("83", None),
            ("53", None),
            ("8080", None),
            ("web", None),
        ] {
            let want = want.map(|(local, remote)| Mapped { local, remote });
            let mapped = asked(text).of_service(&service("10.96.0.7"), &pod());
            assert_eq!(mapped.ok(), want, "{text}");
        }
        let headless = asked("81").of_service(&service("None"), &pod());
        let (local, remote) = (81, 81);
        assert_eq!(headless.ok(), Some(Mapped { local, remote }));
    }
}
