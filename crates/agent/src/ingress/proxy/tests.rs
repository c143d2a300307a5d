//! Clients with real sockets, and pods of an in-process network behind the proxy.

mod last;
mod world;

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;

use futures::stream;
use futures::{FutureExt as _, StreamExt as _};
use http_body_util::StreamBody;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::*;
use world::{World, full, handler, text};

/// So little that tests may wait for it.
const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn requests_reach_the_pods_of_their_service() {
    let world = World::new(Limits::default()).await;
    world.pod(handler(|request| async move {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let field = |name: &str| {
            head.headers
                .get(name)
                .map_or("-", |v| v.to_str().expect("text"))
        };
        let seen = format!(
            "{} {} {} {} {} {} {:?}",
            head.method,
            head.uri,
            field("host"),
            field("x-forwarded-for"),
            field("x-forwarded-proto"),
            field("keep-alive"),
            body
        );
        let mut answer = Response::new(full(seen));
        for (name, value) in [("keep-alive", "timeout=5"), ("x-own", "1")] {
            answer
                .headers_mut()
                .insert(name, value.parse().expect("a value"));
        }
        answer
    }));
    let request = world.request("x", "/web/a?b=c").header("keep-alive", "9");
    let request = request
        .method(Method::POST)
        .body(full("hi"))
        .expect("a request");
    let answer = world.http1(request).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(
        (answer.headers().get("keep-alive"), answer.headers().len()),
        (None, 3)
    );
    let due = r#"POST /web/a?b=c x 127.0.0.1 http - b"hi""#;
    assert_eq!(text(answer).await, due);
    // The same by HTTP/2 and TLS, to the name in the certificate.
    let request = Request::builder()
        .uri("https://x/web/b")
        .body(full(""))
        .expect("a request");
    let answer = world.http2(request).await;
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(text(answer).await, r#"GET /web/b x 127.0.0.1 https - b"""#);
}

#[tokio::test]
async fn what_cannot_be_answered() {
    let limits = Limits {
        answer: SHORT,
        ..Limits::default()
    };
    let world = World::new(limits).await;
    world.pod(handler(|request| async move {
        match request.uri().path() {
            "/web/hangs" => futures::future::pending().await,
            // Nobody asked for that.
            _ => {
                let mut answer = Response::new(full(""));
                *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                answer
                    .headers_mut()
                    .insert("upgrade", "x".parse().expect("a value"));
                answer
            }
        }
    }));
    let _garbage = world.pod_that_says("no HTTP at all\r\n\r\n");
    for (host, path, due) in [
        ("y", "/web", StatusCode::NOT_FOUND),
        ("x", "/other", StatusCode::NOT_FOUND),
        ("x", "/resource", StatusCode::SERVICE_UNAVAILABLE),
        ("x", "/gone", StatusCode::SERVICE_UNAVAILABLE),
        ("x", "/closed", StatusCode::BAD_GATEWAY),
        ("x", "/garbage", StatusCode::BAD_GATEWAY),
        ("x", "/web/switches", StatusCode::BAD_GATEWAY),
        ("x", "/web/hangs", StatusCode::GATEWAY_TIMEOUT),
    ] {
        let request = world.request(host, path).body(full("")).expect("a request");
        let answer = world.http1(request).await;
        assert_eq!(answer.status(), due, "{host} {path}");
        assert!(text(answer).await.ends_with('\n'), "a word on why");
    }
    for (lines, due) in [
        (
            "GET /web HTTP/1.1\r\nhost: x\r\nhost: x\r\nconnection: close\r\n\r\n",
            "400",
        ),
        ("GET /web HTTP/1.1\r\nconnection: close\r\n\r\n", "400"),
        (
            "CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\nconnection: close\r\n\r\n",
            "405",
        ),
    ] {
        let answer = world.raw(lines).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {due} ")),
            "{lines} {answer}"
        );
    }
}

