//! Vision transformers: pictures as sequences of patches.
//!
//! Dosovitskiy et al. 2021, arXiv 2010.11929; DeiT: Touvron et al. 2021, arXiv 2012.12877; registers: Darcet et al. 2024,
//! arXiv 2309.16588. What a model is called says whose layout it has; the weights' names say what it has of what some have: a
//! class token, a distillation token, registers, LayerScale, a norm before or after pooling.

mod config;

use std::sync::Arc;

use candle_core::{Device, Tensor};

pub(super) use self::config::arguments;
use self::config::{Config, Layout};
use super::blocks::{Chain, Pairing, Rope, Stage};
use super::checkpoint::{Checkpoint, Load};
use super::encoder::{Encoder, Form};
use super::hook::{Clear, Hook, Site};
use super::image::Image;
use super::labels::{Labels, headless};
use super::patches::{Patches, Vision, places};
use super::presence::{shortened, some};
use super::rules::Rules;
use super::weights::Weights;
use crate::tensor::mean_over;
use crate::{Error, Result};

/// A vision transformer of any size.
///
/// | family | whose names | what it has besides plain blocks |
/// |---|---|---|
/// | ViT, CLIP's, DINOv2's, with registers | Hugging Face, timm | registers, a norm before the first block, LayerScale, gated MLPs |
/// | SigLIP | timm (`vit_…_siglip_gap_…`) | the mean of patches |
/// | FlexiViT | timm | no place for the class token |
/// | DeiT, DeiT III | Hugging Face (DeiT), timm | two heads, LayerScale |
/// | BEiT, BEiT v2 | timm | scores with a bias by displacement, keys without one |
/// | EVA-02 | timm | queries and keys that turn by row and column, gated MLPs, norms within them |
///
/// For each, a tiny model of these names has timm's or transformers' logits, attention and gradient at the pixels (1e-9 in double
/// precision), and under [`Rules::libragrad`] its relevance sums to the logit at every layer.
///
/// Cheap to clone. A forward takes pixels `(n,3,h,w)` between 0 and 1, so that they can be interpolated, ablated and
/// differentiated.
///
/// ```
/// # use pellucid::prelude::*;
/// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
/// let scene = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
/// let (label, probability) = &vit.predict(&scene.image()?)?[0];
/// assert!(label == "star" && *probability > 0.9);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone)]
pub struct Vit(Arc<Parts>);

#[derive(Clone)]
struct Parts {
    name: String,
    patches: Patches,
    encoder: Encoder,
    heads: usize,
    readout: Readout,
    labels: Labels,
}

/// How the last block's output becomes logits.
#[derive(Clone)]
enum Readout {
    /// A norm and a head for each of the first tokens, and the mean of what they say.
    Tokens { norm: Chain, heads: Vec<Chain> },
    /// The mean over patches, normalised before or after.
    Mean { before: Option<Chain>, after: Chain },
    /// No head: features only, of patches that a head would average or of the first token.
    Headless { pooled: bool },
}

impl Readout {
    fn under(&self, rules: Rules) -> Self {
        let under = |chain: &Chain| chain.under(rules);
        match self {
            Self::Tokens { norm, heads } => {
                Self::Tokens { norm: under(norm), heads: heads.iter().map(under).collect() }
            }
            Self::Mean { before, after } => Self::Mean { before: before.as_ref().map(under), after: under(after) },
            Self::Headless { pooled } => Self::Headless { pooled: *pooled },
        }
    }
}

impl std::fmt::Debug for Vit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ([rows, columns], side) = (self.0.patches.grid(), self.0.patches.side());
        write!(f, "{}: ViT, {} classes, {} layers", self.0.name, self.labels().len(), self.layers())?;
        write!(f, " × {} heads, {rows} × {columns} patches of {side} × {side} pixels", self.0.heads)
    }
}

impl Vision for Vit {
    fn patches(&self) -> &Patches {
        &self.0.patches
    }
}

