//! A WASI preview 1 module as a server: Go's `net/http`.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use carob_tests::{Cluster, Outcome, check, left_out, succeed, until};
use libtest_mimic::Failed;

use crate::{nodes, ready, says};

/// Connections that are open at the same time, and requests by each.
const CONNECTIONS: usize = 8;
const REQUESTS: usize = 20;

/// A connection for one request after the other.
struct KeptAlive(BufReader<TcpStream>);

impl KeptAlive {
    fn open(address: &str) -> Result<Self, Failed> {
        let stream = TcpStream::connect(format!("{address}:30084"))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn ask(&mut self, request: &str, body: &[u8]) -> Result<Vec<u8>, Failed> {
        let head = format!(
            "{request} HTTP/1.1\r\nHost: gopher\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all(head.as_bytes())?;
        self.0.get_mut().write_all(body)?;
        self.answer()
    }

    fn line(&mut self) -> Result<String, Failed> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn answer(&mut self) -> Result<Vec<u8>, Failed> {
        let status = self.line()?;
        check(status == "HTTP/1.1 200 OK", &status)?;
        let mut length = None;
        loop {
            let header = self.line()?.to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = Some(value.parse()?);
            }
        }
        match length {
            Some(length) => self.bytes(length),
            None => self.chunks(),
        }
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Failed> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Failed> {
        let mut all = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.line()?, 16)?;
            all.extend(self.bytes(length)?);
            self.line()?;
            if length == 0 {
                return Ok(all);
            }
        }
    }

    /// Waits for the server to end it.
    fn ended(mut self) -> Result<bool, Failed> {
        match self.0.read(&mut [0]) {
            Ok(read) => Ok(read == 0),
            Err(error) => Ok(error.kind() == std::io::ErrorKind::ConnectionReset),
        }
    }
}

/// Asks again and again by one connection; gives who has answered.
fn visit(connection: &mut KeptAlive, number: usize) -> Result<BTreeSet<String>, Failed> {
    let body: Vec<u8> = (0..100_000).map(|n| (n + number) as u8).collect();
    let mut servers = BTreeSet::new();
    for _ in 0..REQUESTS {
        let greeting = String::from_utf8(connection.ask("GET /", b"")?)?;
        let server = greeting
            .strip_prefix("Hello: ")
            .and_then(|rest| rest.split(' ').next())
            .ok_or_else(|| greeting.clone())?;
        servers.insert(server.to_owned());
        let echoed = connection.ask("POST /echo", &body)?;
        check(echoed == body, format!("{} bytes came back", echoed.len()))?;
    }
    let ticks = String::from_utf8(connection.ask("GET /ticks", b"")?)?;
    check(ticks.lines().count() == 5, ticks)?;
    Ok(servers)
}

pub(crate) fn go(cluster: &Cluster) -> Outcome {
    let example = carob_tests::root().join("examples/go");
    if !example.join("server.wasm").exists() {
        return left_out("examples/go has no server.wasm; `cargo xtask packages` builds it");
    }
    succeed(
        cluster
            .carob_command(&["deploy", "--wait", "--timeout", "5m"])
            .arg(&example),
    )?;
    until("both are endpoints", Duration::from_secs(20), || {
        Ok(ready(cluster, "gopher")? == 2)
    })?;
    let nodes = nodes(cluster)?;
    // All are open before the first is used: one that waits for its next connection must not keep others waiting.
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        connections.push(KeptAlive::open(&nodes[number % nodes.len()].1)?);
    }
    let mut servers = BTreeSet::new();
    std::thread::scope(|scope| {
        let visits: Vec<_> = connections
            .iter_mut()
            .enumerate()
            .map(|(number, connection)| scope.spawn(move || visit(connection, number)))
            .collect();
        for visit in visits {
            let answered = visit.join().map_err(|_| "a client panicked")??;
            check(answered.len() == 1, format!("{answered:?} by one"))?;
            servers.extend(answered);
        }
        Ok::<_, Failed>(())
    })?;
    check(servers.len() == 2, format!("{servers:?}"))?;
    let (said, done) = says(cluster, "client", &nodes[1].0, "ask, 'gopher:80'")?;
    check(done && said.starts_with("Hello: gopher-"), said)?;
    for server in &servers {
        let log = cluster.carob(&format!("logs {server}"))?;
        check(log.contains("1 listeners; serving at the first"), log)?;
    }
    cluster.carob("delete deployment/gopher service/gopher configmap/gopher")?;
    for connection in connections {
        check(connection.ended()?, "a connection outlives its pod")?;
    }
    Ok(())
}
