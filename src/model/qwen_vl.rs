//! The eyes of the first Qwen-VL: a vision transformer, and queries that look at all of it.
//!
//! Bai et al. 2023, arXiv 2308.12966, §2.1. Pictures become squares of one size; their patches go through an openclip-style
//! transformer; then 256 learnt queries attend to the patches once, and what they bring stands in the text.

use std::ops::Range;

use candle_core::{D, Tensor};
use serde::Deserialize;
use serde_json::json;

use super::blocks::{Activation, Chain, Linear, Stage};
use super::checkpoint::Checkpoint;
use super::decoder::Places;
use super::encoder::{Encoder, Form, NAMELESS, Names, Qkv};
use super::hook::Clear;
use super::patches::{Patches, places};
use super::processor::Processor;
use super::rules::Rules;
use super::vlm::{Eyes, Slot};
use super::weights::Weights;
use crate::tensor::at_least_single;
use crate::{Error, Interpolation, Result, resample};

/// The published model's ε, which no file says.
const EPS: f64 = 1e-6;

/// What config.json says of them.
#[derive(Deserialize)]
struct Config {
    visual: Option<Visual>,
}

#[derive(Deserialize)]
struct Visual {
    heads: usize,
    image_size: usize,
    layers: usize,
    output_dim: usize,
    width: usize,
    #[serde(default = "queries")]
    n_queries: usize,
}

fn queries() -> usize {
    256
}

/// A resampler's heads have so many channels, whatever its width.
const HEAD: usize = 128;

const NAMES: Names = Names {
    blocks: "visual.transformer.resblocks.",
    norms: ["ln_1", "ln_2"],
    qkv: Qkv::Interleaved(["attn.in_proj.weight", "attn.in_proj.bias"]),
    out: "attn.out_proj",
    mlp: ["mlp.c_fc", "mlp.c_proj"],
    scales: ["ls_1.gamma", "ls_2.gamma"],
    ..NAMELESS
};

/// A vision transformer over squares, and the queries that sum it up.
#[derive(Clone)]
pub(super) struct QwenEyes {
    patches: Patches,
    encoder: Encoder,
    queries: usize,
    resampler: Resampler,
}

impl QwenEyes {
    /// Of a checkpoint's weights, where their names begin with `visual.`.
    pub fn load(checkpoint: &Checkpoint) -> Result<Self> {
        let Config { visual } = checkpoint.config()?;
        let Some(config) = visual else {
            return Err(Error::argument(
                "it says nothing of a `visual` part, so this Qwen reads text only: load it as `CausalLm`",
            ));
        };
        let weights = checkpoint.weights()?.with_prefix("transformer.");
        // the file that other checkpoints have is not published with this one
        let processor = Processor::open_clip(&json!({ "resize_mode": "squash" }), config.image_size)?;
        let form = Form {
            layers: Some(config.layers),
            heads: config.heads,
            eps: EPS,
            activation: Activation::Gelu,
            causal: false,
            rope: None,
            grid: [0, 0],
        };
        let lead = vec![Stage::LayerNorm(weights.layer_norm("visual.ln_pre", config.width, EPS)?)];
        let patches = patches(&weights, processor, config.image_size)?;
        let resampler = Resampler::load(&weights, &config, patches.grid())?;
        let encoder = Encoder::load(&weights, &NAMES, &form, lead)?;
        Ok(Self { patches, encoder, queries: config.n_queries, resampler })
    }
}

/// The patches of a square picture, their places resampled from those of the training's size.
fn patches(weights: &Weights, processor: Processor, side: usize) -> Result<Patches> {
    let projection = weights.whole("visual.conv1.weight")?;
    let patch = projection.as_ref().and_then(|weight| weight.dims().last().copied()).filter(|patch| *patch > 0);
    let grid = [side / patch.unwrap_or(1); 2];
    let positions = on_grid(&places(weights, "visual.positional_embedding")?, grid)?;
    Patches::new(processor, [side, side], [projection, None], None, Some(positions))
}

/// Places `(s·s,c)` of a square grid → those of another, `(rows·columns,c)`.
fn on_grid(places: &Tensor, [rows, columns]: [usize; 2]) -> Result<Tensor> {
    let (count, c) = places.dims2()?;
    let side = count.isqrt();
    if side * side != count {
        return Err(Error::shape("places", "(s·s, c), those of a square", places.dims()));
    }
    if [rows, columns] == [side, side] {
        return Ok(places.clone());
    }
    let map = at_least_single(&places.t()?.reshape((c, side, side))?)?;
    let map = resample(&map, rows, columns, Interpolation::Bicubic)?.to_dtype(places.dtype())?;
    Ok(map.reshape((c, rows * columns))?.t()?.contiguous()?)
}

impl Eyes for QwenEyes {
    fn processor(&self) -> &Processor {
        self.patches.processor()
    }

    fn grid(&self, _: [usize; 2]) -> [usize; 2] {
        let side = self.queries.isqrt();
        if side * side == self.queries { [side, side] } else { [1, self.queries] }
    }

    fn cut(&self, pixels: &Tensor) -> Result<Tensor> {
        self.patches.cut(pixels)
    }

    fn put_together(&self, patches: &Tensor, _: [usize; 2]) -> Result<Tensor> {
        self.patches.put_together(patches)
    }

    fn see_patches(&self, patches: &Tensor, _: [usize; 2]) -> Result<Tensor> {
        let x = self.encoder.forward(&self.patches.embed_patches(patches)?, None, &mut Clear)?;
        self.resampler.forward(&x)
    }

