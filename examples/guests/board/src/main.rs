//! A notice board over HTTP: hyper, on a listening socket of its own.
//!
//! `GET /` gives the notes that were pinned, `POST /` pins one. `POST /echo` returns the body as it comes, `POST /measure`
//! says how long it was, and `/slow` answers after a second, while others are answered at once. POD_NAME says who does, PORT
//! where it listens.

mod io;

use std::cell::RefCell;
use std::convert::Infallible;
use std::env;
use std::future::poll_fn;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

type Answer = Response<BoxBody<Bytes, hyper::Error>>;
type Served = Pin<Box<dyn Future<Output = hyper::Result<()>>>>;

thread_local! {
    /// What is pinned: while the process lives.
    static NOTES: RefCell<String> = RefCell::default();
}

fn main() -> std::io::Result<()> {
    let port = env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    listener.set_nonblocking(true)?;
    println!("the board hangs at {}", listener.local_addr()?);
    let mut open: Vec<Served> = Vec::new();
    io::run(poll_fn(|cx| {
        loop {
            match listener.accept().and_then(|(stream, _)| io::Connection::new(stream)) {
                Ok(stream) => open.push(Box::pin(http1::Builder::new().serve_connection(stream, service_fn(answer)))),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        io::wait_for(listener.as_raw_fd(), libc::POLLIN);
        open.retain_mut(|connection| match connection.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(ended) => {
                // One client's fault is not the others'.
                if let Err(error) = ended {
                    eprintln!("board: {error}");
                }
                false
            }
        });
        Poll::Pending
    }))?
}

async fn answer(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let answer = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/") => Ok(text(NOTES.with_borrow(String::clone))),
        (&Method::POST, "/") => pin_up(request).await,
        (&Method::POST, "/echo") => Ok(Response::new(request.into_body().boxed())),
        (&Method::POST, "/measure") => measure(request).await,
        (&Method::GET, "/slow") => {
            io::sleep(Duration::from_secs(1)).await;
            Ok(text("at last\n".to_owned()))
        }
        _ => {
            let mut answer = text("there is nothing here\n".to_owned());
            *answer.status_mut() = StatusCode::NOT_FOUND;
            Ok(answer)
        }
    };
    Ok(answer.unwrap_or_else(|error: hyper::Error| {
        let mut answer = text(format!("{error}\n"));
        *answer.status_mut() = StatusCode::BAD_REQUEST;
        answer
    }))
}

fn text(text: String) -> Answer {
    let pod = env::var("POD_NAME").unwrap_or_else(|_| "somebody".to_owned());
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed();
    let mut answer = Response::new(body);
    if let Ok(pod) = pod.parse() {
        answer.headers_mut().insert("server", pod);
    }
    answer
}

async fn pin_up(request: Request<Incoming>) -> hyper::Result<Answer> {
    let note = request.into_body().collect().await?.to_bytes();
    let pinned = NOTES.with_borrow_mut(|notes| {
        notes.push_str(&String::from_utf8_lossy(&note));
        notes.push('\n');
        notes.lines().count()
    });
    Ok(text(format!("{pinned}\n")))
}

async fn measure(request: Request<Incoming>) -> hyper::Result<Answer> {
    let mut body = request.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(text(format!("{length}\n")))
}
