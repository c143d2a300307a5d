//! Works through an endless queue, and saves how far it has come when its pod is to end.
//!
//!     drain STATE-FILE
//!
//! It imports carob:pod/lifecycle: instead of being dropped, it sees that termination has begun, finishes what
//! it is doing, writes its state, and exits. Started again with the same file, it goes on from there.

use std::env;
use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "drains", generate_all });
}

use bindings::carob::pod::lifecycle;

fn main() -> ExitCode {
    let Some(state) = env::args().nth(1) else {
        eprintln!("usage: drain STATE-FILE");
        return ExitCode::from(2);
    };
    let mut done: u64 = match fs::read_to_string(&state) {
        Ok(text) => text.trim().parse().unwrap_or(0),
        Err(_) => 0,
    };
    println!("starting after item {done}");
    let termination = lifecycle::subscribe_termination();
    while !termination.ready() {
        // One item of work.
        thread::sleep(Duration::from_millis(100));
        done += 1;
        if done % 50 == 0 {
            println!("item {done}");
        }
    }
    let grace = lifecycle::remaining_grace().map_or(Duration::ZERO, Duration::from_nanos);
    println!("termination has begun, {:.1} s are left", grace.as_secs_f64());
    match fs::write(&state, format!("{done}\n")) {
        Ok(()) => {
            println!("saved: {done} items done");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("drain: {state}: {error}");
            ExitCode::FAILURE
        }
    }
}
