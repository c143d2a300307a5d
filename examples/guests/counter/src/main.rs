//! Counts.
//!
//!     counter [FILE]...        lines, words and bytes of the files, or of standard input
//!     counter --primes N       the primes below N; of an Indexed job's pods each counts its own share
//!
//! JOB_COMPLETION_INDEX says which share is its own, SHARES how many there are.

use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("--primes") => primes(arguments.get(1)),
        Some(_) => arguments.iter().try_for_each(|path| {
            let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
            count(path, BufReader::new(file))
        }),
        None => count("-", io::stdin().lock()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("counter: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn count(name: &str, mut input: impl BufRead) -> Result<(), String> {
    let (mut lines, mut words, mut bytes, mut line) = (0, 0, 0, Vec::new());
    loop {
        line.clear();
        let length = input.read_until(b'\n', &mut line).map_err(|error| format!("{name}: {error}"))?;
        if length == 0 {
            break;
        }
        lines += usize::from(line.ends_with(b"\n"));
        words += line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count();
        bytes += length;
    }
    println!("{lines} {words} {bytes} {name}");
    Ok(())
}

fn primes(below: Option<&String>) -> Result<(), String> {
    let below: u64 = below.and_then(|n| n.parse().ok()).ok_or("--primes wants a number")?;
    let variable = |name: &str, default: u64| match env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name}={text} is not a number")),
        Err(_) => Ok(default),
    };
    let (index, shares) = (variable("JOB_COMPLETION_INDEX", 0)?, variable("SHARES", 1)?.max(1));
    let found = (2..below).filter(|n| n % shares == index).filter(|n| is_prime(*n)).count();
    println!("{found} primes below {below} in share {index} of {shares}");
    Ok(())
}

fn is_prime(n: u64) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| n % d != 0)
}
