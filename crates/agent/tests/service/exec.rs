//! Commands in containers, and containers' own terminals.

use std::net::SocketAddr;

use client::Client;
use client::node::node_client::NodeClient;
use client::node::{
    BreakOffRequest, ExecRequest, ExecResponse, ExecStart, ExecStdinEnd, ExecTarget, LogsRequest,
    TerminalSize, exec_request, exec_response,
};
use client::tls::Identity;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::Code;

use super::{read, until};

/// A command that runs, or is over: what is asked of it, and what it says.
pub(super) struct Exec {
    requests: mpsc::Sender<ExecRequest>,
    responses: tonic::Streaming<ExecResponse>,
}

impl Exec {
    pub(super) async fn begin(
        address: SocketAddr,
        identity: &Identity,
        target: ExecTarget,
    ) -> Result<Self, Code> {
        let accepted = Self::accepted(address, identity, target).await?;
        accepted.start().await;
        Ok(accepted)
    }

    /// One that is not started yet.
    async fn accepted(
        address: SocketAddr,
        identity: &Identity,
        target: ExecTarget,
    ) -> Result<Self, Code> {
        let channel = client::node::channel(address, identity).unwrap();
        let (requests, mut queue) = mpsc::channel(1);
        let queue = futures::stream::poll_fn(move |cx| queue.poll_recv(cx));
        let first = exec_request::What::Target(target);
        let begun = async {
            requests.send(asked(first)).await.unwrap();
            NodeClient::new(channel).exec(queue).await
        };
        let responses = begun.await.map_err(|status| status.code())?.into_inner();
        Ok(Self {
            requests,
            responses,
        })
    }

    async fn start(&self) {
        self.ask(exec_request::What::Start(ExecStart {})).await;
    }

    async fn ask(&self, what: exec_request::What) {
        self.requests.send(asked(what)).await.unwrap();
    }

