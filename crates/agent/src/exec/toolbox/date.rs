//! `date`: what time it is.

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use super::options::{Options, Spec};
use super::{Answer, Call, Stop, failed};
use crate::clock::Clock;

/// As it is shown where nothing else is asked for.
const USUAL: &str = "+%a %b %e %H:%M:%S %Z %Y";

const SPEC: Spec = Spec {
    flags: "u",
    values: "",
    long: &[("universal", 'u'), ("utc", 'u')],
    leading: false,
};

/// The time is always UTC: guests know no other.
pub(super) async fn date(call: &mut Call) -> Answer {
    let options = Options::of(&call.args, SPEC)?;
    let format = match options.operands.as_slice() {
        [] => USUAL,
        [format] => format.as_str(),
        [_, more, ..] => return Err(failed(format!("extra operand: {more}"))),
    };
    // That of the machine, which guests are shown, too.
    let text = formatted(Clock::Wall.now(), format)?;
    call.print(text + "\n").await?;
    Ok(0)
}

fn formatted(now: Timestamp, format: &str) -> Result<String, Stop> {
    let Some(format) = format.strip_prefix('+') else {
        return Err(failed(format!(
            "not supported: setting or reading a date: {format}"
        )));
    };
    let text = strtime::format(format, &now.to_zoned(TimeZone::UTC));
    text.map_err(|error| failed(format!("invalid format '{format}': {error}")))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Container, fails, said};
    use super::*;

    #[test]
    fn formats() {
        let now: Timestamp = "2026-01-02T03:04:05.6Z".parse().unwrap();
        for (format, due) in [
            (USUAL, "Fri Jan  2 03:04:05 UTC 2026"),
            ("+%FT%TZ", "2026-01-02T03:04:05Z"),
            ("+%s", "1767323045"),
            ("+%H%%", "03%"),
            ("+", ""),
        ] {
            assert_eq!(formatted(now, format).unwrap(), due, "{format}");
        }
        for format in ["+%", "+%!", "tomorrow"] {
            assert!(formatted(now, format).is_err(), "{format}");
        }
    }

    #[tokio::test]
    async fn how_it_is_called() {
        let container = Container::with(&[]);
        container
            .all(&[
                ("date -u +now", "", said("now\n")),
                ("date +a b", "", fails(1, "date: extra operand: b\n")),
                ("date -s 1", "", fails(1, "date: unrecognized option: -s\n")),
                (
                    "date 1",
                    "",
                    fails(1, "date: not supported: setting or reading a date: 1\n"),
                ),
            ])
            .await;
        let now = container.run(&["date"], "").await;
        assert_eq!((now.code, now.stderr.as_str()), (0, ""));
        assert_eq!(now.stdout.len(), "Fri Jan  2 03:04:05 UTC 2026\n".len());
    }
}
