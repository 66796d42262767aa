//! The eyes of Qwen2-VL and Qwen2.5-VL: pictures of any size, their patches placed by row and column.
//!
//! Wang et al. 2024, arXiv 2409.12191 (Qwen2-VL): a vision transformer with two-dimensional rotary embeddings, whose patches
//! are merged by fours into visual tokens. Bai et al. 2025, arXiv 2502.13923 (Qwen2.5-VL): most of its blocks attend within
//! windows. The weights' names say which it is.

use std::ops::Range;

use candle_core::Tensor;
use serde::Deserialize;

use super::blocks::{Activation, Attention, Chain, Gate, Linear, Pairing, Position, Rope, Setting, Stage};
use super::checkpoint::Checkpoint;
use super::decoder::Places;
use super::hook::{Clear, Site};
use super::patches::of_pixels;
use super::processor::Processor;
use super::rules::Rules;
use super::vlm::{Eyes, Slot};
use super::weights::Weights;
use crate::{Error, Result};

/// The published models' ε, which no file says.
const EPS: f64 = 1e-6;

/// What config.json says of them.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    vision_config: VisionConfig,
}

#[derive(Deserialize)]
struct VisionConfig {
    depth: Option<usize>,
    #[serde(default = "sixteen")]
    num_heads: usize,
    hidden_act: Option<Activation>,
    #[serde(default = "two")]
    spatial_merge_size: usize,
    /// A window's side, in pixels.
    window_size: Option<usize>,
    /// The blocks that do not keep to windows.
    fullatt_block_indexes: Option<Vec<usize>>,
}

/// A window's side in pixels, and the blocks without windows, where Qwen2.5-VL's file leaves them out.
const WINDOW: usize = 112;
const WITHOUT_WINDOWS: [usize; 4] = [7, 15, 23, 31];

fn sixteen() -> usize {
    16
}

fn two() -> usize {
    2
}

/// The parts that `visual.` has; a bias of the projection, as later models have one, is none of them.
const PARTS: [&str; 5] = ["patch_embed.proj.weight", "blocks.", "merger.ln_q", "merger.mlp.0", "merger.mlp.2"];

/// A vision transformer over pictures of any size, and what merges its patches.
#[derive(Clone)]
pub(super) struct Qwen2Eyes {
    processor: Processor,
    /// A patch's side, in pixels.
    side: usize,
    /// How many frames of a film a patch goes through; those of a still picture are all the same.
    frames: usize,
    /// A visual token's side, in patches.
    merge: usize,
    /// A window's side, in visual tokens.
    window: Option<usize>,
    blocks: Chain,
    merger: Chain,
}

impl Qwen2Eyes {
    /// Of a checkpoint's weights, where their names begin with `visual.` or `model.visual.`.
    pub fn load(checkpoint: &Checkpoint) -> Result<Self> {
        let Config { model_type, vision_config: mut config } = checkpoint.config()?;
        config.window_size = (model_type == "qwen2_5_vl").then(|| config.window_size.unwrap_or(WINDOW));
        let weights = checkpoint.weights()?.with_prefix("model.");
        weights.only("visual.", &PARTS)?;
        let processor = Processor::of(checkpoint)?.at_most(checkpoint.most_pixels());
        let missing = || Error::argument("there is no `visual.patch_embed.proj.weight`, which projects patches");
        let projection = weights.whole("visual.patch_embed.proj.weight")?.ok_or_else(missing)?;
        let &[c, 3, frames, side, _] = projection.dims() else {
            return Err(Error::shape("the projection of patches", "(c, 3, frames, p, p)", projection.dims()));
        };
        let merge = config.spatial_merge_size;
        if processor.cell() != Some(side * merge) || merge == 0 {
            return Err(Error::argument(format!(
                "patches of {side} pixels merged {merge} by {merge} fill cells of {} pixels, and preprocessor_config.json brings \
                 pictures to cells of {:?}: do they belong together?",
                side * merge,
                processor.cell()
            )));
        }
        if let Some(pixels) = config.window_size.filter(|pixels| *pixels < side * merge) {
            return Err(Error::argument(format!("a window of {pixels} pixels is smaller than a visual token")));
        }
        let projection = of_pixels(&processor, &projection.reshape((c, 3, frames * side, side))?, None)?;
        let part = Part { weights: &weights, config: &config, channels: c };
        let mut stages = vec![Stage::Linear(projection)];
        for l in 0..weights.blocks("visual.blocks.", config.depth)? {
            stages.extend(part.block(l)?);
        }
        stages.push(part.norm("visual.merger.ln_q")?);
        let window = config.window_size.map(|pixels| pixels / merge / side);
        Ok(Self { processor, side, frames, merge, window, blocks: Chain::new(stages), merger: part.merger()? })
    }

