//! Plays the script in its arguments: the steps of `runtime::scripted`, by a real guest, and
//! some that only a real guest can play.

use std::hint::black_box;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

#[cfg(all(feature = "drains", target_env = "p2"))]
mod lifecycle {
    wit_bindgen::generate!({
        path: "../../../../../wit",
        world: "carob:pod/drains",
        generate_all,
    });
    pub use carob::pod::lifecycle::remaining_grace;

    pub fn wait() {
        carob::pod::lifecycle::subscribe_termination().block();
    }
}

#[cfg(all(feature = "drains", target_env = "p1"))]
mod lifecycle {
    use std::io::Read;
    use std::os::fd::FromRawFd;

    mod imported {
        #[link(wasm_import_module = "carob:pod/lifecycle@0.1.0")]
        unsafe extern "C" {
            #[link_name = "subscribe-termination"]
            pub safe fn subscribe_termination() -> i32;
            #[link_name = "remaining-grace"]
            pub safe fn remaining_grace() -> i64;
        }
    }

    pub fn wait() {
        // SAFETY: it was opened for this file.
        let mut termination =
            unsafe { std::fs::File::from_raw_fd(imported::subscribe_termination()) };
        assert_eq!(termination.read(&mut [0]).unwrap(), 0);
    }

    pub fn remaining_grace() -> Option<u64> {
        u64::try_from(imported::remaining_grace()).ok()
    }
}

fn main() {
    let mut kept = Vec::new();
    for step in std::env::args().skip(1) {
        let (verb, rest) = step.split_once(' ').unwrap_or((&step, ""));
        play(verb, rest, &mut kept);
    }
    black_box(kept);
}

fn play(verb: &str, rest: &str, kept: &mut Vec<Vec<u8>>) {
    match verb {
        "print" => println!("{rest}"),
        "eprint" => eprintln!("{rest}"),
        "args" => std::env::args().for_each(|argument| println!("{argument}")),
        "env" => std::env::vars().for_each(|(name, value)| println!("{name}={value}")),
        "read" => copy(),
        "sleep" => std::thread::sleep(duration(rest)),
        "allocate" => kept.push(vec![1; rest.parse().unwrap()]),
        "drain" => drain(duration(rest)),
        "exit" => std::process::exit(rest.parse().unwrap()),
        "trap" => std::process::abort(),
        "forever" => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        // Beyond `runtime::scripted`.
        "spin" => spin(duration(rest)),
        "flood" => loop {
            println!("{rest}");
        },
        "cat" => report(std::fs::read_to_string(rest)),
        "ls" => report(list(rest)),
        "count" => report(std::fs::read_dir(rest).map(|entries| entries.count().to_string())),
        "write" => match rest.split_once(' ') {
            Some((path, text)) => report(std::fs::write(path, text).map(|()| "written".into())),
            None => append(rest.parse().unwrap()).unwrap(),
        },
        "size" => report(std::fs::metadata(rest).map(|found| found.len().to_string())),
        "remove" => report(std::fs::remove_file(rest).map(|()| "removed".into())),
        "exhaust" => exhaust(rest),
        "mkdir" => std::fs::create_dir(rest).unwrap(),
        "link" => {
            let (old, new) = rest.split_once(' ').unwrap();
            std::fs::hard_link(old, new).unwrap();
        }
        "grow" => {
            let (path, size) = rest.split_once(' ').unwrap();
            let file = std::fs::File::options().create(true).truncate(false).write(true).open(path);
            file.unwrap().set_len(size.parse().unwrap()).unwrap();
        }
        "scatter" => {
            let (path, count) = rest.split_once(' ').unwrap();
            report(scatter(path, count.parse().unwrap()).map(|()| "scattered".into()));
        }
        "rename" => {
            let (old, new) = rest.split_once(' ').unwrap();
            report(std::fs::rename(old, new).map(|()| "renamed".into()));
        }
        "cwd" => report(std::env::current_dir().map(|path| path.display().to_string())),
        "serve" => serve(rest),
        "call" => report(call(rest)),
        "echo-datagrams" => echo_datagrams(rest),
        "send-datagram" => report(send_datagram(rest)),
        "resolve" => report((rest, 0).to_socket_addrs().map(|found| format!("{found:?}"))),
        "recurse" => println!("{}", recurse(1)),
        "remain" => println!("{:?}", remaining()),
        other => panic!("{other:?} is no step"),
    }
}

