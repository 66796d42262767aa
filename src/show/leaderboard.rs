//! Methods × metrics as a table, the best of each column in bold.

use maud::{Markup, html};

use super::Show;
use super::card::{DIM, ROW, TABLE, card};
use super::columns::{Edge, PAGE, padded, panels, widest};
use crate::bootstrap::Estimate;
use crate::faithfulness::Leaderboard;

/// A cell of the table: a mean with its interval, and with how many examples it is over if not all have it; whether it is the
/// column's best.
struct Cell {
    mean: String,
    range: String,
    best: bool,
}

/// The cells of a metric, method by method.
fn column(board: &Leaderboard, metric: &str) -> Vec<Option<Cell>> {
    // Asked for by its own names, and with a bootstrap that was checked, a board has an answer.
    let estimates: Vec<Option<Estimate>> =
        board.methods().iter().map(|method| board.estimate(method, metric).ok().flatten()).collect();
    let means = || estimates.iter().flatten().map(|estimate| estimate.mean);
    let best = if board.is_lower_better(metric) { means().reduce(f64::min) } else { means().reduce(f64::max) };
    let ends = estimates.iter().flatten().flat_map(|estimate| [estimate.low, estimate.high]);
    let decimals = decimals(ends.map(f64::abs).fold(0.0, f64::max));
    let short = |x: f64| format!("{x:.decimals$}").replace('-', "−");
    let over = |n: usize| if n < board.examples() { format!(", n = {n}") } else { String::new() };
    let cell = |estimate: &Estimate| Cell {
        mean: short(estimate.mean),
        range: format!("{} to {}{}", short(estimate.low), short(estimate.high), over(estimate.examples)),
        best: Some(estimate.mean) == best,
    };
    estimates.iter().map(|estimate| estimate.as_ref().map(cell)).collect()
}

/// So many as give the largest number of a column three significant digits.
fn decimals(largest: f64) -> usize {
    if largest > 0.0 { (2.0 - largest.log10().floor()).clamp(0.0, 7.0) as usize } else { 2 }
}

fn heading(board: &Leaderboard, metric: &str) -> String {
    format!("{metric} {}", if board.is_lower_better(metric) { "↓" } else { "↑" })
}

/// Whether some method has a metric in some examples only.
fn has_gaps(board: &Leaderboard) -> bool {
    let partly = |values: &[Option<f64>]| values.contains(&None) && values.iter().any(Option::is_some);
    let of = |method: &String| board.metrics().iter().any(|metric| board.values(method, metric).is_ok_and(partly));
    board.methods().iter().any(of)
}

/// What the intervals are.
fn note(board: &Leaderboard) -> String {
    let (bootstrap, examples) = (board.bootstrap(), board.examples());
    let fewer = if has_gaps(board) { ", or over n" } else { "" };
    format!(
        "mean over {examples} examples{fewer}, and the middle {} % of {} bootstrap draws (seed {}); ↑ more is better, ↓ less is",
        100.0 * bootstrap.level,
        bootstrap.draws,
        bootstrap.seed
    )
}

impl Show for Leaderboard {
    /// A table of Markdown, aligned.
    fn text(&self) -> String {
        let head =
            std::iter::once("method".into()).chain(self.metrics().iter().map(|metric| escaped(&heading(self, metric))));
        let names = self.methods().iter().map(|name| escaped(name)).collect();
        let columns = self.metrics().iter().map(|metric| column(self, metric).iter().map(written).collect());
        let columns: Vec<Vec<String>> = std::iter::once(names).chain(columns).collect();
        let columns: Vec<Vec<String>> = head.zip(columns).map(|(head, cells)| ruled(head, cells)).collect();
        let line =
            |row: usize| format!("| {} |\n", columns.iter().map(|c| c[row].as_str()).collect::<Vec<_>>().join(" | "));
        let lines: String = (0..self.methods().len() + 2).map(line).collect();
        format!("{lines}\n{}", note(self))
    }

    fn html(&self) -> String {
        let tables = html! {
            @for columns in panels(self.metrics().len(), PAGE) { (table(self, &self.metrics()[columns])) }
        };
        card(html! {}, tables, &[note(self)]).into_string()
    }

    fn json(&self) -> Option<String> {
        serde_json::to_string_pretty(self).ok()
    }
}

const CELL: &str = "text-align: right; padding: 3px 10px; border-top: 1px solid #aaaaaa; white-space: nowrap";
const NAME: &str = "text-align: left; padding: 3px 10px; border-top: 1px solid #aaaaaa; font-weight: normal";

/// A table of some of the metrics.
fn table(board: &Leaderboard, metrics: &[String]) -> Markup {
    let columns: Vec<Vec<Option<Cell>>> = metrics.iter().map(|metric| column(board, metric)).collect();
    html! {
        table style=(TABLE) {
            tr style=(ROW) {
                th scope="col" style="text-align: left; padding: 3px 10px" { "method" }
                @for metric in metrics { th scope="col" style="text-align: right; padding: 3px 10px" { (heading(board, metric)) } }
            }
            @for (row, method) in board.methods().iter().enumerate() {
                tr style=(ROW) {
                    th scope="row" style=(NAME) { bdi { (method) } }
                    @for cells in &columns { td style=(CELL) { (shown(&cells[row])) } }
                }
            }
        }
    }
}

fn shown(cell: &Option<Cell>) -> Markup {
    html! {
        @match cell {
            Some(Cell { mean, range, best }) => {
                @if *best { b title="the best" { (mean) } } @else { (mean) }
                div style=(format!("font-size: 85%; color: {DIM}")) { (range) }
            }
            None => "–",
        }
    }
}

fn written(cell: &Option<Cell>) -> String {
    match cell {
        Some(Cell { mean, range, best: true }) => format!("**{mean}** ({range})"),
        Some(Cell { mean, range, best: false }) => format!("{mean} ({range})"),
        None => "–".into(),
    }
}

/// A name as Markdown's tables hold it: on one line, without a bar that would end its cell.
fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('|', "\\|").split(['\r', '\n']).collect::<Vec<_>>().join(" ")
}

/// A heading, the line under it and the cells, all of one width.
fn ruled(heading: String, cells: Vec<String>) -> Vec<String> {
    let rule = "-".repeat(widest(cells.iter().chain([&heading])));
    padded(Edge::Left, &[vec![heading, rule], cells].concat())
}