    /// What it prints next to its standard output.
    async fn shown(&mut self) -> String {
        let said = self.responses.message().await.unwrap().unwrap().what;
        let Some(exec_response::What::Stdout(bytes)) = said else {
            panic!("{said:?}");
        };
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// What it prints to its standard output until its end, and its exit code or why it has none.
    async fn ended(&mut self) -> (String, Result<i32, Code>) {
        let mut out = Vec::new();
        let exit = loop {
            match self
                .responses
                .message()
                .await
                .map(|r| r.and_then(|r| r.what))
            {
                Ok(Some(exec_response::What::Stdout(bytes))) => out.extend_from_slice(&bytes),
                Ok(Some(exec_response::What::Exit(code))) => break Ok(code),
                Ok(other) => panic!("{other:?}"),
                Err(status) => break Err(status.code()),
            }
        };
        (String::from_utf8(out).unwrap(), exit)
    }
}

fn asked(what: exec_request::What) -> ExecRequest {
    ExecRequest { what: Some(what) }
}

/// A command in a container, with all streams.
pub(super) fn command(container: &str, words: &[&str]) -> ExecTarget {
    ExecTarget {
        namespace: "default".into(),
        pod: "p".into(),
        container: container.into(),
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        stdin: true,
        stdout: true,
        stderr: true,
        ..ExecTarget::default()
    }
}

/// Commands in the container `steady`, which runs, and in others.
pub(super) async fn commands(address: SocketAddr, server: &Identity) {
    let begin = async |container: &str, words: &[&str]| {
        Exec::begin(address, server, command(container, words)).await
    };
    let mut copy = begin("steady", &["x", "read", "exit 3"]).await.unwrap();
    let bytes = exec_request::What::Stdin("hi".into());
    copy.requests.send(asked(bytes)).await.unwrap();
    let end = exec_request::What::StdinEnd(ExecStdinEnd {});
    copy.requests.send(asked(end)).await.unwrap();
    assert_eq!(copy.ended().await, ("hi".to_owned(), Ok(3)));
    for (container, words, code) in [
        ("none", &["x"][..], Code::NotFound),
        ("main", &["x"], Code::FailedPrecondition),
        ("never", &["x"], Code::FailedPrecondition),
        ("steady", &[], Code::InvalidArgument),
    ] {
        let refused = begin(container, words).await.map(drop).unwrap_err();
        assert_eq!(refused, code, "{container} {words:?}");
    }
    // As many as may run at once in a pod.
    let mut all = Vec::new();
    for _ in 0..8 {
        all.push(begin("steady", &["x", "forever"]).await.unwrap());
    }
    let refused = begin("steady", &["x"]).await.map(drop).unwrap_err();
    assert_eq!(refused, Code::ResourceExhausted);
    // Who goes makes room.
    let Exec {
        requests,
        mut responses,
    } = all.remove(0);
    drop(requests);
    let ended = responses.message().await;
    assert_eq!(ended.unwrap_err().code(), Code::Cancelled);
    let target = ExecTarget {
        call: 9,
        ..command("steady", &["x", "forever"])
    };
    let mut last = Exec::begin(address, server, target).await.unwrap();
    let channel = client::node::channel(address, server).unwrap();
    let mut client = NodeClient::new(channel);
    let broken_off = client.break_off(BreakOffRequest { call: 9 }).await;
    broken_off.unwrap();
    assert_eq!(last.ended().await.1, Err(Code::Cancelled));
}

/// Who is attached to the terminal of the container `console` of a pod.
fn console(pod: &str) -> ExecTarget {
    ExecTarget {
        pod: pod.into(),
        attach: true,
        ..command("console", &[])
    }
}

/// Terminals of containers: who types there, what is shown, and what becomes of it.
pub(super) async fn terminals(
    address: SocketAddr,
    server: &Identity,
    client: &Client,
    image: &str,
) {
    let create = async |name: &str, script: &str| {
        let container = json!({"name": "console", "image": image, "stdin": true, "tty": true,
            "args": script.split("; ").collect::<Vec<_>>()});
        let pod = json!({"metadata": {"name": name, "namespace": "default"},
            // Its log is that of the instance that somebody was attached to.
            "spec": {"nodeName": "n1", "restartPolicy": "Never", "containers": [container]}});
        let pod = serde_json::from_value(pod).unwrap();
        client.of::<Pod>().create(&pod).await.unwrap();
        until(async || Exec::begin(address, server, console(name)).await.is_ok()).await;
        Exec::begin(address, server, console(name)).await.unwrap()
    };
    let stdin = |keys: &'static str| exec_request::What::Stdin(keys.into());
    // Lines are edited, everything is echoed, and both outputs are one.
    let mut typed = create("typed", "read; eprint bye; exit 3").await;
    let size = TerminalSize {
        width: 90,
        height: 30,
    };
    typed.ask(exec_request::What::Size(size)).await;
    typed.ask(stdin("t")).await;
    assert_eq!(typed.shown().await, "t");
    let mut other = Exec::begin(address, server, console("typed"))
        .await
        .unwrap();
    // Whose line is his own.
    other.ask(stdin("y")).await;
    assert_eq!(other.shown().await, "y");
    assert_eq!(typed.shown().await, "y");
    for keys in ["ab\x7fc\r", "\x04"] {
        typed.ask(stdin(keys)).await;
    }
    // Who else is attached sees the same, and so does who reads the log.
    let shown = "ab\u{8} \u{8}c\r\ntac\r\nbye\r\n";
    for attached in [&mut typed, &mut other] {
        assert_eq!(attached.ended().await, (shown.to_owned(), Ok(0)));
    }
    let log = LogsRequest {
        namespace: "default".into(),
        pod: "typed".into(),
        container: "console".into(),
        ..LogsRequest::default()
    };
    assert_eq!(
        read(address, server, log).await.unwrap(),
        format!("ty{shown}")
    );
    let ended = async |pod: &str, code: i64| {
        let pod = client.of::<Pod>().get("default", pod).await.unwrap();
        let status = serde_json::to_value(pod.status).unwrap();
        let status: &Value = &status["containerStatuses"][0];
        status["state"]["terminated"]["exitCode"] == code
    };
    until(async || ended("typed", 3).await).await;
    // ^C ends what handles no termination.
    let mut interrupted = create("interrupted", "forever").await;
    interrupted.ask(stdin("x\x03")).await;
    assert_eq!(interrupted.ended().await, ("x^C".to_owned(), Ok(0)));
    until(async || ended("interrupted", 130).await).await;
    // Who goes away ends nothing.
    drop(create("left", "read; print on; forever").await);
    let mut next = Exec::begin(address, server, console("left")).await.unwrap();
    let mut late = Exec::accepted(address, server, console("left"))
        .await
        .unwrap();
    next.ask(stdin("\x04")).await;
    assert_eq!(next.shown().await, "on\r\n");
    // Nor is anything lost to who is slow to come.
    late.start().await;
    assert_eq!(late.shown().await, "on\r\n");
    // Where there is no terminal nobody is attached to one.
    let target = ExecTarget {
        attach: true,
        ..command("steady", &[])
    };
    let refused = Exec::begin(address, server, target).await.map(drop);
    assert_eq!(refused.unwrap_err(), Code::FailedPrecondition);
    let unknown = Exec::begin(address, server, console("nobody")).await;
    assert_eq!(unknown.map(drop).unwrap_err(), Code::NotFound);
}
