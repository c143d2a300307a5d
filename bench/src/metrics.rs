//! What an agent says of itself, asked through the API.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bytes::Bytes;
use client::Client;
use http::Request;

/// A page of ten thousand pods is smaller.
const PAGE: usize = 64 << 20;

/// Reads a page of a node's agent: `metrics`, or `metrics/resource`.
pub async fn page(client: &Client, node: &str, page: &str) -> Result<String> {
    let path = format!("/api/v1/nodes/{node}/proxy/{page}");
    let answer = client
        .raw(Request::get(&path).body(Bytes::new())?)
        .await
        .with_context(|| format!("cannot read {path}"))?;
    let bytes = client::collect(answer.into_body(), PAGE).await?;
    String::from_utf8(bytes.to_vec()).with_context(|| format!("{path} is no text"))
}

/// The value of a metric that has no labels.
pub fn value(page: &str, name: &str) -> Result<f64> {
    let mut samples = page.lines().filter_map(|line| line.split_once(' '));
    let value = samples.find_map(|(series, rest)| (series == name).then_some(rest));
    let value = value.with_context(|| format!("there is no {name}"))?;
    number(value).with_context(|| format!("{name} is {value:?}"))
}

/// What a node's pods had used at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Used {
    /// When, in seconds since 1970.
    pub at: f64,
    /// CPU seconds of each pod, by its name.
    pub pods: BTreeMap<String, f64>,
    /// CPU seconds of the agent's whole process, as the system counts them.
    pub process: f64,
}

impl Used {
    /// Asks a node's agent.
    pub async fn read(client: &Client, node: &str) -> Result<Self> {
        Self::parse(&page(client, node, "metrics/resource").await?)
    }

    fn parse(page: &str) -> Result<Self> {
        let process = "node_cpu_usage_seconds_total ";
        let process = page.lines().find_map(|line| line.strip_prefix(process));
        let process = process.context("the agent does not say what it used")?;
        let (used, at) = process.split_once(' ').context("it does not say when")?;
        let mut pods = BTreeMap::new();
        for line in page.lines() {
            let Some(sample) = line.strip_prefix("pod_cpu_usage_seconds_total{") else {
                continue;
            };
            let (labels, rest) = sample.split_once("} ").context(sample.to_owned())?;
            let mut labels = labels.split(',');
            let name = labels.find_map(|label| label.strip_prefix("pod=\""));
            let name = name.with_context(|| format!("{line} names no pod"))?;
            let used = number(rest).with_context(|| line.to_owned())?;
            pods.insert(name.trim_end_matches('"').to_owned(), used);
        }
        Ok(Self {
            at: at.trim().parse::<f64>()? / 1e3,
            pods,
            process: used.parse()?,
        })
    }

    /// What a pod has used.
    pub fn of(&self, pod: &str) -> Result<f64> {
        let used = self.pods.get(pod).copied();
        used.with_context(|| format!("the agent says nothing of the pod {pod}"))
    }
}

/// A sample's value, before its time if it has one.
fn number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read() {
        let page = "# HELP a b\n# TYPE a gauge\na 3\na_b 4 1000\n";
        assert_eq!(value(page, "a").unwrap(), 3.0);
        assert_eq!(value(page, "a_b").unwrap(), 4.0);
        assert!(value(page, "b").is_err());
    }

    #[test]
    fn what_pods_used_is_read() {
        let page = "node_cpu_usage_seconds_total 7.5 1795428000123\n\
            pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"x\"} 0.25 1795428000123\n\
            pod_memory_working_set_bytes{namespace=\"default\",pod=\"x\"} 65536 1795428000123\n";
        let used = Used::parse(page).unwrap();
        assert_eq!((used.at, used.process), (1_795_428_000.123, 7.5));
        assert_eq!(used.of("x").unwrap(), 0.25);
        assert!(used.of("y").is_err());
        assert!(Used::parse("").is_err());
    }
}
