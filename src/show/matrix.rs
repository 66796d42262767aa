//! Every input token × every output token, with the numbers in it as long as they can be read.

use std::ops::Range;

use maud::{Markup, html};

use super::Show;
use super::card::{DIM, card, title};
use super::columns::{Edge, lines, panels};
use super::grid::Grid;
use super::labels::{headline, label, largest, names, shortened, strongest};
use super::law::law;
use super::legend::unsigned;
use super::palette::{diverging, text_on};
use super::svg::Drawing;
use crate::Result;
use crate::attribution::Attribution;

/// A continuation's explanation as a map: a row per output token, a column per input token, and the sum of all rows at the
/// bottom, on a scale of its own.
///
/// Blue supports, orange and underlined speaks against. Columns of special tokens are dimmed and do not stretch the scale,
/// but their scores are in every sum. A map too wide for a page goes on below; one of more than 1200 cells has colours, and
/// marks where it is negative, but no numbers.
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
}

impl Matrix {
    /// From an attribution of several outputs.
    ///
    /// Errors: it explains one output only; a score that is not finite.
    pub fn new(attribution: &Attribution) -> Result<Self> {
        attribution.consistent()?;
        attribution.matrix()?;
        Ok(Self { attribution: attribution.clone() })
    }

    /// The outputs and their sum, each with its name, its scores and its scale.
    fn rows(&self) -> Vec<Row<'_>> {
        let (a, outputs) = (&self.attribution, &self.attribution.outputs);
        let scale = outputs.iter().map(|output| largest(a, &output.scores)).fold(f64::MIN_POSITIVE, f64::max);
        let row = |(name, scores, scale)| Row { name, scores, scale };
        let sum = ("all".into(), a.scores.as_slice(), largest(a, &a.scores));
        let outputs = outputs.iter().map(|output| (label(&output.name), output.scores.as_slice(), scale));
        outputs.chain([sum]).map(row).collect()
    }

    /// A cell's share of its scale; 0 in special columns, which have no colour.
    fn share(&self, row: &Row, column: usize) -> f64 {
        if self.attribution.is_special(column) { 0.0 } else { row.scores[column] / row.scale }
    }

    fn drawing(&self) -> Drawing {
        let (names, rows) = (names(&self.attribution), self.rows());
        let look = Look::of(&rows);
        let heads: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
        let dimmed: Vec<bool> = (0..names.len()).map(|i| self.attribution.is_special(i)).collect();
        let (mut width, mut height, mut body) = (0.0, 0.0, Vec::new());
        for columns in panels(names.len(), look.across) {
            let grid = Grid {
                rows: &heads,
                columns: &names[columns.clone()],
                dimmed: &dimmed[columns.clone()],
                cell: look.cell,
            };
            body.push(html! { g transform=(format!("translate(0 {height:.1})")) { (self.panel(&grid, &rows, columns, &look)) } });
            (width, height) = (grid.size().0.max(width), height + grid.size().1);
        }
        Drawing { width, height, body: html! { @for panel in body { (panel) } } }
    }

    fn panel(&self, grid: &Grid, rows: &[Row], columns: Range<usize>, look: &Look) -> Markup {
        let all = grid.y(rows.len() - 1);
        html! {
            (grid.drawn(|row, column| diverging(self.share(&rows[row], columns.start + column))))
            line x1=(grid.x(0)) x2=(grid.x(columns.len())) y1=(all) y2=(all) stroke="#444444" stroke-width="1.5" {}
            @if look.numbers { (self.numbers(grid, rows, columns)) } @else { (self.marks(grid, rows, columns)) }
        }
    }

    fn numbers(&self, grid: &Grid, rows: &[Row], columns: Range<usize>) -> Markup {
        html! {
            g font-size="11" text-anchor="middle" {
                @for (y, row) in rows.iter().enumerate() {
                    @for (x, column) in columns.clone().enumerate() {
                        @let share = self.share(row, column);
                        @let ink = if self.attribution.is_special(column) { DIM } else { text_on(diverging(share)) };
                        @let line = if share <= -0.02 { "underline" } else { "none" };
                        @let (x, y) = (grid.x(x) + grid.cell.0 / 2.0, grid.y(y) + 15.0);
                        text x=(format!("{x:.1}")) y=(format!("{y:.1}")) fill=(ink) text-decoration=(line) {
                            (number(row.scores[column], row.scale))
                        }
                    }
                }
            }
        }
    }

    /// A short line in every cell that is clearly negative.
    fn marks(&self, grid: &Grid, rows: &[Row], columns: Range<usize>) -> Markup {
        let cells = (0..rows.len()).flat_map(|row| (0..columns.len()).map(move |column| (row, column)));
        let negative = cells.filter(|&(row, column)| self.share(&rows[row], columns.start + column) <= -0.125);
        let mark = |(row, column)| format!("M{:.1} {:.1}h6", grid.x(column) + 4.0, grid.y(row) + grid.cell.1 / 2.0);
        html! { path d=(negative.map(mark).collect::<String>()) stroke="#000000" fill="none" {} }
    }

    fn legend(&self) -> String {
        let rows = self.rows();
        let marked = if Look::of(&rows).numbers { "underlined" } else { "marked −" };
        let (first, all) = (rows[0].scale, rows[rows.len() - 1].scale);
        format!(
            "blue supports the token on the left, orange and {marked} speaks against it; full colour at |score| {}, in the row «all», \
             which is the sum, at {}",
            unsigned(first),
            unsigned(all)
        )
    }
}

