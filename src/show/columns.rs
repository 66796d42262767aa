//! Columns for a terminal, where a Chinese character or an emoji takes two places and an accent none.

use std::ops::Range;

use unicode_width::UnicodeWidthStr;

/// More rows than this are summed up.
pub(super) const MANY: usize = 200;
/// So many columns of numbers a printed page has room for.
pub(super) const PAGE: usize = 6;
/// A text of more places than this is cut.
pub(super) const LONG: usize = 300;

/// Which edge of its column a cell keeps to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edge {
    Left,
    Right,
}

/// The first of many things, and how many are left out.
pub(super) fn first<T>(things: &[T]) -> (&[T], Option<String>) {
    let more = things.len().saturating_sub(MANY);
    (&things[..things.len() - more], (more > 0).then(|| format!("… and {more} more")))
}

/// A text on a line of its own, or nothing.
pub(super) fn own_line(text: Option<&str>) -> String {
    text.map_or(String::new(), |text| format!("{text}\n"))
}

/// How many of some things stand side by side where `most` fit, in lines of about the same length.
pub(super) fn across(things: usize, most: usize) -> usize {
    things.div_ceil(things.div_ceil(most).max(1)).max(1)
}

/// Columns of which `most` fit side by side, and the others go on below, in ranges of about the same length.
pub(super) fn panels(columns: usize, most: usize) -> Vec<Range<usize>> {
    let across = across(columns, most);
    (0..columns.max(1)).step_by(across).map(|from| from..(from + across).min(columns)).collect()
}

/// How many places a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The widest of some texts.
pub(super) fn widest<'a>(texts: impl IntoIterator<Item = &'a String>) -> usize {
    texts.into_iter().map(|text| width(text)).max().unwrap_or(0)
}

/// The cells of a column, all as wide as the widest.
pub(super) fn padded(edge: Edge, cells: &[String]) -> Vec<String> {
    let widest = widest(cells);
    let pad = |cell: &String| {
        let space = " ".repeat(widest - width(cell));
        match edge {
            Edge::Left => format!("{cell}{space}"),
            Edge::Right => format!("{space}{cell}"),
        }
    };
    cells.iter().map(pad).collect()
}

/// Columns side by side, a line per row.
pub(super) fn lines(columns: &[(Edge, Vec<String>)]) -> String {
    let columns: Vec<Vec<String>> = columns.iter().map(|(edge, cells)| padded(*edge, cells)).collect();
    let rows = columns.iter().map(Vec::len).min().unwrap_or(0);
    let line = |row: usize| columns.iter().map(|column| column[row].as_str()).collect::<Vec<_>>().join(" ");
    (0..rows).map(|row| format!("{}\n", line(row).trim_end())).collect()
}
