//! Results for people, as tables, and for programs, as JSON or YAML.

use crate::failure::{Failure, Outcome};
use clap::ValueEnum;
use serde::Serialize;
use std::io::{self, Write};

/// Form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs
    Json,
    /// For both
    Yaml,
}

/// Prints a result: the value itself, or the table that was made of it.
pub fn show<T: Serialize>(output: Output, value: &T, table: impl FnOnce(&T) -> String) -> Outcome<()> {
    let text = match output {
        Output::Table => table(value),
        Output::Json => {
            let text = serde_json::to_string_pretty(value).map_err(Failure::to("write the result as JSON"))?;
            format!("{text}\n")
        }
        Output::Yaml => serde_saphyr::to_string(value).map_err(Failure::to("write the result as YAML"))?,
    };
    print(&text)
}

/// Prints a text. A reader that has seen enough and left (`| head`) is no failure.
pub fn print(text: &str) -> Outcome<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::to("write to standard output")(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Lines of cells under a headline. Empty cells become `-`; what could play with the terminal is escaped.
pub fn table(headline: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return "none\n".into();
    }
    let headline: Vec<String> = headline.iter().map(|cell| (*cell).to_owned()).collect();
    let rows: Vec<Vec<String>> =
        std::iter::once(&headline).chain(rows).map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headline.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn clean(text: &str) -> String {
    if text.is_empty() {
        return "-".into();
    }
    let escaped = |char: char| if char.is_control() { char.escape_default().to_string() } else { char.to_string() };
    text.chars().map(escaped).collect()
}

/// What may be absent, as a cell.
pub fn cell<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_terminals_are_safe() {
        let rows = vec![vec!["a".into(), "\u{1b}[31m".into()], vec!["längst".into(), String::new()]];
        assert_eq!(table(&["NAME", "MESSAGE"], &rows), "NAME     MESSAGE\na        \\u{1b}[31m\nlängst   -\n");
        assert_eq!(table(&["NAME"], &[]), "none\n");
    }
}
