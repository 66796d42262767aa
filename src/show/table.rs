//! Scores in a table, the largest first.

use maud::{Markup, html};

use super::blocks;
use super::card::{DIM, ROW, TABLE, card, title};
use super::columns::{Edge, LONG, MANY, lines, own_line};
use super::labels::{headline, largest, names, shortened};
use super::law::law;
use super::small_bars::{Bars, bar_and_text};
use super::{Show, beside, signed};
use crate::attribution::Attribution;
use crate::tensor::finite;
use crate::{Error, Result};

/// The features of an attribution by |score|, the largest first, each with its rank, its score, a bar, its index among the
/// scores, and its text. Special tokens stand at the end, dimmed, without a rank.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let prompt = llm.read("Michael works as a software engineer in Austin, Texas. In his free time, he enjoys")?;
/// let said = llm.continuation(&prompt, " painting")?;
/// let parts = Parts::words(&prompt)?;
/// let f = |present: &Tensor| llm.log_probs_with(&parts, present, &said);
/// let drops = feature_ablation(f, &parts.all()?, &parts.none()?, &Groups::elements(&parts.all()?))?.over_parts(&parts)?;
/// println!("{}", drops.table().first(3).text());
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ScoreTable {
    attribution: Attribution,
    /// Indices of the features, row by row.
    order: Vec<usize>,
    shown: usize,
    /// From where to where each score may lie.
    intervals: Option<Vec<(f64, f64)>>,
}

impl Attribution {
    /// The scores as a table, the largest |score| first. Of more than 200 rows the first 200 are shown; [`ScoreTable::first`]
    /// takes another number.
    pub fn table(&self) -> ScoreTable {
        let (special, plain): (Vec<_>, Vec<_>) = self.order().into_iter().partition(|&i| self.is_special(i));
        ScoreTable { attribution: self.clone(), order: [plain, special].concat(), shown: MANY, intervals: None }
    }
}

impl ScoreTable {
    /// The k first rows; how many are left out, and what they sum to, stands below.
    pub fn first(self, k: usize) -> Self {
        Self { shown: k, ..self }
    }

    /// With an interval for every feature, `(features,)` from `low` to `high`: quantiles of a bootstrap, or a score ± its
    /// deviation. Each is drawn as a whisker in the bar.
    ///
    /// Errors: not two numbers for every feature, special tokens included; numbers that are not finite; an interval that ends
    /// before it begins.
    pub fn between(self, low: &[f64], high: &[f64]) -> Result<Self> {
        let features = self.attribution.scores.len();
        for (which, ends) in [("the lower ends", low), ("the upper ends", high)] {
            if ends.len() != features {
                return Err(Error::shape(which, format!("({features},), one per feature"), &[ends.len()]));
            }
            finite("an end of an interval", ends)?;
        }
        let intervals: Vec<_> = low.iter().copied().zip(high.iter().copied()).collect();
        match intervals.iter().position(|(low, high)| low > high) {
            None => Ok(Self { intervals: Some(intervals), ..self }),
            Some(i) => Err(Error::argument(format!(
                "the interval of feature {i} goes from {} to {}: the lower ends come first",
                low[i], high[i]
            ))),
        }
    }

    fn rows(&self) -> &[usize] {
        &self.order[..self.shown.min(self.order.len())]
    }

    /// The rank of a row, which special tokens have not.
    fn rank(&self, row: usize) -> String {
        if self.attribution.is_special(self.order[row]) { String::new() } else { (row + 1).to_string() }
    }

    fn interval(&self, index: usize) -> Option<(f64, f64)> {
        Some(self.intervals.as_ref()?[index])
    }

    fn range(&self, index: usize, scale: f64) -> Option<String> {
        self.interval(index).map(|(low, high)| format!("{}\u{a0}to {}", beside(low, scale), beside(high, scale)))
    }

    fn scale(&self) -> f64 {
        largest(&self.attribution, &self.attribution.scores)
    }

