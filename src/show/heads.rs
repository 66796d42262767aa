//! Attention patterns: one head with its words, and all heads at a glance.

use candle_core::Tensor;
use image::{Rgb, RgbImage};
use maud::{Markup, html};

use super::drawing::{document, shortened};
use super::palette::{hex, sequential};
use super::picture::{exact, framed};
use super::strip::label;
use super::{Show, picture};
use crate::model::text::Text;
use crate::tensor::numbers;
use crate::{Error, Result};

/// One head's attention as a labelled map: rows are queries, columns are keys, rows sum to one.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I absolutely loved the movie!")?;
/// let map = Heatmap::new(&bert.attention(&text)?, 2, 0, &text)?;
/// assert!(map.text().contains("layer 2, head 0") && map.without_special()?.svg().unwrap().contains("loved"));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Heatmap {
    title: String,
    labels: Vec<String>,
    special: Vec<bool>,
    weights: Vec<f64>,
    svg: String,
}

impl Heatmap {
    /// Head `head` of layer `layer` of `L × (1,h,t,t)` patterns over a text of t tokens, as a model's `attention` yields
    /// them.
    ///
    /// Errors: a layer or a head that does not exist; patterns of another text.
    pub fn new(patterns: &[Tensor], layer: usize, head: usize, text: &Text) -> Result<Self> {
        let pattern = patterns.get(layer).ok_or_else(|| Error::out_of_range("layer", layer, patterns.len()))?;
        let heads = heads_of(pattern, text)?;
        let count = heads.len();
        let weights = heads.into_iter().nth(head).ok_or_else(|| Error::out_of_range("head", head, count))?;
        let labels = text.tokens().iter().map(|token| label(&token.text)).collect();
        Ok(Self::drawn(format!("attention of layer {layer}, head {head}"), labels, special(text), weights))
    }

    /// The same with the weight on special tokens left out and each row scaled to sum to one without it: where a head looks
    /// when it looks at something. Rows that look at special tokens alone are empty.
    pub fn without_special(&self) -> Result<Self> {
        let weights = without_special(&self.weights, &self.special);
        let title = format!("{}, special tokens left out", self.title);
        Ok(Self::drawn(title, self.labels.clone(), self.special.clone(), weights))
    }

    fn drawn(title: String, labels: Vec<String>, special: Vec<bool>, weights: Vec<f64>) -> Self {
        Self { svg: draw_one(&title, &labels, &weights), title, labels, special, weights }
    }
}

/// Which tokens of a text are special.
fn special(text: &Text) -> Vec<bool> {
    text.tokens().iter().map(|token| token.special).collect()
}

/// t·t weights without those on special tokens, rows scaled to sum to one again.
fn without_special(weights: &[f64], special: &[bool]) -> Vec<f64> {
    let row = |row: &[f64]| {
        let kept: Vec<f64> = row.iter().zip(special).map(|(&w, &special)| if special { 0.0 } else { w }).collect();
        let sum: f64 = kept.iter().sum();
        kept.into_iter().map(move |weight| if sum > 1e-6 { weight / sum } else { 0.0 }).collect::<Vec<_>>()
    };
    weights.chunks(special.len().max(1)).flat_map(row).collect()
}

fn draw_one(title: &str, labels: &[String], weights: &[f64]) -> String {
    const CELL: f64 = 24.0;
    let t = labels.len();
    let margin = 16.0 + 7.5 * labels.iter().map(|l| l.chars().count()).max().unwrap_or(0).min(16) as f64;
    let side = t as f64 * CELL;
    let middle = |i: usize| margin + (i as f64 + 0.5) * CELL;
    let body = html! {
        text x="8" y="18" font-size="13" { (title) }
        g transform="translate(0 20)" font-size="12" {
            @for (i, label) in labels.iter().enumerate() {
                @let label = shortened(label, 16);
                text x=(margin - 6.0) y=(middle(i) + 4.0) text-anchor="end" { (label) }
                text transform=(format!("translate({} {}) rotate(-60)", middle(i) + 4.0, margin - 6.0)) { (label) }
            }
            (map(margin, margin, side, weights, t))
            (scale(margin + side + 16.0, margin))
        }
    };
    document(margin + side + 90.0, margin + side + 40.0, body)
}

/// t·t weights as a map of t × t cells in a frame.
fn map(x: f64, y: f64, side: f64, weights: &[f64], t: usize) -> Markup {
    let cell = |column: u32, row: u32| Rgb(sequential(weights[row as usize * t + column as usize]));
    framed(x, y, (side, side), &exact(&RgbImage::from_fn(t as u32, t as u32, cell)))
}

/// The colours from 0 to 1, top down.
fn scale(x: f64, y: f64) -> Markup {
    html! {
        @for step in 0..=10 {
            rect x=(x) y=(y + 10.0 * f64::from(step)) width="14" height="10" fill=(hex(sequential(f64::from(step) / 10.0))) {}
        }
        rect x=(x) y=(y) width="14" height="110" fill="none" stroke="#777777" {}
        text x=(x + 20.0) y=(y + 10.0) font-size="12" { "0" }
        text x=(x + 20.0) y=(y + 108.0) font-size="12" { "1" }
    }
}

