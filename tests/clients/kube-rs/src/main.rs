//! kube-rs as it comes, leading into pods.
//!
//!     kube-rs KUBECONFIG POD PORT CLOSED
//!
//! Asks the pod by HTTP at PORT, through two connections at once of one forwarding and then through another, and prints the
//! answers; then what is said of CLOSED, a port where nobody listens, and of a pod that is not there.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [kubeconfig, pod, port, closed] = words.as_slice() else {
        bail!("usage: kube-rs KUBECONFIG POD PORT CLOSED");
    };
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let pods: Api<Pod> = Api::default_namespaced(Client::try_from(config)?);
    let all = lead(&pods, pod, port.parse()?, closed.parse()?);
    tokio::time::timeout(PATIENCE, all)
        .await
        .context("it hangs")?
}

async fn lead(pods: &Api<Pod>, pod: &str, port: u16, closed: u16) -> Result<()> {
    for _ in 0..2 {
        let mut forward = pods.portforward(pod, &[port, closed]).await?;
        let mut stream = forward.take_stream(port).context("no stream")?;
        println!("{}", ask(&mut stream).await?.trim());
        let error = forward.take_error(closed).context("no errors")?.await;
        println!("{closed}: {}", error.context("nothing is said")?);
        drop(stream);
        // The server ends what has nothing left to lead to, and does not wait to be told.
        forward.abort();
    }
    let absent = pods.portforward("absent", &[port]).await;
    let Err(error) = absent else {
        bail!("a pod that is not there is led to");
    };
    println!("absent: {error}");
    Ok(())
}

/// Asks by HTTP and reads the answer as far as its head says.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<String> {
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "));
            let length: usize = length.context("no length")?.parse()?;
            if body.len() >= length {
                return Ok(body.to_owned());
            }
        }
        let read = stream.read_buf(&mut answer).await?;
        ensure!(read > 0, "it ends early: {text}");
    }
}
