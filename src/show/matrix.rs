//! Every input token × every output token, with the numbers in it.

use maud::{Markup, html};

use super::drawing::{document, shortened};
use super::law::law;
use super::palette::{diverging, hex, text_on};
use super::strip::{label, names};
use super::{Show, picture};
use crate::Result;
use crate::attribution::Attribution;

/// A continuation's explanation as a map: a row per output token, a column per input token, and the sum of all rows at the
/// bottom, on a scale of its own.
///
/// Blue supports, orange and underlined speaks against. Columns of special tokens are dimmed and do not stretch the scale,
/// but their scores are in every sum. A map too wide for a page goes on below.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let prompt = llm.read("Nancy works as a farmer in Austin, Nevada. In her free time, she enjoys")?;
/// let said = llm.generate(&prompt, &Sampling::greedy(3))?;
/// let why = gradient_x_input(|x| llm.log_probs(&said, x), &llm.embed(&prompt)?)?.over(&prompt)?.toward(&said)?;
/// assert!(Matrix::new(&why)?.text().contains(said.tokens()[0].text.trim()));
/// assert!(Matrix::new(&why.output(0)?).is_err());    // one row is a strip
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Matrix {
    attribution: Attribution,
    svg: String,
}

impl Matrix {
    /// From an attribution of several outputs.
    ///
    /// Errors: it explains one output only.
    pub fn new(attribution: &Attribution) -> Result<Self> {
        attribution.consistent()?;
        attribution.matrix()?;
        Ok(Self { svg: draw(attribution), attribution: attribution.clone() })
    }
}

const CELL: (f64, f64) = (46.0, 21.0);
/// So many columns fit on a page.
const COLUMNS: usize = 20;

fn draw(attribution: &Attribution) -> String {
    let names = names(attribution);
    let deepest = names.iter().map(|name| name.chars().count().min(18)).max().unwrap_or(0) as f64;
    let top = 24.0 + 6.4 * deepest;
    let panel = top + CELL.1 * (attribution.outputs.len() as f64 + 1.0) + 26.0;
    let panels = names.len().div_ceil(COLUMNS).max(1);
    let across = names.len().div_ceil(panels);
    let side = left(attribution);
    let width = (side + CELL.0 * across as f64 + 60.0).max(420.0);
    let title = format!("{}, {}", attribution.method, attribution.target);
    let body = html! {
        text x="8" y="18" font-size="13" font-weight="bold" { (shortened(&title, (width / 7.8) as usize)) }
        @for i in 0..panels {
            g transform=(format!("translate(0 {})", 20.0 + i as f64 * panel)) {
                (self::panel(attribution, &names, i * across..((i + 1) * across).min(names.len()), side, top))
            }
        }
    };
    document(width, 26.0 + panel * panels as f64, body)
}

/// How much room the names of the outputs take.
fn left(attribution: &Attribution) -> f64 {
    let longest = attribution.outputs.iter().map(|output| output.name.chars().count().min(18)).max().unwrap_or(0);
    24.0 + 7.2 * longest.max(5) as f64
}

fn panel(attribution: &Attribution, names: &[String], columns: std::ops::Range<usize>, side: f64, top: f64) -> Markup {
    let scale = scale(attribution, attribution.outputs.iter().map(|output| &output.scores));
    let total = self::scale(attribution, std::iter::once(&attribution.scores));
    let x = |column: usize| side + CELL.0 * (column - columns.start) as f64;
    let y = |row: usize| top + CELL.1 * row as f64;
    let rows = attribution.outputs.len();
    html! {
        g font-size="12" {
            @for column in columns.clone() {
                @let place = format!("translate({} {}) rotate(-50)", x(column) + CELL.0 / 2.0, top - 6.0);
                text transform=(place) fill=(ink(attribution, column)) { (shortened(&names[column], 18)) }
            }
            @for (row, output) in attribution.outputs.iter().enumerate() {
                text x=(side - 8.0) y=(y(row) + 15.0) text-anchor="end" { (shortened(&label(&output.name), 18)) }
                @for column in columns.clone() { (cell(attribution, column, output.scores[column], scale, x(column), y(row))) }
            }
            text x=(side - 8.0) y=(y(rows) + 21.0) text-anchor="end" font-weight="bold" { "all" }
            @for column in columns.clone() {
                (cell(attribution, column, attribution.scores[column], total, x(column), y(rows) + 6.0))
            }
        }
    }
}