#[tokio::test]
async fn answers_come_as_they_are_made() {
    let world = World::new(Limits::default()).await;
    let (parts, waiting) = mpsc::unbounded_channel::<&'static str>();
    let waiting = Arc::new(parking_lot::Mutex::new(Some(waiting)));
    world.pod(handler(move |_| {
        let waiting = waiting.lock().take().expect("one request");
        let parts = stream::unfold(waiting, |mut waiting| async move {
            let part = waiting.recv().await?;
            Some((Ok(Frame::data(Bytes::from(part))), waiting))
        });
        async move { Response::new(StreamBody::new(parts).boxed_unsync()) }
    }));
    parts.send("one").expect("sent");
    let request = world
        .request("x", "/web")
        .body(full(""))
        .expect("a request");
    let mut body = world.http1(request).await.into_body();
    for next in [Some("two"), Some("three"), None] {
        let frame = body.frame().await.expect("a part").expect("no error");
        let part = frame.into_data().expect("data");
        assert!(matches!(&part[..], b"one" | b"two" | b"three"), "{part:?}");
        // Only now is there more.
        if let Some(next) = next {
            parts.send(next).expect("sent");
        }
    }
    drop(parts);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn who_does_not_read_holds_up_the_pod() {
    const PART: usize = 64 << 10;
    let world = World::new(Limits::default()).await;
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    world.pod(handler(move |_| {
        let count = count.clone();
        // More than any buffer on the way takes.
        let parts = stream::iter(0..16_384).map(move |_: u32| {
            count.fetch_add(PART, Ordering::Relaxed);
            Ok(Frame::data(Bytes::from(vec![0; PART])))
        });
        async move { Response::new(StreamBody::new(parts).boxed_unsync()) }
    }));
    let request = world
        .request("x", "/web")
        .body(full(""))
        .expect("a request");
    let answer = world.http1(request).await;
    tokio::time::sleep(2 * SHORT).await;
    let (then, most) = (made.load(Ordering::Relaxed), 64 << 20);
    assert!(then < most, "{then} bytes were made for nobody");
    drop(answer);
}

#[tokio::test]
async fn a_client_that_goes_takes_its_pods_connection_along() {
    let world = World::new(Limits::default()).await;
    let (gone, went) = oneshot::channel::<()>();
    let (asked, was_asked) = oneshot::channel::<()>();
    let once = Arc::new(parking_lot::Mutex::new(Some((gone, asked))));
    world.pod(handler(move |_| {
        let once = once.lock().take();
        async move {
            let (_dropped_with_the_connection, asked) = once.expect("one request");
            asked.send(()).expect("the test waits");
            futures::future::pending().await
        }
    }));
    let mut client = TcpStream::connect(world.at).await.expect("a connection");
    client
        .write_all(b"GET /web HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    was_asked.await.expect("asked");
    drop(client);
    let ended = tokio::time::timeout(Duration::from_secs(10), went).await;
    assert!(ended.expect("in time").is_err(), "its sender is gone");
}

#[tokio::test]
async fn connections_go_over_to_websockets() {
    let world = World::new(Limits::default()).await;
    world.pod(handler(|mut request| async move {
        let asked = request
            .headers()
            .get("upgrade")
            .cloned()
            .expect("an upgrade");
        let over = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(over.await.expect("over")));
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        });
        let mut answer = Response::new(full(""));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        headers::go_over(answer.headers_mut(), asked);
        answer
    }));
    let mut client = TcpStream::connect(world.at).await.expect("a connection");
    client
        .write_all(
            b"GET /web HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nearly,",
        )
        .await
        .expect("sent");
    let head = until(&mut client, b"\r\n\r\n").await;
    let head = String::from_utf8(head).expect("text");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("upgrade: websocket\r\n"), "{head}");
    client.write_all(b"late").await.expect("sent");
    client.shutdown().await.expect("no more");
    let mut echo = String::new();
    client.read_to_string(&mut echo).await.expect("an echo");
    assert_eq!(echo, "early,late");
}

#[tokio::test]
async fn connections_go_over_to_nothing_else() {
    let limits = Limits {
        idle: SHORT,
        ..Limits::default()
    };
    let world = World::new(limits).await;
    world.pod(handler(|request| async move {
        let own = ["upgrade", "http2-settings"].map(|name| request.headers().contains_key(name));
        let mut answer = Response::new(full(format!("{own:?}")));
        if request.uri().path() == "/web/other" {
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            headers::go_over(answer.headers_mut(), http::HeaderValue::from_static("h2c"));
        }
        answer
    }));
    // By rules and words of its own the client would go on to say who it is, and what it wants.
    let asked = "GET /web HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings, close\r\n\
        upgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    let answer = world.raw(asked).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("[false, false]"), "{answer}");
    let asked =
        "GET /web/other HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let answer = world.raw(asked).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[tokio::test]
async fn slow_clients_are_left() {
    let limits = Limits {
        head: SHORT,
        idle: 5 * SHORT,
        ..Limits::default()
    };
    let world = World::new(limits).await;
    world.pod(handler(|_| async { Response::new(full("ho")) }));
    for (lines, due, after) in [
        ("", "", SHORT),
        ("GET /web HT", "", SHORT),
        ("GET /web HTTP/1.1\r\nhost: x\r\nx-slow: ", "", SHORT),
        // One that asks for nothing more, and one that does not say what.
        ("GET /web HTTP/1.1\r\nhost: x\r\n\r\n", "ho", 5 * SHORT),
        (
            "GET /web HTTP/1.1\r\nhost: x\r\n\r\nGET /web HT",
            "ho",
            5 * SHORT,
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", SHORT),
    ] {
        let start = Instant::now();
        let answer = world.raw(lines).await;
        assert!(answer.contains(due), "{lines:?} {answer:?}");
        assert!(
            start.elapsed() >= after && start.elapsed() < 50 * SHORT,
            "{lines:?} {:?}",
            start.elapsed()
        );
    }
    let long = format!(
        "GET /web HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "y".repeat(2 * LARGEST_HEAD)
    );
    // What it is told may be lost, as nobody reads what it sends any more.
    assert!(!world.raw(&long).await.contains("ho"));
}

/// A request on a connection that may be used again, and the answer's last byte.
async fn asked(world: &World) -> TcpStream {
    let client = TcpStream::connect(world.at).await.expect("a connection");
    asked_on(client).await
}

async fn asked_on(mut client: TcpStream) -> TcpStream {
    let asked = b"GET /web HTTP/1.1\r\nhost: x\r\n\r\n";
    client.write_all(asked).await.expect("sent");
    until(&mut client, b"\r\n\r\nho").await;
    client
}

/// Reads as far as that.
async fn until(client: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        read.push(client.read_u8().await.expect("more"));
    }
    read
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(20), what).await;
    waited.expect("in time")
}

