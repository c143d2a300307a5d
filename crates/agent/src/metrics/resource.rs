//! What the node, its pods and their containers use, in Prometheus' text form and under the kubelet's names.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use jiff::Timestamp;
use runtime::Usage;

use crate::driver::{ContainerUsage, PodUsage, Restarts};
use crate::node::Process;

/// `/metrics/resource`, of what was used at a time.
pub(crate) fn page(at: Timestamp, node: Process, pods: &[PodUsage]) -> String {
    let mut page = Page::default();
    // When it was so: Prometheus may come to read it later.
    let at = at.as_millisecond();
    let containers = || {
        let of = |pod| {
            let PodUsage { containers, .. }: &PodUsage = pod;
            containers.iter().map(move |container| (pod, container))
        };
        pods.iter().flat_map(of)
    };
    page.family(
        "container_cpu_usage_seconds_total",
        "counter",
        "CPU time that the container has used since its start.",
        containers().map(|(pod, c)| (of_container(pod, c), timed(c.used.cpu.as_secs_f64(), at))),
    );
    page.family(
        "container_memory_working_set_bytes",
        "gauge",
        "Bytes of the container's memories and tables.",
        containers().map(|(pod, c)| (of_container(pod, c), timed(c.used.memory, at))),
    );
    page.family(
        "container_start_time_seconds",
        "gauge",
        "When the container was started, in seconds since 1970.",
        containers().map(|(pod, c)| (of_container(pod, c), seconds(c.started_at))),
    );
    page.family(
        "node_cpu_usage_seconds_total",
        "counter",
        "CPU time that the agent's process has used, guests included.",
        [(String::new(), timed(node.cpu.as_secs_f64(), at))],
    );
    page.family(
        "node_memory_working_set_bytes",
        "gauge",
        "Resident bytes of the agent's process, guests included.",
        [(String::new(), timed(node.memory, at))],
    );
    page.family(
        "pod_cpu_usage_seconds_total",
        "counter",
        "CPU time that the pod's running containers have used since their starts.",
        pods.iter()
            .map(|pod| (of_pod(pod), timed(sum(pod).cpu.as_secs_f64(), at))),
    );
    page.family(
        "pod_memory_working_set_bytes",
        "gauge",
        "Bytes of the memories and tables of the pod's running containers.",
        pods.iter()
            .map(|pod| (of_pod(pod), timed(sum(pod).memory, at))),
    );
    page.family(
        "resource_scrape_error",
        "gauge",
        "1 if what containers use could not be read.",
        [(String::new(), "0".to_owned())],
    );
    page.0
}

/// How often containers were started again: a part of the page `/metrics`, under the name that kube-state-metrics gave it.
pub(crate) fn restarts(all: &[Restarts]) -> String {
    let mut page = Page::default();
    page.family(
        "kube_pod_container_status_restarts_total",
        "counter",
        "How often the container was started again.",
        all.iter().map(|one| {
            let labels = format!(
                "{{namespace=\"{}\",pod=\"{}\",uid=\"{}\",container=\"{}\"}}",
                one.key.namespace, one.key.name, one.uid, one.container
            );
            (labels, one.count.to_string())
        }),
    );
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    /// Adds a metric with its samples: labels, and what follows them. One without samples is left out.
    fn family(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (String, String)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in samples {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

/// Names and uids need no escapes: the API takes none that would.
fn of_container(pod: &PodUsage, container: &ContainerUsage) -> String {
    format!(
        "{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}}",
        container.name, pod.key.namespace, pod.key.name
    )
}

fn of_pod(pod: &PodUsage) -> String {
    format!(
        "{{namespace=\"{}\",pod=\"{}\"}}",
        pod.key.namespace, pod.key.name
    )
}

fn timed(value: impl Display, at: i64) -> String {
    format!("{value} {at}")
}

fn seconds(at: Timestamp) -> String {
    Duration::try_from(at.duration_since(Timestamp::UNIX_EPOCH))
        .unwrap_or_default()
        .as_secs_f64()
        .to_string()
}

fn sum(pod: &PodUsage) -> Usage {
    let mut sum = Usage::default();
    for container in &pod.containers {
        sum.cpu = sum.cpu.saturating_add(container.used.cpu);
        sum.memory = sum.memory.saturating_add(container.used.memory);
    }
    sum
}

#[cfg(test)]
mod tests {
    use client::Key;

    use super::*;

    fn container(name: &str, cpu: u64, memory: u64) -> ContainerUsage {
        ContainerUsage {
            name: name.to_owned(),
            attempt: 0,
            started_at: Timestamp::from_millisecond(1_000_500).unwrap(),
            restarts: 0,
            used: Usage {
                cpu: Duration::from_millis(cpu),
                memory,
            },
        }
    }

    #[test]
    fn the_page_has_the_kubelets_names_and_labels() {
        let pod = PodUsage {
            key: Key::new("default", "p"),
            uid: "u".to_owned(),
            containers: vec![container("a", 250, 65_536), container("b", 1_000, 1)],
        };
        let node = Process {
            cpu: Duration::from_secs(3),
            memory: 4_096,
        };
        let at = Timestamp::from_millisecond(2_000_007).unwrap();
        let samples = |page: &str| -> Vec<String> {
            let lines = page.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect()
        };
        let page = page(at, node, std::slice::from_ref(&pod));
        assert_eq!(
            samples(&page),
            [
                r#"container_cpu_usage_seconds_total{container="a",namespace="default",pod="p"} 0.25 2000007"#,
                r#"container_cpu_usage_seconds_total{container="b",namespace="default",pod="p"} 1 2000007"#,
                r#"container_memory_working_set_bytes{container="a",namespace="default",pod="p"} 65536 2000007"#,
                r#"container_memory_working_set_bytes{container="b",namespace="default",pod="p"} 1 2000007"#,
                r#"container_start_time_seconds{container="a",namespace="default",pod="p"} 1000.5"#,
                r#"container_start_time_seconds{container="b",namespace="default",pod="p"} 1000.5"#,
                "node_cpu_usage_seconds_total 3 2000007",
                "node_memory_working_set_bytes 4096 2000007",
                r#"pod_cpu_usage_seconds_total{namespace="default",pod="p"} 1.25 2000007"#,
                r#"pod_memory_working_set_bytes{namespace="default",pod="p"} 65537 2000007"#,
                "resource_scrape_error 0",
            ]
        );
        assert!(page.starts_with("# HELP container_cpu_usage_seconds_total "));
        assert!(page.contains("\n# TYPE pod_memory_working_set_bytes gauge\n"));
        // Nothing runs.
        let idle = super::page(at, node, &[]);
        assert_eq!(samples(&idle).len(), 3, "{idle}");
    }

    #[test]
    fn restarts_have_the_labels_of_the_pods_state() {
        assert_eq!(restarts(&[]), "");
        let one = Restarts {
            key: Key::new("default", "p"),
            uid: "u".to_owned(),
            container: "c".to_owned(),
            count: 3,
        };
        assert!(restarts(&[one]).ends_with(
            "\nkube_pod_container_status_restarts_total{namespace=\"default\",pod=\"p\",uid=\"u\",container=\"c\"} 3\n"
        ));
    }
}
