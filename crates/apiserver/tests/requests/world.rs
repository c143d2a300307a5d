//! A server with something of many kinds in it, and who asks it. All of it runs on the test's own thread, so that
//! what a request costs is counted there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::Transport;
use client::https::HttpsTransport;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::harness::now;
use crate::memory;
use crate::server::Server;

/// How long an answer may take: longer than the longest wait that a request may ask for, which is three seconds
/// for a version that is yet to come.
const LONGEST: Duration = Duration::from_secs(10);
/// What any request may cost, however short it is: all that YAML's aliases may add to it.
const FREE_BYTES: usize = 64 << 20;
/// What each byte of a body may cost: it is decoded, stored, and kept as it was and as it became.
const BYTES_PER_BYTE: usize = 128;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Admin,
    /// Known, and without a right.
    Nobody,
    /// Without a certificate, over HTTPS.
    Anonymous,
}

/// What came back. The body is only read of a refusal: others may go on for ever.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|e| format!("{e}: {}", self.text()))
    }
}

/// The server and its callers.
pub(crate) struct World {
    pub(crate) server: Server,
    admin: Arc<dyn Transport>,
    nobody: Arc<dyn Transport>,
    anonymous: Arc<dyn Transport>,
    pub(crate) url: String,
    /// Behind the server: what it runs on goes last.
    runtime: Runtime,
    _stop: CancellationToken,
}

impl World {
    pub(crate) fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (server, url, stop) = runtime.block_on(async {
            let server = Server::start().await;
            seed(&server).await;
            let (url, stop) = server.listen().await;
            (server, url, stop)
        });
        let tls = client::tls::anonymous_config(server.ca.certificate()).unwrap();
        let anonymous = runtime.block_on(async { HttpsTransport::new([url.as_str()], tls) });
        Self {
            admin: server.server.transport("admin", ["system:masters"]),
            nobody: server.server.transport("nobody", ["system:authenticated"]),
            anonymous: Arc::new(anonymous.unwrap()),
            server,
            url,
            runtime,
            _stop: stop,
        }
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The answer to a request, of which only a refusal's body is read.
    ///
    /// # Errors
    /// None comes in time, or the task that made it panicked.
    pub(crate) fn ask(&self, who: Who, request: Request<Bytes>) -> Result<Answer, String> {
        self.send(self.transport(who), request, false)
    }

    /// The answer, read whole.
    pub(crate) fn read(&self, who: Who, request: Request<Bytes>) -> Result<Answer, String> {
        self.send(self.transport(who), request, true)
    }

    /// The answer to somebody else, read whole.
    pub(crate) fn send(
        &self,
        transport: &Arc<dyn Transport>,
        request: Request<Bytes>,
        whole: bool,
    ) -> Result<Answer, String> {
        let transport = Arc::clone(transport);
        let answering = async move {
            let response = transport.send(request).await.map_err(|e| e.to_string())?;
            let (head, body) = response.into_parts();
            let code = head.status.as_u16();
            let body = match whole || code >= 400 {
                true => body.collect().await.map_err(|e| e.to_string())?.to_bytes(),
                false => Bytes::new(),
            };
            Ok(Answer {
                code,
                headers: head.headers,
                body,
            })
        };
        let begin = now();
        let answer = self.block_on(async {
            // A task of its own, as each connection has: its panic is an error here.
            let task = tokio::time::timeout(LONGEST, tokio::spawn(answering));
            let joined = task.await.map_err(|_| "no answer in time".to_owned())?;
            joined.map_err(|e| e.to_string())?
        });
        // A task that never waits is not stopped.
        match begin.elapsed() {
            took if took > LONGEST => Err(format!("it took {took:?}")),
            _ => answer,
        }
    }

    /// [`World::ask`], held to what a body of this length may cost.
    pub(crate) fn ask_bounded(&self, who: Who, request: Request<Bytes>) -> Result<Answer, String> {
        let length = request.body().len();
        let (answer, bytes) = memory::most(|| self.ask(who, request));
        if bytes > FREE_BYTES + length * BYTES_PER_BYTE {
            return Err(format!("{length} bytes made {bytes} of memory"));
        }
        answer
    }

    /// The store's: it moves when anything is written.
    pub(crate) fn revision(&self) -> u64 {
        self.server.store.state().revision()
    }

    fn transport(&self, who: Who) -> &Arc<dyn Transport> {
        match who {
            Who::Admin => &self.admin,
            Who::Nobody => &self.nobody,
            Who::Anonymous => &self.anonymous,
        }
    }
}

/// Something to change, of the kinds that the paths of the tests name.
async fn seed(server: &Server) {
    let default = "/api/v1/namespaces/default";
    let containers = json!([{"name": "a", "image": "a"}]);
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}});
    for (path, spec) in [
        (format!("{default}/configmaps"), json!({"data": {"k": "v"}})),
        (format!("{default}/secrets"), json!({"data": {"k": "dg=="}})),
        (format!("{default}/serviceaccounts"), json!({})),
        (
            format!("{default}/pods"),
            json!({"spec": {"containers": containers}}),
        ),
        (
            format!("{default}/services"),
            json!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}),
        ),
        (
            "/apis/apps/v1/namespaces/default/deployments".to_owned(),
            json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}),
        ),
        ("/api/v1/nodes".to_owned(), json!({})),
    ] {
        let mut body = spec;
        body["metadata"] = json!({"name": "a"});
        server.post(&path, body).await.expect(201);
    }
}
