//! Where a command's input comes from and its outputs go to.

use network::pipe::Reader;
use runtime::Sink;
use runtime::output::Capture;

/// A command's streams.
pub(crate) struct Streams {
    /// Without it the command reads the end at once.
    pub(crate) stdin: Option<Reader>,
    pub(crate) stdout: Sink,
    pub(crate) stderr: Sink,
    /// The terminal that all three are.
    pub(crate) terminal: Option<Terminal>,
}

impl Streams {
    /// Nothing to read, and both outputs into one.
    pub(crate) fn into_one(output: &Capture) -> Self {
        let sink = Sink::new(output.clone());
        Self {
            stdin: None,
            stdout: sink.clone(),
            stderr: sink,
            terminal: None,
        }
    }
}

/// A terminal, as its command is told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// Its columns and lines, where they are known.
    pub(crate) size: Option<(u32, u32)>,
}

impl Terminal {
    /// Says in an environment what it is, in place of what the container's says.
    pub(crate) fn tell(self, env: &mut Vec<(String, String)>) {
        let mut variables = vec![("TERM", "xterm".to_owned())];
        if let Some((columns, lines)) = self.size {
            variables.push(("COLUMNS", columns.to_string()));
            variables.push(("LINES", lines.to_string()));
        }
        env.retain(|(name, _)| variables.iter().all(|(other, _)| other != name));
        let variables = variables.into_iter();
        env.extend(variables.map(|(name, value)| (name.to_owned(), value)));
    }
}
