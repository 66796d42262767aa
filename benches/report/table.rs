//! The one table: a row per task, in the terminal and in Markdown.

use super::{Figures, Line};

const HEAD: [&str; 8] =
    ["row", "", "pellucid", "fastest peer", "× as fast", "× the memory", "floor", "share of it: pellucid, peer"];

/// Columns side by side.
pub fn text(lines: &[Line], peak: f64) -> String {
    let cells = cells(lines, peak);
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let padded = |row: &[String; 8]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    cells.iter().map(padded).collect::<Vec<_>>().join("\n")
}

pub fn markdown(lines: &[Line], peak: f64) -> String {
    let mut rows: Vec<String> = cells(lines, peak).iter().map(|row| format!("| {} |\n", row.join(" | "))).collect();
    rows.insert(1, format!("|{}\n", "---|".repeat(HEAD.len())));
    rows.concat()
}

/// The head, and a row per line.
fn cells(lines: &[Line], peak: f64) -> Vec<[String; 8]> {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(lines.iter().map(|line| row(line, peak)));
    rows
}

fn row(line: &Line, peak: f64) -> [String; 8] {
    let (floor, fastest) = (line.floor(peak), line.fastest());
    let share =
        |floor: f64| format!("{:.0} %, {:.0} %", 100.0 * floor / line.ours.median(), 100.0 * floor / fastest.median());
    [
        line.row.into(),
        line.what.into(),
        measured(&line.ours),
        format!("{}: {}", fastest.name, measured(fastest)),
        format!("{:.2}", line.speed()),
        line.memory().map_or("?".into(), |share| format!("{share:.2} of {}", line.leanest().name)),
        floor.map_or("none".into(), seconds),
        floor.map_or(String::new(), share),
    ]
}

/// Median, least and greatest, and memory.
fn measured(figures: &Figures) -> String {
    let [least, median, greatest] = figures.seconds.map(seconds);
    let peak = figures.peak_mib.map_or(String::new(), |peak| format!(", {peak:.0} MiB"));
    format!("{median} ({least}–{greatest}){peak}")
}

/// Three significant digits; milliseconds below a tenth of a second.
fn seconds(seconds: f64) -> String {
    let digits = |number: f64| (2.0 - number.abs().max(1e-9).log10().floor()).clamp(0.0, 3.0) as usize;
    match seconds < 0.1 {
        true => format!("{:.*} ms", digits(1e3 * seconds), 1e3 * seconds),
        false => format!("{:.*} s", digits(seconds), seconds),
    }
}
