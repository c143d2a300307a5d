//! Prints files.
//!
//!     reader FILE...              prints the files
//!     reader --follow DIRECTORY   prints each file that appears in the directory, in their names' order, and
//!                                 removes it, directories excepted; goes on until its pod ends

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (path, result) = match &arguments[..] {
        [] => {
            eprintln!("usage: reader FILE... | reader --follow DIRECTORY");
            return ExitCode::from(2);
        }
        [flag, directory] if flag == "--follow" => (directory, follow(Path::new(directory))),
        files => match files.iter().find_map(|file| print(Path::new(file)).err().map(|error| (file, Err(error)))) {
            Some(failed) => failed,
            None => return ExitCode::SUCCESS,
        },
    };
    if let Err(error) = result {
        eprintln!("reader: {path}: {error}");
    }
    ExitCode::FAILURE
}

fn print(path: &Path) -> io::Result<()> {
    let mut out = io::stdout().lock();
    io::copy(&mut File::open(path)?, &mut out)?;
    out.flush()
}

fn follow(directory: &Path) -> io::Result<()> {
    loop {
        let mut notes = Vec::new();
        // A directory that changes while it is read, or an entry that has another name meanwhile, is met at the
        // next look.
        let entries = fs::read_dir(directory).into_iter().flatten();
        for entry in entries.flatten() {
            let path = entry.path();
            // What somebody has put beside the notes stays there.
            if path.is_dir() {
                continue;
            }
            if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                notes.push(path);
            }
        }
        notes.sort();
        notes.dedup();
        for note in notes {
            // A directory that changes while it is read may show what is not there any more.
            match print(&note).and_then(|()| fs::remove_file(&note)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        thread::sleep(Duration::from_millis(250));
    }
}