impl Vit {
    /// An embedded model (`"pellucid/tiny-vit-shapes"`), a folder, or a hub id (`"google/vit-base-patch16-224"`,
    /// `"timm/deit_tiny_distilled_patch16_224.fb_in1k"`, `"timm/vit_small_patch16_224.augreg_in1k"`).
    ///
    /// Errors: see [`Checkpoint::open`]; another architecture; files that are missing, broken or do not fit together.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
    /// assert_eq!(vit.labels()[5], "star");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn load(source: &str) -> Result<Self> {
        Self::load_with(source, &Load::default())
    }

    /// The same at another revision or precision, or on another device.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let vit = Vit::load_with("pellucid/tiny-vit-shapes", &Load::f64())?;
    /// let picture = Scene::empty(1).image()?;
    /// assert_eq!(vit.logits(&vit.pixels(&picture)?.unsqueeze(0)?)?.dtype(), DType::F64);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn load_with(source: &str, load: &Load) -> Result<Self> {
        let checkpoint = Checkpoint::open(source, load)?;
        let config = Config::of(&checkpoint)?;
        let layout = config.layout;
        let weights = checkpoint.weights()?.with_prefix(config.prefix);
        weights.only("", &layout.all())?;
        let readout = readout(&weights, layout, &config)?;
        let patches = patches(&checkpoint, &weights, layout, &config)?;
        let parts = Parts {
            name: source.into(),
            encoder: encoder(&weights, layout, &config, &patches).map_err(|error| checkpoint.at_fault(error))?,
            patches,
            heads: config.heads,
            labels: Labels::new(classes(&weights, layout), &config.named),
            readout,
        };
        Ok(Self(Arc::new(parts)))
    }

    /// The same model, walked back by other rules: what it says stays the same, and every method of this crate explains it by
    /// them. Cheap: weights are shared.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let vit = Vit::load("pellucid/tiny-vit-shapes")?.under(Rules::libragrad());
    /// let x = vit.pixels(&Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?.image()?)?.unsqueeze(0)?;
    /// let star = Target::Logit(vit.label("star")?);
    /// let layers = layer_gradients(|hook| star.of(&vit.logits_hooked(&x, hook)?), vit.layers())?;
    /// assert!(full_grad(&layers)?.completeness.unwrap().relative_gap < 1e-3);    // Σ is the logit
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn under(&self, rules: Rules) -> Self {
        let (encoder, readout) = (self.0.encoder.under(rules), self.0.readout.under(rules));
        Self(Arc::new(Parts { encoder, readout, ..(*self.0).clone() }))
    }

    /// How many blocks there are.
    pub fn layers(&self) -> usize {
        self.0.encoder.layers()
    }

    /// The classes, by number: as config.json names them, or else `LABEL_0`, `LABEL_1`, …
    pub fn labels(&self) -> Vec<String> {
        self.0.labels.names().to_vec()
    }

    /// The number of a class.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
    /// assert_eq!(vit.label("star")?, 5);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn label(&self, name: &str) -> Result<usize> {
        self.0.labels.number(name)
    }

    /// Pixels `(n,3,h,w)` between 0 and 1 → logits `(n,v)`.
    ///
    /// Where only the first tokens are read, no others are worked on after the last attention.
    ///
    /// Errors: x has the wrong shape; the checkpoint has no classifier.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vit = Vit::load("pellucid/tiny-vit-shapes")?;
    /// let star = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?.image()?;
    /// let logits = vit.logits(&vit.pixels(&star)?.unsqueeze(0)?)?;    // (1,v)
    /// assert_eq!(logits.argmax(1)?.to_vec1::<u32>()?, [vit.label("star")? as u32]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        self.logits_of(&self.0.patches.embed(x)?)
    }

    /// Tokens `(n,k+t,c)`, positions included, or fewer patches → logits `(n,v)`.
    fn logits_of(&self, tokens: &Tensor) -> Result<Tensor> {
        let tokens = match &self.0.readout {
            Readout::Headless { .. } => return Err(self.headless()),
            Readout::Tokens { heads, .. } => self.0.encoder.forward_at(tokens, None, 0..heads.len())?,
            _ if tokens.dim(1)? == self.0.patches.ahead() => {
                return Err(Error::argument("the mean over patches is read, so at least one must be present"));
            }
            _ => self.0.encoder.forward(tokens, None, &mut Clear)?,
        };
        self.classify(&tokens, &mut Clear)
    }

    /// The pixels `(3,h,w)` of one picture, and which of its patches are present, `(n,t)` of ones and zeros → logits `(n,v)`.
    ///
    /// A patch that is not present is dropped from the sequence, after positions are added: the others stay where they are, and
    /// nothing attends to it. Tokens in front of the patches always stay. (LibraGrad's authors have BEiT's zeroed instead.)
    ///
    /// Errors: shapes that differ from these; no patch present where their mean is read; the checkpoint has no classifier.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
    /// let scene = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
    /// let (x, star) = (vit.pixels(&scene.image()?)?, Target::Logit(vit.label("star")?));
    /// let present = Tensor::ones(vit.patches().count(), DType::F64, &Device::Cpu)?;
    /// let f = |present: &Tensor| star.of(&vit.logits_with(&x, present)?);
    /// let drops = feature_ablation(f, &present, &present.zeros_like()?, &Groups::elements(&present))?;
    /// let map = Attribution::of_patches("patches dropped", &drops.tensor()?.reshape(&vit.patches().grid()[..])?)?;
    /// assert!(pellucid::faithfulness::pointing_game(&map, &scene.mask(0)?)?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn logits_with(&self, x: &Tensor, present: &Tensor) -> Result<Tensor> {
        let (tokens, kept) = self.0.patches.variants(x, present)?;
        if !self.0.encoder.is_placed() {
            return shortened(&tokens, &kept, &|tokens| self.logits_of(tokens));
        }
        let logits = kept.iter().map(|kept| self.keeping(kept)?.logits_of(&some(&tokens, kept)?));
        Ok(Tensor::cat(&logits.collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// The model of some of its tokens, whose places they keep.
    fn keeping(&self, kept: &[bool]) -> Result<Self> {
        let encoder = self.0.encoder.keeping(kept)?;
        Ok(Self(Arc::new(Parts { encoder, ..(*self.0).clone() })))
    }

    /// The same for every token to the end, with a hook at the named places of the network.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vit = Vit::load("pellucid/tiny-vit-shapes")?;
    /// let x = vit.pixels(&Scene::empty(1).image()?)?.unsqueeze(0)?;
    /// let mut record = Record::new(&[Site::AttnOut(0)]);
    /// vit.logits_hooked(&x, &mut record)?;
    /// assert_eq!(record.get(Site::AttnOut(0))?.dims(), [1, vit.patches().ahead() + vit.patches().count(), 80]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn logits_hooked(&self, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        let tokens = self.hidden_hooked(x, hook)?;
        self.classify(&tokens, hook)
    }

    /// Pixels `(n,3,h,w)` → the last block's output, `(n,t,c)`.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vit = Vit::load("pellucid/tiny-vit-shapes")?;
    /// let x = vit.pixels(&Scene::empty(1).image()?)?.unsqueeze(0)?;
    /// assert_eq!(vit.hidden(&x)?.dims(), [1, vit.patches().ahead() + vit.patches().count(), 80]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn hidden(&self, x: &Tensor) -> Result<Tensor> {
        self.hidden_hooked(x, &mut Clear)
    }

    /// The same, with a hook at the named places of the network.
    ///
    /// Errors: also a site that the network does not have.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vit = Vit::load("pellucid/tiny-vit-shapes")?;
    /// let x = vit.pixels(&Scene::empty(1).image()?)?.unsqueeze(0)?;
    /// let mut record = Record::new(&[Site::ResidPost(vit.layers() - 1)]);
    /// let hidden = vit.hidden_hooked(&x, &mut record)?;
    /// assert_eq!(hidden.to_vec3::<f32>()?, record.get(Site::ResidPost(vit.layers() - 1))?.to_vec3::<f32>()?);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn hidden_hooked(&self, x: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        self.0.encoder.forward(&self.0.patches.embed(x)?, None, hook)
    }

    /// The last block's output, all tokens or those that are read, → `(n,v)`.
    fn classify(&self, tokens: &Tensor, hook: &mut dyn Hook) -> Result<Tensor> {
        let mut run = |chain: &Chain, x: &Tensor| chain.forward(x, None, hook);
        match &self.0.readout {
            Readout::Tokens { norm, heads } => {
                let tokens = run(norm, &tokens.narrow(1, 0, heads.len())?)?;
                let said = heads.iter().enumerate().map(|(i, head)| run(head, &tokens.narrow(1, i, 1)?));
                let said = Tensor::cat(&said.collect::<Result<Vec<_>>>()?, 1)?;
                Ok(said.mean(1)?)
            }
            Readout::Mean { before, after } => {
                let tokens = before.as_ref().map_or(Ok(tokens.clone()), |norm| run(norm, tokens))?;
                let ahead = self.0.patches.ahead();
                let patches = tokens.narrow(1, ahead, tokens.dim(1)? - ahead)?;
                Ok(run(after, &mean_over(&patches, 1)?)?.squeeze(1)?)
            }
            Readout::Headless { .. } => Err(self.headless()),
        }
    }

    fn headless(&self) -> Error {
        headless(&self.0.name, "a classifier")
    }

    /// `(t,)`: how much of each token of the last layer the classifier reads, or would read where there is none. One for a class
    /// token, a half each for DeiT's class and distillation tokens, equal shares for all patches where their mean is read. It is
    /// the row from which [`rollout_row`](crate::rollout_row) starts.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
    /// assert_eq!(vit.readout()?.sum_all()?.to_scalar::<f64>()?, 1.0);
    /// assert_eq!(vit.readout()?.i(0)?.to_scalar::<f64>()?, 1.0);    // all of the class token
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn readout(&self) -> Result<Tensor> {
        let (ahead, count) = (self.0.patches.ahead(), self.0.patches.count());
        let weight = |token: usize| match &self.0.readout {
            Readout::Tokens { heads, .. } if token < heads.len() => 1.0 / heads.len() as f64,
            Readout::Mean { .. } | Readout::Headless { pooled: true } if token >= ahead => 1.0 / count as f64,
            Readout::Headless { pooled: false } if token == 0 => 1.0,
            _ => 0.0,
        };
        Ok(Tensor::from_iter((0..ahead + count).map(weight), &Device::Cpu)?)
    }

    /// The classes and their probabilities, most probable first; each by itself where several may be true, or where there is but
    /// one. Where config.json calls it a regression, the numbers themselves.
    ///
    /// Errors: the checkpoint has no classifier; a picture of another size.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
    /// let star = Scene::empty(1).with(Shape::Star, Colour::Red, 20.0, 24.0, 11.0)?;
    /// assert_eq!(vit.predict(&star.image()?)?[0].0, "star");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn predict(&self, picture: &Image) -> Result<Vec<(String, f64)>> {
        self.0.labels.ranked(&self.logits(&self.pixels(picture)?.unsqueeze(0)?)?)
    }

    /// Every layer's attention pattern, `L × (1,h,t,t)`; rows are queries and sum to one. The first tokens are those in front
    /// of the patches.
    ///
    /// Errors: a picture of another size.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let vit = Vit::load("pellucid/tiny-vit-shapes")?;
    /// let patterns = vit.attention(&Scene::empty(1).image()?)?;
    /// let rolled = rollout_row(&patterns, &vit.readout()?, &Rollout::default())?.squeeze(0)?;
    /// assert_eq!((patterns.len(), vit.on_grid(&rolled)?.dims()), (vit.layers(), &vit.patches().grid()[..]));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn attention(&self, picture: &Image) -> Result<Vec<Tensor>> {
        self.attention_to(&self.pixels(picture)?.unsqueeze(0)?)
    }

    /// The same to the pixels `(n,3,h,w)` of n pictures at once, between 0 and 1: `L × (n,h,t,t)`.
    ///
    /// Errors: x has the wrong shape.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let vit = Vit::load("pellucid/tiny-vit-shapes")?;
    /// let [one, other] = [vit.pixels(&Scene::empty(1).image()?)?, vit.pixels(&Scene::empty(2).image()?)?];
    /// assert_eq!(vit.attention_to(&Tensor::stack(&[one, other], 0)?)?[0].dim(0)?, 2);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn attention_to(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        self.0.encoder.attention(&self.0.patches.embed(x)?, None)
    }
}

