//! Attention patterns: one head with its words, and all heads at a glance.

use candle_core::Tensor;
use image::{Rgb, RgbImage};
use maud::{Markup, html};

use super::Show;
use super::card::card;
use super::columns::{Edge, lines};
use super::grid::Grid;
use super::labels::{label, shortened};
use super::legend::bar;
use super::palette::sequential;
use super::picture::{framed, photograph};
use super::svg::Drawing;
use crate::model::text::Text;
use crate::tensor::{finite, numbers};
use crate::{Error, Result};

/// One head's attention as a labelled map: rows are queries, columns are keys, rows sum to one.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I absolutely loved the movie!")?;
/// let map = Heatmap::new(&bert.attention(&text)?, 2, 0, &text)?;
/// assert!(map.text().contains("layer 2, head 0") && map.without_special().svg().unwrap().contains("loved"));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Heatmap {
    title: String,
    labels: Vec<String>,
    special: Vec<bool>,
    weights: Vec<f64>,
}

impl Heatmap {
    /// Head `head` of layer `layer` of `L × (1,h,t,t)` patterns over a text of t tokens, as a model's `attention` yields
    /// them.
    ///
    /// Errors: a layer or a head that does not exist; patterns of another text; a weight that is not finite.
    pub fn new(patterns: &[Tensor], layer: usize, head: usize, text: &Text) -> Result<Self> {
        let pattern = patterns.get(layer).ok_or_else(|| Error::out_of_range("layer", layer, patterns.len()))?;
        let heads = heads_of(pattern, text)?;
        let count = heads.len();
        let weights = heads.into_iter().nth(head).ok_or_else(|| Error::out_of_range("head", head, count))?;
        let labels = text.tokens().iter().map(|token| label(&token.text)).collect();
        Ok(Self { title: format!("attention of layer {layer}, head {head}"), labels, special: special(text), weights })
    }

    /// The same with the weight on special tokens left out and each row scaled to sum to one without it: where a head looks
    /// when it looks at something. Rows that look at special tokens alone are empty.
    pub fn without_special(&self) -> Self {
        let weights = without_special(&self.weights, &self.special);
        Self { title: format!("{}, special tokens left out", self.title), weights, ..self.clone() }
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

impl Heatmap {
    fn drawing(&self) -> Drawing {
        /// A map is no wider than a page, whatever it is of.
        const SIDE: f64 = 840.0;
        let t = self.labels.len();
        let side = (SIDE / t.max(1) as f64).min(24.0);
        let grid = Grid { rows: &self.labels, columns: &self.labels, dimmed: &self.special, cell: (side, side) };
        let (width, height) = (grid.size().0.max(grid.x(t) + 12.0), grid.size().1);
        let body = html! {
            (grid.drawn(|row, column| sequential(self.weights[row * t + column])))
            (scale(width + 4.0, grid.y(0)))
        };
        Drawing { width: width + 60.0, height: height.max(grid.y(0) + 140.0), body }
    }

    /// The keys that a query looks at most.
    fn looks_at(&self, row: &[f64]) -> String {
        let mut keys: Vec<usize> = (0..row.len()).filter(|&key| row[key] >= 0.005).collect();
        keys.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        let keys = keys.into_iter().take(3).map(|key| format!("{} {:.2}", shortened(&self.labels[key], 16), row[key]));
        keys.collect::<Vec<_>>().join(", ")
    }

    /// Every query, and the keys it looks at most.
    fn rows(&self) -> impl Iterator<Item = (&String, String)> {
        self.labels.iter().zip(self.weights.chunks(self.labels.len().max(1)).map(|row| self.looks_at(row)))
    }
}

/// The colours from 1 down to 0.
fn scale(x: f64, y: f64) -> Markup {
    bar(x, y, 0.0, sequential, |share| share.to_string())
}

const LEGEND: &str = "rows are queries, columns are keys; the deeper the purple, the higher the weight";

impl Show for Heatmap {
    fn text(&self) -> String {
        let (names, keys): (Vec<String>, Vec<String>) =
            self.rows().map(|(name, keys)| (shortened(name, 16), format!("→ {keys}"))).unzip();
        format!(
            "{}: the keys each query looks at most\n{}",
            self.title,
            lines(&[(Edge::Right, names), (Edge::Left, keys)])
        )
    }

    fn html(&self) -> String {
        let words: Vec<String> = self.rows().map(|(name, keys)| format!("{name} → {keys}")).collect();
        let picture = self.drawing().picture(&words.join("; "));
        card(html! { b { (self.title) } }, picture, &[LEGEND.into()]).into_string()
    }

    fn svg(&self) -> Option<String> {
        Some(self.drawing().titled(&self.title))
    }
}

/// All heads of all layers as small maps: a row per layer, a column per head.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let prompt = llm.read("Nancy works as a farmer in Austin, Nevada. In her free time, she enjoys")?;
/// let heads = HeadGrid::new(&llm.attention(&prompt)?, &prompt)?;
/// assert!(heads.svg().unwrap().contains("layer 1") && heads.without_special().text().contains("layer"));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HeadGrid {
    layers: Vec<Vec<Vec<f64>>>,
    special: Vec<bool>,
}

impl HeadGrid {
    /// From `L × (1,h,t,t)` patterns, as a model's `attention` yields them.
    ///
    /// Errors: patterns of another text; a weight that is not finite.
    pub fn new(patterns: &[Tensor], text: &Text) -> Result<Self> {
        let layers = patterns.iter().map(|pattern| heads_of(pattern, text)).collect::<Result<_>>()?;
        Ok(Self { layers, special: special(text) })
    }

