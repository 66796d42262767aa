//! MLP-Mixer: patches that talk to each other through an MLP over tokens, without attention.
//!
//! Tolstikhin et al. 2021, arXiv 2105.01601, eq. 1: U = X + W₂·σ(W₁·LN(X)) along the tokens, then the same along the
//! channels. timm's gMixer has gated MLPs instead.

use std::sync::Arc;

use candle_core::Tensor;
use serde_json::Value;

use super::blocks::{Activation, Chain, Linear, Stage};
use super::checkpoint::{Checkpoint, Load};
use super::hook::{Clear, Hook, Site, check_sites};
use super::image::Image;
use super::labels::{Labels, Named, headless};
use super::patches::{Patches, Vision};
use super::presence::zeroed;
use super::processor::Processor;
use super::rules::Rules;
use super::vit::arguments;
use super::weights::Weights;
use crate::tensor::mean_over;
use crate::{Error, Result};

/// timm's layer norms add this to a variance.
const EPS: f64 = 1e-6;

/// An MLP-Mixer of any size in timm's layout: `mixer_…` and `gmixer_…`.
///
/// Cheap to clone. A forward takes pixels `(n,3,h,w)` between 0 and 1.
///
/// ```no_run
/// # use pellucid::prelude::*;
/// let mixer = Mixer::load("timm/mixer_b16_224.goog_in21k_ft_in1k")?;
/// let picture = mixer.fit(&pellucid::zoo::photo("cat")?)?;
/// let cat = Target::Logit(281);    // ImageNet's «tabby»
/// let why = gradient_x_input(|x| cat.of(&mixer.logits(x)?), &mixer.pixels(&picture)?)?.over_pixels()?;
/// assert_eq!(why.scores.len(), 224 * 224);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone)]
pub struct Mixer(Arc<Parts>);

#[derive(Clone)]
struct Parts {
    name: String,
    patches: Patches,
    blocks: Vec<Chain>,
    norm: Chain,
    head: Option<Chain>,
    labels: Labels,
}

impl std::fmt::Debug for Mixer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ([rows, columns], side) = (self.0.patches.grid(), self.0.patches.side());
        write!(f, "{}: MLP-Mixer, {} classes, {} layers", self.0.name, self.labels().len(), self.layers())?;
        write!(f, ", {rows} × {columns} patches of {side} × {side} pixels")
    }
}

impl Vision for Mixer {
    fn patches(&self) -> &Patches {
        &self.0.patches
    }
}

impl Mixer {
    /// A folder or a hub id (`"timm/mixer_b16_224.goog_in21k_ft_in1k"`, `"timm/gmixer_24_224.ra3_in1k"`).
    ///
    /// Errors: see [`Checkpoint::open`]; another architecture; files that are missing, broken or do not fit together.
    pub fn load(source: &str) -> Result<Self> {
        Self::load_with(source, &Load::default())
    }

    /// The same at another revision or precision, or on another device.
    pub fn load_with(source: &str, load: &Load) -> Result<Self> {
        let checkpoint = Checkpoint::open(source, load)?;
        let json: Value = checkpoint.config()?;
        let found = json["architecture"].as_str().unwrap_or_default();
        if !["mixer_", "gmixer_"].iter().any(|kind| found.starts_with(kind)) {
            return Err(Error::Architecture {
                source_name: source.into(),
                found: if found.is_empty() { "model without an `architecture`".into() } else { found.into() },
                known: "timm's `mixer_…` and `gmixer_…`".into(),
            });
        }
        let weights = checkpoint.weights()?;
        let parts = parts(source, &json, &weights).map_err(|error| checkpoint.at_fault(error))?;
        Ok(Self(Arc::new(parts)))
    }

    /// The same model, walked back by other rules: what it says stays the same, and every method of this crate explains it by
    /// them. Cheap: weights are shared.
    pub fn under(&self, rules: Rules) -> Self {
        let under = |chain: &Chain| chain.under(rules);
        Self(Arc::new(Parts {
            blocks: self.0.blocks.iter().map(under).collect(),
            norm: under(&self.0.norm),
            head: self.0.head.as_ref().map(under),
            ..(*self.0).clone()
        }))
    }