fn patches(checkpoint: &Checkpoint, weights: &Weights, layout: &Layout, config: &Config) -> Result<Patches> {
    let [class, distilled, registers] = layout.front.map(|name| weights.whole(name));
    let front: Vec<Tensor> = [class?, distilled?, registers?].into_iter().flatten().collect();
    let front = if front.is_empty() { None } else { Some(Tensor::cat(&front, 1)?.squeeze(0)?) };
    let [weight, bias] = ["weight", "bias"].map(|part| weights.whole(&format!("{}.{part}", layout.projection)));
    let positions = match layout.names.displacements[0] {
        "" => Some(places(weights, layout.positions)?),
        _ => weights.whole(layout.positions)?,
    };
    let positions = positions.map(|places| places.squeeze(0)).transpose()?;
    Patches::new(config.processor.clone(), config.size, [weight?, bias?], front, positions)
        .map_err(|error| checkpoint.at_fault(error))
}

fn encoder(weights: &Weights, layout: &Layout, config: &Config, patches: &Patches) -> Result<Encoder> {
    let Config { layers, heads, eps, activation, channels, .. } = *config;
    let lead = match weights.contains(&format!("{}.weight", layout.norm_before)) {
        true => vec![Stage::LayerNorm(weights.layer_norm(layout.norm_before, channels, eps)?)],
        false => vec![],
    };
    let rope = config.turned.map(|grid| rope(config, grid, patches)).transpose()?;
    let form = Form { layers, heads, eps, activation, causal: false, rope, grid: patches.grid() };
    Encoder::load(weights, &layout.names, &form, lead)
}

