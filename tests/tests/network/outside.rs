//! From the host into the pods' network, and through what stands in front of it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use carob_tests::{Cluster, Outcome, check, succeed, until};
use libtest_mimic::Failed;

use crate::{ask, nodes, pod, ready, says, talker};

pub(crate) fn node_ports(cluster: &Cluster) -> Outcome {
    let port = cluster.get("services/web")?["spec"]["ports"][0]["nodePort"].clone();
    for (_, address) in nodes(cluster)? {
        let mut servers = BTreeSet::new();
        for _ in 0..6 {
            let answer = ask(&address, &port)?;
            servers.insert(answer.split(' ').next().unwrap_or_default().to_owned());
        }
        check(servers.len() == 3, format!("{servers:?}"))?;
    }
    // A port of one node for one pod, and a load balancer's own port at all of them.
    let (name, address) = nodes(cluster)?[1].clone();
    let server = talker(
        "serve, '8080'",
        ", ports: [{containerPort: 8080, hostPort: 18080}]",
    );
    cluster.apply(&pod("own", "app: own", &name, "", &server))?;
    until(
        "the pod's own port is served",
        Duration::from_secs(10),
        || Ok(ask(&address, &18_080.into()).is_ok_and(|answer| answer.starts_with("own on"))),
    )?;
    cluster.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: balanced},
          spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 18081, targetPort: 8080}]}}",
    )?;
    until("the load balancer answers", Duration::from_secs(10), || {
        let status = cluster.get("services/balanced")?["status"].clone();
        let ingress = status["loadBalancer"]["ingress"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(ingress.len() == 3 && ask(&address, &18_081.into()).is_ok())
    })?;
    // Inside a pod the node's address means the same.
    let (said, done) = says(cluster, "client", &name, &format!("ask, '{address}:18080'"))?;
    check(done && said.starts_with("own on"), said)?;
    taken(cluster, &address)?;
    cluster.carob("delete pod/own service/balanced").map(drop)
}

/// A port that somebody else has is named.
fn taken(cluster: &Cluster, address: &str) -> Outcome {
    let taken = std::net::TcpListener::bind((address, 0))?;
    let port = taken.local_addr()?.port();
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: balanced}}, spec: {{type: LoadBalancer, selector: {{app: web}},
          ports: [{{port: {port}, targetPort: 8080}}]}}}}"
    ))?;
    let named = format!("TCP port {port} is not served at {address}");
    until(
        "the condition names the port",
        Duration::from_secs(10),
        || {
            let status = cluster.get("services/balanced")?["status"].clone();
            Ok(status["conditions"][0]["message"] == named.as_str())
        },
    )?;
    until("an event does", Duration::from_secs(10), || {
        let events = cluster.carob("get events")?;
        Ok(events.contains(&format!("cannot serve TCP {address}:{port}")))
    })?;
    drop(taken);
    until(
        "it is served once it is free",
        Duration::from_secs(20),
        || {
            let status = cluster.get("services/balanced")?["status"].clone();
            Ok(status["conditions"].is_null() && ask(address, &port.into()).is_ok())
        },
    )
}

/// A question for the address of `web.default.svc.cluster.local`.
fn question() -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["web", "default", "svc", "cluster", "local", ""] {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 1, 0, 1]);
    message
}

