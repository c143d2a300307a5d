//! Sizes of a client's terminal, as they come: one JSON object after the other, wherever one ends.

use client::node::TerminalSize;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{Input, Wanted};

/// The most bytes of an object that is not whole yet.
const LONGEST: usize = 1024;

/// The way of the sizes to a command.
pub(super) struct Sizes {
    /// None: nobody is interested, or the client has said something else.
    to: Option<mpsc::Sender<Input>>,
    begun: Begun,
}

impl Sizes {
    /// Only a terminal has one.
    pub(super) fn of(inputs: Option<&mpsc::Sender<Input>>, wanted: Wanted) -> Self {
        Self {
            to: inputs.filter(|_| wanted.tty).cloned(),
            begun: Begun::default(),
        }
    }

    /// Takes what has come, and passes on the size that the terminal has by it.
    pub(super) async fn take(&mut self, bytes: &[u8]) {
        let Some(to) = &self.to else { return };
        let open = match self.begun.size(bytes) {
            Ok(Some(size)) => to.send(Input::Size(size)).await.is_ok(),
            Ok(None) => true,
            Err(NoSize) => false,
        };
        if !open {
            self.to = None;
        }
    }
}

/// As clients write it.
#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width", default)]
    width: u16,
    #[serde(rename = "Height", default)]
    height: u16,
}

/// What came was no size: what follows cannot be read either.
#[derive(Debug, PartialEq, Eq)]
struct NoSize;

/// The beginning of an object.
#[derive(Default)]
struct Begun(Vec<u8>);

impl Begun {
    /// The last size that is whole with these bytes: those before it are over. One without any room is none.
    fn size(&mut self, bytes: &[u8]) -> Result<Option<TerminalSize>, NoSize> {
        self.0.extend_from_slice(bytes);
        let mut sizes = serde_json::Deserializer::from_slice(&self.0).into_iter::<Size>();
        let mut last = None;
        loop {
            match sizes.next() {
                Some(Ok(size)) if size.width > 0 && size.height > 0 => last = Some(size),
                Some(Ok(_)) => {}
                Some(Err(error)) if !error.is_eof() => return Err(NoSize),
                Some(Err(_)) | None => break,
            }
        }
        let whole = sizes.byte_offset();
        self.0.drain(..whole);
        if self.0.len() > LONGEST {
            return Err(NoSize);
        }
        self.0.shrink_to(LONGEST);
        Ok(last.map(|Size { width, height }| TerminalSize {
            width: width.into(),
            height: height.into(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of several pieces.
    fn sizes(pieces: &[&str]) -> Vec<Result<Option<(u32, u32)>, NoSize>> {
        let mut begun = Begun::default();
        let read = |piece: &&str| {
            let size = begun.size(piece.as_bytes());
            size.map(|size| size.map(|s| (s.width, s.height)))
        };
        pieces.iter().map(read).collect()
    }

    #[test]
    fn sizes_come_as_they_come() {
        let (line, whole) = ("{\"Width\":80,\"Height\":24}\n", Ok(Some((80, 24))));
        assert_eq!(sizes(&[line, line]), [whole, Ok(Some((80, 24)))]);
        assert_eq!(
            sizes(&[
                "{\"Wid",
                "th\":80,",
                "\"Height\":24}{\"Width\"",
                ":9, \"Height\": 3}"
            ]),
            [Ok(None), Ok(None), Ok(Some((80, 24))), Ok(Some((9, 3)))]
        );
        // Only the last of several counts.
        let two = "{\"Height\":1,\"Width\":2}{\"Height\":3,\"Width\":4,\"X\":{}}";
        assert_eq!(
            sizes(&[two, "", " \n"]),
            [Ok(Some((4, 3))), Ok(None), Ok(None)]
        );
        let flat = "{\"Width\":80}{\"Height\":24}{}";
        assert_eq!(sizes(&[flat]), [Ok(None)]);
    }

    #[test]
    fn what_is_no_size_is_noticed() {
        for text in [
            "80x24",
            "{\"Width\":-1}",
            "{\"Width\":65536,\"Height\":1}",
            "[{]",
            "}",
            "\u{0}",
        ] {
            assert_eq!(sizes(&[text]), [Err(NoSize)], "{text}");
        }
        let long = format!("{{\"x\":\"{}", "x".repeat(LONGEST));
        assert_eq!(sizes(&[&long]), [Err(NoSize)]);
    }
}
