//! The one table: a row per task, in the terminal and in Markdown.

use super::{Figures, Line};

const HEAD: [&str; 8] =
    ["row", "", "pellucid", "fastest peer", "× as fast", "× the memory", "floor", "share of it: pellucid, peer"];

/// Columns side by side; what the rows are has been said when they were measured.
pub fn text(lines: &[Line], peak: f64) -> String {
    let cells = cells(lines, peak);
    let columns = [0, 2, 3, 4, 5, 6, 7];
    let widths = columns.map(|column| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let padded = |row: &[String; 8]| {
        let cells = columns.iter().zip(widths).map(|(column, width)| format!("{:<width$}", row[*column]));
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
        ratio(line.speed()),
        line.memory().map_or("?".into(), |share| format!("{share:.2} of {}", line.leanest().name)),
        floor.map_or("none".into(), seconds),
        floor.map_or(String::new(), share),
    ]
}

/// Median, least and greatest in the same unit, and memory.
fn measured(figures: &Figures) -> String {
    let [least, median, greatest] = figures.seconds;
    let (unit, scale) = unit(median);
    let peak = figures.peak_mib.map_or(String::new(), |peak| format!(", {peak:.0} MiB"));
    let [least, median, greatest] = [least, median, greatest].map(|seconds| three(scale * seconds));
    format!("{median} {unit} ({least}–{greatest}){peak}")
}

fn seconds(seconds: f64) -> String {
    let (unit, scale) = unit(seconds);
    format!("{} {unit}", three(scale * seconds))
}

/// Milliseconds below a tenth of a second: the unit, and how many make a second.
fn unit(seconds: f64) -> (&'static str, f64) {
    if seconds < 0.1 { ("ms", 1e3) } else { ("s", 1.0) }
}

/// Three significant digits, of decimals at most three.
fn three(number: f64) -> String {
    let decimals = (2.0 - number.abs().max(1e-9).log10().floor()).clamp(0.0, 3.0) as usize;
    format!("{number:.decimals$}")
}

/// Two decimals, and more where a ratio is small.
pub fn ratio(ratio: f64) -> String {
    if ratio < 0.1 { format!("{ratio:.4}") } else { format!("{ratio:.2}") }
}
