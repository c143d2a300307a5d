//! Draws cases from seeds, and tells of the first that fails how to see it again, as small as it can be made.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, Instant};
use std::{env, fs};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

/// How long a test goes on where nothing else is said.
const USUAL: Duration = Duration::from_millis(300);
/// Cases that it has at least, however slow the machine is.
const FEWEST: u64 = 32;
/// Smaller inputs that are tried for one that failed.
const SHRINKS: usize = 4_000;

/// Draws by a seed.
pub(crate) struct Random(StdRng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// Less than `bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 {
            return 0;
        }
        self.0.random_range(0..bound)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, chance: u32) -> bool {
        self.0.random_range(0..100) < chance
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0.random()
    }
}

/// What a case is made of.
pub(crate) trait Input: Clone {
    /// The same with something taken away, the most first.
    fn smaller(&self) -> Vec<Self>;
    /// As it is shown to who must mend it.
    fn show(&self) -> String;
}

impl Input for Vec<u8> {
    fn smaller(&self) -> Vec<Self> {
        let mut out = Vec::new();
        let mut step = self.len().div_ceil(2);
        while step > 0 {
            let starts = (0..self.len()).step_by(step).take(64);
            out.extend(starts.map(|at| {
                let end = (at + step).min(self.len());
                [&self[..at], &self[end..]].concat()
            }));
            if step == 1 {
                break;
            }
            step = step.div_ceil(2);
        }
        out
    }

    fn show(&self) -> String {
        let text = self.escape_ascii().to_string();
        match text.char_indices().nth(4_000) {
            Some((end, _)) => format!("{} bytes: {}…", self.len(), &text[..end]),
            None => text,
        }
    }
}

impl Input for Value {
    fn smaller(&self) -> Vec<Self> {
        let mut out = Vec::new();
        match self {
            Value::Object(map) => {
                for key in map.keys() {
                    let mut less = map.clone();
                    less.remove(key);
                    out.push(Value::Object(less));
                }
                for (key, value) in map {
                    out.extend(value.smaller().into_iter().map(|smaller| {
                        let mut less = map.clone();
                        less.insert(key.clone(), smaller);
                        Value::Object(less)
                    }));
                }
            }
            Value::Array(items) => {
                for at in 0..items.len() {
                    let mut less = items.clone();
                    less.remove(at);
                    out.push(Value::Array(less));
                }
                for (at, item) in items.iter().enumerate() {
                    out.extend(item.smaller().into_iter().map(|smaller| {
                        let mut less = items.clone();
                        less[at] = smaller;
                        Value::Array(less)
                    }));
                }
            }
            _ => {}
        }
        out
    }

    fn show(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl<A: Input, B: Input> Input for (A, B) {
    fn smaller(&self) -> Vec<Self> {
        let first = self.0.smaller().into_iter();
        let mut out: Vec<Self> = first.map(|a| (a, self.1.clone())).collect();
        let second = self.1.smaller().into_iter();
        out.extend(second.map(|b| (self.0.clone(), b)));
        out
    }

    fn show(&self) -> String {
        format!("{}\nand\n{}", self.0.show(), self.1.show())
    }
}

thread_local! {
    /// Whether this thread's panics are expected, so that they are not told.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What is wrong with an input: what the check says, or the words of its panic.
fn fault<I>(check: &dyn Fn(&I) -> Result<(), String>, input: &I) -> Option<String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    QUIET.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| check(input)));
    QUIET.set(false);
    match result {
        Ok(said) => said.err(),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Some(format!("panic: {}", text.unwrap_or_default()))
        }
    }
}

/// The smallest input found that fails, and why.
fn shrink<I: Input>(
    check: &dyn Fn(&I) -> Result<(), String>,
    mut input: I,
    mut why: String,
) -> (I, String) {
    let mut left = SHRINKS;
    'smaller: loop {
        for smaller in input.smaller() {
            if left == 0 {
                break 'smaller;
            }
            left -= 1;
            if let Some(fault) = fault(check, &smaller) {
                (input, why) = (smaller, fault);
                continue 'smaller;
            }
        }
        break;
    }
    (input, why)
}

/// What time it is.
#[expect(
    clippy::disallowed_methods,
    reason = "it measures what bodies cost, in real time"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{name}={text}: a number is expected"),
    }
}

/// The seeds of a run: where they begin, how many there are at least, and for how long they go on.
fn plan() -> (u64, u64, Duration) {
    match (number("PROOF_SEED"), number("PROOF_SECONDS")) {
        (Some(seed), _) => (seed, 1, Duration::ZERO),
        (None, Some(seconds)) => {
            let seed = RandomState::new().hash_one(0_u8);
            (seed, 1, Duration::from_secs(seconds))
        }
        (None, None) => (0, FEWEST, USUAL),
    }
}

/// Checks inputs drawn by `make`, until one fails or the time is over.
///
/// A case that ends the whole process (its stack overflows, memory ends) cannot say anything any
/// more: the seed of a test's last case stands in a file of its name in the tests' own folder.
pub(crate) fn prove<I: Input>(
    name: &str,
    make: impl Fn(&mut Random) -> I,
    check: impl Fn(&I) -> Result<(), String>,
) {
    let (first, fewest, time) = plan();
    let last = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.seed"));
    let begin = now();
    for count in 0_u64.. {
        if count >= fewest && begin.elapsed() >= time {
            break;
        }
        let seed = first.wrapping_add(count);
        let _ = fs::write(&last, seed.to_string());
        let input = make(&mut Random::new(seed));
        if let Some(why) = fault(&check, &input) {
            let (input, why) = shrink(&check, input, why);
            panic!(
                "\n{name}: {why}\nagain: PROOF_SEED={seed} cargo test --release {name}\nthe smallest input found:\n{}\n",
                input.show()
            );
        }
    }
}

#[test]
fn a_failing_case_is_found_made_small_and_told() {
    let make = |random: &mut Random| -> Vec<u8> { (0..50).map(|_| random.bits() as u8).collect() };
    let check = |input: &Vec<u8>| {
        assert!(!input.contains(&7), "there is a seven");
        Ok(())
    };
    let failed = panic::catch_unwind(|| prove("told", make, check));
    // One seed alone may well have none.
    if number("PROOF_SEED").is_none() {
        let told = *failed
            .expect_err("a seven")
            .downcast::<String>()
            .expect("text");
        assert!(told.contains("panic: there is a seven"), "{told}");
        assert!(told.contains("again: PROOF_SEED="), "{told}");
        assert!(told.ends_with("found:\n\\x07\n"), "{told}");
    }
}
