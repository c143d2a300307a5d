//! What a command's first word means.

use super::toolbox;

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// A command of the toolbox.
    Applet,
    /// A module that lies in the container's file system.
    File,
    /// The container's own module, once more.
    Module,
}

impl Choice {
    /// What this word chooses.
    pub(super) fn of(word: &str) -> Self {
        if toolbox::offers(word) {
            Self::Applet
        } else if word.ends_with(".wasm") {
            Self::File
        } else {
            Self::Module
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_words() {
        for (word, wanted) in [
            ("pwd", Choice::Applet),
            ("/bin/pwd", Choice::Applet),
            ("/usr/bin/pwd", Choice::Applet),
            ("/usr/local/bin/pwd", Choice::Module),
            ("./pwd", Choice::Module),
            ("bin/pwd", Choice::Module),
            ("/bin/", Choice::Module),
            ("/bin//bin/pwd", Choice::Module),
            ("pwd.wasm", Choice::File),
            ("/bin/pwd.wasm", Choice::File),
            ("/data/tool.wasm", Choice::File),
            ("/data/tool.WASM", Choice::Module),
            ("tool", Choice::Module),
            ("", Choice::Module),
        ] {
            assert_eq!(Choice::of(word), wanted, "{word}");
        }
    }
}