pub(crate) fn dns(cluster: &Cluster) -> Outcome {
    let web = cluster.get("services/web")?["spec"]["clusterIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let address: std::net::Ipv4Addr = web.parse()?;
    cluster.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: kube-dns, namespace: kube-system}, spec: {type: NodePort}}",
    )?;
    let ports = cluster.get("services/kube-dns -n kube-system")?["spec"]["ports"].clone();
    let (udp, tcp) = (&ports[0]["nodePort"], &ports[1]["nodePort"]);
    for (_, node) in nodes(cluster)? {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut answer = [0; 1500];
        let mut length = 0;
        until("datagrams are answered", Duration::from_secs(10), || {
            socket.send_to(&question(), format!("{node}:{udp}"))?;
            length = socket.recv(&mut answer).unwrap_or(0);
            Ok(length > 0)
        })?;
        check(
            answer[..length].ends_with(&address.octets()),
            format!("{:?}", &answer[..length]),
        )?;
        let mut stream = TcpStream::connect(format!("{node}:{tcp}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(&[&[0, question().len() as u8][..], &question()].concat())?;
        let mut answer = vec![0; 2 + length];
        stream.read_exact(&mut answer)?;
        check(answer.ends_with(&address.octets()), format!("{answer:?}"))?;
    }
    Ok(())
}

pub(crate) fn functions(cluster: &Cluster) -> Outcome {
    let functions = carob_tests::root().join("examples/functions");
    succeed(cluster.carob_command(&["deploy", "--wait"]).arg(functions))?;
    until("both are endpoints", Duration::from_secs(20), || {
        Ok(ready(cluster, "hello")? == 2)
    })?;
    let (_, address) = nodes(cluster)?[2].clone();
    let mut stream = TcpStream::connect(format!("{address}:30081"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(
        b"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nabcde",
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    check(
        answer.starts_with("HTTP/1.1 200") && answer.contains("abcde"),
        &answer,
    )?;
    let (said, done) = says(cluster, "client", &nodes(cluster)?[0].0, "ask, 'hello:80'")?;
    check(done && said.contains("says hello to /"), said)
}

pub(crate) fn ingress(cluster: &Cluster) -> Outcome {
    cluster.apply(
        "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: shop}, spec: {rules: [{host: shop.example, http: {paths: [
          {path: /fn, pathType: Prefix, backend: {service: {name: hello, port: {name: http}}}},
          {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}}",
    )?;
    let mut port = String::new();
    until("the status says where", Duration::from_secs(10), || {
        let ingress = cluster.get("ingresses/shop")?["status"]["loadBalancer"]["ingress"].clone();
        port = ingress[0]["ports"][0]["port"].to_string();
        Ok(ingress.as_array().is_some_and(|all| all.len() == 3))
    })?;
    let class = &cluster.get("ingresses/shop")?["spec"]["ingressClassName"];
    check(class == "carob", class)?;
    let status = cluster.status()?;
    let told = status["nodes"][0]["ingress"]["http"].to_string();
    check(told == port, &status)?;
    let ask = |address: &str, host: &str, path: &str| -> Result<String, Failed> {
        let mut stream = TcpStream::connect(format!("{address}:{port}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    for (_, address) in nodes(cluster)? {
        for (host, path, due) in [
            ("shop.example", "/", "web-"),
            ("shop.example", "/fn/x", "says hello to /fn/x"),
            ("other.example", "/", "404 Not Found"),
        ] {
            let answer = ask(&address, host, path)?;
            check(
                answer.contains(due),
                format!("{host}{path} at {address}: {answer}"),
            )?;
        }
    }
    cluster.carob("delete ingress/shop").map(drop)
}

pub(crate) fn kubectl(cluster: &Cluster) -> Outcome {
    if !carob_tests::has_kubectl() {
        return Ok(());
    }
    let port = carob_tests::free_port()?;
    let mut forward = cluster
        .kubectl_command(&format!("port-forward service/web {port}:80"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let answered = until(
        "the forwarded port answers",
        Duration::from_secs(15),
        || Ok(ask("127.0.0.1", &port.into()).is_ok_and(|answer| answer.starts_with("web-"))),
    );
    forward.kill()?;
    forward.wait()?;
    answered?;
    let by_proxy =
        cluster.kubectl("get --raw /api/v1/namespaces/default/services/web:http/proxy/")?;
    check(by_proxy.starts_with("web-"), by_proxy)
}

pub(crate) fn port_forward(cluster: &Cluster) -> Outcome {
    let mut forward = cluster
        .carob_command(&["port-forward", "service/web", ":80"])
        .stdout(Stdio::piped())
        .spawn()?;
    let forwarded = forwards(&mut forward);
    // Ctrl-C is its end.
    let pid = forward.id().to_string();
    let interrupted = succeed(Command::new("kill").args(["-INT", &pid]));
    let ended = forward.wait()?;
    forwarded?;
    interrupted?;
    check(ended.success(), ended)?;
    let why = cluster.carob_fails("port-forward service/web 81")?;
    check(why.contains("service web has no TCP port 81"), why)
}

/// Whether a `carob port-forward` of the Service `web` says what it does, and does it.
fn forwards(forward: &mut Child) -> Outcome {
    let said = forward.stdout.take().ok_or("its output is not read")?;
    let mut said = BufReader::new(said).lines();
    let line = said.next().ok_or("it says where")??;
    let port = line.strip_prefix("Forwarding from 127.0.0.1:");
    let port = port.and_then(|rest| rest.strip_suffix(" -> 8080"));
    let port = port.ok_or_else(|| line.clone())?;
    let answer = ask("127.0.0.1", &port.parse::<u16>()?.into())?;
    check(answer.starts_with("web-"), answer)?;
    let line = said.next().ok_or("it says when")??;
    check(line == format!("Handling connection for {port}"), line)
}