    /// How many blocks there are.
    pub fn layers(&self) -> usize {
        self.0.blocks.len()
    }

    /// The classes, by number.
    pub fn labels(&self) -> Vec<String> {
        self.0.labels.names().to_vec()
    }

    /// The number of a class.
    pub fn label(&self, name: &str) -> Result<usize> {
        self.0.labels.number(name)
    }

    /// Pixels `(n,3,h,w)` between 0 and 1 → logits `(n,v)`.
    ///
    /// Errors: x has the wrong shape; the checkpoint has no classifier.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        self.logits_hooked(x, &mut Clear)
    }

    /// The pixels `(3,h,w)` of one picture, and which of its patches are present, `(n,t)` of ones and zeros → logits `(n,v)`.
    ///
    /// A Mixer has a weight for every place and cannot do with fewer tokens: the embedding of a patch that is not present is
    /// zero.
    ///
    /// Errors: shapes that differ from these; the checkpoint has no classifier.
    pub fn logits_with(&self, x: &Tensor, present: &Tensor) -> Result<Tensor> {
        let (tokens, kept) = self.0.patches.variants(x, present)?;
        self.read_out(self.hidden_of(zeroed(&tokens, &kept)?, &mut Clear)?, &mut Clear)
    }

    /// The same, with a hook at the named places of the network: `attn.out` is what the MLP over tokens adds.
    pub fn logits_hooked(&self, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        self.read_out(self.hidden_hooked(x, hook)?, hook)
    }

    /// The last block's output, normalised, `(n,t,c)` → `(n,v)`.
    fn read_out(&self, hidden: Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        let head = self.0.head.as_ref().ok_or_else(|| headless(&self.0.name, "a classifier"))?;
        Ok(head.forward(&mean_over(&hidden, 1)?, None, hook)?.squeeze(1)?)
    }

    /// Pixels `(n,3,h,w)` → the last block's output, `(n,t,c)`, with a hook at the named places of the network. Unlike a
    /// [`Vit`](super::Vit)'s it is normalised, which is what the head reads the mean of.
    ///
    /// Errors: also a site that the network does not have.
    pub fn hidden_hooked(&self, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        check_sites(hook, self.0.blocks.iter().flat_map(Chain::sites))?;
        self.hidden_of(self.0.patches.embed(x)?, hook)
    }

    fn hidden_of(&self, x: Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        let x = self.0.blocks.iter().try_fold(x, |x, block| block.forward(&x, None, hook))?;
        self.0.norm.forward(&x, None, hook)
    }

    /// The classes and their probabilities, most probable first.
    ///
    /// Errors: the checkpoint has no classifier; a picture of another size.
    pub fn predict(&self, picture: &Image) -> Result<Vec<(String, f64)>> {
        self.0.labels.ranked(&self.logits(&self.pixels(picture)?.unsqueeze(0)?)?)
    }
}

