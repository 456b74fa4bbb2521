//! Printing: data to stdout, notes to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::args::Format;

/// Prints in the form asked for.
pub(crate) struct Printer {
    format: Format,
    out: io::BufWriter<io::Stdout>,
}

impl Printer {
    pub(crate) fn new(format: Format) -> Self {
        Self {
            format,
            out: io::BufWriter::new(io::stdout()),
        }
    }

    /// One answer: as it is for programs, or as `text` makes it for people.
    pub(crate) fn one<T: Serialize>(
        &mut self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<()> {
        let text = match self.format {
            Format::Table => text(value),
            Format::Json => serde_json::to_string_pretty(value)? + "\n",
            Format::Yaml => yaml(value)?,
        };
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.flush()?)
    }

    /// A listing that comes in pages.
    pub(crate) fn listing<const N: usize>(&mut self, columns: [&'static str; N]) -> Listing<'_, N> {
        Listing {
            columns: Columns::new(columns),
            entries: 0,
            printer: self,
        }
    }
}

/// A listing being printed.
pub(crate) struct Listing<'a, const N: usize> {
    columns: Columns<N>,
    entries: usize,
    printer: &'a mut Printer,
}

impl<const N: usize> Listing<'_, N> {
    /// Prints a page. An entry can take several rows.
    pub(crate) fn page<T: Serialize>(
        &mut self,
        items: &[T],
        mut rows: impl FnMut(&T) -> Vec<[String; N]>,
    ) -> Result<()> {
        let out = &mut self.printer.out;
        match self.printer.format {
            Format::Table => {
                let rows: Vec<_> = items.iter().flat_map(&mut rows).collect();
                self.columns.write(out, &rows)?;
            }
            Format::Json => {
                for (n, item) in (self.entries..).zip(items) {
                    out.write_all(if n == 0 { b"[\n" } else { b",\n" })?;
                    serde_json::to_writer(&mut *out, item)?;
                }
            }
            Format::Yaml if items.is_empty() => {}
            Format::Yaml => out.write_all(yaml(items)?.as_bytes())?,
        }
        self.entries += items.len();
        Ok(())
    }

    /// Ends the listing; `nothing` is the note to an empty table.
    pub(crate) fn end(self, nothing: &str) -> Result<()> {
        let out = &mut self.printer.out;
        match (self.printer.format, self.entries) {
            (Format::Table, 0) => eprintln!("{nothing}"),
            (Format::Table, _) => {}
            (Format::Json, 0) => out.write_all(b"[]\n")?,
            (Format::Json, _) => out.write_all(b"\n]\n")?,
            (Format::Yaml, 0) => out.write_all(b"[]\n")?,
            (Format::Yaml, _) => {}
        }
        Ok(out.flush()?)
    }
}

fn yaml<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let mut text =
        serde_saphyr::to_string(&value).context("the answer can't be written as YAML")?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Columns as wide as their widest entry so far, so that pages line up; the last is never padded.
struct Columns<const N: usize> {
    titles: [&'static str; N],
    widths: [usize; N],
    started: bool,
}

const GAP: usize = 2;

impl<const N: usize> Columns<N> {
    fn new(titles: [&'static str; N]) -> Self {
        Self {
            titles,
            widths: titles.map(width),
            started: false,
        }
    }

    fn write(&mut self, out: &mut impl io::Write, rows: &[[String; N]]) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            for (known, cell) in self.widths.iter_mut().zip(row) {
                *known = (*known).max(width(cell));
            }
        }
        if !self.started {
            self.started = true;
            self.row(out, &self.titles.map(String::from))?;
        }
        rows.iter().try_for_each(|row| self.row(out, row))
    }

    fn row(&self, out: &mut impl io::Write, cells: &[String; N]) -> io::Result<()> {
        let mut line = String::new();
        for (cell, wanted) in cells.iter().zip(self.widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(
                ' ',
                wanted.saturating_sub(width(cell)) + GAP,
            ));
        }
        writeln!(out, "{}", line.trim_end())
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// A table that is whole at once.
pub(crate) fn table<const N: usize>(titles: [&'static str; N], rows: &[[String; N]]) -> String {
    let mut text = Vec::new();
    // Writing to memory cannot fail.
    let _ = Columns::new(titles).write(&mut text, rows);
    String::from_utf8_lossy(&text).into_owned()
}

/// Lines of `name: value`, the values in one column; those with an empty value are left out.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let shown = || fields.iter().filter(|(_, value)| !value.is_empty());
    let widest = shown().map(|(name, _)| width(name)).max().unwrap_or(0);
    shown()
        .map(|(name, value)| {
            let pad = " ".repeat(widest - width(name) + GAP);
            format!("{name}:{pad}{value}\n")
        })
        .collect()
}

/// `1d02h`, `2h03m`, `4m05s`, `6s`.
pub(crate) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match seconds {
        86_400.. => format!("{days}d{hours:02}h"),
        3_600.. => format!("{hours}h{minutes:02}m"),
        60.. => format!("{minutes}m{:02}s", seconds % 60),
        _ => format!("{seconds}s"),
    }
}

/// A dash for what is not there.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `text` cut to `limit` characters on a terminal, where a long line wraps; whole for programs.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    if !io::stdout().is_terminal() || width(text) <= limit {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(limit.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Whether the reader of stdout has gone, as `head` does: no mistake.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let direct = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause
            .downcast_ref::<serde_json::Error>()
            .and_then(serde_json::Error::io_error_kind);
        direct.or(json) == Some(io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_spaces() {
        let rows =
            [["a", "2001:db8::/32", ""], ["long name", "b", "c"]].map(|r| r.map(String::from));
        let text = table(["NAME", "PREFIX", "X"], &rows);
        assert_eq!(
            text,
            "NAME       PREFIX         X\n\
             a          2001:db8::/32\n\
             long name  b              c\n"
        );
    }

    #[test]
    fn durations_show_two_units() {
        let texts = [0, 59, 60, 3_599, 3_600, 86_399, 90_000].map(duration);
        assert_eq!(
            texts,
            ["0s", "59s", "1m00s", "59m59s", "1h00m", "23h59m", "1d01h"]
        );
    }

    #[test]
    fn empty_fields_are_left_out() {
        let text = fields(&[
            ("A", "1".into()),
            ("Longer", String::new()),
            ("Bc", "2".into()),
        ]);
        assert_eq!(text, "A:   1\nBc:  2\n");
    }
}