    /// Row and column of every patch, in the order they are cut in.
    fn positions(&self, [rows, columns]: [usize; 2]) -> Vec<Position> {
        let m = self.merge;
        let within = |cell: usize| (0..m * m).map(move |i| [cell / columns * m + i / m, cell % columns * m + i % m]);
        (0..rows * columns).flat_map(within).map(|[row, column]| [row as u32, column as u32, 0]).collect()
    }
}

/// Visual tokens ordered by windows, row by row, and how many each window holds; what does not fill a window is one too.
fn windows([rows, columns]: [usize; 2], side: usize) -> (Vec<usize>, Vec<usize>) {
    let pieces = |length: usize| (0..length).step_by(side).map(move |start| start..length.min(start + side));
    let (mut order, mut sizes) = (Vec::new(), Vec::new());
    for down in pieces(rows) {
        for across in pieces(columns) {
            sizes.push(down.len() * across.len());
            order.extend(down.clone().flat_map(|row| across.clone().map(move |column| row * columns + column)));
        }
    }
    (order, sizes)
}

impl Eyes for Qwen2Eyes {
    fn processor(&self) -> &Processor {
        &self.processor
    }

    fn grid(&self, size: [usize; 2]) -> [usize; 2] {
        size.map(|length| length / self.side / self.merge)
    }

    /// `(n,t,3·f·p·p)` for f frames, those of a visual token together.
    fn cut(&self, pixels: &Tensor) -> Result<Tensor> {
        let (n, _, height, width) = pixels.dims4()?;
        let ([rows, columns], m, p) = (self.grid([height, width]), self.merge, self.side);
        if [height, width] != [rows * m * p, columns * m * p] {
            return Err(Error::argument(format!(
                "the picture is {width} × {height} pixels, which cells of {0} × {0} do not fill, and the checkpoint's processor does \
                 not resize: bring it to whole cells",
                m * p
            )));
        }
        let x = pixels.reshape(&[n, 3, rows, m, p, columns, m, p][..])?.permute(&[0, 2, 5, 3, 6, 1, 4, 7][..])?;
        let still = x.reshape((n, rows * columns * m * m, 3, 1, p * p))?;
        Ok(still.repeat((1, 1, 1, self.frames, 1))?.flatten_from(2)?)
    }

    fn put_together(&self, patches: &Tensor, size: [usize; 2]) -> Result<Tensor> {
        let (n, _, _) = patches.dims3()?;
        let ([rows, columns], m, p) = (self.grid(size), self.merge, self.side);
        let still = patches.reshape((n, (), 3, self.frames, p * p))?.sum(3)?;
        let x = still.reshape(&[n, rows, columns, m, m, 3, p, p][..])?.permute(&[0, 5, 1, 3, 6, 2, 4, 7][..])?;
        Ok(x.reshape((n, 3, size[0], size[1]))?)
    }

    fn see_patches(&self, patches: &Tensor, size: [usize; 2]) -> Result<Tensor> {
        let (grid, each) = (self.grid(size), self.merge * self.merge);
        let (mut x, mut positions) = (patches.clone(), self.positions(grid));
        let windowed = self.window.map(|side| windows(grid, side));
        if let Some((order, _)) = &windowed {
            let rows: Vec<usize> = order.iter().flat_map(|cell| cell * each..(cell + 1) * each).collect();
            positions = rows.iter().map(|&row| positions[row]).collect();
            x = reordered(&x, &rows)?;
        }
        let windows = windowed.as_ref().map(|(_, sizes)| sizes.iter().map(|size| size * each).collect());
        let setting = Setting { positions: Some(positions.into()), windows, ..Setting::default() };
        let x = self.blocks.forward_in(&x, setting, &mut Clear)?;
        let (n, patches, c) = x.dims3()?;
        let x = self.merger.forward(&x.reshape((n, patches / each, each * c))?, None, &mut Clear)?;
        match windowed {
            Some((order, _)) => reordered(&x, &inverse(&order)),
            None => Ok(x),
        }
    }

    fn under(&self, rules: Rules) -> Box<dyn Eyes> {
        Box::new(Self { blocks: self.blocks.under(rules), merger: self.merger.under(rules), ..self.clone() })
    }

    fn slot(&self) -> Slot {
        Slot { open: "<|vision_start|>", pad: "<|image_pad|>", close: "<|vision_end|>", named: false }
    }

    /// Text goes on by one on every axis; in a picture, rows and columns are counted from where it begins; text after it goes
    /// on behind its longer side (arXiv 2409.12191, §2.1).
    fn places(&self, tokens: usize, pictures: &[(Range<usize>, [usize; 2])]) -> Places {
        let (mut places, mut next): (Vec<Position>, u32) = (Vec::with_capacity(tokens), 0);
        for (range, [rows, columns]) in pictures {
            let text = (range.start - places.len()) as u32;
            places.extend((next..next + text).map(|place| [place; 3]));
            next += text;
            let cells = (0..*rows as u32).flat_map(|row| (0..*columns as u32).map(move |column| (row, column)));
            places.extend(cells.map(|(row, column)| [next, next + row, next + column]));
            next += *rows.max(columns) as u32;
        }
        let rest = (tokens - places.len()) as u32;
        places.extend((next..next + rest).map(|place| [place; 3]));
        Places::new(places, next + rest)
    }
}

