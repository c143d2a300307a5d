//! Greets, again and again.
//!
//!     greeter [--times N] [--every SECONDS] [NAME]...
//!
//! The words come from the variable GREETING or, if it names a file, from GREETING_FILE, which is read anew
//! each time, so that a changed ConfigMap shows. POD_NAME and NODE_NAME say who is speaking. Without --times
//! it goes on until its pod ends.

use std::env;
use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

fn main() -> ExitCode {
    let (mut times, mut every, mut names) = (None, 2, Vec::new());
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let target: &mut dyn FnMut(u64) = match argument.as_str() {
            "--times" => &mut |n| times = Some(n),
            "--every" => &mut |n| every = n,
            _ => {
                names.push(argument);
                continue;
            }
        };
        match arguments.next().and_then(|value| value.parse().ok()) {
            Some(number) => target(number),
            None => {
                eprintln!("greeter: {argument} wants a number");
                return ExitCode::from(2);
            }
        }
    }
    if names.is_empty() {
        names.push("world".to_owned());
    }
    let pod = env::var("POD_NAME").unwrap_or_else(|_| "greeter".to_owned());
    let node = env::var("NODE_NAME").unwrap_or_else(|_| "somewhere".to_owned());
    let mut said = 0;
    while times.is_none_or(|times| said < times) {
        if said > 0 {
            thread::sleep(Duration::from_secs(every));
        }
        println!("{pod} on {node}: {}, {}!", greeting(), names.join(" and "));
        said += 1;
    }
    ExitCode::SUCCESS
}

fn greeting() -> String {
    let from_file = env::var("GREETING_FILE").ok().and_then(|path| fs::read_to_string(path).ok());
    let words = from_file.or_else(|| env::var("GREETING").ok());
    words.map_or_else(|| "Hello".to_owned(), |words| words.trim().to_owned())
}