impl Show for Heatmap {
    fn text(&self) -> String {
        let row = |(label, row): (&String, &[f64])| {
            let weights: Vec<_> = row.iter().map(|weight| format!("{weight:.2}")).collect();
            format!("{:>16} {}\n", shortened(label, 16), weights.join(" "))
        };
        let rows: String = self.labels.iter().zip(self.weights.chunks(self.labels.len().max(1))).map(row).collect();
        format!("{}\n{rows}", self.title)
    }

    fn html(&self) -> String {
        picture(&self.svg, &self.title).into_string()
    }

    fn svg(&self) -> Option<String> {
        Some(self.svg.clone())
    }
}

/// All heads of all layers as small maps: a row per layer, a column per head.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let prompt = llm.read("Nancy works as a farmer in Austin, Nevada. In her free time, she enjoys")?;
/// let heads = HeadGrid::new(&llm.attention(&prompt)?, &prompt)?;
/// assert!(heads.svg().unwrap().contains("layer 1") && heads.without_special()?.text().contains("layer"));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HeadGrid {
    layers: Vec<Vec<Vec<f64>>>,
    special: Vec<bool>,
    svg: String,
}

impl HeadGrid {
    /// From `L × (1,h,t,t)` patterns, as a model's `attention` yields them.
    ///
    /// Errors: patterns of another text.
    pub fn new(patterns: &[Tensor], text: &Text) -> Result<Self> {
        Ok(Self::drawn(patterns.iter().map(|pattern| heads_of(pattern, text)).collect::<Result<_>>()?, special(text)))
    }

    /// The same with the weight on special tokens left out and each row scaled to sum to one without it.
    pub fn without_special(&self) -> Result<Self> {
        let left =
            |heads: &Vec<Vec<f64>>| heads.iter().map(|weights| without_special(weights, &self.special)).collect();
        Ok(Self::drawn(self.layers.iter().map(left).collect(), self.special.clone()))
    }

    fn drawn(layers: Vec<Vec<Vec<f64>>>, special: Vec<bool>) -> Self {
        Self { svg: draw_all(&layers, special.len()), layers, special }
    }
}

fn draw_all(layers: &[Vec<Vec<f64>>], tokens: usize) -> String {
    const GAP: f64 = 8.0;
    let columns = layers.iter().map(Vec::len).max().unwrap_or(0);
    let size = (880.0 / columns.max(1) as f64 - GAP).clamp(40.0, 120.0);
    let at = |i: usize| i as f64 * (size + GAP);
    let body = html! {
        g font-size="12" {
            @for head in 0..columns { text x=(70.0 + at(head) + size / 2.0) y="20" text-anchor="middle" { "head " (head) } }
            @for (layer, heads) in layers.iter().enumerate() {
                text x="8" y=(34.0 + at(layer) + size / 2.0) { "layer " (layer) }
                @for (head, weights) in heads.iter().enumerate() {
                    (map(70.0 + at(head), 30.0 + at(layer), size, weights, tokens))
                }
            }
            (scale(80.0 + at(columns), 30.0))
        }
    };
    document(130.0 + at(columns), (30.0 + at(layers.len())).max(160.0), body)
}

impl Show for HeadGrid {
    fn text(&self) -> String {
        let tokens = self.special.len();
        let diagonal = |head: &Vec<f64>| (0..tokens).map(|i| head[i * tokens + i]).sum::<f64>() / tokens as f64;
        let first = |head: &Vec<f64>| (0..tokens).map(|i| head[i * tokens]).sum::<f64>() / tokens as f64;
        let describe = |head: &Vec<f64>| format!("{:.2}/{:.2}", diagonal(head), first(head));
        let row = |(layer, heads): (usize, &Vec<Vec<f64>>)| {
            let heads: Vec<_> = heads.iter().map(describe).collect();
            format!("layer {layer:>2}  {}\n", heads.join("  "))
        };
        let rows: String = self.layers.iter().enumerate().map(row).collect();
        format!("attention of every head: mean weight on the token itself / on the first token\n{rows}")
    }

    fn html(&self) -> String {
        picture(&self.svg, "attention patterns, a row per layer, a column per head").into_string()
    }

    fn svg(&self) -> Option<String> {
        Some(self.svg.clone())
    }
}

/// A pattern `(1,h,t,t)` as h lists of t·t weights.
fn heads_of(pattern: &Tensor, text: &Text) -> Result<Vec<Vec<f64>>> {
    let t = text.len();
    match pattern.dims() {
        &[1, _, rows, keys] if rows == t && keys == t => {
            Ok(numbers(pattern)?.chunks(t * t).map(<[f64]>::to_vec).collect())
        }
        other => Err(Error::shape("the attention pattern", format!("(1, h, {t}, {t}), of this text"), other)),
    }
}
