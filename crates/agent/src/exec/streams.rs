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
    fn variables(self) -> Vec<(&'static str, String)> {
        let mut variables = vec![("TERM", "xterm".to_owned())];
        if let Some((columns, lines)) = self.size {
            variables.push(("COLUMNS", columns.to_string()));
            variables.push(("LINES", lines.to_string()));
        }
        variables
    }

    /// Says in an environment what it is, where that says nothing of it.
    pub(crate) fn suggest(self, env: &mut Vec<(String, String)>) {
        for (name, value) in self.variables() {
            if env.iter().all(|(other, _)| other != name) {
                env.push((name.to_owned(), value));
            }
        }
    }

    /// Says in an environment what it is, in place of what the container's says.
    pub(crate) fn tell(self, env: &mut Vec<(String, String)>) {
        let variables = self.variables();
        env.retain(|(name, _)| variables.iter().all(|(other, _)| other != name));
        let variables = variables.into_iter();
        env.extend(variables.map(|(name, value)| (name.to_owned(), value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_told_of_a_terminal() {
        let terminal = Terminal {
            size: Some((80, 24)),
        };
        let told = |by: fn(Terminal, &mut Vec<(String, String)>)| {
            let own = [("LINES", "9"), ("A", "b"), ("TERM", "vt100")];
            let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let mut env = own.to_vec();
            by(terminal, &mut env);
            env.sort();
            let words = env.iter().map(|(name, value)| format!("{name}={value}"));
            words.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told(Terminal::tell), "A=b COLUMNS=80 LINES=24 TERM=xterm");
        assert_eq!(told(Terminal::suggest), "A=b COLUMNS=80 LINES=9 TERM=vt100");
        let mut env = Vec::new();
        Terminal::default().suggest(&mut env);
        assert_eq!(env, [("TERM".to_owned(), "xterm".to_owned())]);
    }
}