struct Row<'a> {
    name: String,
    scores: &'a [f64],
    scale: f64,
}

/// How a map is drawn: with numbers as long as there are few cells, and so many columns side by side as a page has room for.
struct Look {
    cell: (f64, f64),
    across: usize,
    numbers: bool,
}

impl Look {
    fn of(rows: &[Row]) -> Self {
        match rows.iter().map(|row| row.scores.len()).sum::<usize>() {
            0..=1200 => Self { cell: (46.0, 22.0), across: 16, numbers: true },
            _ => Self { cell: (14.0, 14.0), across: 52, numbers: false },
        }
    }
}

/// As many digits as fit a cell and mean something beside the largest.
fn number(score: f64, scale: f64) -> String {
    let digits = match scale {
        nothing if nothing <= f64::MIN_POSITIVE => return "0".into(),
        large if (1e2..1e5).contains(&large) => 0,
        large if (1e1..1e2).contains(&large) => 1,
        large if (1e-1..1e1).contains(&large) => 2,
        small if (1e-3..1e-1).contains(&small) => 4,
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
        /// So many columns stand side by side.
        const ACROSS: usize = 12;
        let (names, rows) = (names(&self.attribution), self.rows());
        let heads: Vec<String> =
            std::iter::once(String::new()).chain(rows.iter().map(|row| shortened(&row.name, 18))).collect();
        let column = |i: usize| {
            let cells = rows.iter().map(|row| number(row.scores[i], row.scale));
            (Edge::Right, std::iter::once(shortened(&names[i], 10)).chain(cells).collect())
        };
        let panel = |columns: Range<usize>| {
            lines(&std::iter::once((Edge::Right, heads.clone())).chain(columns.map(column)).collect::<Vec<_>>())
        };
        let panels: Vec<String> = panels(names.len(), ACROSS).into_iter().map(panel).collect();
        format!("{}\n{}{}", headline(&self.attribution), panels.join("\n"), law(&self.attribution))
    }

    fn html(&self) -> String {
        let a = &self.attribution;
        let words = format!("{} output tokens over the input tokens; in their sum {}", a.outputs.len(), strongest(a));
        let notes = [self.legend(), law(a)];
        card(title(a), self.drawing().picture(&words), &notes).into_string()
    }

    fn svg(&self) -> Option<String> {
        Some(self.drawing().titled(&headline(&self.attribution)))
    }
}
