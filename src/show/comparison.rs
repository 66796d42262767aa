//! Several explanations of one text, side by side.

use maud::{Markup, html};

use super::law::law;
use super::palette::{diverging, hex, text_on};
use super::strip::names;
use super::{Show, beside};
use crate::agreement::same_features;
use crate::attribution::Attribution;
use crate::{Error, Result};

/// A table: a row per token or word, a column per attribution, each column shaded on its own scale.
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
        Ok(Self { rows: aligned(&columns), columns })
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

/// The largest |score| of a column.
fn scale(attribution: &Attribution) -> f64 {
    attribution.scores.iter().map(|s| s.abs()).fold(f64::MIN_POSITIVE, f64::max)
}

fn cell(score: f64, scale: f64) -> Markup {
    let colour = diverging(score / scale);
    let text = beside(score, scale);
    let sign = if score < 0.0 && text != "0" { " text-decoration: underline;" } else { "" };
    let (ground, ink) = (hex(colour), text_on(colour));
    let style = format!("text-align: right; padding: 0 0.8em; background-color: {ground}; color: {ink};{sign}");
    html! { td style=(style) { (text) } }
}

impl Show for Comparison {
    fn text(&self) -> String {
        let head: String = self.columns.iter().map(|column| format!(" {:>22}", column.0)).collect();
        let scales: Vec<f64> = self.columns.iter().map(|column| scale(&column.1)).collect();
        let cell =
            |row: &Row, column: usize| self.score(row, column).map_or(String::new(), |s| beside(s, scales[column]));
        let row = |row: &Row| {
            let cells: String = (0..scales.len()).map(|column| format!(" {:>22}", cell(row, column))).collect();
            format!("{:>16}{cells}\n", row.name)
        };
        let rows: String = self.rows.iter().map(row).collect();
        let laws: String = self.columns.iter().map(|column| format!("{}: {}\n", column.0, law(&column.1))).collect();
        format!("{:>16}{head}\n{rows}{laws}", "")
    }

    fn html(&self) -> String {
        let scales: Vec<f64> = self.columns.iter().map(|column| scale(&column.1)).collect();
        html! {
            div style="font-family: sans-serif; margin: 0.5em 0" {
                table style="border-collapse: collapse" {
                    tr { th {} @for column in &self.columns { th style="text-align: right; padding: 0 0.8em" { (column.0) } } }
                    @for row in &self.rows {
                        tr {
                            td style="text-align: left; padding-right: 0.8em" { (row.name) }
                            @for (column, scale) in scales.iter().enumerate() {
                                @match self.score(row, column) { Some(score) => (cell(score, *scale)), None => td {} }
                            }
                        }
                    }
                }
                div style="font-size: 80%" {
                    @for column in &self.columns { div { b { (column.0) } ": " (law(&column.1)) } }
                    "Each column has its own scale: blue supports the target, orange and underlined speaks against it."
                }
            }
        }
        .into_string()
    }
}
