//! The form of a CronJob's schedule: five fields or one of the `@` words, with the bounds and the
//! words for what is wrong of robfig/cron, by which Kubernetes reads it.

use crate::time::parse_duration;

/// What a field may hold: numbers between two bounds, some of which have names.
struct Bounds {
    least: u64,
    most: u64,
    /// Names of the numbers from the least on.
    names: &'static [&'static str],
}

const fn numbers(least: u64, most: u64) -> Bounds {
    Bounds {
        least,
        most,
        names: &[],
    }
}

/// Minute, hour, day of the month, month, day of the week: a week begins on Sunday, with 0.
static FIELDS: [Bounds; 5] = [
    numbers(0, 59),
    numbers(0, 23),
    numbers(1, 31),
    Bounds {
        least: 1,
        most: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Bounds {
        least: 0,
        most: 6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

/// Judges a schedule.
///
/// # Errors
///
/// What is wrong with it, in robfig/cron's words; of several faults the first.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    if schedule.contains("TZ") {
        return Err("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".to_owned());
    }
    if schedule.starts_with('@') {
        return descriptor(schedule);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly {} fields, found {}: [{}]",
            FIELDS.len(),
            fields.len(),
            fields.join(" ")
        ));
    }
    for (field, bounds) in fields.iter().zip(&FIELDS) {
        for part in field.split(',').filter(|part| !part.is_empty()) {
            range(part, bounds)?;
        }
    }
    Ok(())
}

fn descriptor(schedule: &str) -> Result<(), String> {
    if let Some(every) = schedule.strip_prefix("@every ") {
        return match parse_duration(every) {
            Some(_) => Ok(()),
            None => Err(format!(
                "failed to parse duration {schedule}: time: invalid duration {every:?}"
            )),
        };
    }
    match schedule {
        "@yearly" | "@annually" | "@monthly" | "@weekly" | "@daily" | "@midnight" | "@hourly" => {
            Ok(())
        }
        _ => Err(format!("unrecognized descriptor: {schedule}")),
    }
}

/// `*`, `?`, a number, a range, or one of them with a step.
fn range(part: &str, bounds: &Bounds) -> Result<(), String> {
    let (ends, step) = match *part.split('/').collect::<Vec<_>>() {
        [ends] => (ends, None),
        [ends, step] => (ends, Some(step)),
        _ => return Err(format!("too many slashes: {part}")),
    };
    let (start, end) = match *ends.split('-').collect::<Vec<_>>() {
        ["*" | "?", ..] => (bounds.least, bounds.most),
        [only] => {
            let start = named(only, bounds)?;
            // A step goes on to the end.
            (start, if step.is_some() { bounds.most } else { start })
        }
        [start, end] => (named(start, bounds)?, named(end, bounds)?),
        _ => return Err(format!("too many hyphens: {part}")),
    };
    let step = step.map_or(Ok(1), number)?;
    let Bounds { least, most, .. } = bounds;
    if start < *least {
        return Err(format!(
            "beginning of range ({start}) below minimum ({least}): {part}"
        ));
    }
    if end > *most {
        return Err(format!(
            "end of range ({end}) above maximum ({most}): {part}"
        ));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {part}"
        ));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    Ok(())
}

fn named(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let names = (bounds.least..).zip(bounds.names);
    match { names }.find(|(_, name)| text.eq_ignore_ascii_case(name)) {
        Some((number, _)) => Ok(number),
        None => number(text),
    }
}

/// A number as Go's `strconv.Atoi` reads it.
fn number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let why = if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        "invalid syntax"
    } else if let Ok(number) = text.parse::<i64>() {
        return u64::try_from(number)
            .map_err(|_| format!("negative number ({number}) not allowed: {text}"));
    } else {
        "value out of range"
    };
    Err(format!(
        "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn schedules_that_are_good() {
        for good in [
            "* * * * *",
            "*/5 1-3 1,15 jan MON",
            "? ? ? ? ?",
            "5/10 * * feb-Apr sun-6",
            "1,,2 * * * *",
            "@daily",
            "@every 1h30m",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_as_cron_tells_it() {
        for (schedule, fault) in [
            ("bad", "expected exactly 5 fields, found 1: [bad]"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("61 * * * *", "end of range (61) above maximum (59): 61"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            (
                "5-3 * * * *",
                "beginning of range (5) beyond end of range (3): 5-3",
            ),
            (
                "60/2 * * * *",
                "beginning of range (60) beyond end of range (59): 60/2",
            ),
            ("0 0 * * 7", "end of range (7) above maximum (6): 7"),
            (
                "*/0 * * * *",
                "step of range should be a positive number: */0",
            ),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                "99999999999999999999 * * * *",
                "failed to parse int from 99999999999999999999: strconv.Atoi: parsing \"99999999999999999999\": value out of range",
            ),
            ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
            ("@never", "unrecognized descriptor: @never"),
            (
                "@every x",
                "failed to parse duration @every x: time: invalid duration \"x\"",
            ),
            (
                "TZ=UTC * * * * *",
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ),
        ] {
            assert_eq!(check(schedule), Err(fault.to_owned()), "{schedule}");
        }
    }
}