/// `write BYTES`: appends so many bytes to `/written`.
fn append(bytes: usize) -> std::io::Result<()> {
    let file = std::fs::File::options().create(true).append(true).open("/written");
    file?.write_all(&vec![b'x'; bytes])
}

/// `scatter PATH COUNT`: writes so many bytes, each into a block of its own.
fn scatter(path: &str, count: u64) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    for number in 0..count {
        file.seek(SeekFrom::Start(number * 8_192))?;
        file.write_all(b"x")?;
    }
    Ok(())
}

/// `exhaust PATH`: opens a file as often as that goes, says how often, and keeps them open until the input ends.
fn exhaust(path: &str) {
    let mut files = Vec::new();
    let error = loop {
        match std::fs::File::open(path) {
            Ok(file) => files.push(file),
            Err(error) => break error,
        }
    };
    println!("{} {error}", files.len());
    copy();
}

fn duration(text: &str) -> Duration {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().unwrap();
    match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        other => panic!("{other:?} is no unit"),
    }
}

fn copy() {
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text).unwrap();
    std::io::stdout().write_all(&text).unwrap();
    std::io::stdout().flush().unwrap();
}

fn spin(time: Duration) {
    let begun = Instant::now();
    let mut number = 1_u64;
    while begun.elapsed() < time {
        for _ in 0..10_000 {
            number = black_box(number.wrapping_mul(6364136223846793005).wrapping_add(1));
        }
    }
}

/// `serve ADDRESS`: counts the bytes of each connection, and answers with their number.
fn serve(address: &str) {
    let listener = match TcpListener::bind(address) {
        Ok(listener) => listener,
        Err(error) => return println!("{:?}", error.kind()),
    };
    println!("listening on {}", listener.local_addr().unwrap());
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        write!(stream, "{}", bytes.len()).unwrap();
    }
}

/// `call ADDRESS N`: sends N bytes, and gives the answer.
fn call(rest: &str) -> std::io::Result<String> {
    let (address, count) = rest.split_once(' ').unwrap();
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(&vec![7; count.parse().unwrap()])?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn echo_datagrams(address: &str) {
    let socket = UdpSocket::bind(address).unwrap();
    println!("listening on {}", socket.local_addr().unwrap());
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(&buffer[..length], from).unwrap();
    }
}

/// `send-datagram ADDRESS TEXT`: sends it, and gives the answer.
fn send_datagram(rest: &str) -> std::io::Result<String> {
    let (address, text) = rest.split_once(' ').unwrap();
    let any = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.send(text.as_bytes())?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[expect(unconditional_recursion, reason = "the stack is to overflow")]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth + 1))) + 1
}

fn list(path: &str) -> std::io::Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.join(" "))
}

fn report(result: std::io::Result<String>) {
    match result {
        Ok(text) => println!("{text}"),
        Err(error) => println!("{:?}", error.kind()),
    }
}

#[cfg(feature = "drains")]
fn drain(time: Duration) {
    lifecycle::wait();
    assert!(lifecycle::remaining_grace().is_some());
    std::thread::sleep(time);
    std::process::exit(0);
}

#[cfg(not(feature = "drains"))]
fn drain(_: Duration) {
    panic!("built without the feature");
}

#[cfg(feature = "drains")]
fn remaining() -> Option<u64> {
    lifecycle::remaining_grace()
}

#[cfg(not(feature = "drains"))]
fn remaining() -> Option<u64> {
    None
}
