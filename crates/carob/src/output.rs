//! How lists are printed: tables for people, JSON and YAML for programs.

use anyhow::Result;
use comfy_table::presets::NOTHING;
use serde::Serialize;

/// A form of output for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// JSON
    Json,
    /// YAML
    Yaml,
}

impl Format {
    /// Prints `value` in this form.
    pub(crate) fn print<T: Serialize>(self, value: &T) -> Result<()> {
        match self {
            Format::Json => println!("{}", serde_json::to_string_pretty(value)?),
            Format::Yaml => print!("{}", serde_yaml::to_string(value)?),
        }
        Ok(())
    }
}

/// Ends the process without a word when what it prints to has gone, as in `carob get pods | head`.
///
/// `println!` panics then. Servers and agents print nothing and replace this hook by their own.
pub(crate) fn end_quietly_when_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let said = info.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to") && said.contains("Broken pipe") {
            std::process::exit(BROKEN_PIPE);
        }
        usual(info);
    }));
}

/// What a shell reports of a program that SIGPIPE ended.
const BROKEN_PIPE: i32 = 141;

/// Columns as kubectl sets them: three blanks between, no lines.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// A table with these headings.
    pub(crate) fn new<S: ToString>(headings: impl IntoIterator<Item = S>) -> Table {
        let mut table = comfy_table::Table::new();
        table.load_preset(NOTHING);
        table.set_header(headings.into_iter().map(|h| h.to_string()));
        Table(table)
    }

    /// Adds a row.
    pub(crate) fn row<S: ToString>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.0.add_row(cells.into_iter().map(|c| c.to_string()));
    }

    /// Prints it.
    pub(crate) fn print(mut self) {
        for column in self.0.column_iter_mut() {
            column.set_padding((0, 3));
        }
        for line in self.0.lines() {
            println!("{}", line.trim_end());
        }
    }
}
