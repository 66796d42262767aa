//! Scores in a table, the largest first.

use maud::{Markup, html};

use super::drawing::{document, shortened};
use super::law::law;
use super::palette::{diverging, hex};
use super::strip::{MANY, bar, names};
use super::{Show, beside, picture, signed};
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

    /// The largest |score| of a row that is not special.
    fn scale(&self) -> f64 {
        let plain = self.order.iter().filter(|&&i| !self.attribution.is_special(i));
        plain.map(|&i| self.attribution.scores[i].abs()).fold(f64::MIN_POSITIVE, f64::max)
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
        let line = format!("border-top: 1px solid #aaaaaa{}", if dimmed { "; color: #808080" } else { "" });
        let number = beside(score, scale);
        let sign = if number.starts_with('−') { "; text-decoration: underline" } else { "" };
        html! {
            tr style=(line) {
                td style=(NUMBER) { (self.rank(row)) }
                td style=(format!("{NUMBER}{sign}")) { (number) }
                @if let Some(range) = self.range(index, scale) { td style=(RANGE) { (range) } }
                (cell(bars.bar(score, self.interval(index), dimmed), &format!("[{index}]"), &shortened(name, LONG)))
            }
        }
    }
}

/// A text of more characters is cut.
const LONG: usize = 300;
const NUMBER: &str = "text-align: right; vertical-align: top; padding: 2px 6px; white-space: nowrap";
const RANGE: &str = "text-align: right; vertical-align: top; padding: 2px 6px; font-size: 85%";

/// A bar, and the text beside it, or below it where a page is narrow.
fn cell(bar: Markup, index: &str, text: &str) -> Markup {
    const TEXT: &str = "flex: 1 1 14em; text-align: start; padding: 0 6px; overflow-wrap: anywhere";
    html! {
        td style="width: 100%; padding: 2px 6px; vertical-align: top" {
            div style="display: flex; flex-wrap: wrap; align-items: flex-start" {
                div style="line-height: 1; padding-top: 1px" { (bar) }
                div style="padding: 0 0 0 6px; color: #808080" { (index) }
                div dir="auto" style=(TEXT) { (text) }
            }
        }
    }
}

/// The axis that the bars of a table share, and the score that has full colour.
struct Bars {
    low: f64,
    high: f64,
    scale: f64,
}

impl Bars {
    const WIDTH: f64 = 150.0;
    const HEIGHT: f64 = 18.0;

    /// Where a score lies, in pixels, within the margins.
    fn x(&self, score: f64) -> f64 {
        const MARGIN: f64 = 4.0;
        let unit = self.high.max(-self.low).max(f64::MIN_POSITIVE);
        let (low, high) = (self.low / unit, self.high / unit);
        let share = (score / unit - low) / (high - low).max(1.0);
        MARGIN + share.clamp(0.0, 1.0) * (Self::WIDTH - 2.0 * MARGIN)
    }

    /// The numbers at the ends of the axis, and 0 where there is room for it.
    fn head(&self) -> Markup {
        let zero = self.x(0.0);
        let room = (55.0..Self::WIDTH - 55.0).contains(&zero);
        let ends = [(self.low, "start"), (self.high, "end")];
        let largest = self.high.max(-self.low);
        let drawn = html! {
            g font-size="11" {
                @for (end, anchor) in ends {
                    text x=(self.x(end)) y="13" text-anchor=(anchor) { (beside(end, largest)) }
                }
                @if room { text x=(zero) y="13" text-anchor="middle" { "0" } }
            }
        };
        picture(&document(Self::WIDTH, Self::HEIGHT, drawn), "the bars' axis")
    }

    fn bar(&self, score: f64, interval: Option<(f64, f64)>, dimmed: bool) -> Markup {
        let (zero, end) = (self.x(0.0), self.x(score));
        let drawn = html! {
            g opacity=(if dimmed { "0.4" } else { "1" }) {
                rect x=(zero.min(end)) y="3" width=((end - zero).abs()) height="12" fill=(hex(diverging(score / self.scale))) stroke="#777777" {}
                line x1=(zero) x2=(zero) y1="0" y2=(Self::HEIGHT) stroke="#444444" {}
                @if let Some((low, high)) = interval { (whisker(self.x(low), self.x(high))) }
            }
        };
        picture(&document(Self::WIDTH, Self::HEIGHT, drawn), &beside(score, self.scale))
    }
}

/// An interval, dark within white, so that it shows on any bar.
fn whisker(from: f64, to: f64) -> Markup {
    let path = format!("M{from:.1} 9H{to:.1}M{from:.1} 5.5V12.5M{to:.1} 5.5V12.5");
    html! {
        @for (colour, width) in [("#ffffff", "4"), ("#111111", "1.5")] {
            path d=(path) fill="none" stroke=(colour) stroke-width=(width) {}
        }
    }
}

impl Show for ScoreTable {
    fn json(&self) -> Option<String> {
        self.attribution.json()
    }

    fn text(&self) -> String {
        let (a, names, scale) = (&self.attribution, names(&self.attribution), self.scale());
        let row = |(row, &i): (usize, &usize)| {
            let range = self.range(i, scale).map_or(String::new(), |range| format!(" {range:>22}"));
            let (score, bar) = (beside(a.scores[i], scale), bar((a.scores[i] / scale).clamp(-1.0, 1.0)));
            format!("{:>4} {score:>10}{range} {bar:<20} [{i}] {}\n", self.rank(row), shortened(&names[i], LONG))
        };
        let rows: String = self.rows().iter().enumerate().map(row).collect();
        let left_out = self.left_out().map_or(String::new(), |line| format!("{line}\n"));
        format!("{}, {}; the largest |score| first\n{rows}{left_out}{}", a.method, a.target, law(a))
    }

    fn html(&self) -> String {
        let (low, high) = self.axis();
        let (bars, names) = (Bars { low, high, scale: self.scale() }, names(&self.attribution));
        html! {
            div style="font-family: sans-serif; margin: 0.5em 0" {
                div style="font-size: 90%" { b { (self.attribution.method) } ", " (self.attribution.target) "; the largest |score| first" }
                table style="border-collapse: collapse; font-size: 90%" {
                    tr {
                        th style=(NUMBER) { "rank" } th style=(NUMBER) { "score" }
                        @if self.intervals.is_some() { th style=(RANGE) { "interval" } }
                        (cell(bars.head(), "[index]", "text"))
                    }
                    @for (row, &index) in self.rows().iter().enumerate() { (self.row(row, &names[index], &bars)) }
                }
                @if let Some(line) = self.left_out() { div style="font-size: 90%" { (line) } }
                div style="font-size: 80%" {
                    "blue supports the target, orange and underlined speaks against it" br; (law(&self.attribution))
                }
            }
        }
        .into_string()
    }
}
