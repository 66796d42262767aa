//! Several explanations of one text, side by side.

use std::ops::Range;

use maud::{Markup, html};

use super::card::{DIM, ROW, TABLE, card};
use super::columns::{Edge, LONG, PAGE, first, lines, own_line, panels};
use super::labels::{largest, names, shortened};
use super::law::laws;
use super::strip::ink;
use super::{Show, beside};
use crate::agreement::same_features;
use crate::attribution::Attribution;
use crate::{Error, Result};

/// A table: a row per token or word, a column per attribution, each column shaded on its own scale.
///
/// Special tokens are dimmed and do not stretch the scale. Of more than 200 rows the first 200 are
/// shown; of more than six columns some stand below.
///
/// Columns may come from models with different tokenizers: words are the same words in all of them, and a special token
/// that a model does not have is left blank in its column.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I absolutely loved the movie!")?;
/// let (x, positive) = (bert.embed(&text)?, Target::Logit(bert.label("positive")?));
/// let by = |rules: Rules| -> Result<Attribution> {
///     let bert = bert.under(rules);
///     gradient_x_input(|x| positive.of(&bert.logits(&text, x)?), &x)?.over(&text)?.words()
/// };
/// let table = Comparison::new(&[("exact", &by(Rules::exact())?), ("LibraGrad", &by(Rules::libragrad())?)])?;
/// assert!(table.text().contains("LibraGrad") && table.html().contains("loved"));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Comparison {
    columns: Vec<(String, Attribution)>,
    /// Each column's |score| of full colour.
    scales: Vec<f64>,
    rows: Vec<Row>,
}

/// A feature: its name, and its number in each column that has it.
#[derive(Clone, Debug)]
struct Row {
    name: String,
    special: bool,
    cells: Vec<Option<usize>>,
}

impl Comparison {
    /// Named attributions over the same features.
    ///
    /// Errors: none given; features that differ; scores over a picture, which are for a [`Gallery`](super::Gallery).
    pub fn new(columns: &[(&str, &Attribution)]) -> Result<Self> {
        let (title, first) = columns.first().ok_or_else(|| Error::argument("there is nothing to compare"))?;
        columns.iter().try_for_each(|(_, attribution)| attribution.consistent())?;
        if first.features.map().is_some() {
            return Err(Error::argument(format!(
                "`{title}` is over a picture, and a table has no room for that: lay each over it and hang them side by side, with \
                 `Overlay` and `Gallery`"
            )));
        }
        if let Some((other, _)) = columns.iter().find(|(_, attribution)| !same_features(first, attribution)) {
            return Err(Error::argument(format!(
                "`{other}` is over other features than `{title}`: compare tokens with tokens, words with words, of one text"
            )));
        }
        let columns: Vec<_> = columns.iter().map(|(name, a)| (name.to_string(), (*a).clone())).collect();
        let scales = columns.iter().map(|(_, attribution)| largest(attribution, &attribution.scores)).collect();
        Ok(Self { rows: aligned(&columns), scales, columns })
    }

    fn score(&self, row: &Row, column: usize) -> Option<f64> {
        Some(self.columns[column].1.scores[row.cells[column]?])
    }
}

/// The features of all columns in the text's order: those that are not special are the same in each, and between two of
/// them a special token shares its row with others of its name.
fn aligned(columns: &[(String, Attribution)]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (column, (_, attribution)) in columns.iter().enumerate() {
        let mut at = 0;
        for (i, name) in names(attribution).into_iter().enumerate() {
            let special = attribution.is_special(i);
            let free = |row: &Row| row.cells[column].is_none() && row.name == name;
            let found = match special {
                true => rows[at..].iter().take_while(|row| row.special).position(free),
                false => rows[at..].iter().position(|row| !row.special),
            };
            at = match found {
                Some(further) => at + further,
                None => {
                    let place = if column == 0 { rows.len() } else { at };
                    rows.insert(place, Row { name, special, cells: vec![None; columns.len()] });
                    place
                }
            };
            rows[at].cells[column] = Some(i);
            at += 1;
        }
    }
    rows
}

/// What is explained, if it is one thing.
fn target(columns: &[(String, Attribution)]) -> Option<&str> {
    let (_, first) = columns.first()?;
    columns.iter().all(|(_, attribution)| attribution.target == first.target).then_some(&first.target)
}

fn cell(score: f64, scale: f64, dimmed: bool) -> Markup {
    let colours = if dimmed { format!("; color: {DIM}") } else { ink(score / scale) };
    let style = format!("text-align: right; padding: 0.1em 0.8em; white-space: nowrap{colours}");
    html! { td style=(style) { (beside(score, scale)) } }
}

impl Comparison {
    /// The rows that are shown, and how many are not.
    fn shown(&self) -> (&[Row], Option<String>) {
        first(&self.rows)
    }

    fn laws(&self) -> Vec<String> {
        laws(&self.columns.iter().map(|(title, attribution)| (title.as_str(), attribution)).collect::<Vec<_>>())
    }

    /// A table of some of the columns.
    fn table(&self, columns: Range<usize>) -> Markup {
        html! {
            table style=(TABLE) {
                tr style=(ROW) {
                    td {}
                    @for (title, _) in &self.columns[columns.clone()] { th scope="col" style=(HEAD) { bdi { (title) } } }
                }
                @for row in self.shown().0 { (self.row(row, columns.clone())) }
            }
        }
    }

    fn row(&self, row: &Row, columns: Range<usize>) -> Markup {
        let dim = if row.special { format!("; color: {DIM}") } else { String::new() };
        html! {
            tr style=(ROW) {
                th scope="row" style=(format!("{NAME}{dim}")) { bdi { (shortened(&row.name, LONG)) } }
                @for column in columns {
                    @match self.score(row, column) { Some(score) => (cell(score, self.scales[column], row.special)), None => td {} }
                }
            }
        }
    }
}

const NAME: &str = "text-align: left; padding: 0.1em 0.8em 0.1em 0; font-weight: normal; \
                    min-width: 6em; overflow-wrap: break-word; overflow-wrap: anywhere";
const HEAD: &str = "text-align: right; padding: 0 0.8em; vertical-align: bottom";

impl Show for Comparison {
    fn text(&self) -> String {
        let (rows, more) = self.shown();
        let names = std::iter::once(String::new()).chain(rows.iter().map(|row| shortened(&row.name, 40)));
        let column = |(i, (title, _)): (usize, &(String, Attribution))| {
            let cell = |row: &Row| self.score(row, i).map_or(String::new(), |score| beside(score, self.scales[i]));
            (Edge::Right, std::iter::once(shortened(title, 32)).chain(rows.iter().map(cell)).collect())
        };
        let numbers = self.columns.iter().enumerate().map(column);
        let table = lines(&std::iter::once((Edge::Right, names.collect())).chain(numbers).collect::<Vec<_>>());
        let (target, more) = (own_line(target(&self.columns)), own_line(more.as_deref()));
        format!("{target}{table}{more}{}", self.laws().join("\n"))
    }

    fn html(&self) -> String {
        let tables = html! {
            @for columns in panels(self.columns.len(), PAGE) { (self.table(columns)) }
            @if let Some(more) = self.shown().1 { div { (more) } }
        };
        let legend = "each column has its own scale: blue supports the target, orange and underlined speaks against it";
        let notes = [vec![legend.to_string()], self.laws()].concat();
        card(html! { @if let Some(target) = target(&self.columns) { bdi { (target) } } }, tables, &notes).into_string()
    }
}
