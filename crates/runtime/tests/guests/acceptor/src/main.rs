//! Plays the script in its arguments: each step is one call of preview 1, the answer to which is a line of standard
//! output. `wait` takes a line of standard input first, so that whoever runs it says when it goes on.

mod raw;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::FromRawFd;

use raw::{Event, Subscription, Vector};

fn main() {
    for step in std::env::args().skip(1) {
        let words: Vec<&str> = step.split(' ').collect();
        println!("{}", play(&words));
        std::io::stdout().flush().unwrap();
    }
}

fn number(word: &str) -> u32 {
    word.parse().unwrap()
}

fn play(words: &[&str]) -> String {
    let numbers = || words[1..].iter().map(|word| number(word));
    match words {
        ["wait"] => wait(),
        ["echo", times] => echo(number(times)),
        ["env", name] => std::env::var(name).unwrap_or_else(|error| error.to_string()),
        ["cat", path] => match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => format!("{:?}", error.kind()),
        },
        ["open", path] => match std::fs::File::open(path) {
            Ok(file) => {
                let opened = std::os::fd::IntoRawFd::into_raw_fd(file);
                format!("opened {opened}")
            }
            Err(error) => format!("{:?}", error.kind()),
        },
        ["accept", ..] => {
            let mut numbers = numbers();
            let (fd, flags) = (numbers.next().unwrap(), numbers.next().unwrap_or(0));
            said(raw::accept(fd, flags), |fd| format!("accepted {fd}"))
        }
        ["read", fd, sizes @ ..] => read(number(fd), sizes, None),
        ["receive", fd, flags, sizes @ ..] => read(number(fd), sizes, Some(number(flags))),
        ["write", fd, texts @ ..] => write(number(fd), texts),
        ["fill", fd] => fill(number(fd)),
        ["pour", fd, size] => {
            let bytes = vec![b'.'; number(size) as usize];
            let wrote = raw::write(number(fd), &[Vector::of(&bytes)]);
            said(wrote, |sent| format!("wrote {sent}"))
        }
        ["call", name, ..] => {
            let arguments: Vec<u32> = words[2..].iter().map(|word| number(word)).collect();
            said(raw::function(name)(&arguments), |()| "done".into())
        }
        ["stat", fd] => said(raw::stat(number(fd)), |(filetype, flags, rights)| {
            format!("type {filetype} flags {flags} rights {rights:x}")
        }),
        ["filetype", fd] => said(raw::filetype(number(fd)), |of| format!("type {of}")),
        #[cfg(feature = "drains")]
        ["subscribe"] => format!("subscribed {}", raw::subscribe_termination()),
        #[cfg(feature = "drains")]
        ["remain"] => format!("remain {}", raw::remaining_grace()),
        ["prestat", fd] => said(raw::prestat(number(fd)), |tag| format!("tag {tag}")),
        ["poll", subscriptions @ ..] => poll(subscriptions),
        other => panic!("{other:?} is no step"),
    }
}

fn said<T>(result: Result<T, u16>, told: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(value) => told(value),
        Err(errno) => format!("errno {errno}"),
    }
}

fn wait() -> String {
    let mut byte = [0];
    while byte != *b"\n" {
        std::io::stdin().lock().read_exact(&mut byte).unwrap();
    }
    "goes on".into()
}

/// Serves so many connections by the standard library alone: each gets its own bytes back.
fn echo(times: u32) -> String {
    // SAFETY: the runtime has opened it, and nothing else here uses it.
    let listener = unsafe { TcpListener::from_raw_fd(3) };
    for _ in 0..times {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    }
    std::mem::forget(listener);
    format!("echoed {times}")
}

fn read(fd: u32, sizes: &[&str], flags: Option<u32>) -> String {
    let mut buffers: Vec<Vec<u8>> = sizes
        .iter()
        .map(|size| vec![0; number(size) as usize])
        .collect();
    let vectors: Vec<Vector> = buffers.iter_mut().map(|bytes| Vector::of(bytes)).collect();
    let read = match flags {
        None => raw::read(fd, &vectors),
        Some(flags) => raw::receive(fd, &vectors, flags),
    };
    said(read, |size| {
        let bytes: Vec<u8> = buffers.concat().into_iter().take(size as usize).collect();
        match size {
            0 => "end".into(),
            size if size > 100 => format!("read {size} bytes"),
            _ => format!("read {}", String::from_utf8_lossy(&bytes)),
        }
    })
}

fn write(fd: u32, texts: &[&str]) -> String {
    let vectors: Vec<Vector> = texts
        .iter()
        .map(|text| Vector::of(text.as_bytes()))
        .collect();
    said(raw::write(fd, &vectors), |sent| format!("wrote {sent}"))
}

/// Writes until there is no room.
fn fill(fd: u32) -> String {
    let (bytes, mut sent) = (vec![b'x'; 64 << 10], 0);
    loop {
        match raw::write(fd, &[Vector::of(&bytes)]) {
            Ok(more) => sent += more,
            Err(errno) => return format!("wrote {sent} then errno {errno}"),
        }
    }
}

/// `r3` readable, `w3` writable; `m50`, `a50` and `t50` clocks in milliseconds: monotonic from now, monotonic and real
/// time at a point.
fn poll(asked: &[&str]) -> String {
    let subscriptions: Vec<Subscription> = asked
        .iter()
        .zip(100..)
        .map(|(asked, userdata)| {
            let (kind, value) = asked.split_at(1);
            let value = number(value);
            let nanoseconds = u64::from(value) * 1_000_000;
            match kind {
                "r" => Subscription::descriptor(userdata, 1, value),
                "w" => Subscription::descriptor(userdata, 2, value),
                "m" => Subscription::clock(userdata, 1, nanoseconds, 0),
                "a" => Subscription::clock(userdata, 1, raw::now(1) + nanoseconds, 1),
                "t" => Subscription::clock(userdata, 0, raw::now(0) + nanoseconds, 1),
                other => panic!("{other:?} cannot be waited for"),
            }
        })
        .collect();
    said(raw::poll(&subscriptions), |events| {
        let told = |event: Event| {
            let mut text = asked[(event.userdata - 100) as usize].to_owned();
            match event.error {
                0 if event.type_ == 0 => {}
                0 => text += &format!(":{}", event.size),
                errno => text += &format!(":errno {errno}"),
            }
            if event.flags == 1 {
                text += ":hangup";
            }
            text
        };
        let events: Vec<String> = events.into_iter().map(told).collect();
        events.join(" ")
    })
}
