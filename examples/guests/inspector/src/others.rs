//! Clocks and random numbers.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::{Check, Verdict, ensure};

pub const CHECKS: &[Check] = &[
    ("the monotonic clock never goes back", monotonic),
    ("sleeping takes as long as it should", sleeping),
    ("two draws of random bytes differ", random),
];

fn monotonic(_: &Path) -> Verdict {
    let (begun, mut last) = (Instant::now(), Instant::now());
    for _ in 0..10_000 {
        let now = Instant::now();
        ensure!(now >= last, "{:?} back", last - now);
        last = now;
    }
    ensure!(last > begun, "it stands still");
    Ok(())
}

fn sleeping(_: &Path) -> Verdict {
    let time = Duration::from_millis(50);
    let (begun, wall) = (Instant::now(), SystemTime::now());
    thread::sleep(time);
    let slept = begun.elapsed();
    ensure!(slept >= time, "{slept:?} instead of {time:?}");
    ensure!(SystemTime::now() > wall, "the wall clock stood still meanwhile");
    Ok(())
}

fn draw() -> std::io::Result<[u8; 32]> {
    unsafe extern "C" {
        /// The C library's, for the standard library has none that is stable.
        fn getentropy(into: *mut u8, length: usize) -> i32;
    }
    let mut bytes = [0; 32];
    // SAFETY: there is room for as many bytes.
    match unsafe { getentropy(bytes.as_mut_ptr(), bytes.len()) } {
        0 => Ok(bytes),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn random(_: &Path) -> Verdict {
    let (one, two) = (draw()?, draw()?);
    ensure!(one != two, "both are {one:?}");
    ensure!(one != [0; 32] && two != [0; 32], "one is nothing");
    Ok(())
}
