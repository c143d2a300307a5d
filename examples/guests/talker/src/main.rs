//! Talks over the network with nothing but `std::net`.
//!
//!     talker serve PORT              answers HTTP requests with who it is, and whom it sees
//!     talker serve-udp PORT          the same for datagrams
//!     talker ask [--times N] HOST:PORT
//!                                    asks such a server and prints its answers
//!     talker wait HOST:PORT          waits until such a server can be reached
//!     talker ask-udp HOST:PORT
//!     talker hold HOST:PORT          stays connected, and prints how that ends
//!     talker look NAME...            prints each name's addresses
//!     talker listen PORT             takes connections, keeps them, and says nothing
//!     talker follow HOST:PORT        connects again and again; prints when that begins to work and when it ceases to, and
//!                                    when the connection that began it breaks, in microseconds of Unix time
//!
//! POD_NAME and NODE_NAME say who is speaking.

use std::env;
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime};

const USAGE: &str = "talker serve PORT | serve-udp PORT | ask [--times N] HOST:PORT | wait HOST:PORT | ask-udp HOST:PORT | hold HOST:PORT | look NAME... | listen PORT | follow HOST:PORT";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["serve", port] => serve(port),
        ["serve-udp", port] => serve_udp(port),
        ["ask", "--times", times, address] => times
            .parse()
            .map_err(io::Error::other)
            .and_then(|times: u32| (0..times).try_for_each(|_| ask(address))),
        ["ask", address] => ask(address),
        ["wait", address] => {
            wait(address);
            Ok(())
        }
        ["ask-udp", address] => ask_udp(address),
        ["hold", address] => hold(address),
        ["listen", port] => listen(port),
        ["follow", address] => follow(address),
        ["look", names @ ..] => {
            names.iter().for_each(|name| look(name));
            Ok(())
        }
        _ => {
            eprintln!("usage: {USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}", error.kind());
            ExitCode::FAILURE
        }
    }
}

fn answer(to: impl Display) -> String {
    let of = |name: &str| env::var(name).unwrap_or_else(|_| "somebody".to_owned());
    format!("{} on {} sees {to}\n", of("POD_NAME"), of("NODE_NAME"))
}

fn serve(port: &str) -> io::Result<()> {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    println!("serving at port {port}");
    for stream in listener.incoming() {
        // One client's fault is not the others'.
        if let Err(error) = stream.and_then(respond) {
            eprintln!("talker: {error}");
        }
    }
    Ok(())
}

/// Reads one request's head, whatever it asks for, and answers.
fn respond(mut stream: TcpStream) -> io::Result<()> {
    let body = answer(stream.peer_addr()?.ip());
    let mut lines = BufReader::new(&stream).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn serve_udp(port: &str) -> io::Result<()> {
    let socket = UdpSocket::bind(format!("0.0.0.0:{port}"))?;
    println!("serving at port {port}");
    let mut question = [0; 1500];
    loop {
        let (_, from) = socket.recv_from(&mut question)?;
        socket.send_to(answer(from.ip()).as_bytes(), from)?;
    }
}

fn ask(address: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut whole = String::new();
    stream.read_to_string(&mut whole)?;
    let body = whole.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    print!("{body}");
    Ok(())
}

fn wait(address: &str) {
    while TcpStream::connect(address).is_err() {
        thread::sleep(Duration::from_millis(100));
    }
}

fn ask_udp(address: &str) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(address)?;
    socket.send(b"who?")?;
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer)?;
    print!("{}", String::from_utf8_lossy(&answer[..length]));
    Ok(())
}

fn hold(address: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    println!("connected");
    match stream.read(&mut [0]) {
        Ok(_) => println!("ended"),
        Err(error) => println!("broken: {error}"),
    }
    Ok(())
}

fn look(name: &str) {
    match (name, 0).to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<_> = found.map(|address| address.ip().to_string()).collect();
            addresses.sort();
            println!("{name} {}", addresses.join(" "));
        }
        Err(_) => println!("{name} unknown"),
    }
}

fn listen(port: &str) -> io::Result<()> {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    println!("listening at port {port}");
    let mut kept: Vec<TcpStream> = Vec::new();
    for stream in listener.incoming() {
        kept.retain(is_open);
        let stream = stream?;
        stream.set_nonblocking(true)?;
        kept.push(stream);
    }
    Ok(())
}

/// Whether a connection on which nobody speaks, and which does not block, still is one.
fn is_open(mut stream: &TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn follow(address: &str) -> io::Result<()> {
    let mut works = None;
    let mut kept: Option<TcpStream> = None;
    loop {
        if kept.as_ref().is_some_and(|stream| !is_open(stream)) {
            kept = None;
            say("broken");
        }
        let stream = TcpStream::connect(address);
        if works != Some(stream.is_ok()) {
            works = Some(stream.is_ok());
            say(if stream.is_ok() { "works" } else { "ceased" });
            if let Ok(stream) = stream {
                stream.set_nonblocking(true)?;
                kept = Some(stream);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn say(what: &str) {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    println!("{} {what}", since.as_micros());
}
