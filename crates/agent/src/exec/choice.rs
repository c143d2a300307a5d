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
    /// The same, though the word does not name it: whoever meant another program is to learn that it is not there.
    Unknown,
}

impl Choice {
    /// What this word chooses in a container whose module calls itself `own`.
    pub(super) fn of(word: &str, own: &str) -> Self {
        if toolbox::offers(word) {
            Self::Applet
        } else if word.ends_with(".wasm") {
            Self::File
        } else if word == own {
            Self::Module
        } else {
            Self::Unknown
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
            ("/usr/local/bin/pwd", Choice::Unknown),
            ("./pwd", Choice::Unknown),
            ("bin/pwd", Choice::Unknown),
            ("/bin/", Choice::Unknown),
            ("/bin//bin/pwd", Choice::Unknown),
            ("pwd.wasm", Choice::File),
            ("/bin/pwd.wasm", Choice::File),
            ("/data/tool.wasm", Choice::File),
            ("/data/tool.WASM", Choice::Unknown),
            ("tool", Choice::Module),
            ("/bin/tool", Choice::Unknown),
            ("", Choice::Unknown),
        ] {
            assert_eq!(Choice::of(word, "tool"), wanted, "{word}");
        }
        assert_eq!(Choice::of("pwd", "pwd"), Choice::Applet);
    }
}