    /// The same with the weight on special tokens left out and each row scaled to sum to one without it.
    pub fn without_special(&self) -> Self {
        let left =
            |heads: &Vec<Vec<f64>>| heads.iter().map(|weights| without_special(weights, &self.special)).collect();
        Self { layers: self.layers.iter().map(left).collect(), special: self.special.clone() }
    }

    fn drawing(&self) -> Drawing {
        const GAP: f64 = 6.0;
        let columns = self.layers.iter().map(Vec::len).max().unwrap_or(0);
        let size = (880.0 / columns.max(1) as f64 - GAP).clamp(20.0, 120.0);
        let at = |i: usize| i as f64 * (size + GAP);
        let (left, top) = (70.0, 30.0);
        let body = html! {
            g font-size="12" {
                text x="8" y="20" { "head" }
                @for head in 0..columns { text x=(left + at(head) + size / 2.0) y="20" text-anchor="middle" { (head) } }
                @for (layer, heads) in self.layers.iter().enumerate() {
                    text x="8" y=(top + at(layer) + size / 2.0 + 4.0) { "layer " (layer) }
                    @for (head, weights) in heads.iter().enumerate() {
                        (map(left + at(head), top + at(layer), size, weights, self.special.len()))
                    }
                }
            }
            (scale(left + at(columns) + 10.0, top))
        };
        Drawing { width: left + at(columns) + 64.0, height: (top + at(self.layers.len())).max(170.0), body }
    }
}

/// t·t weights as a small map in a frame.
fn map(x: f64, y: f64, side: f64, weights: &[f64], t: usize) -> Markup {
    let cell = |column: u32, row: u32| Rgb(sequential(weights[row as usize * t + column as usize]));
    framed(x, y, (side, side), &photograph(&RgbImage::from_fn(t as u32, t as u32, cell), side))
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
        let picture = self.drawing().picture(&self.text());
        card(html! { b { (EVERY) } }, picture, &[format!("in every map {LEGEND}")]).into_string()
    }

    fn svg(&self) -> Option<String> {
        Some(self.drawing().titled(EVERY))
    }
}

const EVERY: &str = "attention, a row of maps per layer, a column per head";

/// A pattern `(1,h,t,t)` as h lists of t·t weights.
fn heads_of(pattern: &Tensor, text: &Text) -> Result<Vec<Vec<f64>>> {
    let t = text.len();
    match pattern.dims() {
        &[1, _, rows, keys] if rows == t && keys == t => {
            let weights = numbers(pattern)?;
            finite("a weight of attention", &weights)?;
            Ok(weights.chunks(t * t).map(<[f64]>::to_vec).collect())
        }
        other => Err(Error::shape("the attention pattern", format!("(1, h, {t}, {t}), of this text"), other)),
    }
}
