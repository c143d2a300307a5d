//! Points and spans of time as the API writes them.

use jiff::Timestamp;

/// `2026-11-21T10:00:00Z`: `metav1.Time`, in UTC, cut to whole seconds.
pub fn format(at: Timestamp) -> String {
    let seconds = at.as_nanosecond().div_euclid(NANOS);
    whole(seconds).to_string()
}

/// `2026-11-21T10:00:00.123456Z`: `metav1.MicroTime`, in UTC.
pub fn format_micro(at: Timestamp) -> String {
    let nanos = at.as_nanosecond();
    let mut text = whole(nanos.div_euclid(NANOS)).to_string();
    text.truncate(text.len() - 1);
    format!("{text}.{:06}Z", nanos.rem_euclid(NANOS) / 1000)
}

/// Reads RFC 3339 with any number of decimals and any offset.
pub fn parse(text: &str) -> Option<Timestamp> {
    // jiff reads more than RFC 3339 allows (a blank for the `T`, a zone in brackets).
    let bytes = text.as_bytes();
    if bytes.len() < 20 || bytes.len() > 64 || bytes.get(10) != Some(&b'T') || text.contains('[') {
        return None;
    }
    text.parse().ok()
}

/// Now with nothing below the second, as it will be read back from a `metav1.Time`.
pub fn truncate(at: Timestamp) -> Timestamp {
    whole(at.as_nanosecond().div_euclid(NANOS))
}

const NANOS: i128 = 1_000_000_000;

fn whole(seconds: i128) -> Timestamp {
    i64::try_from(seconds)
        .ok()
        .and_then(|s| Timestamp::from_second(s).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Nanoseconds of a span in Go's syntax: `1h30m`, `1.5s`, `-2ms`, `0`.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let (unit, after) = unit_of(after)?;
        total = total.checked_add(scaled(number, unit)?)?;
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn unit_of(text: &str) -> Option<(i128, &str)> {
    // Longer names first: `ms` is not `m` and an `s`.
    let units: [(&str, i128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", NANOS),
        ("m", 60 * NANOS),
        ("h", 3600 * NANOS),
    ];
    units
        .iter()
        .find_map(|(name, nanos)| text.strip_prefix(name).map(|rest| (*nanos, rest)))
}

fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut total = if whole.is_empty() {
        0
    } else {
        whole.parse::<i128>().ok()?.checked_mul(unit)?
    };
    let mut step = unit;
    for digit in fraction.bytes() {
        step /= 10;
        if !digit.is_ascii_digit() {
            return None;
        }
        total += i128::from(digit - b'0') * step;
    }
    Some(total)
}

/// A span as Go prints it: `1h30m0s`, `1.5s`, `2ms`, `0s`.
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let left = u128::from(nanos.unsigned_abs());
    if left == 0 {
        return "0s".to_owned();
    }
    if left < 1_000_000_000 {
        let (unit, name) = match left {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", decimal(left, unit));
    }
    let (hours, minutes) = (left / 3_600_000_000_000, left / 60_000_000_000 % 60);
    let seconds = decimal(left % 60_000_000_000, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, m) => format!("{sign}{m}m{seconds}s"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
    }
}

fn decimal(value: u128, unit: u128) -> String {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{fraction:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let at = parse("2026-11-21T10:00:00.1234567+02:00").expect("time");
        assert_eq!(format(at), "2026-11-21T08:00:00Z");
        assert_eq!(format_micro(at), "2026-11-21T08:00:00.123456Z");
        let early = parse("1969-12-31T23:59:59.5Z").expect("time");
        assert_eq!(format(early), "1969-12-31T23:59:59Z");
        for bad in [
            "",
            "now",
            "2026-11-21",
            "2026-11-21 10:00:00Z",
            "2026-13-21T10:00:00Z",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        let table = [
            ("0", "0s"),
            ("1h30m", "1h30m0s"),
            ("90s", "1m30s"),
            ("1.5s", "1.5s"),
            ("-2ms", "-2ms"),
            ("1500us", "1.5ms"),
            ("1h0.5s", "1h0m0.5s"),
            ("7ns", "7ns"),
        ];
        for (text, printed) in table {
            assert_eq!(format_duration(parse_duration(text).expect(text)), printed);
        }
        for bad in ["", "1", "s", "1x", ".s", "1h-2m", "99999999999999h"] {
            assert!(parse_duration(bad).is_none(), "{bad}");
        }
    }
}
