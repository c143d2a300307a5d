//! What a connection costs a program that knows nothing but `std::net`.
//!
//!     pinger answer PORT       sends back what its first client sends, then reads all of its second
//!     pinger ask HOST:PORT     prints the median of many round trips, in nanoseconds, then how long
//!                              a stream took, in nanoseconds

use std::env;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Instant;

const SMALL: usize = 32;
const ROUND_TRIPS: usize = 20_000;
const CHUNK: usize = 64 << 10;
const SENT: usize = 1 << 30;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["answer", port] => answer(port.parse()?),
        ["ask", at] => ask(at),
        _ => Err("pinger answer PORT | ask HOST:PORT".into()),
    }
}

fn answer(port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("{}", listener.local_addr()?.port());
    let (mut client, _) = listener.accept()?;
    // Where a platform cannot be told so it does not hold back.
    let _ = client.set_nodelay(true);
    let mut small = [0; SMALL];
    for _ in 0..ROUND_TRIPS {
        client.read_exact(&mut small)?;
        client.write_all(&small)?;
    }
    let (mut client, _) = listener.accept()?;
    let mut chunk = vec![0; CHUNK];
    let mut got = 0;
    loop {
        match client.read(&mut chunk)? {
            0 => break,
            read => got += read,
        }
    }
    client.write_all(&got.to_le_bytes())?;
    Ok(())
}

fn ask(at: &str) -> Result<(), Box<dyn Error>> {
    let mut server = TcpStream::connect(at)?;
    let _ = server.set_nodelay(true);
    let mut small = [7; SMALL];
    let mut took = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let begun = Instant::now();
        server.write_all(&small)?;
        server.read_exact(&mut small)?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    println!("{}", took[ROUND_TRIPS / 2].as_nanos());

    let mut server = TcpStream::connect(at)?;
    let chunk = vec![7; CHUNK];
    let begun = Instant::now();
    for _ in 0..SENT / CHUNK {
        server.write_all(&chunk)?;
    }
    server.shutdown(Shutdown::Write)?;
    // As many as it says it got: only then all of them went over.
    let mut got = [0; size_of::<usize>()];
    server.read_exact(&mut got)?;
    if usize::from_le_bytes(got) != SENT {
        return Err("bytes were lost".into());
    }
    println!("{}", begun.elapsed().as_nanos());
    Ok(())
}
