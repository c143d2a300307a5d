//! What concerns no files.

use wasip2::cli::{environment, stderr, stdin, stdout, terminal_stderr, terminal_stdin, terminal_stdout};
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::io::poll::poll;
use wasip2::random::{insecure, insecure_seed, random};

use crate::said::{PAST, holds, streamed};

const MOMENT: u64 = 20_000_000;
const HOUR: u64 = 3_600_000_000_000;

pub fn calls() {
    words();
    standard_streams();
    terminals();
    clocks();
    random_numbers();
}

fn words() {
    for (number, argument) in environment::get_arguments().iter().enumerate().skip(1) {
        println!("argument {number}: {argument:?}");
    }
    let variables = environment::get_environment();
    for (name, value) in variables.iter().filter(|(name, _)| name == "GREETING") {
        println!("variable {name}: {value:?}");
    }
    println!("initial-cwd: {:?}", environment::initial_cwd());
}

fn standard_streams() {
    let input = stdin::get_stdin();
    streamed("standard input, which is at its end", input.blocking_read(16).map(|bytes| bytes.len()));
    let output = stdout::get_stdout();
    streamed("a write to standard output", output.blocking_write_and_flush(b"written\n").map(|()| "ok"));
    holds("check-write of standard output", output.check_write().is_ok_and(|room| room > 0));
    let pollable = output.subscribe();
    pollable.block();
    holds("standard output is ready", pollable.ready());
    let errors = stderr::get_stderr();
    streamed("a write to standard error", errors.blocking_write_and_flush(b"this is standard error\n").map(|()| "ok"));
}

pub fn terminals() {
    for (what, is_one) in [
        ("standard input is a terminal", terminal_stdin::get_terminal_stdin().is_some()),
        ("standard output is a terminal", terminal_stdout::get_terminal_stdout().is_some()),
        ("standard error is a terminal", terminal_stderr::get_terminal_stderr().is_some()),
    ] {
        println!("{what}: {is_one}");
    }
}

fn clocks() {
    let begun = monotonic_clock::now();
    holds("the monotonic clock begins with the guest", begun < 600_000_000_000);
    holds("its steps are short", (1..1_000_000_000).contains(&monotonic_clock::resolution()));
    holds("it goes on", monotonic_clock::now() >= begun);
    monotonic_clock::subscribe_duration(MOMENT).block();
    let then = monotonic_clock::now();
    holds("subscribe-duration", then >= begun + MOMENT);
    monotonic_clock::subscribe_instant(then + MOMENT).block();
    holds("subscribe-instant", monotonic_clock::now() >= then + MOMENT);
    let past = monotonic_clock::subscribe_instant(begun);
    past.block();
    holds("subscribe-instant of the past", past.ready());
    let (hour, moment) = (monotonic_clock::subscribe_duration(HOUR), monotonic_clock::subscribe_duration(MOMENT));
    println!("poll of an hour and a moment: {:?}", poll(&[&hour, &moment]));
    holds("an hour is not over", !hour.ready());
    let now = wall_clock::now();
    holds("the wall clock is past 2024", now.seconds > PAST && now.nanoseconds < 1_000_000_000);
    let resolution = wall_clock::resolution();
    holds("its steps are short, too", resolution.seconds == 0 && resolution.nanoseconds > 0);
}

fn random_numbers() {
    let (one, other) = (random::get_random_bytes(16), random::get_random_bytes(16));
    holds("get-random-bytes", one.len() == 16 && one != other);
    holds("get-random-bytes of none", random::get_random_bytes(0).is_empty());
    holds("get-random-u64", random::get_random_u64() != random::get_random_u64());
    let (one, other) = (insecure::get_insecure_random_bytes(16), insecure::get_insecure_random_bytes(16));
    holds("get-insecure-random-bytes", one.len() == 16 && one != other);
    holds("get-insecure-random-u64", insecure::get_insecure_random_u64() != insecure::get_insecure_random_u64());
    holds("insecure-seed", insecure_seed::insecure_seed() != (0, 0));
}
