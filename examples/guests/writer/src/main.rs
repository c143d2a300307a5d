//! Writes notes into a directory that another module of its pod reads.
//!
//!     writer DIRECTORY [COUNT]
//!
//! A note is written under another name first and then renamed, so that the reader never sees half of one.
//! Without COUNT it goes on until its pod ends.

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let count = arguments.get(1).map(|text| text.parse::<u64>());
    let (Some(directory), None | Some(Ok(_))) = (arguments.first(), &count) else {
        eprintln!("usage: writer DIRECTORY [COUNT]");
        return ExitCode::from(2);
    };
    let count = count.and_then(Result::ok).unwrap_or(u64::MAX);
    for number in 1..=count {
        if let Err(error) = write(Path::new(directory), number) {
            eprintln!("writer: {directory}: {error}");
            return ExitCode::FAILURE;
        }
        println!("wrote note {number}");
        thread::sleep(Duration::from_secs(1));
    }
    ExitCode::SUCCESS
}

fn write(directory: &Path, number: u64) -> io::Result<()> {
    let unfinished = directory.join(".unfinished");
    fs::write(&unfinished, format!("this is note {number}\n"))?;
    fs::rename(unfinished, directory.join(format!("{number:08}.txt")))
}
