//! Resource quantities: `500m`, `64Mi`, `1e3`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// An exact amount, in billionths, with the notation it was written in.
///
/// Two quantities are equal when their amounts are, whatever the notation.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    notation: Notation,
}

/// How a quantity is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// `m`, `k`, `M`, `G`, …
    DecimalSi,
    /// `Ki`, `Mi`, `Gi`, …
    BinarySi,
    /// `e3`, `e6`, …
    DecimalExponent,
}

/// A text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)]
pub struct QuantityError;

const NANO: i128 = 1_000_000_000;
/// Kubernetes keeps no amount above 2^63-1.
const MAX: i128 = i64::MAX as i128 * NANO;

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        nanos: 0,
        notation: Notation::DecimalSi,
    };

    /// Reads a quantity.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (scale, notation) = scale_of(suffix)?;
        let nanos = scaled(number, scale)?.min(MAX);
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            notation,
        })
    }

    /// So many whole units.
    pub fn from_value(value: i64, notation: Notation) -> Self {
        Self {
            nanos: i128::from(value) * NANO,
            notation,
        }
    }

    /// So many thousandths, as CPU is counted.
    pub fn from_milli(milli: i64) -> Self {
        Self {
            nanos: i128::from(milli) * 1_000_000,
            notation: Notation::DecimalSi,
        }
    }

    /// So many billionths, as the use of CPU is measured.
    pub fn from_nanos(nanos: u64) -> Self {
        Self {
            nanos: i128::from(nanos),
            notation: Notation::DecimalSi,
        }
    }

    /// Whole units, rounded up (away from zero), at most `i64::MAX`.
    pub fn value(&self) -> i64 {
        self.scaled_up(NANO)
    }

    /// Thousandths, rounded up (away from zero), at most `i64::MAX`.
    pub fn milli(&self) -> i64 {
        self.scaled_up(1_000_000)
    }

    /// The amount rounded up (away from zero) to whole thousandths; None if it is so already.
    pub fn rounded_up(&self) -> Option<Self> {
        const MILLI: i128 = 1_000_000;
        let rest = self.nanos.abs() % MILLI;
        (rest != 0).then(|| Self {
            nanos: self.nanos + self.nanos.signum() * (MILLI - rest),
            notation: self.notation,
        })
    }

    /// The notation it was written in.
    pub fn notation(&self) -> Notation {
        self.notation
    }

    /// Whether the amount is nothing.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether the amount is below nothing.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// The sum, in this one's notation, at most 2^63-1.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let notation = if self.is_zero() {
            other.notation
        } else {
            self.notation
        };
        Self {
            nanos: (self.nanos + other.nanos).clamp(-MAX, MAX),
            notation,
        }
    }

    /// The difference, in this one's notation.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let negated = Self {
            nanos: -other.nanos,
            notation: other.notation,
        };
        self.plus(&negated)
    }

    fn scaled_up(&self, unit: i128) -> i64 {
        let magnitude = (self.nanos.abs() + unit - 1) / unit;
        let signed = magnitude * self.nanos.signum();
        i64::try_from(signed).unwrap_or(if signed > 0 { i64::MAX } else { i64::MIN })
    }
}

/// What a suffix multiplies by, as a fraction of one billionth: numerator and denominator.
#[derive(Clone, Copy)]
enum Scale {
    /// A power of ten.
    Ten(i32),
    /// A power of 1024.
    Binary(u32),
}

fn scale_of(suffix: &str) -> Result<(Scale, Notation), QuantityError> {
    use Notation::{BinarySi, DecimalExponent, DecimalSi};
    let found = match suffix {
        "n" => (Scale::Ten(-9), DecimalSi),
        "u" => (Scale::Ten(-6), DecimalSi),
        "m" => (Scale::Ten(-3), DecimalSi),
        "" => (Scale::Ten(0), DecimalSi),
        "k" => (Scale::Ten(3), DecimalSi),
        "M" => (Scale::Ten(6), DecimalSi),
        "G" => (Scale::Ten(9), DecimalSi),
        "T" => (Scale::Ten(12), DecimalSi),
        "P" => (Scale::Ten(15), DecimalSi),
        "E" => (Scale::Ten(18), DecimalSi),
        "Ki" => (Scale::Binary(1), BinarySi),
        "Mi" => (Scale::Binary(2), BinarySi),
        "Gi" => (Scale::Binary(3), BinarySi),
        "Ti" => (Scale::Binary(4), BinarySi),
        "Pi" => (Scale::Binary(5), BinarySi),
        "Ei" => (Scale::Binary(6), BinarySi),
        other => {
            let digits = other.strip_prefix(['e', 'E']).ok_or(QuantityError)?;
            let exponent: i32 = digits.parse().map_err(|_| QuantityError)?;
            (Scale::Ten(exponent.clamp(-100, 100)), DecimalExponent)
        }
    };
    Ok(found)
}

