//! Standard output: a failed write is an error of the command, never a panic.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use std::io::Write;

pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("writing to standard output")
}

/// One line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    print(&(serde_json::to_string(value)? + "\n"))
}

/// JSON to be read, indented by `indent`.
pub(crate) fn print_pretty_json(value: &impl Serialize, indent: &str) -> Result<()> {
    let mut text = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(indent.as_bytes())))?;
    print(&(String::from_utf8(text)? + "\n"))
}

/// Columns at least 12 wide, three blanks apart, the last one ragged: how runc's lists look.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count() + 3).max().unwrap_or(0).max(12);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let last = column + 1 == row.len();
            out.push_str(&if last { cell.clone() } else { format!("{cell:<width$}", width = widths[column]) });
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let rows = [vec!["ID".into(), "STATUS".into(), "OWNER".into()], vec!["a-rather-long-id".into(), "x".into(), "me".into()]];
        assert_eq!(super::table(&rows), "ID                 STATUS      OWNER\na-rather-long-id   x           me\n");
    }
}