    /// Where the bars' axis begins and ends: at 0, or at the farthest that a row which is not special reaches.
    fn axis(&self) -> (f64, f64) {
        let plain = self.rows().iter().filter(|&&i| !self.attribution.is_special(i));
        let scores = &self.attribution.scores;
        let reached = plain.flat_map(|&i| self.interval(i).into_iter().chain([(scores[i], scores[i])]));
        reached
            .fold((0.0, f64::MIN_POSITIVE), |(low, high), (least, most)| (f64::min(low, least), f64::max(high, most)))
    }

    /// How many rows are left out, and their sum.
    fn left_out(&self) -> Option<String> {
        let left_out = &self.order[self.rows().len()..];
        let sum: f64 = left_out.iter().map(|&i| self.attribution.scores[i]).sum();
        let of = if self.rows().is_empty() { "" } else { " more" };
        (!left_out.is_empty()).then(|| format!("… and {}{of}, Σ {}", left_out.len(), signed(sum)))
    }

    fn row(&self, row: usize, name: &str, bars: &Bars) -> Markup {
        let index = self.order[row];
        let (score, scale) = (self.attribution.scores[index], bars.scale);
        let dimmed = self.attribution.is_special(index);
        let dim = if dimmed { format!("; color: {DIM}") } else { String::new() };
        let number = beside(score, scale);
        let sign = if number.starts_with('−') { "; text-decoration: underline" } else { "" };
        html! {
            tr style=(format!("{ROW}; border-top: 1px solid #aaaaaa{dim}")) {
                td style=(NUMBER) { (self.rank(row)) }
                td style=(format!("{NUMBER}{sign}")) { (number) }
                @if let Some(range) = self.range(index, scale) { td style=(RANGE) { (range) } }
                td style=(WIDE) {
                    (bar_and_text(bars.bar(score, self.interval(index), dimmed), &format!("[{index}]"), &shortened(name, LONG)))
                }
            }
        }
    }
}

const NUMBER: &str = "text-align: right; vertical-align: top; padding: 2px 6px; white-space: nowrap";
const RANGE: &str = "text-align: right; vertical-align: top; padding: 2px 6px; font-size: 85%";
const WIDE: &str = "width: 100%; text-align: left; vertical-align: top; padding: 2px 6px; font-weight: normal";

impl Show for ScoreTable {
    fn json(&self) -> Option<String> {
        self.attribution.json()
    }

    fn text(&self) -> String {
        let (a, names, scale) = (&self.attribution, names(&self.attribution), self.scale());
        let rows = self.rows();
        let each = |cell: &dyn Fn(usize) -> String| rows.iter().map(|&i| cell(i)).collect::<Vec<_>>();
        let mut columns = vec![
            (Edge::Right, (0..rows.len()).map(|row| self.rank(row)).collect()),
            (Edge::Right, each(&|i| beside(a.scores[i], scale))),
            (Edge::Left, blocks::bars(&rows.iter().map(|&i| a.scores[i] / scale).collect::<Vec<_>>())),
            (Edge::Left, each(&|i| format!("[{i}] {}", shortened(&names[i], LONG)))),
        ];
        if self.intervals.is_some() {
            columns.insert(2, (Edge::Right, each(&|i| self.range(i, scale).unwrap_or_default())));
        }
        let left_out = own_line(self.left_out().as_deref());
        format!("{}; the largest |score| first\n{}{left_out}{}", headline(a), lines(&columns), law(a))
    }

    fn html(&self) -> String {
        let (low, high) = self.axis();
        let (a, bars, names) = (&self.attribution, Bars { low, high, scale: self.scale() }, names(&self.attribution));
        let table = html! {
            table style=(TABLE) {
                tr style=(ROW) {
                    th scope="col" style=(NUMBER) { "rank" }
                    th scope="col" style=(NUMBER) { "score" }
                    @if self.intervals.is_some() { th scope="col" style=(RANGE) { "interval" } }
                    th scope="col" style=(WIDE) { (bar_and_text(bars.head(), "[index]", "text")) }
                }
                @for (row, &index) in self.rows().iter().enumerate() { (self.row(row, &names[index], &bars)) }
            }
            @if let Some(line) = self.left_out() { div { (line) } }
        };
        let legend = "the largest |score| first; blue supports the target, orange and underlined speaks against it";
        card(title(a), table, &[legend.into(), law(a)]).into_string()
    }
}