/// `(n,t,c)` with its tokens in another order.
fn reordered(x: &Tensor, order: &[usize]) -> Result<Tensor> {
    let order: Vec<u32> = order.iter().map(|&i| i as u32).collect();
    Ok(x.contiguous()?.index_select(&Tensor::new(order, x.device())?, 1)?)
}

/// The order that undoes an order.
fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    order.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
    inverse
}

/// Where blocks are read from.
struct Part<'a> {
    weights: &'a Weights,
    config: &'a VisionConfig,
    channels: usize,
}

impl Part<'_> {
    /// x ← x + Attention(norm(x)), x ← x + MLP(norm(x)).
    fn block(&self, l: usize) -> Result<[Stage; 2]> {
        let (c, heads, stem) = (self.channels, self.config.num_heads, format!("visual.blocks.{l}"));
        let linear = |name: &str, from, to| self.weights.linear(&format!("{stem}.{name}"), from, to);
        let without = self.config.fullatt_block_indexes.as_deref().unwrap_or(&WITHOUT_WINDOWS);
        let all = self.config.window_size.is_none() || without.contains(&l);
        let attention = Attention::new(heads)?;
        let attention = if all { attention } else { attention.in_windows() };
        let mut feed_forward = vec![self.norm(&format!("{stem}.norm2"))?];
        feed_forward.extend(self.feed_forward(&stem)?);
        Ok([
            Stage::Residual(vec![
                self.norm(&format!("{stem}.norm1"))?,
                Stage::Linear(linear("attn.qkv", c, 3 * c)?),
                Stage::Rope(self.rope()?),
                Stage::Attention(attention, Site::Pattern(l)),
                Stage::Linear(linear("attn.proj", c, c)?),
            ]),
            Stage::Residual(feed_forward),
        ])
    }

    /// Two layers, or a gated one.
    fn feed_forward(&self, stem: &str) -> Result<Vec<Stage>> {
        let c = self.channels;
        let wide = |name: &str| self.weights.rows(&format!("{stem}.mlp.{name}.weight"));
        let linear = |name: &str, from, to| self.weights.linear(&format!("{stem}.mlp.{name}"), from, to);
        let activation = |usual| self.config.hidden_act.unwrap_or(usual);
        match wide("gate_proj") {
            None => {
                let wide = wide("fc1").unwrap_or_default();
                Ok(vec![
                    Stage::Linear(linear("fc1", c, wide)?),
                    Stage::Activation(activation(Activation::QuickGelu)),
                    Stage::Linear(linear("fc2", wide, c)?),
                ])
            }
            Some(gate) => {
                let both = [linear("gate_proj", c, gate)?, linear("up_proj", c, gate)?];
                Ok(vec![
                    Stage::Linear(Linear::stacked(&both)?),
                    Stage::Gate(Gate(activation(Activation::Silu))),
                    Stage::Linear(linear("down_proj", gate, c)?),
                ])
            }
        }
    }

    /// A layer norm, or one by the root mean square, which has no bias.
    fn norm(&self, name: &str) -> Result<Stage> {
        match self.weights.contains(&format!("{name}.bias")) {
            true => Ok(Stage::LayerNorm(self.weights.layer_norm(name, self.channels, EPS)?)),
            false => Ok(Stage::RmsNorm(self.weights.rms_norm(name, self.channels, EPS)?)),
        }
    }

    /// Half of the pairs of channels turn by the row, half by the column.
    fn rope(&self) -> Result<Rope> {
        let (c, heads) = (self.channels, self.config.num_heads);
        let quarter = match heads > 0 && c.is_multiple_of(4 * heads) {
            true => c / heads / 4,
            false => {
                return Err(Error::argument(format!(
                    "{c} channels cannot be shared out over {heads} heads and two axes"
                )));
            }
        };
        let turns = (0..quarter).map(|i| 10000f64.powf(-(i as f64) / quarter as f64));
        let frequencies = turns.clone().chain(turns).collect();
        Rope::new(frequencies, Pairing::Halves, 2 * heads)?.along([vec![0; quarter], vec![1; quarter]].concat())
    }

    /// Neighbouring patches as one visual token of the language model's width.
    fn merger(&self) -> Result<Chain> {
        let wide = self.channels * self.config.spatial_merge_size.pow(2);
        let out = self.weights.rows("visual.merger.mlp.2.weight").unwrap_or(0);
        Ok(Chain::new(vec![
            Stage::Linear(self.weights.linear("visual.merger.mlp.0", wide, wide)?),
            Stage::Activation(Activation::Gelu),
            Stage::Linear(self.weights.linear("visual.merger.mlp.2", wide, out)?),
        ]))
    }
}
