//! Several explanations of one text, side by side.

use maud::{Markup, html};

use super::law::law;
use super::palette::{diverging, hex, text_on};
use super::strip::names;
use super::{Show, beside};
use crate::attribution::Attribution;
use crate::{Error, Result};

/// A table: a row per token or word, a column per attribution, each column shaded on its own scale.
#[derive(Clone, Debug)]
pub struct Comparison {
    columns: Vec<(String, Attribution)>,
}

impl Comparison {
    /// Named attributions over the same features.
    ///
    /// Errors: none given; features that differ.
    pub fn new(columns: &[(&str, &Attribution)]) -> Result<Self> {
        let (title, first) = columns.first().ok_or_else(|| Error::argument("there is nothing to compare"))?;
        let features = names(first);
        columns.iter().try_for_each(|(_, attribution)| attribution.consistent())?;
        if let Some((other, _)) = columns.iter().find(|(_, attribution)| names(attribution) != features) {
            return Err(Error::argument(format!(
                "`{other}` is over other features than `{title}`: compare tokens with tokens, words with words, of one text"
            )));
        }
        Ok(Self { columns: columns.iter().map(|(name, a)| (name.to_string(), (*a).clone())).collect() })
    }

    fn features(&self) -> Vec<String> {
        self.columns.first().map(|column| names(&column.1)).unwrap_or_default()
    }
}

/// The largest |score| of a column.
fn scale(attribution: &Attribution) -> f64 {
    attribution.scores.iter().map(|s| s.abs()).fold(f64::MIN_POSITIVE, f64::max)
}

fn cell(attribution: &Attribution, row: usize) -> Markup {
    let scale = scale(attribution);
    let score = attribution.scores[row];
    let colour = diverging(score / scale);
    let sign = if score < 0.0 { " text-decoration: underline;" } else { "" };
    let style = format!("text-align: right; background-color: {}; color: {};{sign}", hex(colour), text_on(colour));
    html! { td style=(style) { (beside(score, scale)) } }
}

impl Show for Comparison {
    fn text(&self) -> String {
        let head: String = self.columns.iter().map(|column| format!(" {:>22}", column.0)).collect();
        let row = |(i, name): (usize, &String)| {
            let scores: String = self
                .columns
                .iter()
                .map(|column| format!(" {:>22}", beside(column.1.scores[i], scale(&column.1))))
                .collect();
            format!("{name:>16}{scores}\n")
        };
        let rows: String = self.features().iter().enumerate().map(row).collect();
        let laws: String = self.columns.iter().map(|column| format!("{}: {}\n", column.0, law(&column.1))).collect();
        format!("{:>16}{head}\n{rows}{laws}", "")
    }

    fn html(&self) -> String {
        html! {
            div style="font-family: sans-serif; margin: 0.5em 0" {
                table style="border-collapse: collapse" {
                    tr { th {} @for column in &self.columns { th style="text-align: right; padding: 0 0.8em" { (column.0) } } }
                    @for (i, name) in self.features().iter().enumerate() {
                        tr { td style="text-align: left" { (name) } @for column in &self.columns { (cell(&column.1, i)) } }
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
