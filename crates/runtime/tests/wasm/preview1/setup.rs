//! A preview 1 guest that accepts connections, driven step by step.

use std::net::SocketAddrV4;
use std::time::Duration;

use bytes::Bytes;
use network::pipe::{Reader, Writer, pipe};
use network::{Network, PodNet, Stream};
use runtime::{Exit, Module, Running, Runtime as _, Served, Stdin, Workload};

use crate::support::{Bench, ended, script};

/// How long anything may take that is waited for.
const LONG: Duration = Duration::from_secs(30);

/// A guest with a listener at 80, whose steps' answers are its lines of standard output.
pub(crate) struct Guest {
    pub(crate) bench: Bench,
    pub(crate) running: Running,
    pub(crate) pod: PodNet,
    /// A pod to call it from.
    pub(crate) other: PodNet,
    stdin: Writer,
    stdout: Reader,
    rest: Vec<u8>,
}

impl Guest {
    pub(crate) async fn play(steps: &[&str]) -> Self {
        Self::play_with(steps, |_, _| ()).await
    }

    pub(crate) async fn play_with(
        steps: &[&str],
        change: impl FnOnce(&Bench, &mut Workload),
    ) -> Self {
        let bench = Bench::new();
        let module = bench.acceptor().await;
        Self::of(bench, module, steps, change)
    }

    /// A guest that takes part in its termination.
    pub(crate) async fn play_draining(steps: &[&str]) -> Self {
        let bench = Bench::new();
        let module = bench.draining_acceptor().await;
        Self::of(bench, module, steps, |_, _| ())
    }

    fn of(
        bench: Bench,
        module: Module,
        steps: &[&str],
        change: impl FnOnce(&Bench, &mut Workload),
    ) -> Self {
        let node = Network::new("10.128.0.0/24".parse().unwrap());
        let (pod, other) = (node.join("one").unwrap(), node.join("two").unwrap());
        let (mut workload, _) = script(&module, steps);
        let (writer, stdout) = pipe(1 << 20);
        let (stdin, reader) = pipe(1 << 10);
        workload.stdout = Box::new(writer);
        workload.stdin = Stdin::Pipe(reader);
        workload.net = Some(pod.clone());
        workload.serve = vec![Served::from(80)];
        change(&bench, &mut workload);
        let running = bench.runtime.start(workload).unwrap();
        Self {
            bench,
            running,
            pod,
            other,
            stdin,
            stdout,
            rest: Vec::new(),
        }
    }

    /// The next step's answer.
    pub(crate) async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return String::from_utf8_lossy(&line[..end]).into_owned();
            }
            let more = tokio::time::timeout(LONG, self.stdout.read(1 << 10));
            let more = more.await.expect("a line").unwrap();
            let Some(more) = more else {
                panic!("it has ended: {:?}", self.running.wait().await);
            };
            self.rest.extend_from_slice(&more);
        }
    }

    /// The answers of the next steps are these.
    pub(crate) async fn answers(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.line().await, *expected);
        }
    }

    /// Lets it go on from a `wait`.
    pub(crate) async fn go_on(&mut self) {
        self.type_in("\n");
        self.answers(&["goes on"]).await;
    }

    pub(crate) fn type_in(&self, text: &'static str) {
        self.stdin
            .write(Bytes::from_static(text.as_bytes()))
            .unwrap();
    }

    pub(crate) async fn connect(&self) -> Stream {
        self.connect_at(80).await
    }

    pub(crate) async fn connect_at(&self, port: u16) -> Stream {
        let at = SocketAddrV4::new(self.pod.address(), port);
        let connected = tokio::time::timeout(LONG, self.other.connect(at));
        connected.await.expect("it connects").unwrap()
    }

    /// It ends well, and has no more to say.
    pub(crate) async fn ends(mut self) {
        assert_eq!(ended(&self.running).await, Exit::Code(0));
        let rest = self.stdout.read(1 << 10).await.unwrap();
        assert_eq!((rest, self.rest.drain(..).next()), (None, None));
    }
}

pub(crate) async fn say(stream: &Stream, text: &'static str) {
    let bytes = Bytes::from_static(text.as_bytes());
    stream.writer.send(bytes).await.unwrap();
}

/// What comes until the stream's end.
pub(crate) async fn hear(stream: &Stream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let all = async {
        while let Some(more) = stream.reader.read(1 << 16).await.unwrap() {
            bytes.extend_from_slice(&more);
        }
    };
    tokio::time::timeout(LONG, all).await.expect("the end");
    bytes
}