fn parts(name: &str, json: &Value, weights: &Weights) -> Result<Parts> {
    const ARGUMENTS: [&str; 6] = ["img_size", "patch_size", "embed_dim", "num_blocks", "num_classes", "mlp_ratio"];
    weights.only("", &["stem.proj", "blocks.", "norm", "head"])?;
    let arguments: Value = arguments(json, &ARGUMENTS)?;
    let input = &json["pretrained_cfg"]["input_size"];
    let size = [1, 2].map(|side| arguments["img_size"].as_u64().or(input[side].as_u64()).unwrap_or(0) as usize);
    let projection = [weights.whole("stem.proj.weight")?, weights.whole("stem.proj.bias")?];
    let patches = Patches::new(Processor::timm(&json["pretrained_cfg"])?, size, projection, None, None)?;
    let layers = weights.blocks("blocks.", arguments["num_blocks"].as_u64().map(|blocks| blocks as usize))?;
    let (c, classes) = (weights.rows("norm.weight"), weights.rows("head.weight"));
    let c = c.unwrap_or(0);
    let activation = if json["architecture"].as_str().is_some_and(|name| name.starts_with('g')) {
        Activation::Silu
    } else {
        Activation::Gelu
    };
    let blocks = (0..layers).map(|l| block(weights, l, patches.count(), c, activation));
    let mut blocks = blocks.collect::<Result<Vec<_>>>()?;
    blocks[0] = blocks[0].after(vec![Stage::At(Site::Embed)]);
    let head = |classes| {
        let linear = Stage::Linear(weights.linear("head", c, classes)?);
        Ok::<_, Error>(Chain::new(vec![Stage::At(Site::HeadBias), linear]))
    };
    Ok(Parts {
        name: name.into(),
        blocks,
        norm: Chain::new(vec![Stage::At(Site::NormBias), Stage::LayerNorm(weights.layer_norm("norm", c, EPS)?)]),
        head: classes.map(head).transpose()?,
        labels: Labels::new(classes.unwrap_or(0), &Named::listed(serde_json::from_value(json["label_names"].clone())?)),
        patches,
    })
}

fn block(weights: &Weights, l: usize, tokens: usize, channels: usize, activation: Activation) -> Result<Chain> {
    const KNOWN: [&str; 6] =
        ["norm1", "norm2", "mlp_tokens.fc1", "mlp_tokens.fc2", "mlp_channels.fc1", "mlp_channels.fc2"];
    let stem = format!("blocks.{l}.");
    weights.only(&stem, &KNOWN)?;
    let norm =
        |name: &str| Ok::<_, Error>(Stage::LayerNorm(weights.layer_norm(&format!("{stem}{name}"), channels, EPS)?));
    Ok(Chain::new(vec![
        Stage::At(Site::ResidPre(l)),
        Stage::At(Site::AttnBias(l)),
        Stage::Residual(vec![
            norm("norm1")?,
            Stage::Transposed(
                [vec![Stage::At(Site::MixBias(l))], mlp(weights, &format!("{stem}mlp_tokens"), tokens, activation)?]
                    .concat(),
            ),
            Stage::At(Site::AttnOut(l)),
        ]),
        Stage::At(Site::ResidMid(l)),
        Stage::At(Site::MlpBias(l)),
        Stage::Residual(
            [
                vec![norm("norm2")?],
                mlp(weights, &format!("{stem}mlp_channels"), channels, activation)?,
                vec![Stage::At(Site::MlpOut(l))],
            ]
            .concat(),
        ),
        Stage::At(Site::ResidPost(l)),
    ]))
}

/// Two layers with an activation between them, or a gated one: then the first layer is twice as wide as what the second reads.
fn mlp(weights: &Weights, name: &str, width: usize, activation: Activation) -> Result<Vec<Stage>> {
    let (first, second) = (format!("{name}.fc1"), format!("{name}.fc2"));
    let wide = weights.rows(&format!("{first}.weight")).unwrap_or(0);
    let read = weights.columns(&format!("{second}.weight")).unwrap_or(0);
    let between = Stage::between(wide, read, activation);
    let into = match between {
        Stage::Gate(_) => value_and_gate(weights, &first, width, wide)?,
        _ => weights.linear(&first, width, wide)?,
    };
    Ok(vec![Stage::Linear(into), between, Stage::Linear(weights.linear(&second, read, width)?)])
}

/// timm's gated MLP has the value first and the gate behind it; ours have the gate first.
fn value_and_gate(weights: &Weights, name: &str, from: usize, wide: usize) -> Result<Linear> {
    let weight = weights.get((wide, from), &format!("{name}.weight"))?;
    let bias = weights.optional(wide, &format!("{name}.bias"))?;
    let half = |start: usize| {
        let bias = bias.as_ref().map(|bias| bias.narrow(0, start, wide / 2)).transpose()?;
        Linear::new(weight.narrow(0, start, wide / 2)?, bias)
    };
    Linear::stacked(&[half(wide / 2)?, half(0)?])
}