    fn under(&self, rules: Rules) -> Box<dyn Eyes> {
        let (encoder, resampler) = (self.encoder.under(rules), self.resampler.under(rules));
        Box::new(Self { encoder, resampler, ..self.clone() })
    }

    fn slot(&self) -> Slot {
        Slot { open: "<img>", pad: "<imgpad>", close: "</img>", named: true }
    }

    fn question(&self, question: &str) -> String {
        format!("Picture 1: <img></img>\n{question}")
    }

    fn without_template(&self, question: &str) -> Option<String> {
        Some(format!("<img></img>{question} Answer:"))
    }

    /// In a row, whatever they stand for.
    fn places(&self, _: usize, _: &[(Range<usize>, [usize; 2])]) -> Places {
        Places::default()
    }
}

/// One cross-attention: each query sums up all patches (arXiv 2308.12966, §2.1, «position-aware vision-language adapter»).
///
/// y = softmax(q·Kᵀ/√d)·V with q = (LN(query) + place)·W_qᵀ the same for all pictures, K = (x + place)·W_kᵀ, V = x·W_vᵀ.
#[derive(Clone)]
struct Resampler {
    /// Patches → keys, still without their places, and values: `(n,t,c) → (n,t,2d)`.
    keys_and_values: Chain,
    /// What the places add to the keys, `(t,d)`.
    key_places: Tensor,
    /// The queries of every head, `(h,q,d/h)`, divided by √(d/h).
    queries: Tensor,
    /// Heads side by side → visual tokens.
    out: Chain,
    rules: Rules,
}

impl Resampler {
    fn load(weights: &Weights, config: &Visual, grid: [usize; 2]) -> Result<Self> {
        let (d, heads) = (config.output_dim, config.output_dim / HEAD);
        if heads == 0 || !d.is_multiple_of(HEAD) {
            return Err(Error::argument(format!(
                "output_dim is {d}, but the resampler's heads have {HEAD} channels each"
            )));
        }
        let name = |part: &str| format!("visual.attn_pool.{part}");
        let norm = |part: &str| weights.layer_norm(&name(part), d, EPS);
        let places = weights.get((config.n_queries, d), &name("pos_embed"))?;
        let (w, b) =
            (weights.get((3 * d, d), &name("attn.in_proj_weight"))?, weights.get(3 * d, &name("attn.in_proj_bias"))?);
        let part = |i: usize| -> Result<(Tensor, Tensor)> { Ok((w.narrow(0, i * d, d)?, b.narrow(0, i * d, d)?)) };
        let ((w_q, b_q), (w_k, b_k), (w_v, b_v)) = (part(0)?, part(1)?, part(2)?);
        let queries = weights.get((config.n_queries, d), &name("query"))?.unsqueeze(0)?;
        let queries = Chain::new(vec![Stage::LayerNorm(norm("ln_q")?)]).forward(&queries, None, &mut Clear)?;
        let queries = (queries.squeeze(0)? + &places)?.matmul(&w_q.t()?)?.broadcast_add(&b_q)?;
        let queries =
            (queries * (HEAD as f64).powf(-0.5))?.reshape((config.n_queries, heads, HEAD))?.transpose(0, 1)?;
        let mut keys_and_values = match weights.contains(&name("kv_proj.weight")) {
            true => vec![Stage::Linear(weights.linear(&name("kv_proj"), config.width, d)?)],
            false => Vec::new(),
        };
        let both = [Linear::new(w_k.clone(), None)?, Linear::new(w_v, Some(b_v))?];
        keys_and_values.extend([Stage::LayerNorm(norm("ln_kv")?), Stage::Linear(Linear::stacked(&both)?)]);
        let projection = Linear::new(weights.get((d, d), "visual.proj")?.t()?.contiguous()?, None)?;
        Ok(Self {
            keys_and_values: Chain::new(keys_and_values),
            key_places: on_grid(&places, grid)?.matmul(&w_k.t()?)?.broadcast_add(&b_k)?,
            queries: queries.contiguous()?,
            out: Chain::new(vec![
                Stage::Linear(weights.linear(&name("attn.out_proj"), d, d)?),
                Stage::LayerNorm(weights.layer_norm("visual.ln_post", d, EPS)?),
                Stage::Linear(projection),
            ]),
            rules: Rules::exact(),
        })
    }

    /// The same, walked back by these rules.
    fn under(&self, rules: Rules) -> Self {
        let (keys_and_values, out) = (self.keys_and_values.under(rules), self.out.under(rules));
        Self { keys_and_values, out, rules, ..self.clone() }
    }

    /// Patches `(n,t,c)` → visual tokens `(n,q,d)`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let both = self.keys_and_values.forward(x, None, &mut Clear)?;
        let (n, t, wide) = both.dims3()?;
        let (h, q, _) = self.queries.dims3()?;
        let by_head = |x: Tensor| x.reshape((n, t, h, HEAD))?.transpose(1, 2)?.contiguous();
        let keys = by_head(both.narrow(2, 0, wide / 2)?.broadcast_add(&self.key_places)?)?;
        let values = by_head(both.narrow(2, wide / 2, wide / 2)?.contiguous()?)?;
        let scores = self.rules.score.of(&keys, |keys| self.queries.broadcast_matmul(&keys.t()?))?;
        let pattern = candle_nn::ops::softmax(&at_least_single(&scores)?, D::Minus1)?.to_dtype(scores.dtype())?;
        let mixed = self.rules.attention.of(&pattern, |pattern| pattern.matmul(&values))?;
        self.out.forward(&mixed.transpose(1, 2)?.reshape((n, q, h * HEAD))?, None, &mut Clear)
    }
}