/// The number times the scale, in billionths, rounded up.
fn scaled(number: &str, scale: Scale) -> Result<i128, QuantityError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(QuantityError);
    }
    let fraction = fraction.trim_end_matches('0');
    let whole = whole.trim_start_matches('0');
    // More digits than an i128 holds: far beyond the largest amount, or below one billionth.
    if whole.len() > 30 {
        return Ok(MAX);
    }
    let kept = &fraction[..fraction.len().min(36 - whole.len())];
    let lost = kept.len() < fraction.len();
    let digits: i128 = format!("0{whole}{kept}")
        .parse()
        .map_err(|_| QuantityError)?;
    let places = i32::try_from(kept.len()).unwrap_or(i32::MAX);
    let amount = match scale {
        Scale::Ten(exponent) => shift(digits, exponent + 9 - places),
        Scale::Binary(power) => {
            let unit = 1_i128 << (10 * power);
            // Split, so that no product leaves the range.
            let ten = 10_i128.pow(u32::try_from(places).unwrap_or(0));
            let (whole, rest) = (digits / ten, digits % ten);
            let whole = whole.saturating_mul(unit).saturating_mul(NANO);
            let rest = mul_div_up(rest, unit, ten);
            whole.saturating_add(rest)
        }
    };
    Ok(amount.saturating_add(i128::from(lost && amount == 0)))
}

/// `rest / ten * unit`, in billionths, rounded up; `rest < ten`.
fn mul_div_up(rest: i128, unit: i128, ten: i128) -> i128 {
    let factor = unit.saturating_mul(NANO);
    match rest.checked_mul(factor) {
        Some(product) => (product + ten - 1) / ten,
        // Drop digits that lie far below one billionth.
        None => mul_div_up(rest / 10, unit, (ten / 10).max(1)),
    }
}

/// `digits` × 10^`exponent`, rounded up.
fn shift(digits: i128, exponent: i32) -> i128 {
    let power = 10_i128.checked_pow(exponent.unsigned_abs());
    match (exponent >= 0, power) {
        (true, Some(power)) => digits.saturating_mul(power),
        (true, None) => {
            if digits == 0 {
                0
            } else {
                MAX
            }
        }
        (false, Some(power)) => digits / power + i128::from(digits % power != 0),
        (false, None) => i128::from(digits != 0),
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that allows that.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        // What binary suffixes cannot say exactly is said by decimal ones.
        let binary = self.nanos.abs() >= 1024 * NANO && self.nanos % NANO == 0;
        match self.notation {
            Notation::BinarySi if binary => {
                let mut value = i128::from(self.value());
                let mut power = 0;
                while value % 1024 == 0 && power < 6 {
                    value /= 1024;
                    power += 1;
                }
                let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power];
                write!(f, "{value}{suffix}")
            }
            notation => {
                let mut value = self.nanos;
                let mut exponent = -9;
                while value % 1000 == 0 && exponent < 18 {
                    value /= 1000;
                    exponent += 3;
                }
                if notation == Notation::DecimalExponent {
                    return match exponent {
                        0 => write!(f, "{value}"),
                        e => write!(f, "{value}e{e}"),
                    };
                }
                let index = usize::try_from((exponent + 9) / 3).unwrap_or(3);
                let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][index];
                write!(f, "{value}{suffix}")
            }
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Self::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_form() {
        let table = [
            ("0", "0"),
            ("1", "1"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1500m", "1500m"),
            (".25", "250m"),
            ("2000", "2k"),
            ("1024", "1024"),
            ("1.5Gi", "1536Mi"),
            (".4Mi", "419430400m"),
            ("1024Mi", "1Gi"),
            ("1Ki", "1Ki"),
            ("512Ki", "512Ki"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("9E", "9E"),
            ("1E3", "1e3"),
            ("100n", "100n"),
            ("0.0000000001", "1n"),
            ("-1.5", "-1500m"),
            ("+5k", "5k"),
            ("16Ei", "9223372036854775807"),
            (
                "99999999999999999999999999999999999999999",
                "9223372036854775807",
            ),
            ("1e-100", "1e-9"),
            ("0.000000000000000000000000000000000000000001Ki", "1n"),
        ];
        for (given, canonical) in table {
            let quantity = Quantity::parse(given).expect(given);
            assert_eq!(quantity.to_string(), canonical, "{given}");
            let again = Quantity::parse(canonical).expect(canonical);
            assert_eq!(again.to_string(), canonical);
        }
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        for bad in [
            "", "x", "1x", "1.2.3", ".", "1 Gi", "1KI", "--1", "1e", "1eX", "Gi", "1µ", "é",
        ] {
            assert_eq!(Quantity::parse(bad), Err(QuantityError), "{bad}");
        }
    }

    #[test]
    fn counts() {
        let cpu = Quantity::parse("100m").expect("cpu");
        assert_eq!((cpu.milli(), cpu.value()), (100, 1));
        let memory = Quantity::parse("64Mi").expect("memory");
        assert_eq!(memory.value(), 67_108_864);
        assert_eq!(memory.plus(&memory).to_string(), "128Mi");
        assert_eq!(cpu.minus(&Quantity::from_milli(250)).to_string(), "-150m");
        assert!(Quantity::parse("1Gi").expect("Gi") > Quantity::parse("1G").expect("G"));
        assert_eq!(Quantity::parse("1000m"), Quantity::parse("1"));
    }
}
