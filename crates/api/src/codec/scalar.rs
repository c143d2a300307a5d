//! Scalars that have a canonical form: checked and brought into it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::quantity::Quantity;
use crate::schema::Shape;
use crate::time;

/// The canonical text of a string that a field of this shape holds.
///
/// # Errors
///
/// What is wrong, in the words of Go's decoders.
pub(super) fn canonical(shape: &Shape, text: String) -> Result<String, String> {
    match shape {
        Shape::Time => match time::parse(&text) {
            Some(at) => Ok(time::format(at)),
            None => Err(bad_time(&text, "2006-01-02T15:04:05Z07:00")),
        },
        Shape::MicroTime => match time::parse(&text) {
            Some(at) => Ok(time::format_micro(at)),
            None => Err(bad_time(&text, "2006-01-02T15:04:05.000000Z07:00")),
        },
        Shape::Duration => match time::parse_duration(&text) {
            Some(nanos) => Ok(time::format_duration(nanos)),
            None => Err(format!("time: invalid duration {text:?}")),
        },
        Shape::Quantity => Quantity::parse(text.trim())
            .map(|quantity| quantity.to_string())
            .map_err(|error| error.to_string()),
        Shape::Bytes => {
            let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
            match STANDARD.decode(&text) {
                Ok(_) => Ok(text),
                Err(error) => Err(bad_base64(&error, text.len())),
            }
        }
        _ => Ok(text),
    }
}

fn bad_time(text: &str, layout: &str) -> String {
    format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as {layout:?}")
}

fn bad_base64(error: &base64::DecodeError, length: usize) -> String {
    use base64::DecodeError::{InvalidByte, InvalidLastSymbol, InvalidLength, InvalidPadding};
    let at = match error {
        InvalidByte(at, _) | InvalidLastSymbol(at, _) => *at,
        InvalidLength(at) => *at,
        InvalidPadding => length,
    };
    format!("illegal base64 data at input byte {at}")
}

/// Base64 of bytes.
pub(super) fn encode_bytes(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