/// The largest |score| among columns that are not special.
fn scale<'a>(attribution: &Attribution, rows: impl Iterator<Item = &'a Vec<f64>>) -> f64 {
    let plain =
        |row: &'a Vec<f64>| row.iter().enumerate().filter(|(i, _)| !attribution.is_special(*i)).map(|(_, s)| s.abs());
    rows.flat_map(plain).fold(f64::MIN_POSITIVE, f64::max)
}

fn ink(attribution: &Attribution, column: usize) -> &'static str {
    if attribution.is_special(column) { "#9a9a9a" } else { "#333333" }
}

fn cell(attribution: &Attribution, column: usize, score: f64, scale: f64, x: f64, y: f64) -> Markup {
    let dim = attribution.is_special(column);
    let colour = diverging(if dim { 0.0 } else { score / scale });
    let ink = if dim { "#9a9a9a" } else { text_on(colour) };
    let line = if score < 0.0 && score.abs() >= 0.02 * scale { "underline" } else { "none" };
    html! {
        rect x=(x) y=(y) width=(CELL.0) height=(CELL.1) fill=(hex(colour)) stroke="#e4e4e4" {}
        text x=(x + CELL.0 / 2.0) y=(y + 14.5) text-anchor="middle" font-size="10.5" fill=(ink) text-decoration=(line) {
            (number(score, scale))
        }
    }
}

/// As many digits as fit a cell and mean something beside the largest.
fn number(score: f64, scale: f64) -> String {
    let digits = match scale {
        large if large >= 1e5 => return format!("{score:.0e}").replace('-', "−"),
        large if large >= 100.0 => 0,
        large if large >= 10.0 => 1,
        large if large >= 0.1 => 2,
        large if large >= 1e-3 => 4,
        _ => return format!("{score:.0e}").replace('-', "−"),
    };
    let text = format!("{score:.digits$}");
    let zero = !text.contains(|c: char| ('1'..='9').contains(&c));
    if zero { "0".into() } else { text.replace('-', "−") }
}

impl Show for Matrix {
    fn json(&self) -> Option<String> {
        self.attribution.to_json().ok()
    }

    fn text(&self) -> String {
        let names = names(&self.attribution);
        let line = |name: &str, cells: Vec<String>| {
            let cells: String = cells.iter().map(|cell| format!(" {cell:>8}")).collect();
            format!("{:>14}{cells}\n", shortened(name, 14))
        };
        let head = line("", names.iter().map(|name| shortened(name, 8)).collect());
        let numbers = |scores: &[f64]| scores.iter().map(|score| format!("{score:.3}").replace('-', "−")).collect();
        let rows = self.attribution.outputs.iter().map(|output| line(&label(&output.name), numbers(&output.scores)));
        let rows: String = rows.collect();
        let all = line("all", numbers(&self.attribution.scores));
        let Attribution { method, target, .. } = &self.attribution;
        format!("{method}, {target}\n{head}{rows}{all}{}", law(&self.attribution))
    }

    fn html(&self) -> String {
        html! {
            div style="font-family: sans-serif" {
                (picture(&self.svg, "scores, a row per output token, a column per input token"))
                div style="font-size: 80%" { (law(&self.attribution)) }
            }
        }
        .into_string()
    }

    fn svg(&self) -> Option<String> {
        Some(self.svg.clone())
    }
}
