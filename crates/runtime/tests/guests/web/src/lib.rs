//! A server whose requests' paths are what it does.

#[path = "fetch.rs"]
mod fetch;

use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::OutputStream;

wasip2::http::proxy::export!(Web);

struct Web;

impl wasip2::exports::http::incoming_handler::Guest for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        match path {
            "/hello" => answer(out, 200, b"hello\n"),
            "/echo" => echo(request, out),
            "/infinite" => infinite(out),
            "/trap" => panic!("as asked"),
            "/trap-late" => trap_late(out, query),
            // The standard library knows no other code on this target.
            "/exit" => std::process::exit(1),
            "/none" => {}
            "/refuse" => ResponseOutparam::set(out, Err(ErrorCode::LoopDetected)),
            "/allocate" => {
                let kept = black_box(vec![1_u8; query.parse().unwrap()]);
                answer(out, 200, kept.len().to_string().as_bytes());
            }
            "/fields" => {
                let kept: Vec<_> = (0..query.parse().unwrap()).map(|_| Fields::new()).collect();
                answer(out, 200, kept.len().to_string().as_bytes());
            }
            "/spin" => spin(duration(query)),
            "/sleep" => {
                println!("asleep");
                std::thread::sleep(duration(query));
                answer(out, 200, b"slept");
            }
            "/world" => world(out, query),
            "/afterwards" => {
                answer(out, 200, b"answered");
                std::thread::sleep(duration(query));
                println!("afterwards");
            }
            "/fetch" => match fetch::fetch(query) {
                Ok((status, body)) => answer(out, status, &body),
                Err(code) => answer(out, 502, code.as_bytes()),
            },
            _ => answer(out, 404, b"not found"),
        }
    }
}

fn duration(text: &str) -> Duration {
    Duration::from_millis(text.parse().unwrap())
}

fn begin(out: ResponseOutparam, status: u16) -> (OutgoingBody, OutputStream) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    let stream = body.write().unwrap();
    ResponseOutparam::set(out, Ok(response));
    (body, stream)
}

fn answer(out: ResponseOutparam, status: u16, text: &[u8]) {
    let (body, mut stream) = begin(out, status);
    stream.write_all(text).unwrap();
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().unwrap();
    let mut input = incoming.stream().unwrap();
    let (body, mut stream) = begin(out, 200);
    let mut buffer = vec![0; 32 << 10];
    loop {
        match std::io::Read::read(&mut input, &mut buffer).unwrap() {
            0 => break,
            read => stream.write_all(&buffer[..read]).unwrap(),
        }
    }
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

fn infinite(out: ResponseOutparam) {
    let (_body, mut stream) = begin(out, 200);
    let chunk = [7; 16 << 10];
    loop {
        stream.write_all(&chunk).unwrap();
    }
}

/// Answers so many bytes, and traps before the end.
fn trap_late(out: ResponseOutparam, query: &str) {
    let (_body, mut stream) = begin(out, 200);
    stream.write_all(&vec![7; query.parse().unwrap()]).unwrap();
    panic!("in the middle");
}

fn spin(time: Duration) {
    let begun = Instant::now();
    println!("spins");
    let mut number = 1_u64;
    while begun.elapsed() < time {
        for _ in 0..10_000 {
            number = black_box(number.wrapping_mul(6364136223846793005).wrapping_add(1));
        }
    }
}

/// Tells what it sees: arguments, a variable and a file.
fn world(out: ResponseOutparam, file: &str) {
    let arguments: Vec<_> = std::env::args().collect();
    let text = format!(
        "{arguments:?} {:?} {:?}",
        std::env::var("COLOUR"),
        std::fs::read_to_string(file),
    );
    eprintln!("told");
    answer(out, 200, text.as_bytes());
}