#[tokio::test]
async fn idle_clients_make_room_for_others() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let world = World::new(limits).await;
    world.pod(handler(|_| async { Response::new(full("ho")) }));
    let mut silent = TcpStream::connect(world.at).await.expect("a connection");
    let mut idle = soon(asked(&world)).await;
    let mut next = soon(asked(&world)).await;
    let ended = soon(silent.read(&mut [0])).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let _last = soon(asked(&world)).await;
    let ended = soon(idle.read(&mut [0])).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    // Those who were there later are there still.
    let more = b"GET /web HTTP/1.1\r\nhost: x\r\n\r\n";
    next.write_all(more).await.expect("sent");
    assert_eq!(soon(next.read_u8()).await.expect("an answer"), b'H');
}

#[tokio::test]
async fn idle_clients_make_room_where_the_node_has_no_more_sockets() {
    // Too few for parts: clients may have half of what nobody has.
    let world = World::with_sockets(5).await;
    world.pod(handler(|_| async { Response::new(full("ho")) }));
    let mut silent = TcpStream::connect(world.at).await.expect("a connection");
    let mut idle = soon(asked(&world)).await;
    let _next = soon(asked(&world)).await;
    let ended = soon(silent.read(&mut [0])).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let _last = soon(asked(&world)).await;
    let ended = soon(idle.read(&mut [0])).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test]
async fn who_does_not_read_is_left() {
    let limits = Limits {
        connections: 1,
        unread: SHORT,
        ..Limits::default()
    };
    let world = World::new(limits).await;
    world.pod(handler(|request| async move {
        if request.uri().path() == "/web" {
            return Response::new(full("ho"));
        }
        let parts = stream::repeat_with(|| Ok(Frame::data(Bytes::from(vec![0; 64 << 10]))));
        Response::new(StreamBody::new(parts).boxed_unsync())
    }));
    let mut stuck = TcpStream::connect(world.at).await.expect("a connection");
    let endless = b"GET /web/endless HTTP/1.1\r\nhost: x\r\n\r\n";
    stuck.write_all(endless).await.expect("sent");
    soon(stuck.readable()).await.expect("an answer begins");
    soon(asked(&world)).await;
    drop(stuck);
}

#[tokio::test]
async fn websockets_have_places_of_their_own() {
    let limits = Limits {
        connections: 1,
        upgraded: 1,
        ..Limits::default()
    };
    let world = World::new(limits).await;
    world.pod(handler(|mut request| async move {
        let Some(to) = request.headers().get("upgrade").cloned() else {
            return Response::new(full("ho"));
        };
        let over = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut over = TokioIo::new(over.await.expect("over"));
            let _ = over.read_u8().await;
        });
        let mut answer = Response::new(full(""));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        headers::go_over(answer.headers_mut(), to);
        answer
    }));
    let upgrade = async || {
        let mut client = TcpStream::connect(world.at).await.expect("a connection");
        let lines =
            b"GET /web HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        client.write_all(lines).await.expect("sent");
        let mut status = [0; 13];
        client.read_exact(&mut status).await.expect("an answer");
        (client, String::from_utf8_lossy(&status).into_owned())
    };
    let (_first, status) = soon(upgrade()).await;
    assert_eq!(status, "HTTP/1.1 101 ");
    let (second, status) = soon(upgrade()).await;
    assert_eq!(status, "HTTP/1.1 503 ");
    drop(second);
    soon(asked(&world)).await;
}

#[tokio::test]
async fn there_is_room_for_so_many_requests() {
    let limits = Limits {
        requests: 1,
        ..Limits::default()
    };
    let world = World::new(limits).await;
    let (end, wait) = oneshot::channel::<()>();
    let wait = wait.map(drop).shared();
    world.pod(handler(move |request| {
        let wait = wait.clone();
        async move {
            let slow = request.uri().path() == "/web/slow";
            let parts = stream::once(async move {
                if slow {
                    wait.await;
                }
                Ok(Frame::data(Bytes::from("ho")))
            });
            Response::new(StreamBody::new(parts).boxed_unsync())
        }
    }));
    let ask = |path: &str| world.http1(world.request("x", path).body(full("")).expect("a request"));
    let first = ask("/web/slow").await;
    assert_eq!(ask("/web").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    end.send(()).expect("the pod waits");
    assert_eq!(text(first).await, "ho");
    assert_eq!(ask("/web").await.status(), StatusCode::OK);
}
