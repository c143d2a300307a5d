//! How lists are printed: tables for people, JSON and YAML for programs.

use anyhow::Result;
use comfy_table::presets::NOTHING;
use serde::Serialize;
use serde_json::Value;

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
            std::process::exit(BROKEN_PIPE.into());
        }
        usual(info);
    }));
}

/// What a shell reports of a program that SIGPIPE ended.
pub(crate) const BROKEN_PIPE: u8 = 141;

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ListFormat {
    /// Columns
    #[default]
    Table,
    /// Columns, all of them
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Names alone
    Name,
}

/// A list: its rows as objects, and which of their fields are shown in which column.
pub(crate) struct List<'a> {
    /// Headings, each with the field that it shows; the first is the name.
    pub(crate) columns: &'a [(&'a str, &'a str)],
    /// How many of the columns are shown without `-o wide`.
    pub(crate) narrow: usize,
    pub(crate) rows: Vec<Value>,
}

impl List<'_> {
    /// Prints it.
    pub(crate) fn print(&self, format: ListFormat) -> Result<()> {
        let cell = |row: &Value, field: &str| match &row[field] {
            Value::String(text) => text.clone(),
            Value::Null => "<none>".to_owned(),
            Value::Array(items) => {
                let texts: Vec<_> = items.iter().filter_map(Value::as_str).collect();
                texts.join(",")
            }
            other => other.to_string(),
        };
        let columns = match format {
            ListFormat::Json => return Format::Json.print(&self.rows),
            ListFormat::Yaml => return Format::Yaml.print(&self.rows),
            ListFormat::Name => {
                for row in &self.rows {
                    println!("{}", cell(row, self.columns[0].1));
                }
                return Ok(());
            }
            ListFormat::Table => &self.columns[..self.narrow],
            ListFormat::Wide => self.columns,
        };
        let mut table = Table::new(columns.iter().map(|(heading, _)| heading));
        for row in &self.rows {
            table.row(columns.iter().map(|(_, field)| cell(row, field)));
        }
        table.print();
        Ok(())
    }
}

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