/// Half of a head's pairs of channels turn by a patch's row, half by its column, as if the picture had `grid` of them; tokens in
/// front stand at the first patch (Fang et al. 2023, arXiv 2303.11331).
fn rope(config: &Config, grid: [usize; 2], patches: &Patches) -> Result<Rope> {
    let Config { channels, heads, .. } = *config;
    if heads == 0 || !channels.is_multiple_of(4 * heads) {
        return Err(Error::argument(format!(
            "{channels} channels do not make {heads} heads of a multiple of 4, half of whose pairs turn by rows and half by columns"
        )));
    }
    let quarter = channels / heads / 4;
    let along = |axis: usize| {
        let scale = grid[axis] as f64 / patches.grid()[axis] as f64;
        (0..quarter).map(move |i| scale * 10000f64.powf(-(i as f64) / quarter as f64))
    };
    let columns = patches.grid()[1];
    let of_patch = |patch: usize| [patch / columns, patch % columns, 0].map(|place| place as u32);
    let places = std::iter::repeat_n([0; 3], patches.ahead()).chain((0..patches.count()).map(of_patch)).collect();
    let rope = Rope::new(along(0).chain(along(1)).collect(), Pairing::Neighbours, 2 * heads)?;
    Ok(rope.along([vec![0; quarter], vec![1; quarter]].concat())?.at(places))
}

