//! `echo`, `pwd` and `sleep`: what needs no file.

use std::time::Duration;

use super::options::{Options, Spec};
use super::{Answer, Call, Stop, failed, words};

/// The longest sleep, in seconds: what commands wait for is bounded elsewhere.
const LONGEST: f64 = 1e9;

/// As POSIX has it: what is no `-n` is printed.
pub(super) async fn echo(call: &mut Call) -> Answer {
    let bare = call.args.first().is_some_and(|first| first == "-n");
    let mut text = call.args[usize::from(bare)..].join(" ");
    if !bare {
        text.push('\n');
    }
    call.print(text).await?;
    Ok(0)
}

pub(super) async fn pwd(call: &mut Call) -> Answer {
    Options::of(&call.args, Spec::default())?;
    let directory = call.view.absolute(".").map_err(|e| failed(words(&e)))?;
    call.print(directory + "\n").await?;
    Ok(0)
}

pub(super) async fn sleep(call: &mut Call) -> Answer {
    let options = Options::of(&call.args, Spec::default())?;
    let times = options.some_operands()?.iter().map(|word| seconds(word));
    let all: f64 = times.sum::<Result<f64, Stop>>()?;
    tokio::time::sleep(Duration::from_secs_f64(all.min(LONGEST))).await;
    Ok(0)
}

fn seconds(word: &str) -> Result<f64, Stop> {
    let (number, unit) = match word.char_indices().last() {
        Some((at, 's')) => (&word[..at], 1.0),
        Some((at, 'm')) => (&word[..at], 60.0),
        Some((at, 'h')) => (&word[..at], 3_600.0),
        Some((at, 'd')) => (&word[..at], 86_400.0),
        _ => (word, 1.0),
    };
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = number.parse::<f64>().ok().filter(|_| plain);
    let number = number.ok_or_else(|| failed(format!("invalid number '{word}'")))?;
    Ok((number * unit).min(LONGEST))
}
