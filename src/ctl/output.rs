//! What commands print: tables for people, plain text for pipes, JSON for scripts.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use serde::ser::SerializeMap;

use crate::error::{Error, Result};

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Plain lines
    Text,
    /// A table with borders
    Table,
    /// One JSON document
    Json,
}

/// An empty table with these headings; without any, one whose rows name themselves.
pub(crate) fn grid<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    if N > 0 {
        table.set_header(headings);
    }
    table
}

/// Sets the columns of numbers right.
pub(crate) fn right_align(table: &mut Table, columns: &[usize]) {
    for &column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Prints a table, or for [`Format::Text`] its cells without borders.
pub(crate) fn print_table(mut table: Table, format: Format) -> Result<()> {
    if format == Format::Text {
        table.load_style(presets::NOTHING);
    }
    print(table.trim_fmt().as_bytes())
}

/// Prints one JSON document.
pub(crate) fn print_json(document: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|error| Error::io("cannot write JSON")(error.into()))?;
    print(text.as_bytes())
}

/// Prints bytes and a line end.
pub(crate) fn print(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(Error::io("cannot write to standard output"))
}

/// Bytes that are to be shown: as they are where they are text, else in hexadecimal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) bytes: &'a [u8],
    /// Hexadecimal also for text.
    pub(crate) hex: bool,
}

impl Shown<'_> {
    /// For a table: text, or `0x` and hexadecimal digits.
    pub(crate) fn cell(self) -> String {
        match std::str::from_utf8(self.bytes) {
            Ok(text) if !self.hex => text.to_owned(),
            _ => format!("0x{}", hexadecimal(self.bytes)),
        }
    }

    /// For plain text: the bytes themselves, or hexadecimal digits when those were asked for.
    pub(crate) fn line(self) -> Vec<u8> {
        if self.hex {
            hexadecimal(self.bytes).into_bytes()
        } else {
            self.bytes.to_vec()
        }
    }
}

impl Serialize for Shown<'_> {
    /// A string, or `{"hex": "..."}` for bytes that are no text: a reader can always tell which.
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.bytes) {
            Ok(text) if !self.hex => serializer.serialize_str(text),
            _ => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("hex", &hexadecimal(self.bytes))?;
                map.end()
            }
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number of bytes for people.
pub(crate) fn human_bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// A duration in milliseconds for people: its two largest units.
pub(crate) fn human_duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_told_apart_from_text_that_looks_like_hexadecimal() {
        let json = |bytes, hex| serde_json::to_string(&Shown { bytes, hex }).expect("JSON");
        assert_eq!(json(b"ff", false), r#""ff""#);
        assert_eq!(json(b"\xff", false), r#"{"hex":"ff"}"#);
        assert_eq!(json(b"ab", true), r#"{"hex":"6162"}"#);
    }

    #[test]
    fn plain_text_is_the_bytes_themselves() {
        let binary = Shown {
            bytes: b"\xff\n",
            hex: false,
        };
        assert_eq!(binary.line(), b"\xff\n");
        assert_eq!(binary.cell(), "0xff0a");
    }

    #[test]
    fn a_duration_shows_its_two_largest_units() {
        assert_eq!(human_duration(59_999), "59s");
        assert_eq!(human_duration(3_599_000), "59m59s");
        assert_eq!(human_duration(90_000_000), "1d01h");
    }
}