fn classes(weights: &Weights, layout: &Layout) -> usize {
    layout.heads.iter().find_map(|head| weights.rows(&format!("{head}.weight"))).unwrap_or(0)
}

fn readout(weights: &Weights, layout: &Layout, config: &Config) -> Result<Readout> {
    let norm = |name: &str| Ok::<_, Error>(Stage::LayerNorm(weights.layer_norm(name, config.channels, config.eps)?));
    let of_tokens = |norm: Stage| Chain::new(vec![Stage::At(Site::NormBias), norm]);
    let pooled_head = |stages: Vec<Stage>| Chain::new([vec![Stage::At(Site::HeadBias)], stages].concat());
    let has = |name: &str| weights.contains(&format!("{name}.weight"));
    let classes = classes(weights, layout);
    let linear = |head: &str| Ok::<_, Error>(Stage::Linear(weights.linear(head, config.channels, classes)?));
    let heads: Vec<_> = layout.heads.into_iter().filter(|head| has(head)).collect();
    let pooled = config.pooled.unwrap_or(has(layout.norm_pooled) || !weights.contains(layout.front[0]));
    match (heads.first(), pooled) {
        (None, pooled) => Ok(Readout::Headless { pooled }),
        (Some(head), true) => {
            let before = has(layout.norm).then(|| norm(layout.norm)).transpose()?.map(of_tokens);
            let after = has(layout.norm_pooled).then(|| norm(layout.norm_pooled)).transpose()?;
            let after = pooled_head(after.into_iter().chain([linear(head)?]).collect());
            Ok(Readout::Mean { before, after })
        }
        (Some(_), false) => {
            let heads = heads.iter().map(|head| Ok(pooled_head(vec![linear(head)?]))).collect::<Result<_>>()?;
            Ok(Readout::Tokens { norm: of_tokens(norm(layout.norm)?), heads })
        }
    }
}
