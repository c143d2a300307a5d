//! Calls the functions of WASI 0.2's files, clocks, random numbers and command line, and says what each answers, a line a case.
//!
//!     caller [ARGUMENT...]             those that concern no files
//!     caller writes DIRECTORY...       files, in each DIRECTORY, which is a mount that may be written to
//!     caller prepares DIRECTORY        makes there what `reads` finds
//!     caller reads DIRECTORY...        files, in each DIRECTORY, which is a mount that may not be
//!     caller closed DIRECTORY...       the same where nothing is
//!     caller terminals                 which standard streams are terminals
//!     caller exits CODE | caller fails
//!
//! Of what differs from run to run it says whether it is as it should be.

mod paths;
mod reads;
mod said;
mod streams;
mod system;
mod writes;

use std::env;

use wasip2::cli::exit::{exit, exit_with_code};
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::Descriptor;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (what, rest) = arguments.split_first().map_or(("", &[][..]), |(what, rest)| (what, rest));
    match what {
        "writes" => in_each(rest, writes::calls),
        "prepares" => in_each(rest, reads::prepare),
        "reads" => in_each(rest, reads::calls),
        "closed" => in_each(rest, reads::changes),
        "terminals" => system::terminals(),
        "exits" => exit_with_code(rest[0].parse().unwrap()),
        "fails" => exit(Err(())),
        _ => system::calls(),
    }
}

fn in_each(mounts: &[String], calls: fn(&Descriptor)) {
    for mount in mounts {
        println!("-- {mount}");
        let (descriptor, _) = get_directories()
            .into_iter()
            .find(|(_, path)| path == mount)
            .expect("a mount is preopened by its path");
        calls(&descriptor);
    }
}
